"""Instruction-following difficulty: does the prompt help to predict its answer, and not so much that nothing is left to learn?

The ratio is Cherry_LLM's (arXiv 2308.12032: mean losses) or Superfiltering's (arXiv 2402.00530: perplexities); how it is measured
stands in scorer.py. No one band fits all rows: a scorer knows one language better than another, and long answers help themselves. So
bands are of a stratum, and come from a calibration on answers dealt anew (calibration.py), or as plain numbers from a recipe.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args

from filters.gate import Stage, Subject, verdict
from filters.scoring.calibration import Calibration, Variant
from filters.scoring.scorer import IfdScore, Prompt
from leafmill.errors import InputError, unknown
from leafmill.records import Verdict, digest


class Scores(Protocol):
    """What the gate asks of a scorer."""

    @property
    def id(self) -> str: ...

    @property
    def min_tokens(self) -> int: ...

    async def score(self, prompt: Prompt, answer: str) -> IfdScore: ...

    async def reverse(self, prompt: Prompt, answer: str, language: str) -> IfdScore: ...


@dataclass(frozen=True)
class Ifd:
    """Rejects a row whose ratio is at or above the high end of its band (`ifd.misaligned`) or below the low one (`ifd.too_easy`).

    What cannot be scored is `unscorable` and says why; so is a row of a language for which the bands file has no band
    (`ifd.uncalibrated`). Scored is the last answer, without its reasoning, given all turns before it. What decides the measurement
    itself (model, dtype, template, window, fewest tokens) is set where the scorer is made; it enters this gate's version from there.
    """

    name: ClassVar[str] = "ifd"
    stage: ClassVar[tuple[Stage, ...]] = ("score",)
    says: ClassVar[str] = "the loss of the answer given the prompt, over its loss without"

    scorer: Scores = field(repr=False)
    variant: Variant = "loss_ratio"
    """which of the two ratios gates; both are in the evidence"""
    low: float | Mapping[str, float] | None = None
    """one number, or one per language, as {"en": 0.3, "zh": 0.2}; a language without one has no lower bound"""
    high: float | Mapping[str, float] = 1.0
    """the same; a language without one has 1. With `bands` it still holds, where it is lower than the band's"""
    bands: Path | None = None
    """a file that `leafmill calibrate ifd` wrote, instead of `low`: bands by language, task and length"""
    reverse: bool = False
    """also record how much the answer helps to predict the prompt; it takes as long again"""
    reverse_high: float | None = None
    """reject a row whose reverse ratio is this or more (`ifd.reverse`); without it none is rejected for that"""
    measure: str = field(init=False)
    """the scorer's id and `min_tokens`, and the digest of the bands, so that others are another version of the gate"""
    calibration: Calibration | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise InputError(unknown("ifd variant", self.variant, get_args(Variant)))
        languages = {"", *(self.low if isinstance(self.low, Mapping) else ()), *(self.high if isinstance(self.high, Mapping) else ())}
        for low, high in (self._numbers(language) for language in languages):
            if not (math.isfinite(high) and 0 <= low < high):
                raise InputError(f"ifd needs 0 <= low < high: low is {self.low!r}, high is {self.high!r}")
        if self.reverse_high is not None and not 0 < self.reverse_high < math.inf:
            raise InputError(f"ifd needs a reverse_high over 0, got {self.reverse_high!r}")
        if self.bands and self.low is not None:
            raise InputError(f"ifd takes its lower bounds from `bands` or from `low`, not from both: {self.bands}, {self.low!r}")
        object.__setattr__(self, "calibration", Calibration.read(self.bands) if self.bands else None)
        self._check_calibration()
        known = digest(self.calibration.model_dump(mode="json"), length=8) if self.calibration else "-"
        object.__setattr__(self, "measure", f"{self.scorer.id}|{self.scorer.min_tokens}|{known}")

    async def __call__(self, subject: Subject) -> Verdict:
        row = subject.row
        score, reverse = await asyncio.gather(self.scorer.score(row.told, row.answer), self._reversed(subject))
        evidence: dict[str, Any] = {**_evidence(score), "variant": self.variant, "scorer": self.scorer.id}
        if reverse is not None:
            evidence["reverse"] = {"n": reverse.n, "loss_ratio": reverse.loss_ratio, "ppl_ratio": reverse.ppl_ratio, "code": reverse.code}
        ratio = self._ratio(score)
        if ratio is None:
            return verdict(self, "unscorable", score.code, **evidence)
        found = self._band(subject, score.n)
        if found is None:
            return verdict(self, "unscorable", "ifd.uncalibrated", value=ratio, **evidence)
        stratum, low, high = found
        evidence |= {"stratum": stratum, "band": [low, high]}
        if ratio >= high:
            return verdict(self, "reject", "ifd.misaligned", value=ratio, threshold=high, **evidence)
        if ratio < low:
            return verdict(self, "reject", "ifd.too_easy", value=ratio, threshold=low, **evidence)
        if self.reverse_high is not None and reverse is not None:
            back = self._ratio(reverse)
            if back is None:
                return verdict(self, "unscorable", reverse.code.replace("ifd.", "ifd.reverse_", 1), **evidence)
            if back >= self.reverse_high:
                return verdict(self, "reject", "ifd.reverse", value=back, threshold=self.reverse_high, **evidence)
        return verdict(self, "accept", value=ratio, threshold=high, **evidence)

    async def _reversed(self, subject: Subject) -> IfdScore | None:
        row, wanted = subject.row, self.reverse or self.reverse_high is not None
        return await self.scorer.reverse(row.told, row.answer, row.language) if wanted else None

    def _ratio(self, score: IfdScore) -> float | None:
        return score.loss_ratio if self.variant == "loss_ratio" else score.ppl_ratio

    def _band(self, subject: Subject, n: int) -> tuple[str, float, float] | None:
        """The stratum of a row, and its band."""
        language = subject.row.language
        low, high = self._numbers(language)
        if self.calibration is None:
            return language, low, high
        found = self.calibration.band(language, subject.task, n)
        return found and (found[0], found[1].low, min(found[1].high, high))

    def _numbers(self, language: str) -> tuple[float, float]:
        low = self.low.get(language, 0.0) if isinstance(self.low, Mapping) else self.low or 0.0
        high = self.high.get(language, 1.0) if isinstance(self.high, Mapping) else self.high
        return low, high

    def _check_calibration(self) -> None:
        """Ratios of another scorer, or of the other variant, are not to be ranked with ours."""
        if self.calibration is None:
            return
        if self.calibration.variant != self.variant:
            raise InputError(f"{self.bands} holds bands of {self.calibration.variant}, but `variant` is {self.variant}: calibrate for it")
        if self.scorer.id and self.calibration.scorer != self.scorer.id:  # none: the settings are checked before a scorer is loaded
            raise InputError(
                f"{self.bands} was made with the scorer {self.calibration.scorer}, but this one is {self.scorer.id}: calibrate with it"
            )


def _evidence(score: IfdScore) -> dict[str, Any]:
    """n, losses in nats per token, what follows from them, and what they depend on."""
    return {
        "n": score.n,
        "s_cond": score.s_cond,
        "s_uncond": score.s_uncond,
        "loss_ratio": score.loss_ratio,
        "ppl_ratio": score.ppl_ratio,
        "delta": score.delta,
        "truncated": score.truncated,
        "model": score.model,
        "dtype": score.dtype,
        "template": score.template,
        "max_len": score.max_len,
    }
