"""What tests share: a small taxonomy, a recipe that points at a scripted server, a cast of agents, and a run of it all.

A candidate is recognised by the server as a `Case`: its leaf's letter and its number. The writer's prompt shows an axis whose labels are
dealt to the numbers; the instruction that the cast writes repeats letter and number, so that every later prompt shows them too.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from agents.scripted import Reply, Request, ScriptedServer
from leafmill.ledger import CALLS, CANDIDATES, VERDICTS, VOTES, Ledger
from leafmill.recipe import Recipe
from leafmill.runfolder import RunFolder

SEED = 7
LATER = (
    ("where does the copy belong of", "the copy goes into the green folder beside the window."),
    ("who decides when somebody disputes", "ask the accountant before the month is closed, never after it."),
    ("what if a page is missing from", "a torn page has to be taped, scanned and put back in its place."),
    ("is there another rule for foreign money on", "currencies are noted in pencil on the upper edge."),
    ("how many people must sign", "two signatures are needed as soon as it exceeds five thousand."),
    ("when may we throw away", "old paper moves to the archive, where it stays for ten years."),
    ("which address counts on", "whichever stands in our register of suppliers."),
)
"""what the user of a conversation asks next, and what the assistant says to it"""
CASES = 24
"""numbers that a leaf's cases can be told apart by"""


class Case(NamedTuple):
    leaf: str
    number: int


Line = Reply | str | Mapping[str, Any] | None
Lines = Callable[[Request, Case], Line]


class Cast:
    """What every role says. `lines` are by role name, or `annotator` for all of the panel; a function may give None for the usual line."""

    def __init__(self, **lines: Lines | Line) -> None:
        self.lines = lines

    def __call__(self, request: Request) -> Line:
        role, case = request.role or "", case_of(request)
        kind = "annotator" if role.startswith("annotator") else role
        line = self.lines.get(role.replace("-", "_"), self.lines.get(kind))
        said = line(request, case) if callable(line) else line
        return usual(kind, request, case) if said is None else said


def usual(kind: str, request: Request, case: Case) -> Line:
    """What makes a candidate pass all gates, and differ from all others."""
    asks = f"Explain to a new colleague how invoice {case.leaf}-{case.number} gets filed on shelf {shelf(case)}."
    match kind:
        case "planner":
            return {"scenarios": [f"A clerk has lost page {number} of a long ledger." for number in range(8)]}
        case "syllabus-planner":
            page = request.prompt.count("<known>") // 10
            return {"sessions": [{"title": f"{page}{one}", "concepts": [f"stamp {page}{one}{n}" for n in range(5)]} for one in "ab"]}
        case "writer" | "tool-task-writer":
            return {"instruction": asks, "input": ""} if kind == "writer" else {"instruction": asks}
        case "evolver" if "brand-new" in request.prompt:
            return {"instruction": f"Name three folders that invoice {case.leaf}-{case.number} must never get into.", "input": ""}
        case "evolver":
            return {"instruction": f"{asks} Also name the most common mistake in round {len(request.prompt)}.", "input": ""}
        case "answerer" if turn := request.task.count("<assistant>"):
            return f"Of {case.leaf}-{case.number}: {LATER[turn - 1][1]}"
        case "simulated-user":
            return {"message": f"And {LATER[request.task.count('<assistant>') - 1][0]} invoice {case.leaf}-{case.number}?"}
        case "reasoner":
            thought = "1. Find the number. 2. The shelf follows from it. 3. The sheet goes last."
            return {"reasoning": thought, "answer": usual("answerer", request, case)}
        case "thinker":
            return Reply(str(usual("answerer", request, case)), reasoning="The number first. Then the shelf, and the sheet goes last.")
        case "answerer":
            return f"Look up the number {case.leaf}-{case.number} first, then walk to its shelf and put the sheet behind the last."
        case "self-instructor" | "rewriter" | "document-writer":
            return {"instruction": asks}
        case "localiser":
            return {"instruction": asks, "input": ""}
        case "task-classifier":
            return {"classification": False, "labels": []}
        case "instance-writer":
            return {"instances": [{"input": f"Sheet {case.leaf}-{case.number}, 12 lines, unsigned.", "output": "On its shelf."}]}
        case "grounding-judge":
            return {"unsupported": [], "grounded": True}
        case "annotator":
            return {"rationale": "It does what was asked.", "score": 5}
        case "juror":
            first, second = (request.task.split(f"<answer_{letter}>")[1].split(f"</answer_{letter}>")[0] for letter in "ab")
            return {"rationale": "It says more.", "verdict": "A" if first > second else "B" if second > first else "tie"}
        case "grader":
            return {"rationale": "Right and complete.", "grade": 8}
        case "comparer":
            return {"rationale": "It asks for the mistake, too.", "demands": "more", "depth": "same"}
        case "critic":
            return {"reason": "none", "score": 5}
        case "arbiter":
            return {"rationale": "Neither side is right.", "score": 3}
    return None


def shelf(case: Case) -> int:
    """A number of the case's own: what differs in numbers only is no duplicate."""
    return (ord(case.leaf) - ord("a")) * 1000 + case.number * 13 + 5


def case_of(request: Request) -> Case:
    """Whose request it is."""
    text = request.task
    if found := re.search(r"invoice ([a-z])-(\d+)", text):
        return Case(found[1], int(found[2]))
    leaf = re.search(r"> ([A-Z])$", text, re.MULTILINE)
    label = re.search(r"card (\d+)", text)
    return Case(leaf[1].lower() if leaf else "?", _numbers(leaf[1].lower())[int(label[1])] if leaf and label else -1)


@functools.cache
def _numbers(leaf: str) -> dict[int, int]:
    """Which cell of a leaf's plan has which card."""
    from taxonomy import Axis, AxisValue, Plan

    cards = Axis(name="card", values=tuple(AxisValue(name=f"c{number}") for number in range(CASES)))
    plan = Plan([cards], ["en"], SEED, f"t/{leaf}")
    return {int(plan.cell(number).axes["card"][1:]): number for number in range(CASES)}


def taxonomy(folder: Path, leaves: str = "a", settings: Mapping[str, Any] | None = None) -> Path:
    """Write a taxonomy `t` with one leaf for each letter."""
    values = {f"c{number}": {"en": f"card {number}", "zh": f"第 {number} 张"} for number in range(CASES)}
    children = {
        letter: {
            "title": {"en": letter.upper(), "zh": letter.upper()},
            "description": {"en": "Filing.", "zh": "归档。"},
            "settings": (settings or {}).get(letter, {}),
        }
        for letter in leaves
    }
    tree = {
        "name": "t",
        "languages": ["en", "zh"],
        "title": {"en": "Office", "zh": "办公"},
        "axes": {"card": {"title": {"en": "card", "zh": "牌"}, "values": values}},
        "children": children,
    }
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def recipe(folder: Path, server: ScriptedServer | str, **overrides: Any) -> Recipe:
    """A recipe read from a file in `folder`: one leaf, English, cheap gates only, both models at the server. Overrides replace keys."""
    path = write_recipe(folder, server, **overrides)
    return Recipe.read(path, {})


def write_recipe(folder: Path, server: ScriptedServer | str, **overrides: Any) -> Path:
    base_url = server if isinstance(server, str) else server.base_url
    model = {"base_url": base_url, "attempts": 2, "patience": 5, "timeout": 10, "concurrency": 32}
    given = {
        "name": "test",
        "seed": SEED,
        "taxonomies": ["t.yaml"],
        "languages": ["en"],
        "target": 3,
        "in_flight": 8,
        "refills": 0,
        "models": {"generator": {**model, "model": "scripted-qwen"}, "judge": {**model, "model": "scripted-llama"}},
        "roles": {name: {"off": True} for name in ("planner", "syllabus-planner", "comparer")},
        "gates": {"semantic": False, "ifd": False},
        "judges": {"gold": False},
        **overrides,
    }
    if given["taxonomies"] == ["t.yaml"] and not (folder / "t.yaml").exists():
        taxonomy(folder)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in given.items() if v is not None}, allow_unicode=True), encoding="utf-8")
    return path


async def go(recipe: Recipe, folder: Path, during: Callable[[Any], Any] | None = None) -> Any:
    """Run a recipe in `folder`/run, to its end; the run, closed. `during` is told the open run before it goes."""
    from graphs.run import Run

    async with Run.open(_prepared(recipe), RunFolder(folder / "run"), lambda line: None) as run:
        if during is not None:
            during(run)
        await run.go()
    return run


def _prepared(recipe: Recipe) -> Any:
    """The recipe, looked up; the built-in roles are read once for all tests."""
    from graphs.prepare import Prepared, find_leaves, prepare

    if recipe.prompts or recipe.test_sets or recipe.judges.gold:
        return prepare(recipe)
    off = [name for name, settings in recipe.roles.items() if settings.off]
    return Prepared(recipe, find_leaves(recipe), _built_in_roles().without(off))


@functools.cache
def _built_in_roles() -> Any:
    from agents.role import BUILT_IN, Roles

    return Roles.load(BUILT_IN)


def alias(settings: Mapping[str, Any], name: str = "generator") -> Any:
    """A model of a recipe, as `Chat` speaks to it."""
    from agents.models.alias import Alias
    from agents.models.endpoint import Endpoint
    from agents.models.governor import Governor
    from leafmill.recipe import Model

    model = Model.model_validate(settings)
    governors = (Governor(model.concurrency, model.rpm, model.tpm) for _ in model.addresses())
    return Alias(name, model, [Endpoint(name, model, *place) for place in zip(model.addresses(), governors, strict=True)])


class Told(NamedTuple):
    """What a ledger says of a run, as plain rows."""

    candidates: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    votes: list[dict[str, Any]]

    @property
    def states(self) -> Counter[str]:
        return Counter(one["state"] for one in self.candidates)

    @property
    def accepted(self) -> list[tuple[str, int]]:
        return [(one["leaf"], one["number"]) for one in self.candidates if one["state"] == "accepted"]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [one["row"] for one in self.candidates if one["state"] == "accepted"]

    def of(self, number: int, leaf: str = "t/a") -> dict[str, Any]:
        (one,) = (one for one in self.candidates if (one["leaf"], one["number"]) == (leaf, number))
        return one

    def steps(self, number: int, leaf: str = "t/a") -> list[str]:
        """The calls and verdicts of a candidate in their order: role names, and gates as `stage:gate`."""
        id_ = self.of(number, leaf)["id"]
        told = [(one["seq"], 0, one["id"], one["role"]) for one in self.calls if one["candidate"] == id_]
        told += [
            (one["seq"], 1, one["id"], f"{one['step'].split('.')[0]}:{one['gate']}") for one in self.verdicts if one["candidate"] == id_
        ]
        return [what for *_, what in sorted(told)]


def told(folder: Path) -> Told:
    """Everything in the ledger of `folder`/run."""
    import sqlalchemy as sa

    with Ledger(folder / "run" / "ledger.db", read_only=True) as ledger:
        return Told(
            ledger.rows(sa.select(CANDIDATES).order_by(CANDIDATES.c.leaf, CANDIDATES.c.number)),
            *(ledger.rows(sa.select(table).order_by(table.c.id)) for table in (CALLS, VERDICTS, VOTES)),
        )


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A scripted server whose cast makes every candidate pass; set `server.script` for another."""
    async with ScriptedServer(seed=SEED, script=Cast()) as one:
        yield one


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with the rich run `shop` (tests/ui.py), made once per session: all workers copy it. To change it: `ui.copy_of`."""
    from filelock import FileLock

    from tests import ui

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with FileLock(shared / "shop.lock"):
        done = shared / "shop" / "done"
        if not done.exists():
            shutil.rmtree(done.parent, ignore_errors=True)
            ui.made(done.parent)
            done.touch()
    return ui.copy_of(done.parent / "runs", own / "own")
