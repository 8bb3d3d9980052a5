"""The arbiter breaks a tie: it sees the row and the divided votes with their reasons, not who cast them, and scores the row itself."""

from __future__ import annotations

from collections.abc import Sequence

from agents.annotator import expected
from agents.briefing import about_row
from agents.chat import Chat
from filters.agreement import ARBITER
from leafmill.errors import CallError
from leafmill.ledger import Step
from leafmill.records import Brief, Row, Vote
from leafmill.tokens import count_tokens
from taxonomy import Leaf


async def arbitrate(chat: Chat, leaf: Leaf, brief: Brief, row: Row, votes: Sequence[Vote], step: Step) -> Vote:
    """Its vote; a failed one where it cannot be heard, which leaves the panel divided."""
    vote = Vote(role=ARBITER, answer_tokens=count_tokens(row.answer))
    told = [f"{cast.role.removeprefix('annotator-')}: {cast.score}. {cast.rationale}" for cast in votes if cast.score is not None]
    try:
        reply = await chat.ask(ARBITER, brief.language, step, {**about_row(leaf, brief, row), "votes": told})
    except CallError as fault:
        return vote.model_copy(update={"failed": fault.code})
    said = {"alias": chat.alias(reply.role).name, "score": reply.get("score"), "expected": expected(reply)}
    return vote.model_copy(update={**said, "rationale": reply.get("rationale")})
