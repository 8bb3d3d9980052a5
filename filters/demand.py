"""Demands on an answer that can be checked by counting, in both languages, and the gate `demand` that checks them.

A demand is a sentence that stands at the end of an instruction, word for word, so that the instruction says what is checked. While the
sentence stands there the answer is held to it; an evolution that has reworded it has taken it away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

from filters.gate import Stage, Subject, verdict
from filters.text import bare, units
from leafmill.records import Language, Verdict

Kind = Literal["points", "length", "json", "question", "paragraphs", "label"]

_POINT = re.compile(r"^(?:[-*•·]|\(?\d{1,2}[.)、）]|（\d{1,2}）|[一二三四五六七八九十]+、)\s*\S", re.MULTILINE)
_FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)


class Demand(NamedTuple):
    """`said` is how it is told in the instruction; `number` how many of what it counts, `text` what it wants to be said."""

    kind: Kind
    said: str
    number: int = 0
    text: str = ""


class _Wording(NamedTuple):
    numbers: Sequence[int]
    """that are drawn from"""
    said: Mapping[Language, Sequence[str]]


WORDINGS: Mapping[Kind, _Wording] = {
    "points": _Wording(
        (3, 4, 5, 6),
        {
            "en": ("Answer in exactly {n} bullet points.", "Give me a list of exactly {n} bullet points and nothing else."),
            "zh": ("请分成{n}个要点回答，每点单独一行并标上序号。", "用列表回答，恰好{n}条，每条一行，前面标上序号。"),
        },
    ),
    "length": _Wording(
        (60, 80, 100, 120, 150),
        {
            "en": ("Use at most {n} words.", "Keep your answer within {n} words."),
            "zh": ("回答不要超过{n}个字。", "请控制在{n}字以内。"),
        },
    ),
    "json": _Wording(
        (0,),
        {
            "en": ("Reply with one JSON object only.", "Give the answer as a single valid JSON object, with no text around it."),
            "zh": ("只用一个JSON对象回答。", "请以一个合法的JSON对象给出结果，前后不要有别的文字。"),
        },
    ),
    "question": _Wording(
        (0,),
        {
            "en": ("End your answer with a question to me.", "Close with a question that helps me think further."),
            "zh": ("最后用一个问句结尾。", "请在结尾向我提一个问题。"),
        },
    ),
    "paragraphs": _Wording(
        (2, 3, 4),
        {
            "en": (
                "Write exactly {n} paragraphs, separated by blank lines.",
                "Your answer should have exactly {n} paragraphs with a blank line between them.",
            ),
            "zh": ("请写成{n}段，段与段之间空一行。", "回答恰好分{n}段，每两段之间空一行。"),
        },
    ),
}
"""The demands that are drawn. `label` is not: it comes from the task."""


def draw(language: Language, key: str) -> Demand:
    """A demand for a key, always the same one."""
    rng = Random(key)
    kind = rng.choice(tuple(WORDINGS))
    numbers, said = WORDINGS[kind]
    number = rng.choice(numbers)
    return Demand(kind, rng.choice(said[language]).format(n=number), number)


def with_demand(instruction: str, demand: Demand, language: Language) -> str:
    """The instruction, and behind it the demand."""
    text = instruction.rstrip()
    if not text.endswith((".", "!", "?", "。", "！", "？", ":", "：", "…")):
        text += "。" if language == "zh" else "."
    return f"{text}{'' if language == 'zh' else ' '}{demand.said}"


def unmet(demand: Demand, answer: str) -> tuple[float | None, str] | None:
    """What the answer has instead: a count, or words; None when it does what is demanded."""
    return _UNMET[demand.kind](demand, answer)


@dataclass(frozen=True)
class Demanded:
    """Judges an answer by the demand of its candidate: `demand.points`, `.length`, `.json`, `.question`, `.paragraphs`; and, of a
    classification task written for one label, `demand.label`: the answer does not name it."""

    name: ClassVar[str] = "demand"
    stage: ClassVar[tuple[Stage, ...]] = ("check",)
    says: ClassVar[str] = "the answer keeps to the format that its instruction was given"

    async def __call__(self, subject: Subject) -> Verdict:
        given: Mapping[str, Any] | None = subject.facts.get("demand")
        if given is None or not subject.row.instruction.endswith(given["said"]):
            return verdict(self, "accept")
        demand = Demand(**given)
        number = demand.number or None
        if (found := unmet(demand, subject.row.answer)) is None:
            return verdict(self, "accept", threshold=number, kind=demand.kind)
        value, instead = found
        evidence = {"demanded": demand.text or None, "found": instead or None}
        return verdict(self, "reject", f"demand.{demand.kind}", value=value, threshold=number, **evidence)


def _points(demand: Demand, answer: str) -> tuple[float | None, str] | None:
    found = len(_POINT.findall(answer))
    return None if found == demand.number else (found, "")


def _length(demand: Demand, answer: str) -> tuple[float | None, str] | None:
    found = units(answer)
    return None if found <= demand.number else (found, "")


def _json(demand: Demand, answer: str) -> tuple[float | None, str] | None:
    fenced = _FENCED.fullmatch(answer)
    try:
        found = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return None, answer.strip()[:40]
    return None if isinstance(found, dict) else (None, type(found).__name__)


def _question(demand: Demand, answer: str) -> tuple[float | None, str] | None:
    said = answer.rstrip(" \n\t\"'”’」』)）*_")
    return None if said.endswith(("?", "？")) else (None, said[-20:])


def _paragraphs(demand: Demand, answer: str) -> tuple[float | None, str] | None:
    found = len([part for part in re.split(r"\n\s*\n", answer) if part.strip()])
    return None if found == demand.number else (found, "")


def _label(demand: Demand, answer: str) -> tuple[float | None, str] | None:
    label, said = bare(demand.text), bare(answer)
    named = f" {label} " in f" {said} " if label.isascii() else label in said
    return None if named else (None, answer.strip()[:40])


_UNMET: Mapping[Kind, Callable[[Demand, str], tuple[float | None, str] | None]] = {
    "points": _points,
    "length": _length,
    "json": _json,
    "question": _question,
    "paragraphs": _paragraphs,
    "label": _label,
}
