"""The planner lists scenarios for a leaf, a page at a time, so that briefs differ before a token is spent on writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agents.briefing import about_leaf
from leafmill.ledger import Step
from leafmill.records import Language
from taxonomy import Leaf

if TYPE_CHECKING:  # plan-cost reads this module's constants, and does not speak
    from agents.chat import Chat

PAGE = 8
"""scenarios asked for in one call; a small model repeats itself in a longer list"""


async def list_scenarios(chat: Chat, leaf: Leaf, language: Language, page: int, known: Sequence[str]) -> list[str]:
    """The scenarios of one page, none of which is among the `known` ones. Raises CallError."""
    step = Step(f"leaf:{leaf.path}", leaf.path, page, f"plan.{page}.{language}")
    values = {**about_leaf(leaf, language), "seeds": leaf.seeds, "count": PAGE, "known": list(known)[-2 * PAGE :]}
    reply = await chat.ask("planner", language, step, values)
    return [s for s in dict.fromkeys(reply.get("scenarios")) if s not in known][:PAGE]
