"""What the terminal shows: live progress, the report, a trace, rows. Plain lines where the output is not a terminal."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from leafmill.report import LeafReport, Report
from leafmill.trace import Trace

if TYPE_CHECKING:
    from graphs.run import Run

COLOURS = {"accepted": "green", "rejected": "yellow", "errored": "red", "waiting": "cyan", "open": "dim", "met": "green"}


class Progress:
    """Shows a run while it goes: per leaf how many are in, under way, and where the others ended; calls and tokens below."""

    def __init__(self, run: Run, console: Console, every: float = 0.5) -> None:
        self._run, self._console = run, console
        self._every = every if console.is_terminal else 15.0
        self._began = time.monotonic()

    async def __aenter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(self._picture(), console=self._console, refresh_per_second=4, transient=True)
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
                self._live.update(self._picture())
            else:
                leaves = "; ".join(
                    f"{job.leaf.path} {job.accepted}/{job.target} accepted, {job.under_way} under way{_most_common(job.codes)}"
                    for job in self._run.jobs
                )
                self._console.print(f"{leaves}; {self._footer()}", highlight=False, markup=False, soft_wrap=True)

    def _picture(self) -> RenderableType:
        table = Table(box=None, padding=(0, 1))
        for title in ("leaf", "accepted", "", "under way", "where the others ended"):
            table.add_column(title, justify="right" if title in ("accepted", "under way") else "left")
        for job in self._run.jobs:
            bar = ProgressBar(total=job.target, completed=job.accepted, width=20)
            ended = f"{job.outcome.state} " if job.outcome else ""
            table.add_row(job.leaf.path, f"{job.accepted}/{job.target}", bar, str(job.under_way), f"{ended}{_codes(job.codes)}")
        note = (
            "stopping: calls in flight are waited for and recorded (Ctrl-C again stops now)"
            if self._run.stopping.is_set()
            else self._footer()
        )
        return Group(table, Text(note, style="dim"))

    def _footer(self) -> str:
        seconds = time.monotonic() - self._began
        chat = self._run.chat
        return f"{seconds:.0f} s, {chat.calls} calls ({chat.calls / max(seconds, 1e-9):.1f}/s), {self._run.tokens} tokens"


def report(report_: Report, console: Console) -> None:
    """One line per leaf, the sum, the reasons, and what was not met."""
    total = report_.total
    wide = console.width >= 110
    lines = [*report_.leaves, total] if len(report_.leaves) > 1 else report_.leaves
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0))
    table.add_column("leaf", overflow="fold", min_width=16)
    for title in _report_line(total, wide, bool(total.states.get("open"))):
        table.add_column(title, justify="left" if title == "outcome" else "right", no_wrap=True)
    for leaf in lines:
        cells = _report_line(leaf, wide, bool(total.states.get("open")))
        table.add_row(leaf.leaf, *cells.values(), style="bold" if leaf is total else "")
    console.print("what became of each leaf", style="italic")
    console.print(table)
    if total.reasons:
        console.print("\nwhy candidates are not in (stage:reason)", style="italic")
        reasons = Table(box=None, padding=(0, 1))
        reasons.add_column("n", justify="right")
        reasons.add_column("reason")
        for reason, count in sorted(total.reasons.items(), key=lambda item: -item[1]):
            reasons.add_row(str(count), reason)
        console.print(reasons)
    if total.failed_calls:
        failed = ", ".join(f"{n} {what}" for what, n in total.failed_calls.items())
        console.print(f"\nfailed calls (role:code): {failed}", markup=False, highlight=False)
    for leaf in report_.leaves:
        if leaf.why:
            console.print(f"{leaf.leaf}: {leaf.outcome}: {leaf.why}", markup=False, highlight=False, soft_wrap=True)


def trace(trace_: Trace, console: Console, *, prompts: bool = True) -> None:
    """A candidate's life, step by step."""
    candidate = trace_.candidate
    brief = candidate["brief"]
    axes = ", ".join(f"{axis}={value}" for axis, value in brief["axes"].items())
    head = f"{candidate['leaf']} #{candidate['number']} ({candidate['language']})\naxes: {axes}\nscenario: {brief['scenario'] or '(none)'}"
    console.print(Panel(escape(head), title=f"candidate {candidate['id']}", title_align="left"))
    for event in trace_.events:
        _event(event, console, prompts)
    state = candidate["state"]
    reason = f" at {candidate['stage']}: {candidate['code']} {candidate['detail']}" if candidate["code"] else ""
    console.print(Text(f"{state}{reason}", style=COLOURS.get(state, "")))
    if candidate["row"]:
        row_panel(candidate["row"], console)
    console.print(f"{trace_.tokens} tokens in {sum(event['kind'] == 'call' for event in trace_.events)} calls", style="dim")


def row_panel(row: Mapping[str, Any], console: Console, title: str = "row") -> None:
    """One row as it would go into the dataset."""
    parts = [(name, row.get(name)) for name in ("instruction", "input", "reasoning", "answer")]
    body = "\n\n".join(f"[bold]{name}[/bold]\n{escape(text)}" for name, text in parts if text)
    console.print(Panel(body, title=escape(title), title_align="left"))


def candidates(rows: Iterable[Mapping[str, Any]], console: Console) -> None:
    """Candidates, leaf by leaf: a line each, cut at the terminal's edge."""
    listed = list(rows)
    if not listed:
        console.print("(none)")
    for leaf, ones in groupby(listed, key=lambda row: str(row["leaf"])):
        console.print(escape(leaf), style="bold")
        shown = Table(box=None, padding=(0, 1), show_header=False)
        for width in (16, 4, 8, max(len(_reason(row)) for row in listed)):
            shown.add_column(no_wrap=True, min_width=width)
        for row in ones:
            state, text = Text(row["state"], style=COLOURS.get(row["state"], "")), Text(row["row"], no_wrap=True, overflow="ellipsis")
            shown.add_row(row["id"], f"#{row['number']}", state, _reason(row), text)
        console.print(shown)


def table(rows: Iterable[Mapping[str, Any]], console: Console) -> None:
    """Rows of a listing; the columns are the keys of the first, which is kept whole."""
    listed = list(rows)
    if not listed:
        console.print("(none)")
        return
    shown = Table(box=None, padding=(0, 1))
    for i, name in enumerate(listed[0]):
        shown.add_column(name.replace("_", " "), overflow="fold", no_wrap=i == 0)
    for row in listed:
        shown.add_row(*(escape("" if value is None else str(value)) for value in row.values()))
    console.print(shown)


def as_json(value: Any, console: Console) -> None:
    """For programs: JSON on one stream and nothing else."""
    console.file.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def _event(event: Mapping[str, Any], console: Console, prompts: bool) -> None:
    if event["kind"] == "call":
        tokens = f"{event['prompt_tokens']}+{event['completion_tokens']} tokens"
        title = f"{event['seq']}. {event['role']}.{event['variant']} -> {event['model']}  {tokens}, {event['seconds']:.1f} s"
        parts = [f"[dim]{m['role']}:[/dim]\n{escape(m['content'])}" for m in event["messages"]] if prompts else []
        if event["reasoning"]:
            parts.append(f"[dim]reasoning:[/dim]\n{escape(event['reasoning'])}")
        said = escape(event["reply"]) if event["reply"] else ""
        parts.append(
            f"[bold]reply[/bold] {'' if event['status'] == 'ok' else '(' + escape(event['status'] + ': ' + event['error']) + ')'}\n{said}"
        )
        console.print(Panel("\n\n".join(parts), title=escape(title), title_align="left"))
    elif event["kind"] == "vote":
        console.print(
            Text(f"   {event['seq']}. vote {event['role']}: {event['score'] or event['failed']}  {event['rationale']}", style="cyan")
        )
    else:
        colour = {"accept": "green", "reject": "yellow", "error": "red"}.get(event["decision"], "cyan")
        value = "" if event["value"] is None else f" {event['value']:.4g}"
        limit = "" if event["threshold"] is None else f" (threshold {event['threshold']:.4g})"
        evidence = "" if event["decision"] == "accept" else "".join(f" {name}={value}" for name, value in event["evidence"].items())
        console.print(
            Text(f"   {event['seq']}. {event['gate']}: {event['decision']} {event['code']}{value}{limit}{evidence}", style=colour)
        )


def _report_line(leaf: LeafReport, wide: bool, under_way: bool) -> dict[str, str]:
    """A leaf's cells by column title; in a narrow terminal without those that can be worked out."""
    counts = {
        "accepted": f"{leaf.accepted}" if leaf.asked is None else f"{leaf.accepted}/{leaf.asked}",
        "rejected": str(leaf.states.get("rejected", 0)),
        "waiting": str(leaf.states.get("waiting", 0)),
        "errors": str(leaf.states.get("errored", 0)),
    }
    opened = {"open": str(leaf.states.get("open", 0))} if under_way else {}
    tokens = f"{leaf.tokens}{'+?' if leaf.uncounted_calls else ''}"
    each = "" if leaf.tokens_per_accepted is None else f"{leaf.tokens_per_accepted:.0f}"
    paid = {"calls": str(leaf.calls), "tokens": tokens, "per row": each} if wide else {"tokens": tokens}
    return {**counts, **opened, **paid, "outcome": leaf.outcome}


def _reason(row: Mapping[str, Any]) -> str:
    return f"{row['stage']}:{row['code']}" if row["code"] else ""


def _codes(codes: Counter[str]) -> str:
    return ", ".join(f"{count} {code}" for code, count in codes.most_common(4))


def _most_common(codes: Counter[str]) -> str:
    return f", {_codes(codes)}" if codes else ""
