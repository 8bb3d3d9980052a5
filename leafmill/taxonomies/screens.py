"""What the commands of taxonomies print: a tree, what became of a plan, what changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from graphs.planting import Growth
from leafmill.records import Language
from taxonomy import Node, Taxonomy
from taxonomy.axes import in_language
from taxonomy.changes import Changes

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 8
"""lines of one kind that a summary shows; the file in the plan's folder has all"""


FEW = 3
"""paths that a line shows"""


def tree(taxonomy: Taxonomy, language: Language, console: Console) -> None:
    """The nodes by title and path, and what a leaf has."""

    def grow(above: Tree, node: Node) -> None:
        for child in node.children:
            grow(above.add(_line(child, language)), child)

    root = Tree(_line(taxonomy.root, language))
    grow(root, taxonomy.root)
    console.print(root, soft_wrap=True)
    leaves = taxonomy.leaves()
    axes = {axis.name: axis for leaf in leaves for axis in leaf.axes}
    for name, axis in axes.items():
        console.print(f"axis {name}: " + ", ".join(value.name for value in axis.values), highlight=False, markup=False, soft_wrap=True)
    total = sum(leaf.weight for leaf in leaves)
    console.print(f"{len(taxonomy.nodes())} nodes, {len(leaves)} leaves, total weight {total:g}", highlight=False)


def growth(found: Growth, console: Console) -> None:
    """What became of a plan."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    say(f"nodes by level: {' + '.join(map(str, found.levels))}; {found.leaves} leaves")
    for what, lines in (
        ("merged", [f"{one.title} ({one.node}) is {one.into}, by {_by(one.by, one.similarity)}" for one in found.merged]),
        ("added by the surveyor", list(found.added)),
        ("axes", list(found.axes)),
        ("described by their titles alone", list(found.plainly)),
        ("not had", [f"{gap.node}: {gap.step}: {gap.code}: {gap.detail}" for gap in found.gaps]),
    ):
        if lines:
            say(f"{what} ({len(lines)}):")
            for line in [*lines[:SHOWN], *([f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])]:
                say(f"  {line}")
    say(f"{found.calls} calls now; {found.tokens:,} tokens in all" + (f", {found.money:.4g} in money" if found.money else ""))
    if found.interrupted:
        say("stopped: nothing is written yet; the same command goes on, and asks nothing again")
    else:
        say(f"wrote {found.path} (all that happened: {found.folder}/growth.json)")
        say(f"now: leafmill taxonomy show {found.path} | taxonomy edit {found.path} | name it in a recipe: `taxonomies: [{found.path}]`")
    if found.gaps and not found.interrupted and not found.into:
        say("to try again what was not had, give the same command again (what was recorded is not asked again)")


def changes(found: Changes, console: Console) -> None:
    """What changed, and what that means for a run's folder."""
    for line in _changes(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _changes(found: Changes) -> Iterator[str]:
    if found.is_none:
        yield "no difference"
        return
    yield from (f"+ {path}" for path in found.added)
    yield from (f"- {path}" for path in found.removed)
    yield from (f"> {one.before} is now {one.now}" for one in found.moved)
    for change in found.changed:
        more = ", ..." if len(change.of) > FEW else ""
        several = f"{len(change.of)} nodes ({', '.join(change.of[:FEW])}{more})"
        yield f"~ {change.of[0] if len(change.of) == 1 else several}: {change.what}"
    yield "for a run that was begun with the old one:"
    yield f"  {len(found.new_leaves)} leaves are new and begin with nothing"
    yield f"  {len(found.gone_leaves)} leaves are gone: their rows stay in its ledger"
    if found.broken_leaves:
        shown = ", ".join(found.broken_leaves[:SHOWN])
        yield f"  {len(found.broken_leaves)} lost an axis or a value: candidates left open there cannot be taken up ({shown})"


def _by(by: str, similarity: float | None) -> str:
    return by if similarity is None else f"{by} ({similarity:.2f})"


def _line(node: Node, language: Language) -> str:
    slug = node.path.rpartition("/")[2]
    line = f"{escape(in_language(node.title, language))} [dim]{escape(slug)}[/dim]"
    if node.leaf is None:
        return line
    leaf = node.leaf
    told = [f"weight {leaf.weight:g}", " ".join(leaf.languages)]
    told += [f"{len(leaf.axes)} axes", f"{len(leaf.seeds)} seeds"]
    return f"{line} [dim]({', '.join(told)})[/dim]"
