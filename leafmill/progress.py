"""What a run shows while it goes: how far each leaf is, what is slow, what it has cost, and how long it may still take.

On a terminal a live screen, redrawn twice a second; elsewhere an event in the log every 15 seconds, with the same figures.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from leafmill.log import INFO, RUN, event

if TYPE_CHECKING:
    from graphs.leaf import LeafJob
    from graphs.run import Run
    from leafmill.latencies import Latencies

WINDOW = 300.0
"""seconds that the pace is taken over: the past before says little of what is to come"""
ROLES, LANES = 4, 3
"""of the slowest roles and of the busiest endpoints so many lines are shown"""
WIDE = 110
"""columns from which on roles and endpoints stand side by side"""

SCHEME = re.compile(r"https?://|/v1/?$")
"""what an address can do without in a narrow column"""


class Pace:
    """How fast rows have come in of late, and so how long the missing ones will take. Times are monotonic seconds."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, now: float, accepted: int) -> None:
        self._seen.append((now, accepted))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()

    def seconds_for(self, missing: int) -> float | None:
        """None before the first row, and when none has come in for the whole window."""
        if not self._seen:
            return None
        (began, before), (now, accepted) = self._seen[0], self._seen[-1]
        return missing * (now - began) / (accepted - before) if accepted > before else None


class Figures(NamedTuple):
    """What is known of the whole run at a moment."""

    seconds: float
    accepted: int
    asked: int
    under_way: int
    calls: int
    tokens: int
    money: float | None
    """None: unknown, or no model has a price"""
    waiting: int
    """calls in line for a place at an endpoint, or for its rest to end"""
    left: float | None
    """seconds until the last row, at the pace of late"""


class Progress:
    """Shows a run from when it is entered until it is left."""

    def __init__(self, run: Run, console: Console, every: float = 0.5) -> None:
        self._run, self._console = run, console
        self._every = every if console.is_terminal else 15.0
        self._began = time.monotonic()
        self._pace = Pace()

    async def __aenter__(self) -> Progress:
        self._pace.see(self._began, 0)
        if self._console.is_terminal:
            self._live = Live(self.picture(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        if self._console.is_terminal:
            self._live.stop()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            if self._console.is_terminal:
                self._live.update(self.picture(), refresh=True)
            else:
                self.tell()

    def tell(self) -> None:
        """Log how far the run is."""
        told = self.figures()._asdict()
        jobs = self._run.jobs
        told["met"] = f"{sum(_standing(job) == 'met' for job in jobs)}/{len(jobs)}"
        told["not_in"] = _codes(jobs)
        slow = _slowest(self._run)
        told["slowest"] = f"{slow[0][0]} {_seconds(slow[0][1].p95)}" if slow else None
        event(RUN, INFO, "run goes on", **told)

    def figures(self) -> Figures:
        """Where the run stands now."""
        run, now = self._run, time.monotonic()
        self._pace.see(now, sum(job.new["accepted"] for job in run.jobs))
        missing = sum(max(0, job.target - job.accepted) for job in run.jobs if job.outcome is None)
        spent = run.budget.spent
        return Figures(
            seconds=now - self._began,
            accepted=sum(job.accepted for job in run.jobs),
            asked=sum(job.target for job in run.jobs),
            under_way=sum(job.under_way for job in run.jobs),
            calls=run.chat.calls,
            tokens=spent.tokens,
            money=spent.money if _is_priced(run) else None,
            waiting=sum(lane.waiting for lane in run.governors.values()),
            left=self._pace.seconds_for(missing),
        )

    def picture(self) -> RenderableType:
        """The live screen: as many leaves as there is room for, then roles and endpoints, then the sums."""
        run, width = self._run, self._console.width
        roles, lanes = _roles(run), _lane_table(run)
        wide = width >= WIDE
        below: list[RenderableType] = [_beside(roles, lanes)] if wide else [roles, lanes]
        height = max(roles.row_count, lanes.row_count) + 1 if wide else roles.row_count + lanes.row_count + 2
        room = self._console.height - height - 5  # the leaves' head and rest, two lines of sums, and the cursor's
        return Group(*_leaves(run.jobs, width, max(room, 3)), *below, *self._sums())

    def _sums(self) -> list[Text]:
        now = self.figures()
        rows = f"{now.accepted}/{now.asked} rows in {duration(now.seconds)}"
        if self._run.stopping.is_set():
            rest = "stopping: calls in flight are waited for (Ctrl-C again stops now)"
        elif now.accepted >= now.asked:
            rest = "all are in"
        else:
            rest = f"{'?' if now.left is None else _about(now.left)} to go"
        money = f", {_money(now.money)} {self._run.prepared.recipe.currency}" if _is_priced(self._run) else ""
        rate = now.calls / max(now.seconds, 1e-9)
        spent = f"{now.calls:,} calls ({rate:.1f}/s), {now.tokens:,} tokens{money}"
        return [Text(line, no_wrap=True, overflow="ellipsis") for line in (f"{rows}, {rest}", spent)]


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(45.2), duration(754), duration(12_000), duration(7200)
    ('45 s', '12 min 34 s', '3 h 20 min', '2 h')
    """
    whole = round(seconds)
    units = ((whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60 if whole < 3600 else 0, "s"))
    return " ".join(f"{count} {unit}" for count, unit in units if count) or "0 s"


def _about(seconds: float) -> str:
    """A time that is a guess."""
    step = 10 if seconds < 600 else 60
    return f"about {duration(max(1, round(seconds / step)) * step)}"


# -- leaves ------------------------------------------------------------------------------------------------------------

STANDINGS = ("under way", "begun", "unmet", "not begun", "met")
"""in the order in which leaves are shown: what moves first"""


def _standing(job: LeafJob) -> str:
    if job.under_way:
        return "under way"
    if job.outcome is not None:
        return "met" if job.outcome.state == "met" else "unmet"
    return "begun" if job.started else "not begun"


def _leaves(jobs: Sequence[LeafJob], width: int, room: int) -> list[RenderableType]:
    """A line per leaf; where there is no room for all, those that move, and a line that counts the others."""
    shown, others = list(jobs), list[Any]()
    if len(jobs) > room:
        ordered = sorted(jobs, key=lambda job: STANDINGS.index(_standing(job)))
        shown, others = ordered[:room], ordered[room:]
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
    table.add_column("leaf", no_wrap=True, ratio=3)
    table.add_column("rows", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True, width=20 if width >= WIDE else 10)
    table.add_column("under way", no_wrap=True, justify="right")
    table.add_column("where the others ended", no_wrap=True, overflow="ellipsis", ratio=3)
    for job in shown:
        ended = [*([job.outcome.state] if job.outcome else []), *([_codes([job])] if job.codes else [])]
        bar = ProgressBar(total=job.target, completed=min(job.accepted, job.target), width=20 if width >= WIDE else 10)
        table.add_row(_Path(job.leaf.path), f"{job.accepted}/{job.target}", bar, str(job.under_way or ""), ": ".join(ended))
    if not others:
        return [table]
    counts = Counter(_standing(job) for job in others)
    told = ", ".join(f"{counts[one]} {one}" for one in reversed(STANDINGS) if counts[one])
    return [table, Text(f"and {len(others)} more: {told}", style="dim")]


class _Path:
    """A leaf's path; where it does not fit, its end is shown, which tells it from its neighbours."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __rich_console__(self, console: Console, options: Any) -> Iterable[Text]:
        whole = Text(self._path, no_wrap=True)
        while whole.cell_len > options.max_width:
            whole = Text(f"…{whole.plain.removeprefix('…')[1:]}", no_wrap=True)
        yield whole

    def __rich_measure__(self, console: Console, options: Any) -> Any:
        from rich.measure import Measurement

        return Measurement(12, Text(self._path).cell_len)


def _codes(jobs: Iterable[LeafJob]) -> str:
    """The commonest reasons of candidates that did not get in."""
    codes = sum((job.codes for job in jobs), Counter[str]())
    return ", ".join(f"{count} {code}" for code, count in codes.most_common(4))


# -- what is slow ------------------------------------------------------------------------------------------------------


def _slowest(run: Run) -> list[tuple[str, Latencies]]:
    """Roles that have been answered, the slowest first."""
    return sorted(run.chat.latencies.items(), key=lambda item: -(item[1].p95 or 0.0))


def _roles(run: Run) -> Table:
    slow = _slowest(run)
    table = _table("role, slowest first", "calls", "p50", "p95")
    table.expand = False
    for name, took in slow[:ROLES]:
        table.add_row(name, f"{took.count:,}", _seconds(took.p50), _seconds(took.p95))
    if slow[ROLES:]:
        table.add_row(f"and {len(slow) - ROLES} faster", f"{sum(took.count for _, took in slow[ROLES:]):,}", "", "")
    return table


def _lane_table(run: Run) -> Table:
    lanes = sorted(run.governors.items(), key=lambda one: (-one[1].resting, -one[1].waiting, -one[1].in_flight))
    table = _table("endpoint", "in flight", "waiting", "refused", "")
    for name, lane in lanes[:LANES]:
        rest = f"rests {duration(math.ceil(lane.resting))}" if lane.resting else ""
        table.add_row(SCHEME.sub("", name), f"{lane.in_flight}/{lane.limit}", str(lane.waiting), str(lane.refusals), rest)
    if more := [lane for _, lane in lanes[LANES:]]:
        places = f"{sum(one.in_flight for one in more)}/{sum(one.limit for one in more)}"
        table.add_row(f"and {len(more)} more", places, str(sum(one.waiting for one in more)), str(sum(one.refusals for one in more)), "")
    return table


def _table(first: str, *others: str) -> Table:
    """A table whose first column takes what room there is."""
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
    table.add_column(first, no_wrap=True, overflow="ellipsis", ratio=1)
    for title in others:
        table.add_column(title, no_wrap=True, justify="right")
    return table


def _beside(left: Table, right: Table) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0), expand=True)
    grid.add_column(ratio=2)
    grid.add_column(ratio=3)
    grid.add_row(left, right)
    return grid


def _is_priced(run: Run) -> bool:
    return any(model.price for model in run.prepared.recipe.models.values())


def _money(amount: float | None) -> str:
    return "?" if amount is None else f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else duration(value) if value >= 100 else f"{value:.{1 if value >= 1 else 2}f} s"
