"""What one version of a taxonomy has that another has not, and what that means for a run that was begun with the first.

A node that is gone is held to be moved when a new one elsewhere has its title or its description; whatever stands below it moved with it.
What a leaf inherits counts as its own: a change high in the tree is told once, with all the leaves that it reaches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from leafmill.records import Record
from taxonomy.axes import Axis
from taxonomy.tree import Leaf, Node, Taxonomy


class Moved(Record):
    """A node under another path, by its place or its slug."""

    before: str
    now: str


class Changed(Record):
    """A change, and the nodes or leaves (by their new paths) that it is in."""

    what: str
    of: tuple[str, ...]


class Changes(Record):
    """From one version to another. Paths of what is gone are old ones, all others new ones."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    moved: tuple[Moved, ...] = ()
    changed: tuple[Changed, ...] = ()
    new_leaves: tuple[str, ...] = ()
    """they begin with nothing in a run's folder"""
    gone_leaves: tuple[str, ...] = ()
    """what a run's folder has of them stays in its ledger, and counts for no quota"""
    broken_leaves: tuple[str, ...] = ()
    """they lost an axis, or a value of one: candidates that a run left open in them cannot be taken up"""

    @property
    def is_none(self) -> bool:
        return not (self.added or self.removed or self.moved or self.changed)


def changes(before: Taxonomy, now: Taxonomy) -> Changes:
    """All changes, in the order of the newer file."""
    old, new = {node.path: node for node in before.nodes()}, {node.path: node for node in now.nodes()}
    gone, come = [node for path, node in old.items() if path not in new], [node for path, node in new.items() if path not in old]
    moved = dict(_moves(gone, come))
    pairs = {path: old[path] for path in new if path in old} | {now_: old[before_] for before_, now_ in moved.items()}
    found: dict[str, list[str]] = defaultdict(list)
    for path, node in new.items():
        for what in _told(pairs[path], node) if path in pairs else ():
            found[what].append(path)
    old_leaves, new_leaves = {leaf.path: leaf for leaf in before.leaves()}, {leaf.path: leaf for leaf in now.leaves()}
    broken = [path for path, leaf in new_leaves.items() if path in old_leaves and _loses(old_leaves[path], leaf)]
    return Changes(
        added=tuple(node.path for node in come if node.path not in moved.values()),
        removed=tuple(node.path for node in gone if node.path not in moved),
        moved=tuple(Moved(before=a, now=b) for a, b in moved.items() if not _with_parent(a, b, moved)),
        changed=tuple(Changed(what=what, of=tuple(paths)) for what, paths in found.items()),
        new_leaves=tuple(path for path in new_leaves if path not in old_leaves),
        gone_leaves=tuple(path for path in old_leaves if path not in new_leaves),
        broken_leaves=tuple(broken),
    )


def _moves(gone: list[Node], come: list[Node]) -> Iterator[tuple[str, str]]:
    """Old path and new path of what moved: first what kept title and description, then what kept one of them."""
    left = list(come)
    pending = list(gone)
    for fits in (lambda a, b: a.title == b.title and a.description == b.description, _half):
        for node in list(pending):
            if (twin := next((one for one in left if fits(node, one)), None)) is not None:
                left.remove(twin)
                pending.remove(node)
                yield node.path, twin.path


def _half(a: Node, b: Node) -> bool:
    """The same title, or the same description where there is one; a leaf is not taken for a branch."""
    return bool(a.children) == bool(b.children) and (a.title == b.title or (bool(a.description) and a.description == b.description))


def _with_parent(before: str, now: str, moved: Mapping[str, str]) -> bool:
    """Whether a node only followed its parent."""
    above, slug = before.rpartition("/")[::2]
    return moved.get(above) is not None and now == f"{moved[above]}/{slug}"


def _told(old: Node, new: Node) -> Iterator[str]:
    """What changed in a node, in its own words and in what its leaf inherits."""
    for name in ("title", "description"):
        yield from _texts(name, getattr(old, name), getattr(new, name))
    if bool(old.children) != bool(new.children):
        yield "was a leaf, has children now" if new.children else "had children, is a leaf now"
    if old.leaf and new.leaf:
        yield from _of_leaf(old.leaf, new.leaf)


def _of_leaf(old: Leaf, new: Leaf) -> Iterator[str]:
    if old.weight != new.weight:
        yield f"weight {old.weight:g} -> {new.weight:g}"
    if old.languages != new.languages:
        yield f"languages {' '.join(old.languages)} -> {' '.join(new.languages)}"
    if old.seeds != new.seeds:
        yield f"seeds changed ({len(old.seeds)} -> {len(new.seeds)})"
    for key in sorted({*old.settings, *new.settings}):
        if old.settings.get(key) != new.settings.get(key):
            yield f"setting {key}: {old.settings.get(key, 'not set')} -> {new.settings.get(key, 'not set')}"
    were, are = {axis.name: axis for axis in old.axes}, {axis.name: axis for axis in new.axes}
    yield from (f"axis {name} removed" for name in were if name not in are)
    for name, axis in are.items():
        yield from _of_axis(were[name], axis) if name in were else (f"axis {name} added",)


def _of_axis(old: Axis, new: Axis) -> Iterator[str]:
    yield from _texts(f"axis {new.name}: title", old.title, new.title)
    were, are = {value.name: value for value in old.values}, {value.name: value for value in new.values}
    yield from (f"axis {new.name}: value {name} removed" for name in were if name not in are)
    for name, value in are.items():
        if name not in were:
            yield f"axis {new.name}: value {name} added"
        elif value != were[name]:
            yield f"axis {new.name}: value {name} changed"


def _texts(name: str, old: Mapping[Any, str], new: Mapping[Any, str]) -> Iterator[str]:
    for language in sorted({*old, *new}):
        if old.get(language) != new.get(language):
            yield f"{name} ({language}): {old.get(language, 'none')} -> {new.get(language, 'none')}"


def _loses(old: Leaf, new: Leaf) -> bool:
    kept = {(axis.name, value.name) for axis in new.axes for value in axis.values}
    return any((axis.name, value.name) not in kept for axis in old.axes for value in axis.values)
