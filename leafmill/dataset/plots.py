"""Pictures of what a command did, as SVG: what rows left by, and how the values of each gate lie against its threshold.

All words in them are ours (codes, gates, languages by their ids), never the rows': so no font is asked for a character that it lacks.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafmill.dataset.tally import DIGITS, Spread, Tally
from leafmill.errors import DiskError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"kept": "#2a9d8f", "dropped": "#e76f51", "waiting": "#e9c46a", "broken": "#9aa0a6"}
MARKED = "#457b9d"
"""of rows that are kept with a remark: spared by the guard, or misaligned where nothing is dropped"""
BINS = 50
MOST = 20
"""codes that are shown"""
TAILS = 0.005
"""share of the values at either end that a picture leaves out, so that one of 1000 does not press all others into a line"""


def draw(command: str, tally: Tally, folder: Path) -> list[Path]:
    """Write the pictures into the folder; their paths. Raises DiskError."""
    import matplotlib

    matplotlib.use("Agg")
    look = {
        "svg.hashsalt": "leafmill",  # the same counts give the same file
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(look):
        drawn = [_rows(command, tally, folder / "rows.svg")]
        values: dict[str, set[float]] = defaultdict(set)
        for spread in tally.spreads():
            values[spread.gate] |= set(spread.counts)
        varied = (gate for gate, found in values.items() if len(found) > 1)  # of one value there is no picture
        return drawn + [_values(gate, tally, folder / f"{gate}.svg") for gate in varied]


def _rows(command: str, tally: Tally, path: Path) -> Path:
    """Bars: what became of the rows by language, and of those that left, by which code."""
    from matplotlib.figure import Figure

    codes = sorted(tally.codes.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST]
    lines = len(tally.languages) + len(codes)
    figure = Figure(figsize=(8, 2.2 + 0.32 * lines), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[len(tally.languages) + 1, len(codes) + 1])
    _by_language(above, tally)
    above.set_title(f"{command}: {tally.read:,} rows read", loc="left")
    names = [code for code, _ in codes][::-1]
    below.barh(names, [n for _, n in codes][::-1], color=[COLOURS["broken" if name == "broken" else "dropped"] for name in names])
    for place, (_, n) in enumerate(codes[::-1]):
        below.annotate(f" {n:,}", (n, place), va="center")
    below.set_title("why rows are not kept" if codes else "every row is kept", loc="left")
    below.margins(x=0.12)
    if not codes:
        below.set_axis_off()
    return _save(figure, path)


def _by_language(axes: Axes, tally: Tally) -> None:
    languages = sorted(tally.languages, reverse=True)
    left = [0] * len(languages)
    for place in ("kept", "dropped", "waiting"):
        counts = [tally.languages[language].get(place, 0) for language in languages]
        if any(counts):
            axes.barh(languages, counts, left=left, color=COLOURS[place], label=place)
        left = [before + more for before, more in zip(left, counts, strict=True)]
    if languages:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _values(gate: str, tally: Tally, path: Path) -> Path:
    """A histogram per language of the gate's value, with its thresholds."""
    from matplotlib.figure import Figure

    spreads = [spread for spread in tally.spreads() if spread.gate == gate]
    languages = sorted({spread.language for spread in spreads})
    edges = _edges(spreads)
    figure = Figure(figsize=(8, 2.4 * len(languages) + 0.6), layout="constrained")
    for axes, language in zip(figure.subplots(len(languages), 1, sharex=True, squeeze=False)[:, 0], languages, strict=True):
        here = [spread for spread in spreads if spread.language == language]
        axes.hist(
            [list(spread.counts) for spread in here],
            edges,
            weights=[list(spread.counts.values()) for spread in here],
            color=[_colour(spread) for spread in here],
            label=[f"{spread.place}{f' ({spread.code})' if spread.code else ''}: {spread.n:,}" for spread in here],
            stacked=True,
        )
        for threshold in tally.thresholds.get(f"{gate}/{language}", []):
            axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3g}")
        axes.set_title(f"{gate}, {language}", loc="left")
        axes.set_ylabel("rows")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes.set_xlabel(gate)
    return _save(figure, path)


def _edges(spreads: list[Spread]) -> list[float]:
    """From the lowest to the highest value without the tails. Values are counted in steps, so bins are some whole steps wide: else
    some would hold more steps than others, and the picture would have teeth."""
    counts: Counter[float] = Counter()
    for spread in spreads:
        counts.update(spread.counts)
    whole = Spread("", "", "", "", counts)
    low, high, step = whole.quantile(TAILS), whole.quantile(1 - TAILS), 10.0**-DIGITS
    width = step * max(1, math.ceil((high - low) / step / BINS))
    return [low - step / 2 + width * place for place in range(math.ceil((high - low + step) / width) + 1)]


def _colour(spread: Spread) -> str:
    return MARKED if spread.place == "kept" and spread.code else COLOURS[spread.place]


def _save(figure: Any, path: Path) -> Path:
    try:
        figure.savefig(path, metadata={"Date": None})
    except OSError as fault:
        raise DiskError(f"{path}: cannot be written: {fault.strerror}") from fault
    return path
