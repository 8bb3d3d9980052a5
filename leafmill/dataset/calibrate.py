"""`leafmill calibrate ifd data.jsonl`: can this scorer tell true answers of a data set from answers of its other rows, and in which bands
do the true ones lie?

    calibration, ratios = await calibrate_ifd(read(path), scorer)      # scorer: filters.scoring.scorer.Scorer
    paths = write(folder, calibration, ratios)                         # ifd-bands.json for the gate's setting `bands`, ifd-ratios.png
    calibration.refusals                                               # a sentence for each language that got no bands; any: exit code 2

Good rows are asked for: what is measured is how the scorer sees answers that do belong to their instructions.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from filters.scoring.calibration import HIGH, LOW, MISALIGNED, Calibration, Sample, Variant, auroc, calibrate, derangement
from filters.scoring.ifd import Scores
from filters.scoring.scorer import IfdScore
from leafmill.dataset.items import Broken, Item
from leafmill.errors import InputError
from leafmill.runfolder import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 1000
"""rows of each language that are scored: an AUROC of so many strays by 0.01"""
ROOM = 256
"""pairs that wait for the scorer at once"""


@dataclass(frozen=True)
class Ratios:
    """What was measured."""

    true: list[Sample] = field(default_factory=list)
    shuffled: list[Sample] = field(default_factory=list)
    unscorable: Mapping[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """rows by language and code"""
    broken: int = 0
    """lines that held no row"""


async def calibrate_ifd(
    items: Iterable[Item | Broken],
    scorer: Scores,
    *,
    variant: Variant = "loss_ratio",
    most: int = MOST,
    quantiles: tuple[float, float] = (LOW, HIGH),
    seed: int = 7,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Calibration, Ratios]:
    """Scores up to `most` rows of each language, drawn evenly from the whole file, twice: as they stand, and with the answer of another
    row of their language. `tell` hears how many pairs of how many are done. Raises InputError when there is no row at all."""
    drawn, broken = _draw(items, most, seed)
    if not drawn:
        raise InputError("there is no row to calibrate with" + (f": {broken} lines could not be read" if broken else ""))
    rows, steps = [item for some in drawn.values() for item in some], itertools.count(1)
    ask = partial(_scores, scorer, lambda: tell(next(steps), 2 * len(rows)))
    ratios, usable, template = Ratios(broken=broken), defaultdict[str, list[Item]](list), ""
    for item, score in await ask([(item, item.row.answer) for item in rows]):
        template = score.template
        if sample := _sample(item, score, variant):
            ratios.true.append(sample)
            usable[item.row.language].append(item)
        else:
            ratios.unscorable[item.row.language][score.code] += 1
    dealt = await ask([pair for some in usable.values() for pair in _deal(some, seed)])
    ratios.shuffled.extend(sample for item, score in dealt if (sample := _sample(item, score, variant)))
    how: Mapping[str, Any] = {"scorer": scorer.id, "template": template, "variant": variant, "quantiles": quantiles, "seed": seed}
    return calibrate(ratios.true, ratios.shuffled, ratios.unscorable, **how), ratios


def write(folder: Path, calibration: Calibration, ratios: Ratios) -> list[Path]:
    """Write the bands file, and a picture of what it rests on, into a folder. The paths."""
    folder.mkdir(parents=True, exist_ok=True)
    bands, picture = folder / "ifd-bands.json", folder / "ifd-ratios.png"
    write_whole(bands, calibration.model_dump_json(indent=2) + "\n")
    _draw_picture(picture, calibration, ratios)
    return [bands, picture]


def _draw(items: Iterable[Item | Broken], most: int, seed: int) -> tuple[dict[str, list[Item]], int]:
    """Up to `most` items of each language, each with the same chance (a reservoir), in the order of the file; and the broken lines."""
    rng, broken = random.Random(seed), 0
    drawn, seen = defaultdict[str, list[Item]](list), Counter[str]()
    for item in items:
        if isinstance(item, Broken):
            broken += 1
            continue
        rows, language = drawn[item.row.language], item.row.language
        seen[language] += 1
        if len(rows) < most:
            rows.append(item)
        elif (at := rng.randrange(seen[language])) < most:
            rows[at] = item
    return {language: sorted(drawn[language], key=lambda item: item.line) for language in sorted(drawn)}, broken


def _deal(rows: Sequence[Item], seed: int) -> list[tuple[Item, str]]:
    """Each item with the answer of another; one that is dealt the words of its own answer is left out."""
    dealt = [(rows[i], rows[j].row.answer) for i, j in enumerate(derangement(len(rows), seed))]
    return [(item, answer) for item, answer in dealt if answer != item.row.answer]


async def _scores(scorer: Scores, tell: Callable[[], None], pairs: Sequence[tuple[Item, str]]) -> list[tuple[Item, IfdScore]]:
    """Each item with the score of the answer beside it, many under way at once."""
    room = asyncio.Semaphore(ROOM)

    async def score(item: Item, answer: str) -> tuple[Item, IfdScore]:
        async with room:
            found = await scorer.score(item.row.told, answer)
        tell()
        return item, found

    return await asyncio.gather(*(score(*pair) for pair in pairs))


def _sample(item: Item, score: IfdScore, variant: Variant) -> Sample | None:
    ratio = score.loss_ratio if variant == "loss_ratio" else score.ppl_ratio
    return None if ratio is None else Sample(item.row.language, item.task, score.n, ratio)


# -- the picture -------------------------------------------------------------------------------------------------------


def _draw_picture(path: Path, calibration: Calibration, ratios: Ratios) -> None:
    """For each language a histogram of both kinds of pairs with the band, and the ROC curve."""
    from matplotlib.figure import Figure

    known = [language for language, found in calibration.languages.items() if found.true and found.shuffled]
    figure = Figure(figsize=(10, 3.6 * max(1, len(known))), layout="constrained")
    figure.suptitle(f"{calibration.variant} of true and shuffled answers, {calibration.scorer}", fontsize=9)
    axes = figure.subplots(max(1, len(known)), 2, squeeze=False)
    for row, language in zip(axes, known, strict=False):
        true = [one.ratio for one in ratios.true if one.language == language]
        shuffled = [one.ratio for one in ratios.shuffled if one.language == language]
        _histogram(row[0], language, calibration, true, shuffled)
        _roc(row[1], language, true, shuffled)
    figure.savefig(path, dpi=120)


def _histogram(axes: Axes, language: str, calibration: Calibration, true: Sequence[float], shuffled: Sequence[float]) -> None:
    edges = np.linspace(0, max(1.2, float(np.quantile([*true, *shuffled], 0.99))), 60)
    for name, values, colour in (("true", true, "tab:blue"), ("shuffled", shuffled, "tab:orange")):
        axes.hist(np.clip(values, 0, edges[-1]), bins=list(edges), alpha=0.55, color=colour, label=f"{name} (n = {len(values)})")
    axes.axvline(MISALIGNED, color="black", linewidth=1, linestyle=":", label="1: the instruction does not help")
    if band := calibration.bands.get(language):
        axes.axvspan(band.low, band.high, color="tab:green", alpha=0.12, label=f"band {band.low:.2f} to {band.high:.2f}")
    axes.set(title=language, xlabel=calibration.variant.replace("_", " "), ylabel="rows")
    axes.legend(fontsize=7)


def _roc(axes: Axes, language: str, true: Sequence[float], shuffled: Sequence[float]) -> None:
    cuts = np.sort([*true, *shuffled])
    rates = [np.searchsorted(np.sort(values), cuts, "right") / len(values) for values in (shuffled, true)]
    axes.plot([0, *rates[0]], [0, *rates[1]], color="tab:blue")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    title = f"{language}: AUROC {auroc(true, shuffled):.3f}"
    axes.set(title=title, xlabel="shuffled answers below the cut", ylabel="true answers below the cut", aspect="equal")
