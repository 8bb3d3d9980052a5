"""What a plan stands on: its folder with the ledger, its models, its tree; and what is said of it in the end.

    Planting(wish, root, ...)  what shall be grown, from what, and where it is written
    await plant(planting, recipe, folder)  -> Growth

A plan has a folder of its own, `runs/plan-<name>/`. Every call is recorded there before its reply is used, so a plan that was stopped,
whatever by, goes on with the same command and pays nothing twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.chat import Chat
from agents.models.budget import Budget
from agents.taxonomist import Branch, Wish
from filters.dedup.nodes import Named, Nodes
from filters.embedder import open_embedder
from graphs import plan
from graphs.interrupt import interruptible
from graphs.plan import Gap, Merged
from graphs.prepare import plan_roles
from graphs.run import embedder_spec, open_aliases, spent_in
from leafmill.errors import EXIT_INTERRUPTED, EXIT_UNMET, InputError, OtherRecipeError
from leafmill.ledger import Ledger
from leafmill.recipe import Recipe
from leafmill.records import Record, digest
from leafmill.runfolder import PLAN, RunFolder, write_whole
from taxonomy.draft import Draft
from taxonomy.outline import describe_plainly
from taxonomy.tree import Texts, library, parse
from taxonomy.writing import grown, written

Say = Callable[[str], None]


@dataclass(frozen=True)
class Planting:
    """What shall be grown. Without `into`, `root` is a whole taxonomy; else it is that file's node at the path `under`."""

    wish: Wish
    root: Draft
    out: Path
    into: Path | None = None
    under: str = ""
    calls: int | None = None
    """at most, those of earlier times included"""
    comment: str = ""
    """at the head of the file"""
    trail: Sequence[Texts] = ()
    """the titles above the root"""
    elsewhere: Sequence[Named] = ()
    """nodes of the tree that stand beside the root's"""


class Growth(Record):
    """What became of a plan."""

    path: str
    folder: str
    levels: tuple[int, ...]
    """nodes by level, the root's first"""
    leaves: int
    merged: tuple[Merged, ...]
    added: tuple[str, ...]
    """nodes that the surveyor asked for"""
    axes: tuple[str, ...]
    gaps: tuple[Gap, ...]
    plainly: tuple[str, ...]
    """leaves whose description is only made of their titles"""
    calls: int
    """asked of a model in this process; what was recorded before is not among them"""
    tokens: int
    """of all calls in the folder"""
    money: float | None
    into: bool = False
    """whether a tree that was there has grown"""
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return EXIT_INTERRUPTED
        return EXIT_UNMET if self.gaps else 0


@dataclass
class _Ending:
    """What the graph's last node does, once."""

    planting: Planting
    ledger: Ledger
    given: frozenset[str]
    stopped: bool = False
    wrote: bool = False
    plainly: list[str] = field(default_factory=list)

    async def write(self) -> None:
        """The file, unless somebody stopped the plan: then the next one writes it."""
        if self.stopped:
            return
        planting = self.planting
        for language in planting.root.languages or planting.wish.languages:
            self.plainly += [path for path in describe_plainly(planting.root, language) if path not in self.plainly]
        if planting.into is None:
            text = written(planting.root, planting.comment)
        else:
            text = planting.into.read_bytes().decode()
            new = [child for child in planting.root.children if f"{planting.under}/{child.slug}" not in self.given]
            text = grown(text, planting.into, planting.under, new) if new else text
        parse(text, planting.out)
        await self.ledger.set_meta("written", [*(self.ledger.meta("written") or []), digest(text)])
        write_whole(planting.out, text)
        self.wrote = True


async def plant(planting: Planting, recipe: Recipe, folder: RunFolder, say: Say) -> Growth:
    """Grow the tree and write it down. Raises InputError before anything is asked, EndpointError when no call can work."""
    roles = plan_roles(recipe, planting.wish.languages)
    if planting.wish.depth < 0 or planting.wish.breadth < 2:
        raise InputError(f"a plan needs depth 0 or more and breadth 2 or more, got {planting.wish.depth} and {planting.wish.breadth}")
    async with AsyncExitStack() as stack:
        stack.enter_context(folder.claimed())
        ledger = stack.enter_context(Ledger(folder.ledger))
        await _check_folder(planting, ledger, folder)
        write_whole(folder.path / PLAN, recipe.resolved())
        spent = ledger.spent()
        left = None if planting.calls is None else max(0, planting.calls - sum(one.calls for one in spent.values()))
        budget = Budget(recipe.limits, recipe.currency, spent_in(ledger), left)
        aliases = await open_aliases(recipe, stack, say)
        chat = Chat(ledger, roles, aliases, recipe.roles, recipe.seed, budget)
        embedder = open_embedder(embedder_spec(recipe))
        stack.push_async_callback(embedder.aclose)
        context, ending = await _context(planting, chat, Nodes(embedder), ledger, say)

        def stop() -> None:
            ending.stopped = True
            for end in (end for alias in aliases.values() for end in alias.endpoints):
                end.governor.close()

        config: Any = {"recursion_limit": 1000}
        with interruptible(stop):
            await plan.build().ainvoke(plan.start(context), config, context=context)
        growth = _growth(planting, context, ending, folder)
        write_whole(folder.path / "growth.json", json.dumps(growth.model_dump(), ensure_ascii=False, indent=2))
        return growth


async def _context(planting: Planting, chat: Chat, nodes: Nodes, ledger: Ledger, say: Say) -> tuple[plan.Context, _Ending]:
    """The tree as it is before a word is said."""
    root, first = planting.root, planting.wish.languages[0]
    path = planting.under or root.slug
    above = path.rpartition("/")[0]
    there = dict(root.walk(above))
    await nodes.know(
        [*planting.elsewhere, *(Named(at, node.title.get(first, ""), node.description.get(first, "")) for at, node in there.items())]
    )
    given = frozenset(there)
    ending = _Ending(planting, ledger, given)
    closed = given - {path} if planting.into else frozenset()
    branch = Branch(path, (*planting.trail, root.title), root)
    # what sets how a row is made, such as turns, costs more: that is for a person to choose
    ready = {name: axis for name, axis in library().items() if not any(value.sets for value in axis.values)}
    context = plan.Context(
        wish=planting.wish,
        chat=chat,
        nodes=nodes,
        root=branch,
        write=ending.write,
        say=say,
        library=ready,
        given=given,
        closed=closed,
        with_axes=planting.into is None and not root.axes and planting.wish.depth > 0,
    )
    return context, ending


async def _check_folder(planting: Planting, ledger: Ledger, folder: RunFolder) -> None:
    """A folder is of one plan, and a file that a person has changed since it was written is not written over."""
    now = {"topic": planting.wish.topic, "into": str(planting.into or ""), "under": planting.under}
    before = ledger.meta("plan")
    if before is not None and before != now:
        raise OtherRecipeError(f"{folder.path}: this folder belongs to another plan ({before}); give this one another --name")
    await ledger.set_meta("plan", now)
    out = planting.out
    if out != planting.into and out.exists() and digest(out.read_text("utf-8", "replace")) not in (ledger.meta("written") or []):
        raise InputError(f"{planting.out} is there already, and is not what this plan wrote: give another --out, or --into to grow it")


def _growth(planting: Planting, context: plan.Context, ending: _Ending, folder: RunFolder) -> Growth:
    paths = [path for path, _ in planting.root.walk()]
    levels = Counter(path.count("/") for path in paths)
    spent, notes = context.chat.budget.spent, context.notes
    return Growth(
        path=str(planting.out),
        folder=str(folder.path),
        levels=tuple(levels[level] for level in sorted(levels)),
        leaves=len(planting.root.leaves),
        merged=tuple(notes.merged),
        added=tuple(notes.added),
        axes=tuple(notes.axes),
        gaps=tuple(notes.gaps),
        plainly=tuple(ending.plainly),
        calls=context.chat.calls,
        tokens=spent.tokens,
        money=spent.money,
        into=planting.into is not None,
        interrupted=not ending.wrote,
    )
