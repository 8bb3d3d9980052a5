"""What a language model is asked: the mean loss of the end of a sequence of token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A sequence of token ids of which the last `n` are scored; what stands before them is its head."""

    ids: tuple[int, ...]
    n: int

    @property
    def head(self) -> tuple[int, ...]:
        return self.ids[: -self.n]


Nats = Callable[[Sequence[Span]], Sequence[float]]
"""Mean loss of each span's last `n` ids, in nats per token."""
