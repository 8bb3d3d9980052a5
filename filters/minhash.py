"""The gate `minhash`: a prompt that was accepted before in almost the same words.

MinHash with locality-sensitive hashing (Broder 1997; datasketch) proposes, exact Jaccard similarity of the shingles and the guard decide.
datasketch would choose bands for a nominal threshold, at which it then finds only 44 of 100 pairs (0.7, 128 permutations), so the bands
are explicit: 32 of 4 find a pair of similarity s with probability 1 - (1 - s^4)^32: 0.87 at 0.5, 0.988 at 0.6, 0.9998 at 0.7.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from filters.gate import Stage, Subject, verdict
from filters.guard import differs
from filters.memory import spared
from filters.shingles import RULE, jaccard, shingles_of_bare
from filters.text import bare, lcs_f1, units
from leafmill.errors import IndexMismatchError
from leafmill.records import Verdict


@dataclass(frozen=True)
class Sketch:
    """How signatures are made. Signatures of different sketches must never meet: they look alike and compare as noise."""

    bands: int = 32
    rows: int = 4
    seed: int = 1
    scheme: str = "affine32"
    shingles: str = RULE

    @property
    def permutations(self) -> int:
        return self.bands * self.rows


class Near(NamedTuple):
    id: str
    similarity: float
    prompt: str


class _Kept(NamedTuple):
    prompt: str
    bare: str
    units: int
    signature: Any  # datasketch.MinHash


class MinhashIndex:
    """Accepted prompts by id, with their signatures. Kept in memory; `save` and `load` spare the sketching on resume."""

    def __init__(self, sketch: Sketch | None = None) -> None:
        from datasketch import MinHash, MinHashLSH

        self.sketch = sketch or Sketch()
        self._blank = MinHash(num_perm=self.sketch.permutations, seed=self.sketch.seed, scheme=self.sketch.scheme)
        self._lsh = MinHashLSH(num_perm=self.sketch.permutations, params=(self.sketch.bands, self.sketch.rows))
        self._kept: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree before two indexes, or an index and a gate, may be mixed."""
        return {"kind": "minhash", **asdict(self.sketch)}

    def add(self, id: str, prompt: str) -> None:
        words = bare(prompt)
        self._insert(id, _Kept(prompt, words, units(prompt), self._sign(shingles_of_bare(words))))

    def near(self, prompt: str, threshold: float, short_units: int, short_threshold: float) -> list[Near]:
        """Kept prompts at least `threshold` alike, best first, ties by id. Below `short_units` units (in either text) the measure is
        the F1 of the longest common subsequence of characters, because a few shingles cannot tell short texts apart."""
        words, length = bare(prompt), units(prompt)
        if not words:
            return []
        parts = shingles_of_bare(words)
        signature = self._sign(parts)
        found = []
        for id in self._lsh.query(signature):
            kept = self._kept[id]
            if min(length, kept.units) < short_units:
                similarity, needed = lcs_f1(words, kept.bare), short_threshold
            elif self._hopeless(signature, kept, threshold):
                continue
            else:
                similarity, needed = jaccard(parts, shingles_of_bare(kept.bare)), threshold
            if similarity >= needed:
                found.append(Near(id, similarity, kept.prompt))
        return sorted(found, key=lambda near: (-near.similarity, near.id))

    def save(self, path: Path) -> None:
        """Write the index to one .npz file; a reader sees the old file or the new one, never a part."""
        signatures = np.array([kept.signature.hashvalues for kept in self._kept.values()])
        prompts = json.dumps({id: kept.prompt for id, kept in self._kept.items()}, ensure_ascii=False)
        torn = path.with_name(path.name + ".part")
        with torn.open("wb") as file:
            np.savez_compressed(file, fingerprint=_text(json.dumps(self.fingerprint)), prompts=_text(prompts), signatures=signatures)
        os.replace(torn, path)

    @classmethod
    def load(cls, path: Path, sketch: Sketch | None = None) -> MinhashIndex:
        """Read a saved index to go on with it under `sketch`. Raises IndexMismatchError, naming both, if it was made under another."""
        index = cls(sketch)
        with np.load(path) as file:
            saved = json.loads(bytes(file["fingerprint"]))
            if saved != index.fingerprint:
                raise IndexMismatchError(f"{path}: the index was made as {saved}, this run wants {index.fingerprint}")
            prompts: dict[str, str] = json.loads(bytes(file["prompts"]))
            for (id, prompt), values in zip(prompts.items(), file["signatures"], strict=True):
                signature = index._blank.copy()
                signature.hashvalues = values
                index._insert(id, _Kept(prompt, bare(prompt), units(prompt), signature))
        return index

    def _insert(self, id: str, kept: _Kept) -> None:
        if id in self._kept:
            self._lsh.remove(id)
        self._lsh.insert(id, kept.signature)
        self._kept[id] = kept

    def _sign(self, parts: frozenset[str]) -> Any:
        signature = self._blank.copy()
        signature.update_batch(part.encode() for part in parts)
        return signature

    def _hopeless(self, signature: Any, kept: _Kept, threshold: float) -> bool:
        """Whether the estimate lies more than four standard errors under the threshold: then the shingles need not be built."""
        slots = self.sketch.permutations
        equal = np.count_nonzero(signature.hashvalues == kept.signature.hashvalues)
        return bool(equal < slots * threshold - 4 * (slots * threshold * (1 - threshold)) ** 0.5)


@dataclass(frozen=True)
class Minhash:
    name: ClassVar[str] = "minhash"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "admit")
    says: ClassVar[str] = "almost the same words were accepted before, with no other number, negation or name"

    threshold: float = 0.6
    """Jaccard similarity of shingles from which two prompts are one; under 0.5 the bands would miss too many pairs"""
    short_units: int = 8
    short_threshold: float = 0.9
    """F1 of the longest common subsequence of characters, for prompts under `short_units` units"""
    index: MinhashIndex = field(default_factory=MinhashIndex, repr=False, compare=False)
    sketch: Sketch = field(init=False)
    """the index's, so that another sketch is another version of the gate"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sketch", self.index.sketch)
        if not 0.5 <= self.threshold <= 1:
            raise ValueError(f"threshold must be from 0.5 to 1, got {self.threshold}")
        if not 0 < self.short_threshold <= 1:
            raise ValueError(f"short_threshold must be above 0 and at most 1, got {self.short_threshold}")

    async def __call__(self, subject: Subject) -> Verdict:
        prompt = subject.row.prompt
        if not bare(prompt):
            return verdict(self, "unscorable", "minhash.no_words")
        differences: dict[str, str] = {}
        for near in self.index.near(prompt, self.threshold, self.short_units, self.short_threshold):
            if near.id == subject.id:
                continue
            if difference := differs(prompt, near.prompt):
                differences[near.id] = difference
                continue
            evidence = {"kept": near.id, **spared(differences)}
            return verdict(self, "reject", "minhash.duplicate", value=near.similarity, threshold=self.threshold, **evidence)
        return verdict(self, "accept", threshold=self.threshold, **spared(differences))

    async def add(self, subject: Subject) -> None:
        self.index.add(subject.id, subject.row.prompt)


def _text(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
