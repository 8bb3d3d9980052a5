"""The gate `minhash`: a prompt that was accepted before in almost the same words.

MinHash (Broder 1997; datasketch) with locality-sensitive hashing proposes, exact Jaccard similarity of the shingles and the guard decide.
datasketch would choose bands for a nominal threshold, at which it then finds only 44 of 100 pairs (0.7, 128 permutations), so the bands
are explicit: 32 of 4 find a pair of similarity s with probability 1 - (1 - s^4)^32: 0.87 at 0.5, 0.988 at 0.6, 0.9998 at 0.7.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from filters.dedup.bands import Bands, Signature
from filters.dedup.guard import differs
from filters.dedup.shingles import RULE, jaccard, shingles_of_bare
from filters.gate import Stage, Subject, verdict
from filters.memory import spared
from filters.text import bare, lcs_f1, remembered, units
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


class MinhashIndex:
    """Accepted prompts by id, with their signatures. Kept in memory; `save` and `load` spare the sketching on resume."""

    def __init__(self, sketch: Sketch | None = None) -> None:
        self.sketch = sketch or Sketch()
        self._bands = Bands(self.sketch.bands, self.sketch.rows)
        self._blank: Any = None  # datasketch.MinHash
        self._signature = remembered(self._sign)  # a prompt is asked about at screen and at admission, and then added
        self._places: dict[str, int] = {}
        # By place, where a prompt that its id no longer has stays, unused: only a replay with other words makes one.
        self._ids: list[str] = []
        self._prompts: list[str] = []
        self._units = array("I")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree before two indexes, or an index and a gate, may be mixed."""
        return {"kind": "minhash", **asdict(self.sketch)}

    async def open(self) -> None:
        """Make the first signature possible. Imports datasketch, and with it scipy, in a thread: calls under way go on meanwhile."""
        if self._blank is None:
            self._blank = await asyncio.to_thread(_blank, self.sketch)

    def add(self, id: str, prompt: str) -> None:
        if id not in self._places or self._prompts[self._places[id]] != prompt:
            self._insert(id, prompt, self._signature(prompt))

    def near(self, prompt: str, threshold: float, short_units: int, short_threshold: float) -> list[Near]:
        """Kept prompts at least `threshold` alike, best first, ties by id. Below `short_units` units (in either text) the measure is
        the F1 of the longest common subsequence of characters, because a few shingles cannot tell short texts apart."""
        words, length = bare(prompt), units(prompt)
        if not words or not self._ids:
            return []
        places, equal = self._bands.near(self._signature(prompt))
        shorter = np.minimum(np.frombuffer(self._units, np.uintc)[places], length)
        hopeful = places[(shorter < short_units) | (equal >= self._hopeful(threshold))].tolist()
        parts = shingles_of_bare(words) if hopeful else frozenset()
        found = []
        for place in hopeful:
            id, kept = self._ids[place], self._prompts[place]
            if self._places[id] != place:
                continue
            if min(length, self._units[place]) < short_units:
                similarity, needed = lcs_f1(words, bare(kept)), short_threshold
            else:
                similarity, needed = jaccard(parts, shingles_of_bare(bare(kept))), threshold
            if similarity >= needed:
                found.append(Near(id, similarity, kept))
        return sorted(found, key=lambda near: (-near.similarity, near.id))

    def save(self, path: Path) -> None:
        """Write the index to one .npz file; a reader sees the old file or the new one, never a part."""
        signatures = self._bands.signatures(list(self._places.values()))
        prompts = json.dumps({id: self._prompts[place] for id, place in self._places.items()}, ensure_ascii=False)
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
            for (id, prompt), signature in zip(prompts.items(), file["signatures"], strict=True):
                index._insert(id, prompt, signature)
        return index

    def _insert(self, id: str, prompt: str, signature: Signature) -> None:
        self._places[id] = self._bands.add(signature)
        self._ids.append(id)
        self._prompts.append(prompt)
        self._units.append(units(prompt))

    def _sign(self, prompt: str) -> Signature:
        if self._blank is None:
            self._blank = _blank(self.sketch)
        made = self._blank.copy()
        made.update_batch(part.encode() for part in shingles_of_bare(bare(prompt)))
        signature: Signature = made.hashvalues
        return signature

    def _hopeful(self, threshold: float) -> float:
        """Equal slots four standard errors under the threshold: of those with fewer, the shingles need not be built."""
        slots = self.sketch.permutations
        return slots * threshold - 4 * math.sqrt(slots * threshold * (1 - threshold))


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
        await self.index.open()
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


def _blank(sketch: Sketch) -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=sketch.permutations, seed=sketch.seed, scheme=sketch.scheme)


def _text(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
