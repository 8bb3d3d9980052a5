"""The evolver makes an instruction harder by one of the in-depth operators of Evol-Instruct (Xu et al. 2023, arXiv 2304.12244)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.briefing import about_row
from leafmill.ledger import Step
from leafmill.records import Brief, Row, digest
from taxonomy import Leaf

if TYPE_CHECKING:  # plan-cost reads this module's constants, and does not speak
    from agents.chat import Chat, Reply

OPERATORS = ("constraints", "deepen", "concretise", "reasoning", "complicate_input")


def operator(brief: Brief, round_: int) -> str:
    """The operator of an evolution round: the operators are dealt in turn, from a start that differs by leaf."""
    start = int(digest(brief.leaf, length=8), 16)
    return OPERATORS[(start + brief.number + round_) % len(OPERATORS)]


async def evolve(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, round_: int) -> tuple[Row, Reply]:
    """The harder row, without an answer, and the reply it came from. Raises CallError."""
    change = operator(brief, round_)
    reply = await chat.ask("evolver", brief.language, step, {**about_row(leaf, brief, row), "operator": change})
    # Only this operator is about the input; what else comes back as one is a copy with slips in it.
    input_ = (change == "complicate_input" and reply.get("input")) or row.input
    return Row(language=row.language, instruction=reply.get("instruction"), input=input_), reply
