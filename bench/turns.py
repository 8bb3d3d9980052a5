"""What the gate `turns` finds, and what it finds where nothing is: conversations as they should be, and the same with one thing spoilt.

python -m bench.turns          the table of docs/conversations.md, and every message that was judged wrongly
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from filters.gate import Subject
from filters.turns import Turns
from leafmill.records import Brief, Language, Mode, Row, Turn

LANGUAGES: tuple[Language, ...] = ("en", "zh")
DATA = Path(__file__).with_name("turns.yaml")
LABELS = {"en": ("User: ", "Assistant: "), "zh": ("用户：", "助手：")}
HELPS = {"en": "Certainly! Here is what you asked for. ", "zh": "好的，以下是为您整理的内容。"}
LAST = {"en": "Is there anything else I can help you with?", "zh": "还有什么可以帮您的吗？"}
HELPLESS = {"en": "Can you help me with this? ", "zh": "请帮我看看这个问题，"}


class Trial(NamedTuple):
    """A message as it is judged, and the codes of which one should come of it; none: it should pass."""

    kind: str
    row: Row
    codes: tuple[str, ...] = ()
    is_switch: bool = False


def trials(language: Language) -> Iterator[Trial]:
    data = yaml.safe_load(DATA.read_text(encoding="utf-8"))[language]
    talks = data["conversations"]
    user, assistant = LABELS[language]
    swap, again = ("turns.role_swap",), ("turns.repeated",)
    for number, talk in enumerate(talks):
        other = talks[(number + 5) % len(talks)]
        for at in range(2, len(talk), 2):
            said = talk[:at]
            yield Trial("user: good", _row(language, said, talk[at]))
            yield Trial("user: another topic, as it should be", _row(language, said, other[0]), is_switch=True)
            yield Trial("user: speaks for both", _row(language, said, f"{talk[at]}\n{assistant}{talk[at + 1]}"), swap)
            yield Trial("user: offers help", _row(language, said, HELPS[language] + talk[at + 1]), swap)
            yield Trial("user: asks what it can do", _row(language, said, f"{talk[at + 1]} {LAST[language]}"), swap)
            yield Trial("user: answers in its own words", _row(language, said, talk[at + 1]), swap)
            yield Trial("user: says the last answer again", _row(language, said, _nearly(talk[at - 1])), (*swap, *again))
            yield Trial("user: asks the same again", _row(language, said, _nearly(talk[at - 2])), again)
            yield Trial("user: another conversation's opening", _row(language, said, other[0]), ("turns.detached",))
            yield Trial("user: another conversation's follow-up", _row(language, said, other[at]), ("turns.detached",))
            yield Trial("user: goes on where it should turn away", _row(language, said, talk[at]), ("turns.no_switch",), is_switch=True)
        for at in range(1, len(talk), 2):
            said, answer = talk[:at], talk[at]
            yield Trial("assistant: good", _row(language, said, answer=answer))
            both = f"{answer}\n\n{user}{talk[(at + 1) % 2]}\n{assistant}{answer}"
            yield Trial("assistant: speaks for both", _row(language, said, answer=both), swap)
            yield Trial("assistant: asks for help", _row(language, said, answer=HELPLESS[language] + other[0].rstrip("。.") + "?"), swap)
            if at > 1:
                yield Trial("assistant: says the same again", _row(language, said, answer=_nearly(talk[at - 2])), again)
        farewell = data["farewells"][number % len(data["farewells"])]
        for at, code in ((2, "turns.too_short"), (4, "turns.farewell")):
            yield Trial("user: says goodbye", _row(language, talk[:at], farewell), (code,))
            thanks = f"{farewell} {talk[at]}"
            yield Trial("user: thanks, and goes on", _row(language, talk[:at], thanks))


async def measure(language: Language) -> tuple[dict[str, list[bool]], list[str]]:
    """By kind, whether each message was judged as it should be; and those that were not."""
    gate, right, wrong = Turns(), defaultdict[str, list[bool]](list), []
    for trial in trials(language):
        turns = trial.row.exchanges
        mode = Mode(turns=max(2, turns), topic_switch=trial.is_switch)
        brief = _switching(language, mode, turns) if trial.is_switch else Brief(id="b", leaf="l", number=0, language=language, mode=mode)
        found = await gate(Subject(id="s", row=trial.row, brief=brief))
        as_it_should = found.code in trial.codes if trial.codes else found.decision == "accept"
        right[trial.kind].append(as_it_should)
        if not as_it_should:
            wrong.append(f"{trial.kind}: {found.code}: {(trial.row.answer or trial.row.prompt)[:90]!r}")
    return right, wrong


def _switching(language: Language, mode: Mode, turn: int) -> Brief:
    """A brief whose topic switches at this turn: which one does follows from its id."""
    briefs = (Brief(id=f"b{n}", leaf="l", number=0, language=language, mode=mode) for n in range(1000))
    return next(brief for brief in briefs if brief.switch == turn)


def _row(language: Language, said: list[str], message: str = "", *, answer: str = "") -> Row:
    turns = [Turn(role="user" if at % 2 == 0 else "assistant", content=text) for at, text in enumerate(said)]
    if answer:
        return Row(language=language, instruction=turns[-1].content, history=tuple(turns[:-1]), answer=answer)
    return Row(language=language, instruction=message, history=tuple(turns))


def _nearly(text: str) -> str:
    """The text with a word moved, as a model repeats itself."""
    gap = " " if text.isascii() else ""
    words = text.split(" ") if gap else list(text)
    return gap.join([*words[:2], *words[3:5], *words[2:3], *words[5:]])


def table(found: dict[Language, dict[str, list[bool]]]) -> str:
    """By kind, how many messages were judged as they should be."""
    lines = ["| | English | Chinese |", "|---|---|---|"]
    for kind, right in found["en"].items():
        cells = (f"{sum(one)} of {len(one)}" for one in (right, found["zh"][kind]))
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


async def main() -> None:
    measured = {language: await measure(language) for language in LANGUAGES}
    sys.stdout.write(table({language: right for language, (right, _) in measured.items()}) + "\n\n")
    sys.stdout.write("".join(f"{one}\n" for _, wrong in measured.values() for one in wrong))


if __name__ == "__main__":
    asyncio.run(main())
