"""A juror says which of two answers is better, without knowing whose they are; it is asked in both orders."""

from __future__ import annotations

from dataclasses import dataclass

from agents.briefing import about_row
from agents.chat import Chat
from agents.together import together
from filters.voting.jury import Outcome, Said, swapped
from leafmill.errors import CallError
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf


@dataclass(frozen=True)
class Heard:
    """What a juror made of a pair. `said` are its verdicts: with the answers in their order, and in the other one; a code of a call where
    it could not be heard."""

    alias: str
    outcome: Outcome
    said: tuple[str, str]


async def compare(chat: Chat, leaf: Leaf, brief: Brief, row: Row, one: str, other: str, step: Step, alias: str = "") -> Heard:
    """The juror's preference. A verdict that cannot be had leaves the pair unscored."""
    told = about_row(leaf, brief, row.model_copy(update={"answer": ""}))

    async def ask(first: str, second: str) -> tuple[Said | None, str]:
        try:
            reply = await chat.ask("juror", brief.language, step, {**told, "answer_a": first, "answer_b": second}, alias=alias or None)
        except CallError as fault:
            return None, fault.code
        said: Said = reply.get("verdict")
        return said, said

    (first, as_told), (second, as_turned) = await together([ask(one, other), ask(other, one)])
    return Heard(alias, swapped(first, second), (as_told, as_turned))
