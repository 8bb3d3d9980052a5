"""The grounding judge names what an answer claims and its passage does not say; the gate `grounding` decides."""

from __future__ import annotations

from agents.chat import Chat
from filters.gate import Subject
from filters.grounding import Grounds, Judge
from leafmill.ledger import Step


def judge_of(chat: Chat) -> Judge:
    """What the gate asks. Raises CallError."""

    async def judge(subject: Subject) -> Grounds:
        brief, row, step = subject.brief, subject.row, subject.facts["step"]
        assert brief is not None
        assert brief.source is not None
        assert isinstance(step, Step)
        told = {"language": row.language, "instruction": row.instruction, "passage": brief.source.text, "answer": row.answer}
        reply = await chat.ask("grounding-judge", row.language, step, told)
        return Grounds(reply.get("unsupported"), reply.get("grounded"))

    return judge
