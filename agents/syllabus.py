"""The syllabus planner lists what a leaf is made of: sessions of key concepts, a page at a time, as GLAN does (arXiv 2402.13064). What
GLAN leaves out is done where its pages are kept (`graphs.pages`): a concept that says what another has said before is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agents.briefing import about_leaf
from leafmill.ledger import Step
from leafmill.records import Language
from taxonomy import Leaf
from taxonomy.syllabus import Session

if TYPE_CHECKING:  # plan-cost reads this module's constants, and does not speak
    from agents.chat import Chat

SESSIONS = 4
"""asked for in one call; a small model repeats itself in a longer list"""
CONCEPTS = 5
"""of a session, at most"""
PAGES = 8
"""of a leaf and language, at most: what comes later strays from the leaf"""
KNOWN = 40
"""concepts that it is told not to name again"""


async def list_sessions(chat: Chat, leaf: Leaf, language: Language, page: int, known: Sequence[Session]) -> list[Session]:
    """The sessions of one page. Raises CallError."""
    step = Step(f"leaf:{leaf.path}", leaf.path, page, f"syllabus.{page}.{language}")
    taught = [concept for session in known for concept in session.concepts]
    reply = await chat.ask("syllabus-planner", language, step, {**about_leaf(leaf, language), "count": SESSIONS, "known": taught[-KNOWN:]})
    return [Session(one.title, tuple(one.concepts[:CONCEPTS])) for one in reply.get("sessions")[:SESSIONS]]
