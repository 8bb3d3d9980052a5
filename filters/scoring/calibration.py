"""What IFD is worth: whether a scorer tells true answers from answers of other instructions, and the bands in which true ones lie.

A scorer that knows a language gives an answer a lower ratio beside its own instruction than beside another's. So answers are dealt anew
within each language, and the ratios of both kinds of pairs compared. Only where they differ are quantiles of the true ones a band that
means something: a scorer, or a template, that is wrong for a language puts everything near or above 1, and would reject at random.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import ValidationError

from leafmill.errors import InputError
from leafmill.records import Record

Variant = Literal["loss_ratio", "ppl_ratio"]

SEPARATES = 0.7
"""Least AUROC of a scorer that is trusted: in 7 of 10 pairs of one true and one shuffled answer, the true one has the lower ratio. Chance
gives 0.5, and with the fewest rows allowed strays from it by 0.08, so chance reaches 0.7 in less than one language of 200."""
FEWEST = 30
"""rows that a language or a stratum needs; the tenth part of them, beyond which a band ends, is three rows"""
LOW, HIGH = 0.10, 0.95
"""The quantiles of the true ratios at which a band begins and ends. What has little to teach is at the low end; the high end is where the
most instructive rows are, so only the outermost, which look like answers to something else, are cut off there."""
MISALIGNED = 1.0
"""No band reaches further: from here on the instruction does not help."""
BINS = (64, 256, 1024)
"""where a longer class of answers begins, in tokens"""


class Sample(NamedTuple):
    """A pair that was scored."""

    language: str
    task: str
    n: int
    """tokens of the answer that were scored"""
    ratio: float


class Band(Record):
    """Where true rows of a stratum lie: from `low` on, and below `high`."""

    low: float
    high: float
    n: int


class Separation(Record):
    """How well a scorer tells true answers of one language from shuffled ones. `why` is empty where it does."""

    true: int
    shuffled: int
    unscorable: dict[str, int]
    """rows that have no ratio, by the code of the reason"""
    auroc: float | None = None
    true_median: float | None = None
    shuffled_median: float | None = None
    why: str = ""

    @property
    def separates(self) -> bool:
        return not self.why


class Calibration(Record):
    """What `leafmill calibrate ifd` found out, and all that the gate needs of it: a bands file."""

    kind: Literal["leafmill ifd bands"] = "leafmill ifd bands"
    scorer: str
    variant: Variant
    template: str
    seed: int
    quantiles: tuple[float, float]
    bins: tuple[int, ...]
    languages: dict[str, Separation]
    bands: dict[str, Band]
    """by stratum: language|task|tokens, language|tokens, language"""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises InputError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as fault:
            raise InputError(f"{path}: {fault.strerror}; `leafmill calibrate ifd data.jsonl` writes a bands file") from None
        except ValidationError as fault:
            first = fault.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(f"{path}: not a bands file of `leafmill calibrate ifd`: {where}: {first['msg']}") from None

    @property
    def refusals(self) -> list[str]:
        """A sentence for each language in which the scorer cannot be trusted, with what to try."""
        return [f"{language}: {found.why}" for language, found in self.languages.items() if found.why]

    def band(self, language: str, task: str, n: int) -> tuple[str, Band] | None:
        """The narrowest stratum of such a row that has a band, by its name; None where the language has none."""
        return next(((name, self.bands[name]) for name in strata(language, task, n, self.bins) if name in self.bands), None)


def strata(language: str, task: str, n: int, bins: Sequence[int] = BINS) -> Iterator[str]:
    """The strata of a row, the narrowest first: `en|coding|64-255`, `en|64-255`, `en`."""
    ends = [0, *bins]
    at = sum(n >= start for start in bins)
    length = f"{ends[at]}-{bins[at] - 1}" if at < len(bins) else f"{ends[at]}-"
    if task:
        yield f"{language}|{task}|{length}"
    yield f"{language}|{length}"
    yield language


def derangement(count: int, seed: int) -> list[int]:
    """A random order of range(count) in which nothing stays in its place (Sattolo: one cycle through all). One alone has none."""
    if count < 2:
        return []
    order, rng = list(range(count)), random.Random(seed)
    for i in range(count - 1, 0, -1):
        j = rng.randrange(i)
        order[i], order[j] = order[j], order[i]
    return order


def auroc(true: Sequence[float], shuffled: Sequence[float]) -> float:
    """The share of pairs, one of each kind, in which the true one is the lower; a tie counts half."""
    ranked, others = np.sort(true), np.asarray(shuffled)
    lower, not_higher = np.searchsorted(ranked, others, "left"), np.searchsorted(ranked, others, "right")
    return float((lower + not_higher).sum() / (2 * len(ranked) * len(others)))


def calibrate(
    true: Sequence[Sample],
    shuffled: Sequence[Sample],
    unscorable: Mapping[str, Counter[str]],
    *,
    scorer: str,
    template: str,
    variant: Variant = "loss_ratio",
    quantiles: tuple[float, float] = (LOW, HIGH),
    seed: int = 0,
) -> Calibration:
    """The verdict on each language, and bands for those in which the scorer can tell. `unscorable` counts rows by language and code."""
    if not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise InputError(f"quantiles must be 0 <= low < high <= 1, got {quantiles}")
    languages = {
        language: _separation(
            [one.ratio for one in true if one.language == language],
            [one.ratio for one in shuffled if one.language == language],
            unscorable.get(language, Counter()),
        )
        for language in sorted({one.language for one in true} | set(unscorable))
    }
    ratios = defaultdict[str, list[float]](list)
    for one in true:
        if languages[one.language].separates:
            for name in strata(one.language, one.task, one.n):
                ratios[name].append(one.ratio)
    bands = {name: band for name in sorted(ratios) if (band := _band(ratios[name], quantiles))}
    return Calibration(
        scorer=scorer,
        variant=variant,
        template=template,
        seed=seed,
        quantiles=quantiles,
        bins=BINS,
        languages=languages,
        bands=bands,
    )


def _separation(true: Sequence[float], shuffled: Sequence[float], unscorable: Counter[str]) -> Separation:
    counts = {"true": len(true), "shuffled": len(shuffled), "unscorable": dict(unscorable)}
    if min(len(true), len(shuffled)) < FEWEST:
        reasons = ", ".join(f"{n} {code}" for code, n in unscorable.most_common())
        seen = f"{len(true)} rows could be scored{f' ({reasons})' if reasons else ''}, {len(shuffled)} beside another answer"
        why = f"{seen}; {FEWEST} of each are needed: give more rows"
        return Separation(**counts, why=why)
    area, here, there = auroc(true, shuffled), float(np.median(true)), float(np.median(shuffled))
    seen = f"AUROC {area:.2f}, median {here:.2f} against {there:.2f} of shuffled answers"
    why = ""
    if here >= MISALIGNED:
        why = (
            f"most answers are harder to predict with their instruction than without ({seen}): the template is strange to this model. "
            "Try another `template` (none, line or chat), then another model"
        )
    elif area < SEPARATES or there < here:
        why = (
            f"the scorer does not tell true answers from shuffled ones ({seen}; at least {SEPARATES} is needed). "
            "Try another model that knows this language, or another `template` (none, line or chat)"
        )
    return Separation(**counts, auroc=area, true_median=here, shuffled_median=there, why=why)


def _band(ratios: Sequence[float], quantiles: tuple[float, float]) -> Band | None:
    """None where there are too few rows, or no room between its ends: a wider stratum speaks for them."""
    low, high = (float(end) for end in np.quantile(ratios, quantiles))
    high = min(high, MISALIGNED)
    return Band(low=low, high=high, n=len(ratios)) if len(ratios) >= FEWEST and low < high else None
