"""A role is a prompt file: a YAML head (its contract), then Jinja text.

    ---
    name: critic
    stage: criticise          # where it stands in the graph
    language: [zh, en]
    reply:                    # becomes a pydantic model, and the JSON schema that the server is asked to obey
      reason: {type: str, max: 300, says: what is wrong}
      score: {type: int, min: 1, max: 5}
    ---
    What never changes comes first: the system message, kept in the server's prompt cache.
    ---
    What changes: the user message. {{ answer }} comes fenced, as data.

`Roles.load` reads all files and finds, before a token is spent: unknown keys, a variable that the stage does not offer, bad Jinja syntax,
a contract without what the graph reads, variants of one role that disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agents.contract import READ_AS, FieldSpec, json_schema, reply_model
from agents.stages import ANSWERED, ANSWERING, ROW, STAGES
from agents.template import compiled, fenced
from leafmill import yamlfile
from leafmill.errors import Place, RoleFileError, unknown
from leafmill.recipe import Model, RoleSettings
from leafmill.records import Language, digest

BUILT_IN = Path(__file__).parent.parent / "prompts"
"""The folder of the built-in role files."""

NODES = frozenset(
    {"write", "screen", "evolve", "compare", "answer", "use_tools", "call_tools", "vote", "check", "follow_up", "annotate", "criticise"}
    | {"arbitrate", "agree", "score", "wait", "review", "admit", "reject"}
)
"""What the candidate's graph calls its own nodes and the gates at their doors: no role can have such a name, as own roles are nodes too."""

After = Literal["write", "evolve", "answer"]
Writes = Literal["instruction", "input", "answer"]

MAX_TOKENS = 1024
"""of a reply, where neither a role's file nor the recipe says"""


class Head(BaseModel):
    """The YAML head of a role file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$")
    says: str = ""
    """one line for `leafmill roles`"""
    stage: str | None = None
    """a name of `stages.STAGES`"""
    after: After | None = None
    """for a role of a new kind: the stage after which it gets a node of its own"""
    writes: Writes | None = None
    """for a role with `after`: the part of the row that its reply replaces"""
    at: Literal["screen", "check"] | None = None
    """for a gate: the door at which it stands; `check` where it does not say"""
    threshold: float | None = Field(None, ge=1, le=5)
    """for a gate: the least score that passes"""
    title: dict[Language, str] = {}
    """for an axis: what prompts call it"""
    model: str | None = None
    language: tuple[Language, ...] = ("en", "zh")
    weight: float = Field(1.0, gt=0)
    """of this variant among the files of the same role and language"""
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    reply: Literal["text"] | dict[str, FieldSpec] = "text"

    @field_validator("stage")
    @classmethod
    def _known_stage(cls, stage: str | None) -> str | None:
        if stage is not None and stage not in STAGES:
            raise ValueError(unknown("stage", stage, STAGES))
        return stage

    @model_validator(mode="before")
    @classmethod
    def _one_language(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("language"), str):
            return {**data, "language": [data["language"]]}
        return data

    @model_validator(mode="after")
    def _stands_somewhere(self) -> Head:
        if self.name in NODES:
            raise ValueError(f"{self.name!r} is the name of a node of the graph: give the role another one")
        if (self.stage is None) == (self.after is None):
            raise ValueError("a role has either `stage` (such as annotate, gate or axis; prompts/README.md has all) or `after`")
        if self.after and not self.writes:
            raise ValueError("a role with `after` needs `writes`: instruction, input or answer")
        if self.after and self.writes and not writes_there(self.after, self.writes):
            raise ValueError(
                "after write or evolve a role writes instruction or input, after answer the answer: what is new must pass its gates"
            )
        if self.writes and not self.after:
            raise ValueError("`writes` belongs to a role with `after`")
        if (self.stage == "gate") != (self.threshold is not None) or (self.at and self.stage != "gate"):
            raise ValueError("a role with `stage: gate` needs `threshold`, the least score that passes; `at` and `threshold` are a gate's")
        if (self.stage == "axis") != bool(self.title):
            raise ValueError("a role with `stage: axis` needs `title`, such as {en: brand, zh: 品牌}; no other role has one")
        player = STAGES[self.stage].player if self.stage else ""
        if player and self.name != player:
            raise ValueError(
                f"stage {self.stage!r} is played by the role {player!r}: name the file {player}.<variant>.md to vary it, "
                f"or use `after` and `writes` for a role of a new kind"
            )
        return self


def writes_there(after: After, writes: Writes) -> bool:
    """Whether a role that comes after a stage may write a part: what is new must pass its gates."""
    return (writes == "answer") == (after == "answer")


@dataclass(frozen=True)
class Role:
    """One prompt file, ready to be rendered. Variants of a role share its name and contract."""

    head: Head
    variant: str
    path: str
    hash: str
    system: jinja2.Template | None
    user: jinja2.Template
    contract: type[BaseModel] | None
    """None when the reply is plain text"""
    source: str = field(repr=False)

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def model(self) -> str:
        """The alias of the model that plays this role."""
        return self.head.model or (STAGES[self.head.stage].by if self.head.stage else "generator")

    @property
    def judges(self) -> bool:
        """Whether it only says what it thinks of the work of others."""
        return self.head.stage is not None and STAGES[self.head.stage].by == "judge"

    @cached_property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of the reply; None when it is plain text."""
        return None if self.contract is None else json_schema(self.contract)

    def render(self, values: Mapping[str, Any]) -> list[dict[str, str]]:
        """The messages. `values` must hold what the stage offers; foreign text is fenced on the way."""
        told = fenced(values)
        parts = [("system", self.system), ("user", self.user)]
        try:
            return [{"role": role, "content": template.render(told).strip()} for role, template in parts if template is not None]
        except Exception as fault:  # a template is a program: whatever it raises is a fault of the role file
            raise RoleFileError(f"the template cannot be rendered: {fault}", Place(self.path)) from fault


def read(path: Path) -> Role:
    """Read and check one role file. Raises RoleFileError with file and line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise RoleFileError(f"not valid UTF-8 at byte {fault.start}", Place(str(path))) from None
    except OSError as fault:
        raise RoleFileError(f"cannot be read: {fault.strerror}", Place(str(path))) from None
    return _parsed(path, text)


@lru_cache(maxsize=512)
def _parsed(path: Path, text: str) -> Role:
    """The role of a file that holds this text; compiling its templates is the long part of reading it, so that is done once."""
    sections = _sections(text, path)
    source = yamlfile.parse(sections[0].text, str(path), RoleFileError, first_line=sections[0].line)
    if not isinstance(source.data, dict):
        raise source.fail("the head must be a mapping such as `name: critic`")
    head = source.model(Head)
    if path.stem != head.name and not path.stem.startswith(head.name + "."):
        raise source.fail(f"the file name must be {head.name}.md or {head.name}.<variant>.md, got {path.name!r}", ["name"])
    _check_contract(head, source)
    offered = _offered(head)
    templates = [compiled(section.text, offered, str(path), section.line) for section in sections[1:]]
    contract = None if head.reply == "text" else reply_model(head.name, head.reply)
    variant = path.stem[len(head.name) + 1 :] or "default"
    return Role(head, variant, str(path), digest(text), templates[0] if len(templates) == 2 else None, templates[-1], contract, text)


@dataclass(frozen=True)
class Roles:
    """All role files of a run, by name and language."""

    files: tuple[Role, ...]

    @classmethod
    def load(cls, *folders: Path) -> Roles:
        """Read every .md file of the folders; a file of a later folder replaces one of the same name in an earlier."""
        found: dict[str, Role] = {}
        for folder in folders:
            if not folder.is_dir():
                raise RoleFileError("is not a folder of role files", Place(str(folder)))
            for path in sorted(folder.glob("*.md")):
                if path.name != "README.md":
                    found[path.name] = read(path)
        roles = cls(tuple(found[name] for name in sorted(found)))
        roles._check_variants()
        return roles

    def without(self, names: Iterable[str]) -> Roles:
        gone = set(names)
        return Roles(tuple(r for r in self.files if r.name not in gone))

    @property
    def names(self) -> list[str]:
        return sorted({r.name for r in self.files})

    def at(self, stage: str) -> list[str]:
        """The names of the roles that stand at a stage."""
        return sorted({r.name for r in self.files if r.head.stage == stage})

    def after(self, stage: str) -> list[str]:
        """The names of the user's own roles that come after a stage."""
        return sorted({r.name for r in self.files if r.head.after == stage})

    def speaks(self, name: str, language: str) -> bool:
        return any(r.name == name and language in r.head.language for r in self.files)

    def pick(self, name: str, language: str, draw: str) -> Role:
        """The variant of a role for a language, drawn by weight; equal `draw`, equal variant."""
        fitting = [r for r in self.files if r.name == name and language in r.head.language]
        if not fitting:
            if name not in self.names:
                raise RoleFileError(unknown("role", name, self.names))
            raise RoleFileError(f"role {name!r} has no file for language {language!r}")
        point = int(digest(draw, name, length=12), 16) / 16**12 * sum(r.head.weight for r in fitting)
        for role in fitting:
            point -= role.head.weight
            if point < 0:
                return role
        return fitting[-1]

    def _check_variants(self) -> None:
        first: dict[str, Role] = {}
        for role in self.files:
            other = first.setdefault(role.name, role)
            for part in ("stage", "after", "writes", "at", "threshold", "title", "reply"):
                mine, theirs = _comparable(role.head, part), _comparable(other.head, part)
                if mine != theirs:
                    raise RoleFileError(f"`{part}` of role {role.name!r} is not that of its variant {other.path}", Place(role.path))


class Sampling(NamedTuple):
    """How a role's replies are drawn; a temperature of None is the server's own."""

    temperature: float | None
    max_tokens: int


def sampling(role: Role, settings: RoleSettings, model: Model) -> Sampling:
    """From the recipe's word on the role, else on the model that plays it, else the role's head."""
    sources = (settings, model, role.head)
    temperature = next((source.temperature for source in sources if source.temperature is not None), None)
    max_tokens = next((source.max_tokens for source in sources if source.max_tokens is not None), MAX_TOKENS)
    return Sampling(temperature, max_tokens)


class Section(NamedTuple):
    """A part of a role file: its text, and the line of the file on which it starts."""

    text: str
    line: int


def _sections(text: str, path: Path) -> list[Section]:
    """Head, [system,] user: separated by lines of three dashes."""
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != "---":
        raise RoleFileError("a role file starts with a line `---`, then its YAML head", Place(str(path), 1))
    marks = [i for i, line in enumerate(lines) if line.rstrip() == "---"]
    if len(marks) not in (2, 3):
        raise RoleFileError(f"expected 2 or 3 lines `---` (head, system, user), got {len(marks)}", Place(str(path), marks[-1] + 1))
    ends = [*marks[1:], len(lines)]
    sections = [Section("\n".join(lines[start + 1 : end]), start + 2) for start, end in zip(marks, ends, strict=True)]
    if not sections[-1].text.strip():
        raise RoleFileError("has no text after its head", Place(str(path), len(lines)))
    return sections


def _offered(head: Head) -> frozenset[str]:
    """The variables of its templates."""
    if head.stage == "gate" and head.at == "screen":
        return ROW  # there is no answer yet
    return STAGES[head.stage].offers if head.stage else ANSWERED


def _check_contract(head: Head, source: yamlfile.Yaml) -> None:
    fields = set() if head.reply == "text" else _names(head.reply)
    must_say = STAGES[head.stage].must_say if head.stage else frozenset()
    missing = must_say - fields
    if missing:
        has = sorted(fields) or "text"
        raise source.fail(f"stage {head.stage!r} reads {sorted(missing)} from the reply; the contract has {has}", ["reply"])
    for key, spec in head.reply.items() if head.reply != "text" else ():
        wanted = READ_AS.get(key, spec.type)
        if spec.type != wanted:
            raise source.fail(f"the field {key!r} must be of type {wanted}, got {spec.type}", ["reply", key])
        if key in must_say and spec.optional:
            raise source.fail(f"the field {key!r} may not be optional: stage {head.stage!r} reads it", ["reply", key])
        if key == "score" and not (spec.min is not None and spec.min >= 1 and spec.max is not None and spec.max <= 5):
            raise source.fail("the field 'score' must lie in 1 to 5: give it min and max", ["reply", key])
    if head.stage == "axis" and head.reply != "text":
        labels, given = sorted({"name", *head.language}), sorted(head.reply["values"].of)
        if given != labels:
            raise source.fail(f"each of `values` must have the fields {labels}, got {given}", ["reply", "values"])
    written = head.writes or ("answer" if head.stage in ANSWERING else "grade" if head.stage == "grade" else None)
    if head.reply != "text" and written and written not in fields:
        raise source.fail(f"the contract must have the field {written!r} that this role writes, got {sorted(fields)}", ["reply"])


def _names(fields: Mapping[str, FieldSpec]) -> set[str]:
    """The names of fields, and as `list.field` those of the items of lists."""
    return {name for key, spec in fields.items() for name in (key, *(f"{key}.{one}" for one in _names(spec.of)))}


def _comparable(head: Head, part: str) -> Any:
    """A part of a head that variants of one role must share; of a contract the fields, not how long they may be."""
    return _shape(head.reply) if part == "reply" and head.reply != "text" else getattr(head, part)


def _shape(fields: Mapping[str, FieldSpec]) -> Any:
    return {name: (spec.type, spec.one_of, _shape(spec.of)) for name, spec in fields.items()}
