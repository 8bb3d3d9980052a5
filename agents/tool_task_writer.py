"""The tool-task-writer writes a request that takes calls of certain tools, or that no tool can meet as it stands."""

from __future__ import annotations

from agents.briefing import about_leaf, shown_tools
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf
from taxonomy.tools import ToolTask


async def write(chat: Chat, leaf: Leaf, brief: Brief, task: ToolTask, step: Step) -> tuple[Row, Reply]:
    """A new row with the tools that its assistant is shown, without an answer, and the reply it came from. Raises CallError."""
    about = {
        **about_leaf(leaf, brief.language, brief.axes),
        "scenario": brief.scenario,
        "seeds": brief.seeds,
        "tools": shown_tools([tool.model_dump(include={"name", "description", "parameters", "returns"}) for tool in task.needed]),
        "tool_use": brief.mode.tools,
        "left_out": task.left_out,
    }
    reply = await chat.ask("tool-task-writer", brief.language, step, about)
    tools = tuple(tool.shown for tool in task.shown)
    return Row(language=brief.language, instruction=reply.get("instruction"), tools=tools), reply
