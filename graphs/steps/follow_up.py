"""The node in which the user speaks again."""

from __future__ import annotations

from typing import Any

from agents import simulated_user
from graphs.state import Context, State, Update
from graphs.steps.doors import mend
from graphs.steps.node import ending_of, judged, made_by
from leafmill.ledger import Step
from leafmill.records import Row, Turn

TRIES = 2
"""how often the user is asked for a message that passes the gates"""
FEWEST = 2
"""exchanges that make a conversation"""


async def follow_up(state: State, context: Context, step: Step) -> Update:
    """The next message of the user, through the gates on instructions; not through those that remember, for what they know depends on how
    far other candidates have come. When none passes, the conversation ends where it is, if it is one by then."""
    brief, row = state["brief"], state["row"]
    wish = simulated_user.wish_of(context.leaf, brief)
    said = (*row.asked, Turn(role="assistant", content=row.answer))
    for sample in range(TRIES):
        message, reply = await simulated_user.follow_up(context.chat, context.leaf, brief, wish, said, step, sample)
        asked: State = {**state, "row": Row(language=row.language, instruction=message, history=said, tools=row.tools)}
        here = step._replace(seq=step.seq + 1 + sample, name=step.name.replace("follow_up", "screen", 1) + ".again" * sample)
        verdict = await judged("screen", asked, context, here, but=context.memory)
        if verdict is None:
            lineage = [*_over(state["lineage"], row.exchanges), made_by("instruction", step, reply)]
            if not row.history:
                lineage = [{"part": "wish", **wish.model_dump()}, *lineage]
            asked["lineage"] = lineage
            return {"row": asked["row"], "lineage": lineage, "seq": here.seq, **mend("screen", asked, context, here)}
        if verdict.decision == "error":
            break
    assert verdict is not None, "a message that passes has been returned"
    if verdict.decision == "error" or row.exchanges < FEWEST:
        return {"ending": ending_of("follow_up", verdict), "seq": here.seq}
    ended = {"part": "conversation", "ended_after": row.exchanges, "of": brief.mode.turns, "why": verdict.code}
    return {"closed": verdict.code, "lineage": [*state["lineage"], ended], "seq": here.seq, "goto": "annotate"}


def _over(lineage: list[dict[str, Any]], turn: int) -> list[dict[str, Any]]:
    """The lineage when an exchange is over: what made its message and its answer belongs to a turn of the history now."""
    return [{**one, "part": f"{one['part']} {turn}"} if one["part"] in ("instruction", "answer") else one for one in lineage]
