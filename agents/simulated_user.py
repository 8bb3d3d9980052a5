"""The simulated user speaks for the person in a conversation. It has a persona and a goal of its own, which the assistant never sees; of
the assistant it sees what a person would, not what it thought or was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from agents.briefing import about_leaf
from leafmill.ledger import Step
from leafmill.records import Brief, Language, Record, Turn, digest
from taxonomy import Leaf

if TYPE_CHECKING:  # plan-cost makes wishes, and does not speak
    from agents.chat import Chat, Reply

PERSONA = "persona"
"""the axis that says who the user is, where a leaf has it and its taxonomy lists no people"""

PERSONAS: Mapping[Language, Sequence[str]] = {
    "en": (
        "a beginner who asks plainly and does not know the terms",
        "somebody in a hurry who writes short messages",
        "a careful person who wants to be sure before doing anything",
        "an experienced person who knows the basics and asks about the finer points",
        "a sceptic who takes nothing without a reason",
        "somebody friendly who tells a little of their own situation each time",
    ),
    "zh": (
        "刚入门的人，问得直白，不懂术语",
        "赶时间的人，话很短",
        "谨慎的人，弄清楚了才肯动手",
        "有经验的人，基础都懂，只问细处",
        "爱怀疑的人，没有理由就不信",
        "随和的人，每次都会讲一点自己的情况",
    ),
}
GOALS: Mapping[Language, Sequence[str]] = {
    "en": (
        "to understand the reasons well enough to explain them to somebody else",
        "to apply it to your own case, whose particulars you tell bit by bit",
        "to learn where the advice stops being right, and what could go wrong",
        "to leave with something finished: have it improved until it can be used as it is",
        "to weigh it against another way, and to decide between the two",
        "to settle a doubt: one thing in it does not fit what you have seen yourself",
    ),
    "zh": (
        "把道理弄明白，能讲给别人听",
        "用到自己的情况上，细节一点一点说出来",
        "弄清这个说法在什么时候不成立、会出什么问题",
        "拿到能直接用的成品：让对方一步步改到可用为止",
        "跟另一种做法比一比，最后选定一个",
        "消除一个疑问：其中有一点和自己见过的不一样",
    ),
}
"""what a person may want beyond the first answer"""
ELSEWHERE: Mapping[Language, str] = {"en": "something else from your day", "zh": "你今天遇到的另一件事"}
"""the other topic, where the taxonomy has only one"""


class Wish(Record):
    """What the user of one conversation is after. It follows from the brief, so a run that goes on has the same one."""

    persona: str
    goal: str
    topic: str = ""
    """what it turns to in the message that switches"""
    switch: int = 0
    """which message that is; 0: none"""


def wish_of(leaf: Leaf, brief: Brief) -> Wish:
    """Dealt by the brief: the persona is the brief's own where it has one, the other topic is that of a leaf nearby."""
    language, dealt = brief.language, Random(digest(brief.id, "wish"))
    persona, goal = dealt.choice(PERSONAS[language]), dealt.choice(GOALS[language])
    titles = [title[language] for title in leaf.beside if language in title] or [ELSEWHERE[language]]
    topic = dealt.choice(titles)
    own = [axis.value(brief.axes[PERSONA]).labels.get(language, "") for axis in leaf.axes if axis.name == PERSONA and PERSONA in brief.axes]
    return Wish(persona=brief.persona or (own and own[0]) or persona, goal=goal, topic=topic if brief.switch else "", switch=brief.switch)


async def follow_up(
    chat: Chat, leaf: Leaf, brief: Brief, wish: Wish, said: Sequence[Turn], step: Step, sample: int = 0
) -> tuple[str, Reply]:
    """The user's next message after what was said, and the reply it came from. Raises CallError."""
    reply = await chat.ask("simulated-user", brief.language, step, told(leaf, brief, wish, said), sample)
    return reply.get("message"), reply


def told(leaf: Leaf, brief: Brief, wish: Wish, said: Sequence[Turn]) -> dict[str, object]:
    """What its stage offers: of the assistant what a person is told, no calls of tools; the other topic only when its message comes."""
    heard = [turn.model_copy(update={"calls": ()}) for turn in said if turn.role in ("user", "assistant") and turn.content]
    now = 1 + sum(turn.role == "user" for turn in said)
    about = about_leaf(leaf, brief.language, brief.axes)
    topic = wish.topic if now == wish.switch else ""
    return {**about, "history": heard, "scenario": brief.scenario, "persona": wish.persona, "goal": wish.goal, "topic": topic}
