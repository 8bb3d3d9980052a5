"""A role with `stage: axis` writes the values of an axis of its own for a leaf, once, before its first candidate is planned."""

from __future__ import annotations

import re

from agents.briefing import about_leaf
from agents.chat import Chat
from leafmill.errors import ReplyError
from leafmill.ledger import Step
from taxonomy import Axis, AxisValue, Leaf

COUNT = 6
"""values asked for"""


async def write_axis(chat: Chat, name: str, leaf: Leaf) -> Axis:
    """The axis that a role writes for a leaf; equal names count once. Raises CallError, also when fewer than two values are left."""
    language = leaf.languages[0]
    head = chat.roles.pick(name, language, leaf.path).head
    step = Step(f"leaf:{leaf.path}", leaf.path, 0, f"axis.{name}")
    reply = await chat.ask(name, language, step, {**about_leaf(leaf, language), "count": COUNT})
    values: dict[str, AxisValue] = {}
    for given in reply.get("values"):
        labels = {spoken: getattr(given, spoken) for spoken in head.language if spoken in leaf.languages}
        slug = re.sub(r"\W+", "-", given.name).strip("-").lower()
        if slug:
            values.setdefault(slug, AxisValue(name=slug, labels=labels))
    if len(values) < 2:
        raise ReplyError("axis_too_small", f"role {name!r}: an axis needs two values that differ, got {list(values)}")
    return Axis(name=name, title=head.title, values=tuple(values.values()))
