"""The comparer says whether a rewritten instruction asks for more than its parent did (Evol-Instruct's first elimination)."""

from __future__ import annotations

from agents.briefing import about_row
from agents.chat import Chat
from leafmill.errors import ReplyError
from leafmill.ledger import Step
from leafmill.records import Brief, Row, Verdict
from taxonomy import Leaf

NAME = "comparer"
"""of the role, and of the gate in whose name its verdicts are recorded"""


async def compare(chat: Chat, leaf: Leaf, brief: Brief, parent: Row, child: Row, step: Step) -> Verdict:
    """A child gains by more demands or by more depth; equal (or less) in both is `evolution.no_gain`. A comparer that cannot be read has
    measured nothing: `unscorable`. Raises CallError for a call that failed."""
    try:
        reply = await chat.ask(NAME, brief.language, step, {**about_row(leaf, brief, child), "parent": parent.prompt})
    except ReplyError as fault:
        return Verdict(gate=NAME, decision="unscorable", code="evolution.unheard", evidence={"failed": fault.code})
    found = {part: reply.get(part) for part in ("demands", "depth")}
    gain = "more" in found.values()
    return Verdict(
        gate=NAME,
        decision="accept" if gain else "reject",
        code="ok" if gain else "evolution.no_gain",
        evidence={**found, "rationale": reply.get("rationale")},
        version=f"{NAME}@{reply.role.hash[:8]}",
    )
