"""The gate `tools`: calls of tools are such as can be made, as many as the task takes, and the answer says what they gave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import normalise
from leafmill.records import Row, ToolCall, Turn, Verdict
from taxonomy.tools import wrong_call

_DECLINES = re.compile(f"{words_en.DECLINES}|{words_zh.DECLINES}")
_ASKS = re.compile(rf"[?？]|{words_en.ASKS_BACK}|{words_zh.ASKS_BACK}")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_Value = str | float


@dataclass(frozen=True)
class Tools:
    """Form first, then what was done, then what is said of it, as APIGen has it; whether all that is meant well is the panel's to say.

    * `tools.unknown`, `tools.invalid_call`: a call of no tool of the row, or with arguments that are not of its schema; a call without a
      result, or a result without a call;
    * of a candidate whose brief says what kind of calls it takes (`Mode.tools`): `tools.missing_call`, `tools.too_few`, `tools.too_many`,
      `tools.not_parallel` (no two different calls in one step), `tools.not_dependent` (no later call has an argument that only an
      earlier result can have given), `tools.called_although_missing`, `tools.did_not_decline`, `tools.did_not_ask`;
    * `tools.result_unused`: of a result of the last step the answer says nothing; `tools.contradicted`: it has a number instead
      that nobody has named.
    """

    name: ClassVar[str] = "tools"
    stage: ClassVar[tuple[Stage, ...]] = ("check",)
    says: ClassVar[str] = "calls of tools cannot be made, or the answer does not go by what they gave"

    async def __call__(self, subject: Subject) -> Verdict:
        row, brief = subject.row, subject.brief
        kind = brief.mode.tools if brief and row.exchanges == 1 else "none"  # of a conversation the first exchange is the task
        if not row.steps and kind == "none":
            return verdict(self, "accept")
        found = _badly_formed(row) or _badly_done(row, kind) or _badly_said(row, kind, subject.facts.get("left_out", ""))
        if found is None:
            return verdict(self, "accept", value=len(_calls(row)))
        code, evidence = found
        return verdict(self, "reject", f"tools.{code}", **evidence)


def tool_failed(row: Row) -> bool:
    """Whether a tool of the last step has failed, of which the answer must tell."""
    return any(_is_error(_read(turn.content)) for turn in _last_results(row))


_Found = tuple[str, dict[str, Any]] | None


def _calls(row: Row) -> list[ToolCall]:
    return [call for turn in row.steps for call in turn.calls]


def _badly_formed(row: Row) -> _Found:
    """Calls that cannot be made, or that are not answered."""
    open_: list[str] = []
    for turn in row.steps:
        for call in turn.calls:
            wrong = wrong_call(row.tools, call.name, call.arguments) if row.tools else None  # a data set may not say what its tools are
            if wrong:
                return wrong.code, {"call": call.id, "problem": wrong.problem}
            open_.append(call.id)
        if turn.role == "tool" and turn.answers:
            if turn.answers not in open_:
                return "invalid_call", {"problem": f"there is a result of {turn.answers!r}, which was not called"}
            open_.remove(turn.answers)
    told_apart = all(turn.answers for turn in row.steps if turn.role == "tool")
    return ("invalid_call", {"call": open_[0], "problem": "it has no result"}) if open_ and told_apart else None


def _badly_done(row: Row, kind: str) -> _Found:
    """Other calls than the kind of task takes."""
    steps = [turn.calls for turn in row.steps if turn.calls]
    calls = _calls(row)
    if kind in ("missing_tool", "missing_parameter"):
        return ("called_although_missing", {"call": calls[0].name}) if calls else None
    if kind == "none":
        return None
    if not calls:
        return "missing_call", {}
    if kind == "single" and len(calls) > 1:
        return "too_many", {"calls": len(calls), "expected": 1}
    if kind == "parallel" and not any(len({_told(call) for call in step}) > 1 for step in steps):
        return "not_parallel", {"steps": len(steps)}
    if kind == "multi_step":
        if len(steps) < 2:
            return "too_few", {"steps": len(steps), "expected": 2}
        if not _depends(row):
            return "not_dependent", {"steps": len(steps)}
    return None


def _told(call: ToolCall) -> str:
    return json.dumps([call.name, call.arguments], sort_keys=True)


def _depends(row: Row) -> bool:
    """Whether some call has an argument that an earlier result gives and that was not known before."""
    prompt, known = normalise(row.prompt), set[_Value]()
    given: set[_Value] = set()
    for turn in row.steps:
        for call in turn.calls:
            said = set(_values(call.arguments))
            if any(value in given and value not in known and not _stands_in(value, prompt) for value in said):
                return True
        known |= {value for call in turn.calls for value in _values(call.arguments)}
        if turn.role == "tool":
            given |= set(_values(_read(turn.content)))
    return False


def _badly_said(row: Row, kind: str, left_out: str) -> _Found:
    """An answer that does not say what was found, or that does not decline or ask where it must."""
    answer = normalise(row.answer)
    if kind == "missing_tool":
        return None if _DECLINES.search(answer) else ("did_not_decline", {})
    if kind == "missing_parameter":
        asks = _ASKS.search(answer) and _names(answer, left_out, row)
        return None if asks else ("did_not_ask", {"parameter": left_out or None})
    if not row.answer:
        return None
    calls = {call.id: call for call in _calls(row)}
    known = {number for text in (row.prompt, *(turn.text for turn in row.steps)) for number in _numbers(normalise(text))}
    for turn in _last_results(row):
        call = calls.get(turn.answers)
        asked = set(_values(call.arguments)) if call else set()
        found = _read(turn.content)
        values = set(_values(found))
        telling = values - asked or values
        if not telling or _is_error(found) or any(_stands_in(value, answer) for value in telling):
            continue
        numbers = _numbers(answer) - known
        wrong = numbers and any(isinstance(value, float) for value in telling)
        return "contradicted" if wrong else "result_unused", {"call": call.name if call else None, "result": turn.content[:200]}
    return None


def _last_results(row: Row) -> Iterator[Turn]:
    """The results of the last step."""
    last = max((place for place, turn in enumerate(row.steps) if turn.role == "assistant"), default=-1)
    return (turn for turn in row.steps[last + 1 :] if turn.role == "tool")


def _names(answer: str, parameter: str, row: Row) -> bool:
    """Whether a question names a parameter: by a word of its name, or of its description (in Chinese, by two characters of it)."""
    for tool in row.tools:
        schema = tool.get("parameters", {}).get("properties", {}).get(parameter)
        if schema is None:
            continue
        about = normalise(f"{parameter.replace('_', ' ')} {schema.get('title', '')} {schema.get('description', '')}")
        words = {word[:5] for word in re.findall(r"[a-z]{3,}", about)} - {"the", "which", "for", "and", "with", "that"}
        chinese = re.findall(r"[\u4e00-\u9fff]+", about)
        pairs = {run[at : at + 2] for run in chinese for at in range(max(1, len(run) - 1))}
        if any(part in answer for part in words | pairs):
            return True
    return not parameter


def _read(content: str) -> Any:
    """What a tool's message holds: JSON as a rule."""
    try:
        return json.loads(content)
    except ValueError:
        return content


def _is_error(found: Any) -> bool:
    return isinstance(found, dict) and found.keys() == {"error"}


def _values(value: Any) -> Iterator[_Value]:
    """The texts and numbers in a value. Yes and no say too little to be found again."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _values(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _values(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, str) and value.strip():
        yield normalise(value)


def _stands_in(value: _Value, text: str) -> bool:
    """Whether a text says a value: a number rounded, too; a day also as "14 March" or 3月14日; of a longer text most of its words."""
    if isinstance(value, float):
        return any(value == number or (value != int(value) and number in (round(value), round(value, 1))) for number in _numbers(text))
    if value in text:
        return True
    if day := _DAY.match(value):
        _, month, date = map(int, day.groups())
        in_words = words_en.MONTHS[month - 1] in text or f"{month}月" in text or f"{month}/" in text
        return in_words and float(date) in _numbers(text)
    parts = set(_parts(value))
    return len(parts) >= 3 and sum(part in text for part in parts) * 3 >= len(parts) * 2


def _parts(text: str) -> Iterable[str]:
    """The words of a text, and the pairs of Chinese characters."""
    runs = re.findall(r"[\u4e00-\u9fff]+", text)
    return [*re.findall(r"[a-z]{3,}", text), *(run[at : at + 2] for run in runs for at in range(len(run) - 1))]


def _numbers(text: str) -> set[float]:
    return {float(found.replace(",", "")) for found in _NUMBER.findall(text)}
