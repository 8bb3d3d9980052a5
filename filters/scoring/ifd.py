"""Instruction-following difficulty: does the prompt help to predict its answer, and not so much that nothing is left to learn?

The ratio is Cherry_LLM's (arXiv 2308.12032: mean losses) or Superfiltering's (arXiv 2402.00530: perplexities); how it is measured
stands in scorer.py. The bands are per language because a scorer knows one better than the other: calibrate on shuffled answers first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args

from filters.gate import Stage, Subject, verdict
from filters.scoring.scorer import IfdScore
from leafmill.errors import InputError, unknown
from leafmill.records import Verdict

Variant = Literal["loss_ratio", "ppl_ratio"]


class Scores(Protocol):
    """What the gate asks of a scorer."""

    @property
    def id(self) -> str: ...

    @property
    def min_tokens(self) -> int: ...

    async def score(self, prompt: str, answer: str) -> IfdScore: ...


@dataclass(frozen=True)
class Ifd:
    """Rejects a row whose ratio is `high` or more (`ifd.misaligned`) or below `low` (`ifd.too_easy`); unscorable rows say why.

    What decides the measurement itself (model, dtype, template, window, fewest tokens) is set where the scorer is made; it enters
    this gate's version and evidence from there. The answer is scored without its reasoning.
    """

    name: ClassVar[str] = "ifd"
    stage: ClassVar[tuple[Stage, ...]] = ("score",)
    says: ClassVar[str] = "the loss of the answer given the prompt, over its loss without"

    scorer: Scores = field(repr=False)
    variant: Variant = "loss_ratio"
    low: float | Mapping[str, float] | None = None
    """one number, or one per language, as {"en": 0.3, "zh": 0.2}; a language without one has no lower bound"""
    high: float = 1.0
    measure: str = field(init=False)
    """the scorer's id and `min_tokens`, so that another scorer is another version of the gate"""

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise InputError(unknown("ifd variant", self.variant, get_args(Variant)))
        lows = self.low.values() if isinstance(self.low, Mapping) else [self.low or 0.0]
        if not (math.isfinite(self.high) and all(0 <= low < self.high for low in lows)):
            raise InputError(f"ifd needs 0 <= low < high: low is {self.low!r}, high is {self.high!r}")
        object.__setattr__(self, "measure", f"{self.scorer.id}|{self.scorer.min_tokens}")

    async def __call__(self, subject: Subject) -> Verdict:
        score = await self.scorer.score(subject.row.prompt, subject.row.answer)
        evidence = _evidence(score) | {"variant": self.variant, "scorer": self.scorer.id}
        ratio = score.loss_ratio if self.variant == "loss_ratio" else score.ppl_ratio
        if ratio is None:
            return verdict(self, "unscorable", score.code, **evidence)
        low = self.low.get(subject.row.language) if isinstance(self.low, Mapping) else self.low
        if ratio >= self.high:
            return verdict(self, "reject", "ifd.misaligned", value=ratio, threshold=self.high, **evidence)
        if low is not None and ratio < low:
            return verdict(self, "reject", "ifd.too_easy", value=ratio, threshold=low, **evidence)
        return verdict(self, "accept", value=ratio, threshold=self.high, **evidence)


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
