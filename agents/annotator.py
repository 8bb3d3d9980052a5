"""An annotator scores a row by its own rubric, alone: it sees no other vote, and its words never enter the row."""

from __future__ import annotations

from agents.briefing import about_row
from agents.chat import Chat, Reply
from filters.scoring.expected import expected_score
from leafmill.errors import CallError
from leafmill.ledger import Step
from leafmill.records import Brief, Row, Seat, Vote
from leafmill.tokens import count_tokens
from taxonomy import Leaf

LOWEST, HIGHEST = 1, 5


async def annotate(chat: Chat, seat: Seat, leaf: Leaf, brief: Brief, row: Row, step: Step) -> Vote:
    """One vote. An annotator that cannot be heard is a vote that failed, so that its siblings' paid votes are kept."""
    vote = Vote(role=seat.role, alias=seat.alias, answer_tokens=count_tokens(row.answer))
    try:
        reply = await chat.ask(seat.role, brief.language, step, about_row(leaf, brief, row), alias=seat.alias or None)
    except CallError as fault:
        return vote.model_copy(update={"failed": fault.code})
    return vote.model_copy(update={"score": reply.get("score"), "expected": expected(reply), "rationale": reply.get("rationale")})


def expected(reply: Reply) -> float | None:
    """The mean of the scores that might have been written. None where the server does not say how likely they were, or where they cover too
    little: then the written score is all there is."""
    return None if reply.score_logprobs is None else expected_score(reply.score_logprobs, LOWEST, HIGHEST).value
