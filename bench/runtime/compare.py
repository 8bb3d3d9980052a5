"""Leafmill beside the plain runners: tables of what a model call costs, and the goals, met or missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from statistics import median
from typing import Any

from bench.runtime.process import CALLS, RUNNERS, measure

Line = dict[str, Any]
Show = Callable[[str], None]


def runs(rows: Sequence[int], concurrency: Sequence[int], latency: Sequence[float], repeats: int, show: Show) -> Iterable[Line]:
    """Every cell with every runner, repeat by repeat, so that a slow hour of the machine falls on all of them."""
    for repeat in range(repeats):
        for cell in product(concurrency, latency, rows):
            for runner in RUNNERS:
                line = {"repeat": repeat, **measure(runner, cell[2], cell[0], cell[1])}
                show(f"{repeat + 1}/{repeats} {_name(*cell)}  {runner:9} {line['cpu']:6.2f} CPU-s {line['wall']:6.2f} s")
                yield line


class Results:
    """Medians over the repeats."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)

    def every(self, name: str) -> list[Any]:
        return sorted({line[name] for line in self.lines})

    def of(self, what: str, runner: str, rows: int, concurrency: int, latency: float) -> float:
        cell = {"runner": runner, "rows": rows, "concurrency": concurrency, "latency": latency}
        return float(median(line[what] for line in self.lines if cell.items() <= line.items()))

    def per_call(self, runner: str, rows: int, concurrency: int, latency: float) -> float:
        """CPU milliseconds of a whole process, imports too, by its calls."""
        return 1000 * self.of("cpu", runner, rows, concurrency, latency) / (rows * CALLS)

    def slope(self, runner: str, concurrency: int, latency: float) -> float:
        """CPU milliseconds that one more call costs, between the smallest and the largest number of rows: imports are out."""
        numbers: list[int] = self.every("rows")
        few, many = numbers[0], numbers[-1]
        if few == many:
            return self.per_call(runner, many, concurrency, latency)
        more = self.of("cpu", runner, many, concurrency, latency) - self.of("cpu", runner, few, concurrency, latency)
        return 1000 * more / ((many - few) * CALLS)


def tables(results: Results) -> str:
    """One table per cell, and the slopes of each concurrency and latency."""
    told = []
    for concurrency, latency in product(results.every("concurrency"), results.every("latency")):
        for rows in results.every("rows"):
            cell = (rows, concurrency, latency)
            floor = rows * CALLS * latency / 1000 / concurrency
            told.append(f"\n{_name(concurrency, latency, rows)}: {rows * CALLS} calls, floor {floor:.1f} s")
            head = ("CPU ms/call", "x openai", "wall s", "start s", "span s", "in flight", "RSS MB", "requests", "rows")
            told.append(_row("", head))
            for runner in RUNNERS:
                cpu = results.per_call(runner, *cell)
                ratio = cpu / results.per_call("openai", *cell)
                wall, start, span, mean, rss, requests, made = (
                    results.of(what, runner, *cell) for what in ("wall", "start", "span", "mean", "rss", "requests", "made")
                )
                cells = (f"{cpu:.2f}", f"{ratio:.2f}", f"{wall:.1f}", f"{start:.2f}", f"{span:.1f}", f"{mean:.1f}", f"{rss:.0f}")
                told.append(_row(runner, (*cells, f"{requests:.0f}", f"{made:.0f}")))
        few, many = results.every("rows")[0], results.every("rows")[-1]
        if few != many:
            told.append(f"\n{concurrency} at once, {latency:g} ms: one more call costs (between {few} and {many} rows)")
            told.append(_row("", ("CPU ms/call", "x openai", "x aiohttp")))
            for runner in RUNNERS:
                cost, *others = (results.slope(one, concurrency, latency) for one in (runner, "openai", "aiohttp"))
                told.append(_row(runner, (f"{cost:.2f}", *(f"{cost / other:.2f}" for other in others))))
    return "\n".join(told)


def goals(results: Results) -> str:
    """The goals, at the most rows and the longest latency, at the fewest calls at once; the last one at the most."""
    rows, latency = results.every("rows")[-1], results.every("latency")[-1]
    narrow, wide = results.every("concurrency")[0], results.every("concurrency")[-1]
    cell = (rows, narrow, latency)
    cost = results.slope("leafmill", narrow, latency)
    plain_start = results.of("start", "openai", *cell)
    ours = [line for line in results.lines if line["runner"] == "leafmill"]
    told = [
        f"\ngoals, at {_name(narrow, latency, rows)}",
        at_most("CPU per call, x openai", cost / results.slope("openai", narrow, latency), 0.5),
        at_most("CPU per call, x aiohttp", cost / results.slope("aiohttp", narrow, latency), 5),
        at_most("start to first call, x openai", results.of("start", "leafmill", *cell) / plain_start, 1.5),
        at_most("start to first call, s", results.of("start", "leafmill", *cell), 3),
        at_most("resident memory, MB", results.of("rss", "leafmill", *cell), 150),
        at_most("requests beyond 6 a row, worst run", max(abs(line["requests"] - line["rows"] * CALLS) for line in ours), 0),
        at_most("rows missing, worst run", max(line["rows"] - line["made"] for line in ours), 0),
    ]
    if latency:
        floor = rows * CALLS * latency / 1000 / narrow
        told.append(at_least("calls in flight, mean by cap", results.of("mean", "leafmill", *cell) / narrow, 0.85))
        told.append(at_most("first to last call, x floor", results.of("span", "leafmill", *cell) / floor, 1.2))
    if narrow != wide:
        told.append(at_most(f"CPU per call at {wide}, x that at {narrow}", results.slope("leafmill", wide, latency) / cost, 1.2))
    stub = max(1000 * line["stub_cpu"] / line["requests"] for line in results.lines)
    told.append(f"  the stub beside them took at most {stub:.2f} CPU ms a request, its start included")
    return "\n".join(told)


def at_most(what: str, value: float, limit: float) -> str:
    missed = "" if value <= limit else f"  MISSED by {value - limit:.2f}"
    return f"  {what:44} {value:8.2f}  <= {limit:<5g}{missed or '  met'}"


def at_least(what: str, value: float, limit: float) -> str:
    missed = "" if value >= limit else f"  MISSED by {limit - value:.2f}"
    return f"  {what:44} {value:8.2f}  >= {limit:<5g}{missed or '  met'}"


def _name(concurrency: int, latency: float, rows: int) -> str:
    return f"{rows} rows, {concurrency} at once, {latency:g} ms"


def _row(first: str, cells: Sequence[str]) -> str:
    return f"  {first:10}" + "".join(f"{cell:>13}" for cell in cells)
