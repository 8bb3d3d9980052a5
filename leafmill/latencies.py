"""How long the last calls of a role took: enough of them to say what is usual and what is slow."""

from __future__ import annotations

import math
from collections import deque

KEPT = 512


class Latencies:
    """The last 512 durations in seconds, and how many there were in all."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=KEPT)
        self.count = 0

    def add(self, seconds: float) -> None:
        self._last.append(seconds)
        self.count += 1

    @property
    def p50(self) -> float | None:
        return self.quantile(0.50)

    @property
    def p95(self) -> float | None:
        return self.quantile(0.95)

    def quantile(self, share: float) -> float | None:
        """The duration that at least this share of the last ones did not exceed; None before the first."""
        return sorted(self._last)[max(0, math.ceil(share * len(self._last)) - 1)] if self._last else None
