"""The node that writes the instruction, in the way that the candidate's mode says.

brief            writer
self_instruct    self-instructor -> its filters -> task-classifier -> instance-writer
rewrite          rewriter, and perhaps a demand on the answer's form
document         document-writer
                 then, of a localised candidate, the localiser: all the above has been in the other language
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from agents import document_writer, localiser, rewriter, self_instructor, writer
from filters.demand import Demand, with_demand
from filters.self_instruct import SelfInstruct
from graphs.state import Context, State, Update
from graphs.steps.node import ending_of, made_by
from graphs.steps.use_tools import write_task
from leafmill.errors import ReplyError
from leafmill.ledger import Ending, Step
from leafmill.records import Brief, Row, digest

Way = Literal["brief", "self_instruct", "rewrite", "document"]


async def write(state: State, context: Context, step: Step) -> Update:
    mode = state["brief"].mode
    if mode.tools != "none":
        return await write_task(state, context, step)
    written = await WAYS[mode.write](state["brief"], context, step)
    if mode.localised and not written.get("ending"):
        written = await localise(state["brief"], written, context, step)
    return written


async def from_brief(brief: Brief, context: Context, step: Step) -> Update:
    row, reply = await writer.write(context.chat, context.leaf, brief, step)
    return {"row": row, "lineage": [made_by("instruction", step, reply)]}


async def self_instruct(brief: Brief, context: Context, step: Step) -> Update:
    """A task after examples. What its filters refuse is given no material; a task whose instances are no examples is dropped whole."""
    gate = next((gate for gate in context.gates.get("screen", ()) if isinstance(gate, SelfInstruct)), None)
    try:
        instruction, reply = await self_instructor.write(context.chat, context.leaf, brief, step)
    except ReplyError as fault:  # recorded by the call
        if fault.code != "cut_off":
            raise
        return {"ending": Ending("rejected", "write", "self_instruct.truncated", str(fault))}
    row = Row(language=brief.written_in, instruction=instruction)
    made = made_by("instruction", step, reply)
    if gate:
        verdict = gate.instruction(instruction, row.language)
        if verdict.decision != "accept":
            context.ledger.note_verdict(step, verdict)
            return {"row": row, "lineage": [made], "ending": ending_of("write", verdict)}
    task = await self_instructor.write_instances(context.chat, brief, instruction, step)
    drafts = [{"input": one.input, "output": one.output} for one in task.instances]
    made = {**made, "by": [reply.origin for reply in task.replies], "instances": drafts}
    chosen = task.instances[0]
    if gate:
        fit, verdict = gate.instances(task.instances)
        if fit is None:
            context.ledger.note_verdict(step, verdict)
            return {"row": row, "lineage": [made], "ending": ending_of("write", verdict)}
        chosen = fit
    if task.label:
        made["label"] = task.label
        if not brief.mode.localised:
            made["demand"] = Demand("label", said=instruction, text=task.label)._asdict()
    return {"row": row.model_copy(update={"input": chosen.input}), "lineage": [made]}


async def rewrite(brief: Brief, context: Context, step: Step) -> Update:
    """A row of a data set in other words. A demand is said in the language of the row, so it is added to what is localised."""
    row, reply = await rewriter.rewrite(context.chat, context.leaf, brief, step)
    done = {"operation": rewriter.operation(context.leaf, brief), "source": _told(brief)}
    written: Update = {"row": row, "lineage": [{**made_by("instruction", step, reply), **done}]}
    return written if brief.mode.localised else _demanding(brief, written, context)


async def from_document(brief: Brief, context: Context, step: Step) -> Update:
    row, reply = await document_writer.write(context.chat, context.leaf, brief, step)
    return {"row": row, "lineage": [{**made_by("instruction", step, reply), "source": _told(brief)}]}


WAYS: Mapping[Way, Callable[[Brief, Context, Step], Awaitable[Update]]] = {
    "brief": from_brief,
    "self_instruct": self_instruct,
    "rewrite": rewrite,
    "document": from_document,
}


async def localise(brief: Brief, written: Update, context: Context, step: Step) -> Update:
    """What was written in the other language, as a native of the brief's would have asked it; the lineage holds both."""
    first = written["row"]
    row, reply = await localiser.localise(context.chat, context.leaf, brief, first, step)
    made = {**made_by("instruction", step, reply), "from": first.instruction, "from_input": first.input, "from_language": first.language}
    both: Update = {"row": row, "lineage": [*written["lineage"], made]}
    return _demanding(brief, both, context) if brief.mode.write == "rewrite" else both


def _demanding(brief: Brief, written: Update, context: Context) -> Update:
    """The row with the demand of its operation, if that has one."""
    demand = rewriter.demand(context.leaf, brief)
    if demand is None:
        return written
    row, *before, made = written["row"], *written["lineage"]
    demanding = row.model_copy(update={"instruction": with_demand(row.instruction, demand, row.language)})
    return {"row": demanding, "lineage": [*before, {**made, "demand": demand._asdict()}]}


def _told(brief: Brief) -> dict[str, Any]:
    """The source as the lineage keeps it."""
    assert brief.source is not None
    found = brief.source.model_dump(exclude_defaults=True)
    return {**found, "hash": digest(brief.source.text, brief.source.input)}
