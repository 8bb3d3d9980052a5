"""The roles that grow a taxonomy (`graphs/plan.py`): an outliner in free text, a structurer, a surveyor, a describer, an axis planner.

The outline comes first as plain text and is put into fields by a second call, because a model that must obey a format while it thinks
thinks worse (GLAN, arXiv 2402.13064).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.chat import Chat
from leafmill.ledger import Step
from leafmill.records import Language
from taxonomy.axes import Axis, in_language
from taxonomy.draft import Draft, slug_of
from taxonomy.tree import Texts

MISSING = 3
"""children that a surveyor may ask for in one look"""
AXES = 3
"""axes asked for; more make every brief a riddle"""


@dataclass(frozen=True)
class Wish:
    """What shall be planned."""

    topic: str
    languages: tuple[Language, ...]
    """the tree is thought out in the first; the nodes are described in all"""
    depth: int = 3
    """levels below the root"""
    breadth: int = 6
    """children of a node, about"""
    guide: str = ""
    """notes of the person who asks"""
    rounds: int = 2
    """how often a surveyor looks at the children of a node"""

    @property
    def most(self) -> int:
        """Children of a node when the surveyor has added what is missing."""
        return self.breadth + max(1, self.breadth // 2)


@dataclass(frozen=True)
class Branch:
    """A node with its way from the root: `trail` holds the titles, its own last."""

    path: str
    trail: tuple[Texts, ...]
    node: Draft
    beside: tuple[Draft, ...] = ()

    @property
    def children(self) -> list[Branch]:
        nodes = self.node.children
        return [
            Branch(f"{self.path}/{one.slug}", (*self.trail, one.title), one, tuple(other for other in nodes if other is not one))
            for one in nodes
        ]

    def trail_in(self, language: Language) -> str:
        return " > ".join(in_language(title, language) for title in self.trail)


class Survey(NamedTuple):
    """What a surveyor found: children that are missing, and by slug those that another one covers."""

    missing: list[Draft]
    overlapping: list[tuple[str, str]]


class Axes(NamedTuple):
    """Axes of the library by name, and those of the plan's own as a taxonomy file holds them."""

    library: list[str]
    own: dict[str, Any]


async def outline(chat: Chat, wish: Wish, branch: Branch) -> str:
    """What a node falls into, in free text. Raises CallError."""
    language = wish.languages[0]
    elsewhere = [in_language(one.title, language) for one in (*branch.beside, *branch.node.children)]
    values = {**_told(wish, branch, language, wish.breadth), "beside": elsewhere}
    return (await chat.ask("outliner", language, _step(branch, "outline"), values)).text


async def structure(chat: Chat, wish: Wish, branch: Branch, text: str) -> list[Draft]:
    """The children that an outline speaks of. Raises CallError."""
    language = wish.languages[0]
    values = {**_told(wish, branch, language, wish.breadth), "outline": text}
    reply = await chat.ask("structurer", language, _step(branch, "structure"), values)
    return _drafts(reply.get("children")[: wish.breadth], language, {child.slug for child in branch.node.children})


async def survey(chat: Chat, wish: Wish, branch: Branch, round_: int) -> Survey:
    """What is missing among the children of a node, and which say the same. Raises CallError."""
    language, children = wish.languages[0], branch.node.children
    lines = [f"{one.slug}: {in_language(one.title, language)} - {one.description.get(language, '')}".rstrip(" -") for one in children]
    values = {**_told(wish, branch, language, MISSING), "children": "\n".join(lines)}
    reply = await chat.ask("surveyor", language, _step(branch, f"survey.{round_}"), values)
    slugs = {one.slug for one in children}
    pairs = [(one.drop.strip(), one.keep.strip()) for one in reply.get("overlapping")]
    known = [(drop, keep) for drop, keep in pairs if drop != keep and {drop, keep} <= slugs]
    return Survey(_drafts(reply.get("missing")[:MISSING], language, slugs), known)


async def describe(
    chat: Chat, wish: Wish, branch: Branch, nodes: Mapping[str, str], language: Language, try_: int = 0
) -> dict[str, tuple[str, str]]:
    """Titles and descriptions in a language, of nodes below a branch that are known by a name and told by a line. Raises CallError."""
    values = {**_told(wish, branch, language, len(nodes)), "nodes": "\n".join(f"{name}: {line}" for name, line in nodes.items())}
    reply = await chat.ask("describer", language, _step(branch, f"describe.{language}.{try_}"), values)
    return {one.name.strip(): (_line(one.title), _line(one.description)) for one in reply.get("nodes") if one.name.strip() in nodes}


async def propose_axes(chat: Chat, wish: Wish, branch: Branch, library: Mapping[str, Axis]) -> Axes:
    """Dimensions in which requests about the whole tree vary, the plan's own in the first language. Raises CallError."""
    language = wish.languages[0]
    children = "\n".join(in_language(one.title, language) for one in branch.node.children)
    ready = {name: "; ".join(in_language(value.labels, language) for value in axis.values) for name, axis in library.items()}
    values = {**_told(wish, branch, language, AXES), "children": children, "library": ready}
    reply = await chat.ask("axis-planner", language, _step(branch, "axes"), values)
    named = list(dict.fromkeys(name.strip() for name in reply.get("library") if name.strip() in library))
    own: dict[str, Any] = {}
    subjects = {in_language(one.title, language) for one in branch.node.children}
    titles = {in_language(axis.title, language).lower() for axis in library.values()}  # no two axes may be called the same
    for axis in reply.get("axes")[:AXES]:
        weights = {_line(value.label): value.weight for value in axis.values}
        name, title = slug_of(axis.name, own), _line(axis.title)
        if name in library:  # written anew what is ready
            named += [name] if name not in named else []
            continue
        if len(weights) < 2 or title.lower() in titles or len(subjects & set(weights)) > 1:
            continue  # one value is no dimension, and what the leaves are about is none either
        titles.add(title.lower())
        labelled: dict[str, Any] = {}
        for label, weight in weights.items():
            labelled[slug_of(label, labelled)] = {"weight": weight, language: label}
        own[name] = {"title": {language: title}, "values": labelled}
    return Axes(named, own)


def _told(wish: Wish, branch: Branch, language: Language, count: int) -> dict[str, Any]:
    return {
        "language": language,
        "trail": branch.trail_in(language),
        "description": branch.node.description.get(language, ""),
        "guide": wish.guide,
        "count": count,
    }


def _step(branch: Branch, name: str) -> Step:
    return Step(f"plan:{branch.path}", branch.path, branch.path.count("/"), name)


def _drafts(items: Sequence[Any], language: Language, taken: Collection[str]) -> list[Draft]:
    """Nodes of what a role listed, with slugs of their own."""
    drafts: list[Draft] = []
    for item in items:
        slug = slug_of(item.slug or item.title, {*taken, *(draft.slug for draft in drafts)})
        drafts.append(Draft(slug, {language: _line(item.title)}, {language: _line(item.description)}, weight=float(item.weight)))
    return drafts


def _line(text: str) -> str:
    return " ".join(text.split())
