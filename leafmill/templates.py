"""Record templates: the words in which a row's first user message is put at export. What is kept in the ledger has none.

A template is drawn by seed and row id from those that suit the row: its language, with or without an input, and, where the text demands
something of the answer (JSON, a list, so many words at most), an answer that is so already. The answer itself is never touched. Of a
conversation only the first user message and the system prompt change.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from filters.text import units
from leafmill import yamlfile
from leafmill.errors import InputError, unknown
from leafmill.records import Language, Row, Turn, digest

BUILT_IN = Path(__file__).with_name("templates.yaml")
VARY = "vary"
"""instead of a template's name: each row has the one that is drawn for it"""

_SLOT = re.compile(r"\{(instruction|input)\}")
_BULLET = re.compile(r"\s*[-*•+]\s+\S")
_NUMBERED = re.compile(r"\s*\d+\s*[.)、．）]\s*\S")


def _is_json(answer: str) -> bool:
    try:
        return isinstance(json.loads(answer), dict | list)
    except ValueError:
        return False


def _is_list(answer: str, item: re.Pattern[str]) -> bool:
    lines = [line for line in answer.splitlines() if line.strip()]
    return len(lines) > 1 and all(item.match(line) for line in lines)


def _is_table(answer: str) -> bool:
    lines = [line.strip() for line in answer.strip().splitlines()]
    return len(lines) > 2 and all(line.count("|") > 1 for line in lines) and bool(re.fullmatch(r"[|:\s-]+", lines[1]))


def _is_code(answer: str) -> bool:
    return bool(re.fullmatch(r"```[^\n`]*\n(?:(?!```).)*\n```", answer.strip(), re.DOTALL))


FORMS: Mapping[str, Callable[[str], bool]] = {
    "json": _is_json,
    "bullets": lambda answer: _is_list(answer, _BULLET),
    "numbered": lambda answer: _is_list(answer, _NUMBERED),
    "table": _is_table,
    "code": _is_code,
    "paragraph": lambda answer: "\n" not in answer.strip() and not _BULLET.match(answer) and not _NUMBERED.match(answer),
}
"""Whether an answer is that and nothing else."""


class Demands(BaseModel):
    """What a template's text demands of the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    form: Literal["json", "bullets", "numbered", "table", "code", "paragraph"] | None = None
    at_most: int | None = Field(None, ge=1)
    """words, of Chinese characters"""

    def met_by(self, answer: str) -> bool:
        return (self.form is None or FORMS[self.form](answer)) and (self.at_most is None or units(answer) <= self.at_most)


class Template(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    with_input: str | None = None
    without_input: str | None = None
    system: str = ""
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    demands: Demands = Demands()

    @model_validator(mode="after")
    def _has_its_slots(self) -> Template:
        forms = {"with_input": ["input", "instruction"], "without_input": ["instruction"]}
        given = {name: text for name in forms if (text := getattr(self, name)) is not None}
        if not given:
            raise ValueError("a template needs with_input, without_input or both")
        for name, text in given.items():
            if sorted(_SLOT.findall(text)) != forms[name]:
                wanted = " and ".join(f"{{{slot}}}" for slot in reversed(forms[name]))
                raise ValueError(f"{name} must have {wanted}, each once, got {text!r}")
        return self

    def suits(self, row: Row) -> bool:
        return self._text(row) is not None and self.demands.met_by(row.answer)

    def render(self, row: Row) -> Row:
        """The row with its first user message in these words, and the system prompt in front where it has none."""
        text, first = self._text(row) or "", next((at for at, turn in enumerate(row.history) if turn.role == "user"), None)
        history = list(row.history)
        if first is None:
            slots = {"instruction": row.instruction, "input": row.input}
            row = row.model_copy(update={"instruction": _SLOT.sub(lambda slot: slots[slot[1]], text), "input": ""})
        else:
            said = history[first].content
            history[first] = history[first].model_copy(update={"content": _SLOT.sub(lambda slot: said, text)})
        if self.system and not any(turn.role == "system" for turn in history):
            history.insert(0, Turn(role="system", content=self.system))
        return row.model_copy(update={"history": tuple(history)})

    def _text(self, row: Row) -> str | None:
        """Its words for a row. The first message of a conversation is instruction and input in one."""
        is_conversation = any(turn.role == "user" for turn in row.history)
        return self.with_input if row.input and not is_conversation else self.without_input


class Rendered(NamedTuple):
    row: Row
    template: str
    """its name; "": none suits, the row is as it was"""


@dataclass(frozen=True)
class Templates:
    """The templates of a file, by language and name, of which one or (`vary`) all are used."""

    by_language: Mapping[Language, Mapping[str, Template]]
    seed: int = 0

    def render(self, row: Row, id_: str) -> Rendered:
        """The row as a template has it: equal seed and id, equal template, whatever other rows and templates there are. A new template
        takes over its share of the rows and leaves all others where they are."""
        suiting = {name: one for name, one in self.by_language[row.language].items() if one.suits(row)}
        if not suiting:
            return Rendered(row, "")
        name = min(suiting, key=lambda name: (self._distance(id_, name, suiting[name].weight), name))
        return Rendered(suiting[name].render(row), name)

    def _distance(self, id_: str, name: str, weight: float) -> float:
        """How far a row is from a template; the nearest has it (weighted rendezvous hashing)."""
        return -math.log((int(digest(self.seed, id_, name, length=12), 16) + 1) / (16**12 + 1)) / weight


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    en: dict[str, Template] = {}
    zh: dict[str, Template] = {}


def load(name: str = VARY, path: Path = BUILT_IN, seed: int = 0) -> Templates:
    """The templates of a file, or the one of this name. Raises InputError with file and line."""
    source = yamlfile.read(path)
    file = source.model(_File)
    by_language: dict[Language, dict[str, Template]] = {"en": file.en, "zh": file.zh}
    if name != VARY:
        known = {one for templates in by_language.values() for one in templates}
        if name not in known:
            raise InputError(f"{path}: {unknown('template', name, sorted({*known, VARY}))}")
        by_language = {language: {one: given[one] for one in given if one == name} for language, given in by_language.items()}
    return Templates(by_language, seed)
