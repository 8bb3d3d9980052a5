"""A taxonomy grown level by level, from one topic or from what a person has begun.

    .----------------------------- next level ------------------------------.
    v                                                                       |
  outline -> structure -> merge -> survey --(nothing missing)--> describe --+--> axes -> write
                            ^        |
                            '--------' missing, 0..r rounds

outline says in free text what each node of a level falls into, and structure puts that into children; merge leaves out what another node
of the tree already is; survey finds gaps and overlaps among siblings; describe gives the nodes what they lack, a second language or a
description. Within a step all nodes of the level are worked at together, as many at a time as the models take.

A call that fails, or that the budget does not allow, is noted with its node and stage, and the tree goes on without it: a branch that
could not be expanded stays a leaf. What a person gave is never merged or dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agents import taxonomist
from agents.chat import Chat
from agents.taxonomist import Branch, Wish
from filters.dedup.nodes import Named, Nodes
from leafmill.errors import CallError, Halted
from leafmill.records import Language, Record
from taxonomy.axes import Axis
from taxonomy.draft import Draft

T = TypeVar("T")

TRIES = 2
"""how often nodes are asked for that a describer left out"""


class Merged(Record):
    """A node that is not in the tree, and the one that stands for it."""

    node: str
    title: str
    into: str
    by: Literal["meaning", "surveyor"]
    similarity: float | None = None


class Gap(Record):
    """What could not be had: of which node, at which step, and why."""

    node: str
    step: str
    code: str
    detail: str


@dataclass
class Notes:
    """What happened on the way."""

    merged: list[Merged] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    """nodes that a surveyor asked for"""
    gaps: list[Gap] = field(default_factory=list)
    axes: list[str] = field(default_factory=list)


class State(TypedDict, total=False):
    """`branches` are the nodes of the level; the others are of this level too, by path."""

    level: int
    branches: list[Branch]
    outlines: dict[str, str]
    proposed: dict[str, list[Draft]]
    grown: list[str]
    """branches that have got children since a surveyor looked"""
    round: int


@dataclass(frozen=True)
class Context:
    """What the nodes of a plan work with."""

    wish: Wish
    chat: Chat
    nodes: Nodes
    root: Branch
    """what is grown"""
    write: Callable[[], Awaitable[None]]
    """called at the end"""
    say: Callable[[str], None]
    """told of each level"""
    library: Mapping[str, Axis] = field(default_factory=dict)
    """the ready axes that may be taken"""
    given: frozenset[str] = frozenset()
    """the nodes that a person gave: they stay"""
    closed: frozenset[str] = frozenset()
    """given nodes that are not to be grown themselves"""
    with_axes: bool = True
    notes: Notes = field(default_factory=Notes)

    async def attempt(self, branch: Branch, step: str, asked: Awaitable[T]) -> T | None:
        """What was asked, or None: then why is noted."""
        try:
            return await asked
        except CallError as fault:
            code, detail = fault.code, str(fault)
        except Halted as fault:
            code, detail = "halted", str(fault)
        self.notes.gaps.append(Gap(node=branch.path, step=step, code=code, detail=detail))
        return None


async def outline(state: State, runtime: Runtime[Context]) -> State:
    """What each node falls into, in free text. A node that a person gave children is asked about only where those are closed."""
    context = runtime.context
    asked = [branch for branch in _open(state, context) if all(one.path in context.closed for one in branch.children)]
    texts = await _all(context.attempt(branch, "outline", taxonomist.outline(context.chat, context.wish, branch)) for branch in asked)
    return {"outlines": {branch.path: text for branch, text in zip(asked, texts, strict=True) if text}, "round": 0, "grown": []}


async def structure(state: State, runtime: Runtime[Context]) -> State:
    """The children that the outlines speak of."""
    context = runtime.context
    asked = [branch for branch in state["branches"] if branch.path in state["outlines"]]
    children = await _all(
        context.attempt(branch, "structure", taxonomist.structure(context.chat, context.wish, branch, state["outlines"][branch.path]))
        for branch in asked
    )
    return {"proposed": {branch.path: found for branch, found in zip(asked, children, strict=True) if found}}


async def merge(state: State, runtime: Runtime[Context]) -> State:
    """Hang the proposed children into the tree, but those that are there already, anywhere, under another name."""
    context, language = runtime.context, runtime.context.wish.languages[0]
    grown = []
    for branch in state["branches"]:
        proposed = state["proposed"].get(branch.path, [])
        named = [Named(f"{branch.path}/{one.slug}", one.title[language], one.description.get(language, "")) for one in proposed]
        for draft, node, twin in zip(proposed, named, await context.nodes.meet(named), strict=True):
            if twin is not None:
                about: Any = {"node": node.path, "title": node.title, "into": twin.path, "by": "meaning", "similarity": twin.similarity}
                context.notes.merged.append(Merged(**about))
                continue
            branch.node.children.append(draft)
            if branch.path not in grown:
                grown.append(branch.path)
            if state["round"]:
                context.notes.added.append(node.path)
    return {"proposed": {}, "grown": grown}


async def survey(state: State, runtime: Runtime[Context]) -> State:
    """Drop what overlaps, and propose what is missing. A later round looks only at the nodes that the one before added to."""
    context, round_ = runtime.context, state["round"]
    looked_at = [branch for branch in _open(state, context) if branch.node.children and (not round_ or branch.path in state["grown"])]
    branches = looked_at if context.chat.roles.at("survey") else []
    found = await _all(
        context.attempt(branch, "survey", taxonomist.survey(context.chat, context.wish, branch, round_)) for branch in branches
    )
    proposed = {}
    for branch, seen in zip(branches, found, strict=True):
        if seen is not None:
            for drop, keep in seen.overlapping:
                _drop(context, branch, drop, keep)
            proposed[branch.path] = seen.missing[: max(0, context.wish.most - len(branch.node.children))]
    return {"proposed": {path: missing for path, missing in proposed.items() if missing}, "round": round_ + 1}


async def describe(state: State, runtime: Runtime[Context]) -> State:
    """Give the nodes what they lack, and go down to them."""
    context, branches = runtime.context, state["branches"]
    if not state["level"]:  # the root itself, as the only child of what stands above it
        above = context.root.trail[:-1] or context.root.trail
        await _describe(context, Branch(context.root.path, above, Draft("", children=[context.root.node])))
    await _all(_describe(context, branch) for branch in branches)
    below = [child for branch in branches for child in branch.children]
    if below:
        context.say(f"level {state['level'] + 1}: {len(below)} nodes")
    return {"level": state["level"] + 1, "branches": [branch for branch in below if branch.path not in context.closed]}


async def axes(state: State, runtime: Runtime[Context]) -> State:
    """The dimensions in which requests about the whole tree vary."""
    context, root, wish = runtime.context, runtime.context.root, runtime.context.wish
    if not (context.with_axes and root.node.children and context.chat.roles.at("axes")):
        return {}
    found = await context.attempt(root, "axes", taxonomist.propose_axes(context.chat, wish, root, context.library))
    if found is None:
        return {}
    for language in root.node.languages[1:]:
        for name in list(found.own):
            lines = dict(_lines_of(name, found.own[name], wish.languages[0]))
            texts = await _ask_describer(context, root, lines, language)
            if not _label(found.own[name], name, {key: title for key, (title, _) in texts.items()}, language):
                del found.own[name]
    root.node.axes = {**dict.fromkeys(found.library, "library"), **found.own}
    context.notes.axes += list(root.node.axes)
    return {}


async def write(state: State, runtime: Runtime[Context]) -> State:
    """Write down what there is."""
    await runtime.context.write()
    return {}


def build() -> CompiledStateGraph[State, Context, State, State]:
    """Compile the graph."""
    graph = StateGraph(State, context_schema=Context)
    for node in (outline, structure, merge, survey, describe, axes, write):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "outline")
    graph.add_edge("outline", "structure")
    graph.add_edge("structure", "merge")
    graph.add_conditional_edges("merge", _after_merge, ["survey", "describe"])
    graph.add_conditional_edges("survey", lambda state: "merge" if state["proposed"] else "describe", ["merge", "describe"])
    graph.add_conditional_edges("describe", lambda state: "outline" if state["branches"] else "axes", ["outline", "axes"])
    graph.add_edge("axes", "write")
    graph.add_edge("write", END)
    return graph.compile()


def start(context: Context) -> State:
    """The state in which a plan begins: the root is to be grown."""
    return {"level": 0, "branches": [context.root]}


def _after_merge(state: State, runtime: Runtime[Context]) -> Literal["survey", "describe"]:
    """Surveyed are all nodes of a level once, and again those that grew by it, as often as is wished."""
    wanted = not state["round"] or state["grown"]
    return "survey" if wanted and state["round"] < runtime.context.wish.rounds else "describe"


async def _all(asked: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them give, in order, asked for together. The first error that is no state ends the others too."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asked]
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from faults
    return [task.result() for task in tasks]


def _open(state: State, context: Context) -> list[Branch]:
    """The nodes of the level that may get children."""
    return state["branches"] if state["level"] < context.wish.depth else []


def _drop(context: Context, branch: Branch, drop: str, keep: str) -> None:
    """Take out one of two children that say the same, where that is likely: not one that a person gave, nor one of the last two."""
    if f"{branch.path}/{drop}" in context.given:
        drop, keep = keep, drop
    children = {child.slug: child for child in branch.node.children}
    path, into = f"{branch.path}/{drop}", f"{branch.path}/{keep}"
    if path in context.given or not {drop, keep} <= set(children) or len(children) <= 2 or not context.nodes.related(path, into):
        return
    branch.node.children.remove(children[drop])
    context.nodes.move(path, into)
    title = children[drop].title[context.wish.languages[0]]
    context.notes.merged.append(Merged(node=path, title=title, into=into, by="surveyor"))


async def _describe(context: Context, branch: Branch) -> None:
    """Ask for the titles and descriptions that the children of a node lack; a language that cannot be had they do not speak."""
    first, *others = context.wish.languages
    lacking = {child.slug: child.title[first] for child in branch.node.children if first not in child.description and not child.children}
    for slug, (_, text) in (await _ask_describer(context, branch, lacking, first)).items():
        next(child for child in branch.node.children if child.slug == slug).description[first] = text
    for language in others:
        if branch.node.slug and language not in branch.node.title:
            continue
        untitled = {child.slug: child.title[first] for child in branch.node.children if language not in child.title}
        texts = await _ask_describer(context, branch, untitled, language)
        for child in branch.node.children:
            if child.slug in texts:
                child.title[language] = texts[child.slug][0]
                if first in child.description or not child.children:
                    child.description[language] = texts[child.slug][1]
            elif child.slug in untitled:
                child.languages = tuple(one for one in context.wish.languages if one in child.title)


async def _ask_describer(context: Context, branch: Branch, lines: Mapping[str, str], language: Language) -> dict[str, tuple[str, str]]:
    """Titles and descriptions by name; of those that are left out once, it is asked again."""
    texts: dict[str, tuple[str, str]] = {}
    for try_ in range(TRIES):
        left = {name: line for name, line in lines.items() if name not in texts}
        if not left:
            return texts
        said = await context.attempt(branch, "describe", taxonomist.describe(context.chat, context.wish, branch, left, language, try_))
        if said is None:
            return texts
        texts |= said
    if silent := [name for name in lines if name not in texts]:
        detail = f"the describer left out, in {language}: {', '.join(silent)}"
        context.notes.gaps.append(Gap(node=branch.path, step="describe", code="left_out", detail=detail))
    return texts


def _lines_of(name: str, axis: Mapping[str, Any], language: Language) -> Iterator[tuple[str, str]]:
    """The title and labels of an axis, each by a name that says whose it is."""
    yield name, axis["title"][language]
    yield from ((f"{name}.{value}", labels[language]) for value, labels in axis["values"].items())


def _label(axis: dict[str, Any], name: str, texts: Mapping[str, str], language: Language) -> bool:
    """Give an axis its title and labels in a further language; whether there are all of them."""
    wanted = {name, *(f"{name}.{value}" for value in axis["values"])}
    if not wanted <= set(texts):
        return False
    axis["title"][language] = texts[name]
    for value, labels in axis["values"].items():
        labels[language] = texts[f"{name}.{value}"]
    return True
