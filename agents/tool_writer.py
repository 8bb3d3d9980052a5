"""The tools of a leaf: as its taxonomy gives them, or as the tool-writer writes them, once for each language."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from agents.briefing import about_leaf
from leafmill.ledger import Step
from leafmill.records import Language
from taxonomy import Leaf
from taxonomy.tools import Tool, fault_of, unfit

if TYPE_CHECKING:  # plan-cost reads this module's constants, and does not speak
    from agents.chat import Chat

COUNT = 4
"""tools asked for in one call"""
TRIES = 2
"""how often the tool-writer is asked for tools that suit the leaf"""


class Written(NamedTuple):
    """Tools, who made them (None: the taxonomy), and why others were dropped, by name."""

    tools: tuple[Tool, ...]
    origin: dict[str, str] | None = None
    dropped: Mapping[str, str] = MappingProxyType({})


@dataclass
class Toolbox:
    """The tools of one leaf. Written ones are asked for by the first candidate that needs some; the others wait for them."""

    leaf: Leaf
    chat: Chat
    _written: dict[Language, Written] = field(default_factory=dict)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def tools(self, language: Language) -> Written:
        """Raises CallError when the tool-writer cannot be heard."""
        async with self._asking:
            if language not in self._written:
                given = self.leaf.tools(language)
                self._written[language] = Written(given) if given else await write(self.chat, self.leaf, language)
        return self._written[language]


async def write(chat: Chat, leaf: Leaf, language: Language) -> Written:
    """The tools that the tool-writer writes for a leaf: of its tries the first that suits all modes of the leaf, else the one with most
    tools that can be used. Raises CallError."""
    kinds = {mode.tools for mode in leaf.modes} - {"none"}
    step = Step(f"leaf:{leaf.path}", leaf.path, 0, f"tools.{language}")
    tries = []
    for sample in range(TRIES):
        reply = await chat.ask("tool-writer", language, step, {**about_leaf(leaf, language), "seeds": leaf.seeds, "count": COUNT}, sample)
        good: dict[str, Tool] = {}
        dropped: dict[str, str] = {}
        for one in reply.get("tools"):
            tool, problem = _read(one)
            if tool is None:
                dropped[one.name] = problem
            else:
                good.setdefault(tool.name, tool)
        tries.append(Written(tuple(good.values()), reply.origin, dropped))
        if not any(unfit(kind, tries[-1].tools) for kind in kinds):
            return tries[-1]
    return max(tries, key=lambda one: len(one.tools))


def _read(one: Any) -> tuple[Tool | None, str]:
    """A tool as a reply describes it, or why it cannot be used."""
    try:
        schemas = {key: json.loads(getattr(one, key)) for key in ("parameters", "returns")}
        tool = Tool(name=one.name, description=one.description, **schemas)
    except ValidationError as fault:
        first = fault.errors()[0]
        return None, f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as fault:
        return None, f"not JSON: {fault}"
    wrong = fault_of(tool)
    return (tool, "") if wrong is None else (None, wrong.problem)
