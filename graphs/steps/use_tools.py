"""The nodes of candidates whose answer takes tools: their task is written, the assistant asks for calls, and mock tools answer them.

    write =screen=> use_tools <-> call_tools
                     ^  | a call that cannot be made: told what is wrong, once
                     '--'

A call enters the row only when it can be made: a trained model should see no wrong one. What was wrong with the others is a verdict in the
trace.
"""

from __future__ import annotations

from agents import tool_task_writer, tool_user
from graphs.state import Context, State, Update
from graphs.steps import revise
from graphs.steps.node import made_by
from leafmill.ledger import Ending, Step
from leafmill.records import Row, Turn, Verdict
from taxonomy import mock_tools
from taxonomy.tools import task_of, unfit


async def write_task(state: State, context: Context, step: Step) -> Update:
    """The request, and the tools that its assistant is shown. Tools that a role wrote may be too few for what the candidate is about."""
    brief = state["brief"]
    box = await context.toolbox.tools(brief.language)
    if problem := unfit(brief.mode.tools, box.tools):
        dropped = "; ".join(f"{name}: {why}" for name, why in box.dropped.items())
        return {"ending": Ending("rejected", "write", "tools.unfit", f"{problem}{f' ({dropped})' if dropped else ''}")}
    task = task_of(brief, box.tools)
    row, reply = await tool_task_writer.write(context.chat, context.leaf, brief, task, step)
    tools = [{"part": "tools", **box.origin, **({"dropped": box.dropped} if box.dropped else {})}] if box.origin else []
    about = {"needed": [tool.name for tool in task.needed], **({"left_out": task.left_out} if task.left_out else {})}
    return {"row": row, "tool_task": task, "lineage": [*tools, {**made_by("instruction", step, reply), **about}]}


async def use_tools(state: State, context: Context, step: Step) -> Update:
    """What the assistant says after the calls so far: more calls, or the answer."""
    brief, row, round_, problem = state["brief"], state["row"], state["tool_rounds"], state["tool_problem"]
    if not round_:  # an answer that is written anew makes its own calls
        row = row.model_copy(update={"steps": ()})
    if round_ == context.flow.tool_rounds:
        why = f"there was no answer after {round_} replies (flow.tool_rounds)"
        return _none(state, context, step, row, "tools.no_answer", why)
    # The step keeps its name through the rounds, and so the variant of the prompt; what was called so far tells their prompts apart.
    said, reply = await tool_user.ask(context.chat, context.leaf, brief, row, step, state["feedback"], problem)
    if said.code:
        code = f"tools.{said.code}"
        context.ledger.note_verdict(step, Verdict(gate="tools", decision="reject", code=code, evidence={"problem": said.problem}))
        if problem:
            return _none(state, context, step, row, code, f"{said.problem}; before that: {problem}")
        return {"row": row, "tool_rounds": round_ + 1, "tool_problem": said.problem, "goto": "use_tools"}
    if said.calls:
        row = row.model_copy(update={"steps": (*row.steps, Turn(role="assistant", content="", calls=said.calls))})
        return {"row": row, "tool_rounds": round_ + 1, "tool_problem": "", "goto": "call_tools"}
    lineage = [*(m for m in state["lineage"] if m["part"] != "answer"), made_by("answer", step, reply)]
    row = row.model_copy(update={"answer": said.answer, "reasoning": reply.reasoning})
    done: Update = {"row": row, "tool_rounds": 0, "tool_problem": "", "cut_off": reply.cut_off}
    return {**done, "answered": state["answered"] + 1, "votes": [], "lineage": lineage}


def _none(state: State, context: Context, step: Step, row: Row, code: str, why: str) -> Update:
    """There is no answer. An earlier one, which was to be revised, stays; else the candidate ends."""
    if state.get("earlier") is None:
        return {"row": row, "ending": Ending("rejected", "use_tools", code, why)}
    back = revise.give_back(state, context, {"step": step.name, "refused": code, "stays": False})
    return {"tool_rounds": 0, "tool_problem": "", "answered": state["answered"] + 1, **back}


async def call_tools(state: State, context: Context, step: Step) -> Update:
    """The mock tools give what they give for the calls of the last step."""
    row, task = state["row"], state["tool_task"]
    assert task is not None, "`write_task` says what the tools are"
    tools = {tool.name: tool for tool in task.shown}
    given = (
        Turn(role="tool", content=mock_tools.call(tools[call.name], call.arguments, context.seed).text, answers=call.id)
        for call in row.steps[-1].calls
    )
    return {"row": row.model_copy(update={"steps": (*row.steps, *given)})}
