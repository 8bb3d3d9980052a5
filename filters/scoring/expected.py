"""A judge's score as an expectation: not the digit that it happened to write, but the mean over all that it might have written.

DEITA (arXiv 2312.15685) reads a score from 1 to 6 off the logits of the first token: sum_i i * p_i. Any judge that gives log-probabilities
can be read so. Digits that are not among them must not become a default: the rest is renormalised, and the mass that the digits cover is
reported. Below half of it the judge wanted to write something else, and there is no score.
"""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

COVERED = 0.5
"""least mass of the digits"""


class Expected(NamedTuple):
    """`value` is None when there is no score; `code` says why: `expected.uncovered`, `expected.not_finite`."""

    value: float | None
    mass: float
    """the probability that any of the digits is written"""
    code: str = ""


def expected_score(log_probs: Mapping[str, float], low: int = 1, high: int = 6) -> Expected:
    """The mean of the digits from `low` to `high`, given log-probabilities of the next token by its text; a digit may have several tokens
    (" 4", "４")."""
    found = defaultdict[int, float](float)
    for token, log_prob in log_probs.items():
        text = unicodedata.normalize("NFKC", token).strip()
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            found[int(text)] += math.exp(log_prob)
    mass = sum(found.values())
    if not math.isfinite(mass):
        return Expected(None, 0.0, "expected.not_finite")
    if mass < COVERED:
        return Expected(None, mass, "expected.uncovered")
    return Expected(sum(digit * share for digit, share in found.items()) / mass, mass)


def log_softmax(logits: Sequence[float]) -> list[float]:
    """Log-probabilities of a whole vocabulary's logits, for a judge of one's own. Not finite in, not finite out."""
    rows = np.asarray(logits, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        rows = rows - rows.max()
        return [float(one) for one in rows - np.log(np.exp(rows).sum())]
