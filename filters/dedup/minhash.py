"""The gate `minhash`: a text that was accepted before in almost the same words.

MinHash (Broder 1997; datasketch) with locality-sensitive hashing proposes, exact Jaccard similarity of the shingles and the guard decide.
datasketch would choose bands for a nominal threshold, at which it then finds only 44 of 100 pairs (0.7, 128 permutations), so the bands
are explicit: 32 of 4 find a pair of similarity s with probability 1 - (1 - s^4)^32: 0.87 at 0.5, 0.988 at 0.6, 0.9998 at 0.7.

The signatures are those that datasketch would make of the same hashed shingles, made of many texts at once.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from filters.dedup.bands import Asked, Bands, Signature, distinct
from filters.dedup.guard import Difference, differs, replaced
from filters.dedup.shingles import HASH, RULE, Hashes, hashed
from filters.dedup.views import VIEWS, Seen, View, views
from filters.gate import Stage, Subject, verdict
from filters.memory import spared
from filters.text import bare, lcs_f1, units
from leafmill.errors import IndexMismatchError
from leafmill.records import Verdict

T = TypeVar("T")
Parts = Hashes
"""the shingles of a text as 32 bits each, sorted, each once: two different ones of a pair are equal once in millions of pairs"""

LONG = 1024
"""characters from which a kept text is held compressed"""
KNOWN = 4096
"""texts of which the sketches are held until they are asked for again"""
TOGETHER = 1 << 18
"""characters that are signed at once, so that long texts take no more memory than that"""


@dataclass(frozen=True)
class Sketch:
    """How signatures are made. Signatures of different sketches must never meet: they look alike and compare as noise."""

    bands: int = 32
    rows: int = 4
    seed: int = 1
    scheme: str = "affine32"
    hash: str = HASH
    shingles: str = RULE

    @property
    def permutations(self) -> int:
        return self.bands * self.rows

    def __post_init__(self) -> None:
        if self.scheme != "affine32":
            raise ValueError(f"scheme must be affine32, got {self.scheme!r}")


class Near(NamedTuple):
    id: str
    similarity: float
    view: View
    asked: str


class _Kept(NamedTuple):
    id: str
    text: str | bytes
    asked: str
    bits: int
    parts: bytes
    """its shingles, as the bytes of `_Known.parts`; nothing for a long text, of which they are made when needed"""


class _Known(NamedTuple):
    """What is worked out about a text once, though it is asked about at screen and at admission, and then added."""

    words: str
    units: int
    asked: Asked
    parts: Parts


class MinhashIndex:
    """The texts of accepted rows by id, with their signatures. Kept in memory."""

    def __init__(self, sketch: Sketch | None = None) -> None:
        self.sketch = sketch or Sketch()
        self._bands = Bands(self.sketch.bands, self.sketch.rows)
        self._affine: NDArray[np.uint32] | None = None
        self._known: dict[str, _Known] = {}
        self._places: dict[str, tuple[int, ...]] = {}
        # By place, where a text that its id no longer has stays, unused: only a replay with other words makes one.
        self._kept: list[_Kept] = []
        self._units = array("I")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree before two indexes, or an index and a gate, may be mixed."""
        return {"kind": "minhash", **asdict(self.sketch)}

    async def open(self) -> None:
        """Make the first signature possible. Imports datasketch, and with it scipy, in a thread: calls under way go on meanwhile."""
        if self._affine is None:
            self._affine = await asyncio.to_thread(_permutations, self.sketch)

    def prepare(self, texts: Iterable[str]) -> None:
        """Sketch and look up the texts that will be asked about next, all at once."""
        fresh = {text: words for text in dict.fromkeys(texts) if text not in self._known and (words := bare(text))}
        if len(self._known) + len(fresh) > KNOWN:
            self._known.clear()
        for chunk in _chunks(list(fresh.items())):
            hashes, starts = hashed([words for _, words in chunk])
            asked, parts = self._bands.ask(self._sign(hashes, starts)), _sets(hashes, starts)
            for (text, words), one, set in zip(chunk, asked, parts, strict=True):
                self._known[text] = _Known(words, words.count(" ") + 1 if words.isascii() else units(text), one, set)

    def add(self, id: str, texts: Iterable[Seen]) -> None:
        """Remember what an accepted row says; an id that is there already has the new texts from now on."""
        new = [(seen, known) for seen in texts if (known := self._look(seen.text))]
        old = [self._kept[place] for place in self._places.get(id, ())]
        if not old or [(_whole(kept.text), kept.bits) for kept in old] != [(seen.text, seen.bits) for seen, _ in new]:
            self._places[id] = tuple(self._insert(id, seen, known) for seen, known in new)

    def near(self, seen: Seen, threshold: float, short_units: int, short_threshold: float) -> list[Near]:
        """Kept texts of the same view at least `threshold` alike, best first, ties by id. Below `short_units` units (in either text) the
        measure is the F1 of the longest common subsequence of characters, because a few shingles cannot tell short texts apart."""
        known = self._look(seen.text)
        if not known:
            return []
        places, equal = self._bands.near(known.asked)
        if not places.size:
            return []
        enough, small = self._hopeful(threshold), short_units if known.units >= short_units else math.inf
        likely = places[(equal >= enough) | (np.frombuffer(self._units, np.uintc)[places] < small)]
        hopeful = [
            place
            for place in sorted(set(likely.tolist()))
            if self._kept[place].bits & seen.bits and place in self._places[self._kept[place].id]
        ]
        found = []
        for place, similarity in zip(hopeful, self._jaccard(known, hopeful), strict=True):
            kept, needed = self._kept[place], threshold
            if min(known.units, self._units[place]) < short_units:
                similarity, needed = lcs_f1(known.words, bare(_whole(kept.text))), short_threshold
            if similarity >= needed:
                found.append(Near(kept.id, similarity, seen.view(kept.bits), kept.asked))
        return sorted(found, key=lambda near: (-near.similarity, near.id))

    def sign(self, words: Sequence[str]) -> Signature:
        """The signatures of texts that are bare and not empty."""
        return self._sign(*hashed(words))

    def save(self, path: Path) -> None:
        """Write the index to one file; a reader sees the old file or the new one, never a part."""
        kept = [self._kept[place] for places in self._places.values() for place in places]
        rows = [(one.id, _whole(one.text), one.asked, one.bits) for one in kept]
        torn = path.with_name(path.name + ".part")
        torn.write_bytes(zlib.compress(json.dumps({"fingerprint": self.fingerprint, "kept": rows}).encode(), 1))
        os.replace(torn, path)

    @classmethod
    def load(cls, path: Path, sketch: Sketch | None = None) -> MinhashIndex:
        """Read a saved index to go on with it under `sketch`. Raises IndexMismatchError, naming both, if it was made under another."""
        index, saved = cls(sketch), json.loads(zlib.decompress(path.read_bytes()))
        if saved["fingerprint"] != index.fingerprint:
            raise IndexMismatchError(f"{path}: the index was made as {saved['fingerprint']}, this run wants {index.fingerprint}")
        for batch in _batches([(id, Seen(*seen)) for id, *seen in saved["kept"]], KNOWN // 4):
            index.prepare(seen.text for _, seen in batch)
            for id, texts in groupby(batch, key=itemgetter(0)):
                new = [(seen, known) for _, seen in texts if (known := index._look(seen.text))]
                index._places[id] = (*index._places.get(id, ()), *(index._insert(id, seen, known) for seen, known in new))
        return index

    def _look(self, text: str) -> _Known | None:
        """What is known of a text; None of one without words."""
        if text not in self._known:
            self.prepare([text])
        return self._known.get(text)

    def _sign(self, hashes: Parts, starts: NDArray[np.intp]) -> Signature:
        if self._affine is None:
            self._affine = _permutations(self.sketch)
        mixed = _mixed(hashes)
        signatures, scratch = np.empty((self.sketch.permutations, len(starts)), np.uint32), np.empty_like(mixed)
        for (a, b), slots in zip(self._affine, signatures, strict=True):  # one permutation of all is faster than all of one
            np.multiply(mixed, a, out=scratch)
            np.add(scratch, b, out=scratch)
            np.minimum.reduceat(scratch, starts, out=slots)
        return np.ascontiguousarray(signatures.T)

    def _jaccard(self, known: _Known, places: Sequence[int]) -> list[float]:
        """The similarity of a text to the kept ones at these places."""
        if not places:
            return []
        parts = [kept.parts or _parts(bare(_whole(kept.text))).tobytes() for kept in map(self._kept.__getitem__, places)]
        sizes = np.array([len(part) // known.parts.itemsize for part in parts])
        others = np.frombuffer(b"".join(parts), known.parts.dtype)
        same = known.parts.take(known.parts.searchsorted(others), mode="clip") == others
        shared = np.add.reduceat(same, np.cumsum(sizes) - sizes, dtype=np.intp)
        similar: list[float] = (shared / (sizes + known.parts.size - shared)).tolist()
        return similar

    def _insert(self, id: str, seen: Seen, known: _Known) -> int:
        if len(seen.text) > LONG:
            text: str | bytes = zlib.compress(seen.text.encode(errors="surrogatepass"), 1)
            parts = b""
        else:
            text, parts = seen.text, known.parts.tobytes()
        self._kept.append(_Kept(id, text, seen.asked, seen.bits, parts))
        self._units.append(known.units)
        return self._bands.add(known.asked)

    def _hopeful(self, threshold: float) -> float:
        """Equal slots three standard errors under the threshold: of those with fewer, the shingles need not be built."""
        slots = self.sketch.permutations
        return slots * threshold - 3 * math.sqrt(slots * threshold * (1 - threshold))


@dataclass(frozen=True)
class Minhash:
    name: ClassVar[str] = "minhash"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "admit")
    says: ClassVar[str] = "almost the same words were accepted before, with no other number, unit, negation or name"

    threshold: float = 0.6
    """Jaccard similarity of shingles from which two texts are one; under 0.5 the bands would miss too many pairs"""
    short_units: int = 8
    short_threshold: float = 0.9
    """F1 of the longest common subsequence of characters, for texts under `short_units` units"""
    views: tuple[View, ...] = VIEWS
    """by what rows are compared"""
    index: MinhashIndex = field(default_factory=MinhashIndex, repr=False, compare=False)
    sketch: Sketch = field(init=False)
    """the index's, so that another sketch is another version of the gate"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sketch", self.index.sketch)
        if not 0.5 <= self.threshold <= 1:
            raise ValueError(f"threshold must be from 0.5 to 1, got {self.threshold}")
        if not 0 < self.short_threshold <= 1:
            raise ValueError(f"short_threshold must be above 0 and at most 1, got {self.short_threshold}")

    async def prepare(self, subjects: Sequence[Subject]) -> None:
        await self.index.open()
        self.index.prepare(seen.text for subject in subjects for seen in views(subject.row, self.views))

    async def __call__(self, subject: Subject) -> Verdict:
        if not bare(subject.row.prompt):
            return verdict(self, "unscorable", "minhash.no_words")
        await self.index.open()
        differences: dict[str, Difference] = {}
        for seen in views(subject.row, self.views):
            for near in self.index.near(seen, self.threshold, self.short_units, self.short_threshold):
                if near.id == subject.id:
                    continue
                if difference := differs(seen.asked, near.asked) or replaced(seen.asked, near.asked):
                    differences.setdefault(near.id, difference)
                    continue
                evidence = {"view": near.view, "kept": near.id, **spared(differences)}
                return verdict(self, "reject", "minhash.duplicate", value=near.similarity, threshold=self.threshold, **evidence)
        return verdict(self, "accept", "minhash.spared" if differences else "", threshold=self.threshold, **spared(differences))

    async def add(self, subject: Subject) -> None:
        self.index.add(subject.id, views(subject.row, self.views))


def _sets(hashes: Parts, starts: NDArray[np.intp]) -> list[Parts]:
    """For each text its shingles in order, each once."""
    owner = np.repeat(np.arange(len(starts), dtype=np.uint64) << np.uint64(32), np.diff(starts, append=len(hashes)))
    whole = distinct(owner | hashes)
    ends = np.searchsorted(whole, np.arange(1, len(starts) + 1, dtype=np.uint64) << np.uint64(32))
    return np.split(whole.astype(np.uint32), ends[:-1])


def _parts(words: str) -> Parts:
    return distinct(hashed([words])[0])


def _mixed(hashes: Parts) -> Parts:
    """MurmurHash3's finalizer, which the scheme affine32 puts before its permutations."""
    mixed: Parts = hashes ^ (hashes >> np.uint32(16))
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _permutations(sketch: Sketch) -> NDArray[np.uint32]:
    """Factor and summand of each permutation."""
    from datasketch import MinHash

    made = MinHash(num_perm=sketch.permutations, seed=sketch.seed, scheme=sketch.scheme)
    permutations: NDArray[np.uint32] = np.array(made.permutations, np.uint32).T
    return permutations


def _chunks(texts: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Texts in order, in parts of about TOGETHER characters."""
    sizes = np.cumsum([len(words) for _, words in texts]) // TOGETHER
    for _, chunk in groupby(zip(sizes.tolist(), texts, strict=True), key=itemgetter(0)):
        yield [text for _, text in chunk]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _whole(text: str | bytes) -> str:
    return text if isinstance(text, str) else zlib.decompress(text).decode(errors="surrogatepass")
