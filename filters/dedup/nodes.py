"""Nodes of a taxonomy that mean the same under other names, as "Late refunds" and "Refunds that are late".

Two nodes are twins when they are alike by title and description together, and by their titles alone as well: titles alone are alike where
nodes are not ("Write a query", "Explain a query"), and descriptions are where they are all of one pattern. Numbers, units, opposites and
names keep two apart as they do for instructions (`guard`). A node may be like its parent, as it is a part of it, so among its own
ancestors only an equal title counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from filters.dedup.guard import differs
from filters.embedder import Embedder
from filters.text import normalise

THRESHOLD = 0.72
"""cosine of title and description together, from which two nodes may be one (`python -m bench.nodes`)"""
TITLES = 0.6
"""cosine of the titles alone that they need, too"""

RELATED = 0.5
"""cosine of title and description below which two nodes are not one, whatever a role says"""

_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")


class Named(NamedTuple):
    """A node, as far as it is compared."""

    path: str
    title: str
    description: str

    @property
    def text(self) -> str:
        return f"{self.title}: {self.description}" if self.description else self.title


class Twin(NamedTuple):
    """The node that was there first, and how like it is."""

    path: str
    similarity: float


class _Vectors(NamedTuple):
    text: np.ndarray
    title: np.ndarray


class Nodes:
    """The nodes of one tree so far."""

    def __init__(self, embedder: Embedder, threshold: float = THRESHOLD) -> None:
        self._embedder, self._threshold = embedder, threshold
        self._known: list[Named] = []
        self._vectors: list[_Vectors] = []

    async def know(self, nodes: Iterable[Named]) -> None:
        """Take nodes in as they are."""
        given = list(nodes)
        self._known += given
        self._vectors += await self._embed(given)

    async def meet(self, nodes: Sequence[Named]) -> list[Twin | None]:
        """For each node, in order, the one that it repeats; those that repeat none are known from then on."""
        found = []
        for node, vectors in zip(nodes, await self._embed(nodes), strict=True):
            twin = self._twin(node, vectors)
            if twin is None:
                self._known.append(node)
                self._vectors.append(vectors)
            found.append(twin)
        return found

    def move(self, path: str, into: str) -> None:
        """A node was merged into another: what repeats it repeats that one."""
        self._known = [node._replace(path=into) if node.path == path else node for node in self._known]

    def related(self, path: str, other: str) -> bool:
        """Whether two known nodes are so alike that they may be one where somebody says so."""
        at = {node.path: vectors.text for node, vectors in zip(self._known, self._vectors, strict=True)}
        return float(at[path] @ at[other]) >= RELATED

    def _twin(self, node: Named, vectors: _Vectors) -> Twin | None:
        parent = node.path.rpartition("/")[0]
        best: Twin | None = None
        for known, theirs in zip(self._known, self._vectors, strict=True):
            above = f"{node.path}/".startswith(f"{known.path}/")
            same = (above or known.path.rpartition("/")[0] == parent) and normalise(known.title) == normalise(node.title)
            similarity = float(theirs.text @ vectors.text)
            if same or (not above and self._alike(known, node, similarity, float(theirs.title @ vectors.title))):
                best = max(best or Twin(known.path, similarity), Twin(known.path, similarity), key=lambda twin: twin.similarity)
        return best

    def _alike(self, known: Named, node: Named, similarity: float, titles: float) -> bool:
        return similarity >= self._threshold and titles >= TITLES and differs(_plain(known.title), _plain(node.title)) is None

    async def _embed(self, nodes: Sequence[Named]) -> list[_Vectors]:
        vectors = await self._embedder.encode([text for node in nodes for text in (node.text, node.title)])
        return [_Vectors(*pair) for pair in zip(vectors[::2], vectors[1::2], strict=True)]


def _plain(title: str) -> str:
    """A title without the capitals of headings, which the guard would take for names."""
    return _CAPITALISED.sub(lambda word: word[0].lower(), title)
