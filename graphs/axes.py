"""Axes that roles of the user's own add to every leaf (`stage: axis`), asked for once and read from the ledger ever after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from agents.axis_writer import write_axis
from agents.chat import Chat
from graphs.prepare import Prepared
from leafmill.errors import CallError, Halted
from leafmill.log import RUN, WARNING, event
from taxonomy import Axis, Leaf


async def with_own_axes(prepared: Prepared, chat: Chat, say: Callable[[str], None]) -> Prepared:
    """The same, with the axes that its roles write. A leaf whose axis cannot be had goes without it, which is said and in the ledger."""
    names = prepared.roles.at("axis")
    if not names:
        return prepared
    asked = [(leaf, name) for leaf in prepared.leaves for name in names]
    written = await asyncio.gather(*(_axis(chat, name, leaf, say) for leaf, name in asked))
    axes: dict[str, list[Axis]] = {leaf.path: [] for leaf in prepared.leaves}
    for (leaf, _), axis in zip(asked, written, strict=True):
        axes[leaf.path] += [axis] if axis else []
    leaves = tuple(leaf.model_copy(update={"axes": (*leaf.axes, *axes[leaf.path])}) for leaf in prepared.leaves)
    return replace(prepared, leaves=leaves)


async def _axis(chat: Chat, name: str, leaf: Leaf, say: Callable[[str], None]) -> Axis | None:
    try:
        return await write_axis(chat, name, leaf)
    except Halted:  # the run says so
        return None
    except CallError as fault:
        say(f"{leaf.path}: goes without the axis {name!r}: {fault}")
        event(RUN, WARNING, "axis left out", leaf=leaf.path, role=name, code=fault.code)
        return None
