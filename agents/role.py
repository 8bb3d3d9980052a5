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

`Roles.load` reads all files and checks everything that can be checked before a token is spent: unknown keys, a variable that the
stage does not offer, Jinja syntax, contracts of variants that disagree, a stage without a role. Text that a model wrote reaches a
template as `Foreign`, which prints inside tags that it cannot close, so a prompt author cannot forget the fence. Filters work on the
text inside the fence, not on the fence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator

from leafmill import yamlfile
from leafmill.errors import Place, RoleFileError, unknown
from leafmill.records import Language, digest

Stage = Literal["plan", "write", "evolve", "answer", "annotate", "criticise"]

BUILT_IN = Path(__file__).parent.parent / "prompts"
"""The folder of the built-in role files."""

ROW = {"instruction", "input"}
LEAF = {"language", "trail", "description", "axes"}
OFFERS: dict[str, frozenset[str]] = {
    "plan": frozenset(LEAF | {"seeds", "count", "known"}),
    "write": frozenset(LEAF | {"seeds", "scenario"}),
    "evolve": frozenset(LEAF | ROW | {"operator"}),
    "answer": frozenset(LEAF | ROW | {"answer", "feedback"}),
    "annotate": frozenset(LEAF | ROW | {"answer"}),
    "criticise": frozenset(LEAF | ROW | {"answer"}),
}
"""The variables that each stage offers to its templates. A role with `after:` is offered what the critic is."""

FOREIGN = frozenset({"instruction", "input", "answer", "feedback", "scenario", "known"})
"""Variables whose text a model wrote."""

MUST_SAY: dict[str, frozenset[str]] = {
    "plan": frozenset({"scenarios"}),
    "write": frozenset({"instruction"}),
    "evolve": frozenset({"instruction"}),
    "annotate": frozenset({"score"}),
    "criticise": frozenset({"score"}),
}
"""The reply fields that the graph reads, by stage. The answer stage takes plain text, or a field `answer`."""

READ_AS = {
    "scenarios": "list[str]",
    "score": "int",
    **dict.fromkeys(("instruction", "input", "answer", "rationale", "reason"), "str"),
}
"""The types of the reply fields that the graph knows by name."""

PLAYED_BY = {"plan": "planner", "write": "writer", "evolve": "evolver", "answer": "answerer", "criticise": "critic"}
"""Each stage but `annotate` is played by one role, of this name."""


class FieldSpec(BaseModel):
    """One field of a reply contract. `min`/`max`: value of a number, characters of a text, items of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["str", "int", "float", "bool", "list[str]"] = "str"
    min: float | None = None
    max: float | None = None
    one_of: tuple[str, ...] = ()
    optional: bool = False
    says: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data

    @property
    def absent(self) -> Any:
        """What an optional field is when the reply leaves it out."""
        return {"str": "", "list[str]": []}.get(self.type)

    def annotation(self) -> Any:
        """The field as a pydantic annotation; a text is stripped, and may be empty only when `optional`."""
        low, high = self.min, self.max
        if self.one_of:
            return Annotated[Literal[self.one_of], Field(description=self.says or None)]
        if self.type == "str":
            least = int(low) if low is not None else (0 if self.optional else 1)
            limits = StringConstraints(strip_whitespace=True, min_length=least, max_length=int(high) if high is not None else None)
            return Annotated[str, limits, Field(description=self.says or None)]
        if self.type == "list[str]":
            fewest, most = int(low) if low is not None else None, int(high) if high is not None else None
            item = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
            return Annotated[list[item], Field(min_length=fewest, max_length=most, description=self.says or None)]
        if self.type == "bool":
            return Annotated[bool, Field(description=self.says or None)]
        kind = int if self.type == "int" else float
        return Annotated[kind, Field(ge=low, le=high, description=self.says or None)]


class Head(BaseModel):
    """The YAML head of a role file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$")
    says: str = ""
    """one line for `leafmill roles`"""
    stage: Stage | None = None
    after: Literal["write", "evolve", "answer"] | None = None
    """for a role of a new kind: the stage after which it gets a node of its own"""
    writes: Literal["instruction", "input", "answer"] | None = None
    """for a role with `after`: the part of the row that its reply replaces"""
    model: str | None = None
    language: tuple[Language, ...] = ("en", "zh")
    weight: float = Field(1.0, gt=0)
    """of this variant among the files of the same role and language"""
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    reply: Literal["text"] | dict[str, FieldSpec] = "text"

    @model_validator(mode="before")
    @classmethod
    def _one_language(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("language"), str):
            return {**data, "language": [data["language"]]}
        return data

    @model_validator(mode="after")
    def _stands_somewhere(self) -> Head:
        if (self.stage is None) == (self.after is None):
            raise ValueError("a role has either `stage` (one of plan, write, evolve, answer, annotate, criticise) or `after`")
        if self.after and not self.writes:
            raise ValueError("a role with `after` needs `writes`: instruction, input or answer")
        if self.after and (self.writes == "answer") != (self.after == "answer"):
            raise ValueError(
                "after write or evolve a role writes instruction or input, after answer the answer: what is new must pass its gates"
            )
        if self.writes and not self.after:
            raise ValueError("`writes` belongs to a role with `after`")
        if self.stage in PLAYED_BY and self.name != PLAYED_BY[self.stage]:
            player = PLAYED_BY[self.stage]
            raise ValueError(
                f"stage {self.stage!r} is played by the role {player!r}: name the file {player}.<variant>.md to vary it, "
                f"or use `after` and `writes` for a role of a new kind"
            )
        return self


class Foreign:
    """Text that another agent wrote. However it is printed, it stands inside tags that it cannot close."""

    def __init__(self, text: str, label: str) -> None:
        self._text, self._label = text, label  # the sandbox lets no template read a name that begins with _

    def __str__(self) -> str:
        inner = re.sub(rf"<(/?)(?=\s*{re.escape(self._label)}\b)", r"<\1 ", self._text, flags=re.IGNORECASE)
        return f"<{self._label}>\n{inner}\n</{self._label}>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def through(self, work: Callable[[str], Any]) -> Any:
        """What a filter makes of the text: a text is foreign again."""
        made = work(self._text)
        return Foreign(str(made), self._label) if isinstance(made, str) else made


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
        return self.head.model or ("judge" if self.head.stage in ("annotate", "criticise") else "generator")

    @cached_property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of the reply, closed and with every field required, as strict structured output wants it."""
        if self.contract is None:
            return None
        schema = self.contract.model_json_schema()
        schema["required"] = list(schema["properties"])
        return _without_titles(schema)

    def render(self, values: Mapping[str, Any]) -> list[dict[str, str]]:
        """The messages. `values` must hold what the stage offers; foreign text is fenced on the way."""
        fenced = {k: _fence(k, v) if k in FOREIGN else v for k, v in values.items()}
        parts = [("system", self.system), ("user", self.user)]
        try:
            return [{"role": role, "content": template.render(fenced).strip()} for role, template in parts if template is not None]
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
    sections = _sections(text, path)
    source = yamlfile.parse(sections[0].text, str(path), RoleFileError, first_line=sections[0].line)
    if not isinstance(source.data, dict):
        raise source.fail("the head must be a mapping such as `name: critic`")
    head = source.model(Head)
    if path.stem != head.name and not path.stem.startswith(head.name + "."):
        raise source.fail(f"the file name must be {head.name}.md or {head.name}.<variant>.md, got {path.name!r}", ["name"])
    _check_contract(head, source)
    offered = OFFERS[head.stage or "criticise"]
    templates = [_template(section, offered, path) for section in sections[1:]]
    contract = None if head.reply == "text" else _contract(head.name, head.reply)
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
            for part in ("stage", "after", "writes", "reply"):
                mine, theirs = _shape(getattr(role.head, part)), _shape(getattr(other.head, part))
                if mine != theirs:
                    raise RoleFileError(f"`{part}` of role {role.name!r} is not that of its variant {other.path}", Place(role.path))


class Section:
    """A part of a role file: its text, and the line of the file on which it starts."""

    def __init__(self, text: str, line: int) -> None:
        self.text, self.line = text, line


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


def _template(section: Section, offered: frozenset[str], path: Path) -> jinja2.Template:
    try:
        tree = JINJA.parse(section.text)
        template = JINJA.from_string(section.text)
    except jinja2.TemplateSyntaxError as fault:
        raise RoleFileError(f"Jinja: {fault.message}", Place(str(path), section.line + fault.lineno - 1)) from None
    wanted = meta.find_undeclared_variables(tree)
    for name in tree.find_all(nodes.Name):
        if name.name in wanted and name.name not in offered:
            raise RoleFileError(unknown("variable", name.name, offered), Place(str(path), section.line + name.lineno - 1))
    return template


def _contract(name: str, fields: Mapping[str, FieldSpec]) -> type[BaseModel]:
    parts: dict[str, Any] = {key: (spec.annotation(), ... if not spec.optional else spec.absent) for key, spec in fields.items()}
    return create_model(name.replace("-", "_"), __config__=ConfigDict(extra="forbid"), **parts)


def _check_contract(head: Head, source: yamlfile.Yaml) -> None:
    fields = set() if head.reply == "text" else set(head.reply)
    missing = MUST_SAY.get(head.stage or "", frozenset()) - fields
    if missing:
        has = sorted(fields) or "text"
        raise source.fail(f"stage {head.stage!r} reads {sorted(missing)} from the reply; the contract has {has}", ["reply"])
    for key, spec in head.reply.items() if head.reply != "text" else ():
        wanted = READ_AS.get(key, spec.type)
        if spec.type != wanted:
            raise source.fail(f"the field {key!r} must be of type {wanted}, got {spec.type}", ["reply", key])
        if key in MUST_SAY.get(head.stage or "", ()) and spec.optional:
            raise source.fail(f"the field {key!r} may not be optional: stage {head.stage!r} reads it", ["reply", key])
        if key == "score" and not (spec.min is not None and spec.min >= 1 and spec.max is not None and spec.max <= 5):
            raise source.fail("the field 'score' must lie in 1 to 5: give it min and max", ["reply", key])
    written = head.writes or ("answer" if head.stage == "answer" else None)
    if head.reply != "text" and written and written not in fields:
        raise source.fail(f"the contract must have the field {written!r} that this role writes, got {sorted(fields)}", ["reply"])


def _shape(part: Any) -> Any:
    return {k: (v.type, v.one_of) for k, v in part.items()} if isinstance(part, dict) else part


def _fence(label: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [Foreign(str(v), label) for v in value]
    return Foreign(value, label) if isinstance(value, str) else value


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """Pydantic's generated titles and defaults only cost tokens."""
    schema = {k: v for k, v in schema.items() if k != "title"}
    schema["properties"] = {
        key: {k: v for k, v in prop.items() if k not in ("title", "default")} for key, prop in schema["properties"].items()
    }
    return schema


def _inside_fence(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A Jinja filter that works on the text inside a fence; some take the environment before the value."""
    at = int(hasattr(filter_, "jinja_pass_arg"))

    @wraps(filter_)
    def applied(*args: Any, **named: Any) -> Any:
        value = args[at] if len(args) > at else None
        if not isinstance(value, Foreign):
            return filter_(*args, **named)
        return value.through(lambda text: filter_(*args[:at], text, *args[at + 1 :], **named))

    return applied


JINJA = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False, autoescape=False
)
JINJA.filters = {name: _inside_fence(filter_) for name, filter_ in JINJA.filters.items()}
