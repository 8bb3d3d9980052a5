"""What the reading commands print: the report, a trace, rows, listings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from leafmill.console import visible
from leafmill.coverage import Coverage, Covered
from leafmill.panel import BINS, LONG_ENOUGH, Judging, LengthReport, PanelReport, SeatReport
from leafmill.report import LeafReport, Report, RoleReport
from leafmill.trace import Trace
from leafmill.ui.diff import diff
from leafmill.variants import OperatorReport, Rate, VariantReport

if TYPE_CHECKING:
    from graphs.estimate import Estimate, Figures, RoleEstimate
    from leafmill.diversity import Diversity, Sound
    from leafmill.replay import Replayed

COLOURS = {"accepted": "green", "rejected": "yellow", "errored": "red", "waiting": "cyan", "open": "dim", "met": "green"}
SHOWN = 5
"""leaves of which the same is said, at most"""
LONG, ROOM = 24, 32
"""columns of a listing: what is wider may be wrapped, but not to less than this"""


def escape(text: str) -> str:
    """A text of somebody else within markup: it is shown, and not obeyed by the terminal either."""
    return markup.escape(visible(text))


def report(report_: Report, console: Console) -> None:
    """One line per leaf, the sum, the reasons, and what was not met."""
    total = report_.total
    wide = console.width >= 110
    lines = [*report_.leaves, total] if len(report_.leaves) > 1 else report_.leaves
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0))
    table.add_column("leaf", overflow="fold", min_width=16)
    for title in _report_line(total, total, wide):
        table.add_column(title, justify="left" if title == "outcome" else "right", no_wrap=True)
    for leaf in lines:
        table.add_row(leaf.leaf, *_report_line(leaf, total, wide).values(), style="bold" if leaf is total else "")
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
    if report_.roles:
        console.print("\nhow each role's calls went", style="italic")
        console.print(_role_table(report_.roles))
    judging(report_.judging, console)
    if report_.varied.operators:
        console.print("\nhow evolutions fared (accepted: the child stands in an accepted row)", style="italic")
        console.print(_operator_table(report_.varied.operators))
    if several := _with_rivals(report_.varied.variants):
        console.print("\nhow candidates fared by the prompt variants that spoke in them", style="italic")
        console.print(_variant_table(several))
    if total.accepted:
        parts = (f"{one.accepted} of {one.possible} {kind}" for kind, one in report_.covered.items() if one.possible)
        console.print(f"\naccepted rows cover {', '.join(parts)}; see report --coverage", markup=False, highlight=False)
    for leaf in report_.leaves:
        if leaf.why:
            console.print(f"{leaf.leaf}: {leaf.outcome}: {leaf.why}", markup=False, highlight=False, soft_wrap=True)


def coverage(found: Coverage, console: Console) -> None:
    """By leaf what was planned and what is in accepted rows, and then what is missing in them."""
    if not found.leaves:
        console.print("no candidate has been planned: there is nothing to cover")
        return
    console.print("how much of each leaf is covered: in accepted rows / planned / all there is", style="italic")
    kinds = ("values", "pairs", "concepts")
    table = _by_leaf("rows", "refills", *kinds)
    for leaf in found.leaves:
        cells = (_covered(getattr(leaf, kind)) for kind in kinds)
        table.add_row(leaf.leaf, f"{leaf.accepted}/{leaf.candidates}", str(leaf.refills), *cells)
    if len(found.leaves) > 1:
        refills, total = sum(leaf.refills for leaf in found.leaves), (_covered(one) for one in found.total.values())
        rows = f"{sum(leaf.accepted for leaf in found.leaves)}/{sum(leaf.candidates for leaf in found.leaves)}"
        table.add_row("all", rows, str(refills), *total, style="bold")
    console.print(table)
    for leaf in found.leaves:
        lines = [*(f"{axis}: {_some(values)}" for axis, values in leaf.missing.items())]
        pairs = [" x ".join(f"{axis}={value}" for axis, value in hole.values.items()) for hole in leaf.holes]
        lines += [f"pairs that were tried: {_some(pairs)}"] if pairs else []
        lines += [f"concepts: {_some(leaf.untaught)}"] if leaf.untaught else []
        if lines:
            console.print(f"\nnot in accepted rows of {leaf.leaf}", style="italic", markup=False)
            for line in lines:
                console.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 2)))


def _covered(one: Covered) -> str:
    return f"{one.accepted}/{one.planned}/{one.possible}" if one.possible else "-"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def diversity(found: Diversity, console: Console) -> None:
    """How varied the accepted rows are, and how alike they sound, by leaf."""
    if not found.leaves:
        console.print("no row is accepted: there is nothing to measure")
        return
    console.print(f"how varied the accepted rows are (embedder {found.embedder})", style="italic", markup=False, highlight=False)
    varied = _by_leaf("rows", "NovelSum", "cluster Gini", "axes even")
    for leaf, one in found.leaves.items():
        varied.add_row(leaf, str(one.rows), *map(_hundredths, (one.novelsum, one.gini)), _share(one.evenness))
    console.print(varied)
    for what in ("instructions", "answers"):
        console.print(f"\nhow alike the {what} sound", style="italic")
        alike = _by_leaf("distinct-1", "distinct-2", "begin alike")
        alike.add_column("so", overflow="fold")
        for leaf, one in found.leaves.items():
            sound: Sound = getattr(one, what)
            numbers = (*map(_hundredths, (sound.distinct1, sound.distinct2)), _share(sound.share))
            alike.add_row(leaf, *numbers, escape(sound.opening or ""))
        console.print(alike)


def trace(trace_: Trace, console: Console, *, prompts: bool = True) -> None:
    """A candidate's life, step by step."""
    candidate = trace_.candidate
    if candidate:
        brief = candidate["brief"]
        axes = ", ".join(f"{axis}={value}" for axis, value in brief["axes"].items())
        head = (
            f"{candidate['leaf']} #{candidate['number']} ({candidate['language']})\naxes: {axes}\nscenario: {brief['scenario'] or '(none)'}"
        )
        console.print(Panel(escape(head), title=f"candidate {candidate['id']}", title_align="left"))
    for event in trace_.events:
        _event(event, console, prompts)
    if candidate:
        state = candidate["state"]
        reason = f" at {candidate['stage']}: {candidate['code']} {candidate['detail']}" if candidate["code"] else ""
        console.print(Text(f"{state}{reason}", style=COLOURS.get(state, "")))
    if candidate.get("row"):
        row_panel(candidate["row"], console)
    console.print(f"{trace_.tokens} tokens in {sum(event['kind'] == 'call' for event in trace_.events)} calls", style="dim")


def replayed(found: Replayed, console: Console) -> None:
    """A call's reply on record, the one that came now, and what is different."""
    asked = f"call {found.call} of {found.candidate}: {found.role} -> {found.model}"
    status = "" if found.status == "ok" else f" ({found.status})"
    console.print(Panel(escape(found.before), title=escape(f"{asked}, on record{status}"), title_align="left"))
    tokens = f"{found.prompt_tokens}+{found.completion_tokens} tokens"
    console.print(Panel(escape(found.after), title=escape(f"now, {tokens}"), title_align="left"))
    styles = {"same": "", "gone": "red strike", "come": "green underline"}
    console.print(Text.assemble(*((piece.text, styles[piece.change]) for piece in diff(found.before, found.after))))


def row_panel(row: Mapping[str, Any], console: Console, title: str = "row") -> None:
    """One row as it would go into the dataset; of a conversation, turn by turn."""
    said = {**row, "tools": ", ".join(tool["name"] for tool in row.get("tools") or ()), "calls": "\n".join(_calls(row.get("steps") or ()))}
    before = [(turn["role"], "\n".join(_calls([turn]))) for turn in row.get("history") or ()]
    last = [(name, said.get(name)) for name in ("instruction", "input", "calls", "reasoning", "answer")]
    parts = [("tools", said["tools"]), *before, *last]
    body = "\n\n".join(f"[bold]{name}[/bold]\n{escape(text)}" for name, text in parts if text)
    console.print(Panel(body, title=escape(title), title_align="left"))


def _calls(steps: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What was called and what came back, a line each: get_weather(city='Oslo')."""
    for turn in steps:
        if turn["role"] == "tool":
            yield f"  -> {turn['content']}"
        elif turn["content"]:
            yield str(turn["content"])
        for call in turn["calls"]:
            yield f"{call['name']}({', '.join(f'{name}={value!r}' for name, value in call['arguments'].items())})"


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
            state, text = (
                Text(row["state"], style=COLOURS.get(row["state"], "")),
                Text(visible(row["row"]), no_wrap=True, overflow="ellipsis"),
            )
            shown.add_row(row["id"], f"#{row['number']}", state, _reason(row), text)
        console.print(shown)


def table(rows: Iterable[Mapping[str, Any]], console: Console) -> None:
    """Rows of a listing; the columns are the keys of the first. Where they do not fit side by side, long cells stand below their row."""
    listed = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    if not listed:
        console.print("(none)")
        return
    widths = {name: max(cell_len(title) for title in (name, *(row[name] for row in listed))) for name in listed[0]}
    long = [name for name in list(widths)[1:] if widths[name] > LONG]
    short = [name for name in widths if name not in long]
    room = console.width - sum(widths[name] + 2 for name in short)
    if room >= (ROOM + 2) * len(long):
        shown = Table(box=None, padding=(0, 2, 0, 0))
        for name in widths:
            shown.add_column(name.replace("_", " "), overflow="fold", no_wrap=name in short)
        for row in listed:
            shown.add_row(*(escape(row[name]) for name in widths))
        console.print(shown)
        return
    while sum(widths[name] + 2 for name in short) > console.width and len(short) > 1:
        long.append(short.pop(short.index(max(short[1:], key=widths.__getitem__))))
    below = [name for name in widths if name in long]
    console.print(Text(_line({name: name.replace("_", " ") for name in short}, widths), style="bold"))
    for row in listed:
        console.print(Text(_line({name: row[name] for name in short}, widths)))
        for name in below:
            if row[name]:
                console.print(Padding(Text.assemble((f"{name.replace('_', ' ')}: ", "dim"), row[name], overflow="fold"), (0, 0, 0, 4)))


def _line(cells: Mapping[str, str], widths: Mapping[str, int]) -> str:
    return "  ".join(set_cell_size(cell, widths[name]) for name, cell in cells.items()).rstrip()


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
            Text(
                f"   {event['seq']}. vote {event['role']}: {event['score'] or event['failed']}  {visible(event['rationale'])}", style="cyan"
            )
        )
    elif event["kind"] == "review":
        undone = " (undone)" if event["undone_at"] else ""
        said = " ".join(part for part in (event["decision"], event["code"], event["note"]) if part)
        console.print(Text(visible(f"   {event['seq']}. {event['reviewer']}: {said}{undone}"), style="magenta"))
    else:
        colour = {"accept": "green", "reject": "yellow", "error": "red"}.get(event["decision"], "cyan")
        value = "" if event["value"] is None else f" {event['value']:.4g}"
        limit = "" if event["threshold"] is None else f" (threshold {event['threshold']:.4g})"
        evidence = "" if event["decision"] == "accept" else "".join(f" {name}={value}" for name, value in event["evidence"].items())
        console.print(
            Text(f"   {event['seq']}. {event['gate']}: {event['decision']} {event['code']}{value}{limit}{visible(evidence)}", style=colour)
        )


def _role_table(roles: Mapping[str, RoleReport]) -> Table:
    """The roles, the slowest first."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("role")
    for title in ("calls", "failed", "retries", "tokens", "p50", "p95"):
        table.add_column(title, justify="right")
    for name, role in sorted(roles.items(), key=lambda item: -(item[1].p95 or 0.0)):
        seconds = ("" if took is None else f"{took:.{1 if took >= 1 else 2}f} s" for took in (role.p50, role.p95))
        table.add_row(name, str(role.calls), str(role.failed), str(role.retries), str(role.tokens), *seconds)
    return table


def judging(found: Judging, console: Console) -> None:
    """How far the judges agree and can be trusted."""
    if any(one.rows for one in found.panel.values()):
        console.print("\nhow far annotators agree (alpha: 1 is perfect, 0 is chance)", style="italic")
        console.print(_panel_table(found.panel))
    if any(seat.apart is not None for seat in found.seats.values()):
        console.print("\neach annotator beside the others (apart: its mean difference from the median)", style="italic")
        console.print(_seat_table(found.seats, console.width >= 110))
    for name, seat in found.drifting.items():
        for how in seat.drifts:
            console.print(f"{name} drifts: {_drift(how, seat)}", markup=False, highlight=False, soft_wrap=True)
    measured = [one for one in found.lengths if one.votes >= LONG_ENOUGH]
    if measured:
        console.print("\ndo scores go with the answer's length (0: no; mean score of each quarter, shortest answers first)", style="italic")
        console.print(_length_table(measured))
    for one in measured:
        if one.alarm:
            likes = "long" if (one.correlation or 0.0) > 0 else "short"
            console.print(
                f"ALARM: {one.seat} ({one.language}) scores {likes} answers higher", markup=False, highlight=False, soft_wrap=True
            )
    if found.gold:
        console.print("\nhow the judges did on rows known to be good or bad", style="italic")
        gold(found.gold, console)


def gold(found: Iterable[Mapping[str, Any]], console: Console) -> None:
    """A line for each judge, and below it the rows that it got wrong."""
    listed = Table(box=None, padding=(0, 2, 0, 0))
    listed.add_column("judge", overflow="fold", min_width=16)
    for title in ("good", "bad", "unheard", "accuracy"):
        listed.add_column(title, justify="right")
    for one in found:
        counts = (f"{one[kind][0]}/{one[kind][1]}" for kind in ("good", "bad"))
        colour = "" if one["passes"] else "red"
        listed.add_row(escape(one["judge"]), *counts, str(one["unheard"]), _share(one["accuracy"]), style=colour)
    console.print(listed)
    for one in found:
        if one["wrong"]:
            console.print(f"{one['judge']} got wrong: {', '.join(one['wrong'])}", markup=False, highlight=False, soft_wrap=True)


def _panel_table(panel: Mapping[str, PanelReport]) -> Table:
    """Beside the raw agreement Krippendorff's alpha, which takes off what chance would give, or why there is none; by leaf, and below
    each by dimension where several models play it."""
    table = _by_leaf("rows", "pairs equal", "alpha")
    table.add_column("95%", overflow="fold")
    for leaf, whole in panel.items() if len(panel) > 2 else [(min(panel, key="all".__eq__), panel["all"])]:
        for name, one in ((leaf, whole), *((f"  {dimension}", of_it) for dimension, of_it in whole.dimensions.items())):
            between = "" if one.interval is None else _between(one.interval)
            table.add_row(name, str(one.rows), _share(one.agreement), _hundredths(one.alpha), between or one.why)
    return table


def _seat_table(seats: Mapping[str, SeatReport], wide: bool) -> Table:
    """A narrow terminal does without the interval and the halves."""
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0))
    table.add_column("annotator", overflow="fold", min_width=16)
    for title in ("votes", "failed", "mean", "apart", *(("95%", "halves") if wide else ()), "outliers", "alpha without"):
        table.add_column(title, justify="right")
    for name, seat in seats.items():
        between = "-" if seat.between is None else _between(seat.between)
        halves = "-" if seat.halves is None else " ".join(f"{one:+.2f}" for one in seat.halves)
        apart = "-" if seat.apart is None else f"{seat.apart:+.2f}"
        more = (between, halves) if wide else ()
        cells = (_hundredths(seat.mean), apart, *more, _share(seat.outliers), _hundredths(seat.alpha_without))
        table.add_row(escape(name), str(seat.votes), str(seat.failed), *cells, style="yellow" if seat.drifts else "")
    return table


def _drift(how: str, seat: SeatReport) -> str:
    """In words."""
    if how == "off":
        side = "above" if (seat.apart or 0.0) > 0 else "below"
        return f"it scores {abs(seat.apart or 0.0):.1f} {side} the others{', which judge other things' if seat.mixed else ''}"
    if how == "confuses":
        return f"without it the panel's alpha is {_hundredths(seat.alpha_without)}"
    first, second = seat.halves or (0.0, 0.0)
    return f"it stood {first:+.1f} from the others in the first half of the run, {second:+.1f} in the second"


def _length_table(lengths: Iterable[LengthReport]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("annotator", overflow="fold", min_width=16)
    for title in ("language", "votes", "correlation", *(f"{n}/{BINS}" for n in range(1, BINS + 1))):
        table.add_column(title, justify="right")
    for one in lengths:
        means = [_hundredths(part.mean) for part in one.bins]
        style = "yellow" if one.alarm else ""
        table.add_row(escape(one.seat), one.language, str(one.votes), _hundredths(one.correlation), *means, style=style)
    return table


def _between(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"


def _operator_table(operators: Mapping[str, OperatorReport]) -> Table:
    """Each operator's evolutions: how many stand in accepted rows, and why the others gave way."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("operator")
    for title in ("tried", "accepted", "share", "95%"):
        table.add_column(title, justify="right")
    table.add_column("refused", overflow="fold")
    for name, one in sorted(operators.items(), key=lambda item: -(item[1].rate or 0.0)):
        refused = ", ".join(f"{n} {code}" for code, n in sorted(one.refused.items(), key=lambda item: -item[1]))
        table.add_row(name, *_rate(one), refused)
    return table


def _with_rivals(variants: Sequence[VariantReport]) -> list[VariantReport]:
    """The variants of roles that have several in one language; a file for each language alone is no variation."""
    varied = {one.role for one in variants if "." in one.variant}
    return [one for one in variants if one.role in varied]


def _variant_table(variants: Sequence[VariantReport]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("role", "variant"):
        table.add_column(title)
    for title in ("tried", "accepted", "share", "95%", "tokens"):
        table.add_column(title, justify="right")
    for one in variants:
        table.add_row(one.role, one.variant, *_rate(one), str(one.tokens))
    return table


def _rate(one: Rate) -> tuple[str, str, str, str]:
    between = "-" if one.interval is None else f"{one.interval[0]:.0%} to {one.interval[1]:.0%}"
    return str(one.tried), str(one.accepted), _share(one.rate), between


def _by_leaf(*titles: str) -> Table:
    """A table with a line for each leaf and columns of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("leaf", overflow="fold", min_width=16)
    for title in titles:
        table.add_column(title, justify="right")
    return table


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _hundredths(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def _report_line(leaf: LeafReport, total: LeafReport, wide: bool) -> dict[str, str]:
    """A leaf's cells by column title; in a narrow terminal without those that can be worked out. Money is shown where there are prices."""
    counts = {
        "accepted": f"{leaf.accepted}" if leaf.asked is None else f"{leaf.accepted}/{leaf.asked}",
        "rejected": str(leaf.states.get("rejected", 0)),
        "waiting": str(leaf.states.get("waiting", 0)),
        "errors": str(leaf.states.get("errored", 0)),
    }
    opened = {"open": str(leaf.states.get("open", 0))} if total.states.get("open") else {}
    money = {"money": "?" if leaf.money is None else f"{_money(leaf.money)}{' + ?' if leaf.unpriced_calls else ''}"}
    priced = total.money is not None and total.unpriced_calls < total.calls
    tokens = f"{leaf.tokens}{'+?' if leaf.uncounted_calls else ''}"
    each = "" if leaf.tokens_per_accepted is None else f"{leaf.tokens_per_accepted:.0f}"
    paid = {"calls": str(leaf.calls), "tokens": tokens, "per row": each} if wide else {} if priced else {"tokens": tokens}
    return {**counts, **opened, **paid, **(money if priced else {}), "outcome": leaf.outcome}


def _reason(row: Mapping[str, Any]) -> str:
    return f"{row['stage']}:{row['code']}" if row["code"] else ""


def estimate(found: Estimate, console: Console) -> None:
    """What a run will take: by leaf and by role as expected, in all at least and at most, and whether the limits leave room."""
    if not any(leaf.missing for leaf in found.leaves):
        console.print(f"{found.run} has all its rows: nothing will be asked", markup=False, highlight=False)
        return
    wide = console.width >= 110
    leaves = _sums("leaf", ("missing", "candidates"), found.currency, wide)
    for leaf in found.leaves:
        missing = f"{leaf.missing}/{leaf.wanted}"
        leaves.add_row(leaf.leaf, missing, _short(leaf.expected.candidates), *_cells(leaf.expected, wide))
    if found.gold.expected.calls:
        leaves.add_row("trying the judges", "", "", *_cells(found.gold.expected, wide))
    console.print("what each leaf will take, as expected", style="italic")
    console.print(leaves)
    roles = _sums("role", ("model",), found.currency, wide)
    for role in found.roles:
        roles.add_row(role.role, escape(", ".join(role.models)), *_cells(role, wide))
    console.print("\nwho takes it", style="italic")
    console.print(roles)
    run = _sums("all", ("candidates",), found.currency, wide)
    for case, figures in found.total.items():
        run.add_row(case, _short(figures.candidates), *_cells(figures, wide), style="bold" if case == "expected" else "")
    console.print()
    console.print(run)
    console.print()
    for line in _remarks(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in found.sources:
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def _sums(first: str, more: Iterable[str], currency: str, wide: bool) -> Table:
    """A table whose last columns are calls, tokens and money."""
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0))
    table.add_column(first, overflow="fold", min_width=16)
    tokens = ("prompt", "completion", "tokens") if wide else ("tokens",)
    for title in (*more, "calls", *tokens, escape(currency)):
        table.add_column(title, justify="left" if title == "model" else "right", no_wrap=True)
    return table


def _cells(figures: Figures | RoleEstimate, wide: bool) -> list[str]:
    tokens = figures.prompt + figures.completion
    counts = (figures.calls, figures.prompt, figures.completion, tokens) if wide else (figures.calls, tokens)
    return [*map(_short, counts), _money(figures.money)]


def _remarks(found: Estimate) -> Iterator[str]:
    """What a person should know before saying yes."""
    starving = [leaf for leaf in found.leaves if leaf.starves]
    for leaf in starving[:SHOWN]:
        takes = f"{leaf.missing} rows take about {leaf.needed} candidates" if leaf.needed else "nothing has ever been accepted"
        yield f"{leaf.leaf} will starve: {takes}, limits.candidates_per_leaf leaves {leaf.allowed}"
    if len(starving) > SHOWN:
        yield f"{len(starving) - SHOWN} more leaves will starve"
    for limit in found.limits:
        show = _money if limit.limit.endswith("money") else _short
        words = {"surely": "enough in any case", "as expected": "enough, as expected", "no": "too little", "unknown": "cannot be kept"}
        of = f"{limit.leaf} " if limit.leaf else ""
        stands = f"{of}{show(limit.expected)} as expected, {show(limit.most)} at most, {show(limit.used)} used already"
        short = f" for {limit.leaves} of {len(found.leaves)} leaves" if limit.leaf and limit.leaves else ""
        yield f"limits.{limit.limit} {show(limit.allowed)}: {words[limit.fits]}{short} ({stands})"
    for alias in found.unpriced:
        yield f"models.{alias} has no price: what its calls cost is unknown"


def _short(number: float | None) -> str:
    """Three digits and a unit: 950, 12.3k, 4.56M."""
    if number is None:
        return "unknown"
    for unit in ("", "k", "M"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}G"


def _money(amount: float | None) -> str:
    if amount is None:
        return "unknown"
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.2g}" if amount >= 0.001 else "<0.001"
