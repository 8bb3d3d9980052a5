"""Who answers an instruction: the answerer at once, the reasoner in steps, the thinker in a model's own way of thinking. Told what the
critic found wrong, each writes the whole answer anew; what was thought is kept apart from what was answered."""

from __future__ import annotations

import re

from agents.briefing import about_row
from agents.chat import Chat, Reply
from agents.stages import BY_DEPTH, STAGES
from leafmill.errors import NoReasoningError
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf

FENCE = re.compile(r"<answer>\s*(.*?)\s*(</answer>)?", re.DOTALL)


async def answer(
    chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, feedback: str = "", sample: int = 0, alias: str | None = None
) -> tuple[Row, Reply]:
    """The row with an answer, reasoning kept apart, and the reply it came from. Raises CallError."""
    told = about_row(leaf, brief, row) if feedback else about_row(leaf, brief, row.model_copy(update={"answer": ""}))
    depth, told = brief.mode.depth, {**told, "feedback": feedback}
    role = STAGES[BY_DEPTH[depth]].player
    reply = await chat.ask(role, brief.language, step, told, sample, alias)
    if depth == "deep" and not reply.reasoning:
        reply = await chat.ask(role, brief.language, step, told, ~sample, alias)  # the samples from 0 on are others'
        if not reply.reasoning:
            raise NoReasoningError(
                f"role {role!r}: {reply.model} answered twice without reasoning: name a model that reasons under `roles.{role}.model`, "
                "or have its server return it (`reasoning_content`, or <think> in the text)"
            )
    reasoning = reply.get("reasoning") if depth == "cot" else reply.reasoning
    return row.model_copy(update={"answer": unfenced(reply.get("answer")), "reasoning": reasoning}), reply


def unfenced(text: str) -> str:
    """The answer itself: small models like to put the tags of the prompt around it."""
    wrapped = FENCE.fullmatch(text)
    return wrapped[1] if wrapped else text
