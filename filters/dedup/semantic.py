"""The gate `semantic`: an instruction that was accepted before in other words.

Chroma proposes the nearest accepted prompts, exact cosine similarity of the stored vectors and the guard decide. Chroma is an index and no
record: it can be thrown away and rebuilt from the accepted rows. One process owns its folder, and one worker thread makes every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from filters.dedup.guard import differs
from filters.embedder import Embedder
from filters.gate import Stage, Subject, verdict
from filters.memory import spared
from leafmill.errors import DiskError, IndexMismatchError
from leafmill.records import Verdict

T = TypeVar("T")
Vector = NDArray[np.float32]

COLLECTION = "prompts"
ROUNDING = 1e-6
"""float32 vectors carry about this much error, so that "exactly 0.9" stays at 0.9"""
WRITE = 2000
"""rows per call; Chroma takes at most 5461"""


class Near(NamedTuple):
    id: str
    similarity: float
    prompt: str


class _Row(NamedTuple):
    vector: Vector
    prompt: str


class SemanticIndex:
    """Accepted prompts and their unit vectors in one Chroma collection. Made with `await SemanticIndex.open(...)`.

    New rows wait in memory, where they are compared one by one, and are written `batch` at a time: a write of one row costs Chroma 11 ms
    of CPU. What a crash loses there, `sync` reports missing.
    """

    def __init__(self, client: Any, collection: Any, worker: ThreadPoolExecutor, batch: int) -> None:
        self._client = client
        self._collection = collection
        self._worker = worker
        self._batch = batch
        self._waiting: dict[str, _Row] = {}

    @classmethod
    async def open(cls, path: Path, embedder: Embedder, *, batch: int = 64, rebuild: bool = False) -> SemanticIndex:
        """Open or make the index in the folder `path`. Raises IndexMismatchError, naming both, if another embedder made it;
        with `rebuild` such an index is emptied instead, and `sync` then reports all rows missing."""
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        made_for = {"embedder": embedder.id, "dimension": embedder.dimension}
        try:
            client, collection = await asyncio.get_running_loop().run_in_executor(worker, _open, path, made_for, rebuild)
        except BaseException:
            worker.shutdown(wait=False)
            raise
        return cls(client, collection, worker, batch)

    async def near(self, vector: Vector, k: int) -> list[Near]:
        """The k most similar prompts with their exact cosine similarity, best first, ties by id; fewer when there are no more."""
        found = [Near(id, cosine(vector, row.vector), row.prompt) for id, row in self._waiting.items()]
        hits = await self._run(lambda: self._collection.query(query_embeddings=[vector], n_results=k, include=["embeddings", "metadatas"]))
        for id, stored, metadata in zip(hits["ids"][0], hits["embeddings"][0], hits["metadatas"][0], strict=True):
            if all(id != near.id for near in found):
                found.append(Near(id, cosine(vector, np.asarray(stored, np.float32)), metadata["prompt"]))
        return sorted(found, key=lambda near: (-near.similarity, near.id))[:k]

    async def add(self, id: str, vector: Vector, prompt: str) -> None:
        """Remember a row; an id that is there already gets the new vector."""
        self._waiting[id] = _Row(vector, prompt)
        if len(self._waiting) >= self._batch:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. Rows stay visible to `near` until Chroma has them."""
        rows = dict(self._waiting)
        for chunk in _chunks(list(rows.items()), WRITE):
            await self._run(self._write, chunk)
        for id, row in rows.items():
            if self._waiting.get(id) is row:
                del self._waiting[id]

    async def sync(self, known: Iterable[str]) -> set[str]:
        """Make the index hold no other ids than `known`, those of the accepted rows; return the known ids that it lacks.

        A crash may leave a row here that was never accepted: on resume it would meet itself, or reject its accepted twin.
        """
        await self.flush()
        known, stored = set(known), set((await self._run(lambda: self._collection.get(include=[])))["ids"])
        await self.forget(sorted(stored - known))
        return known - stored

    async def forget(self, ids: Iterable[str]) -> None:
        """Drop rows that are no longer accepted."""
        ids = list(ids)
        for id in ids:
            self._waiting.pop(id, None)
        for chunk in _chunks(ids, WRITE):
            await self._run(self._collection.delete, chunk)

    async def count(self) -> int:
        await self.flush()
        return int(await self._run(self._collection.count))

    async def close(self) -> None:
        await self.flush()
        await self._run(self._client.close)
        self._worker.shutdown()

    def _write(self, rows: list[tuple[str, _Row]]) -> None:
        self._collection.upsert(
            ids=[id for id, _ in rows],
            embeddings=[row.vector for _, row in rows],
            metadatas=[{"prompt": row.prompt} for _, row in rows],
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

    threshold: float = 0.9
    """cosine similarity above which, strictly, two prompts are one. It depends on the embedder: with the universal sentence encoder
    rephrased instructions lie at 0.82 to 0.96, other tasks in the same words ("a poem about love", "about the sea") at up to 0.82"""
    k: int = 10
    """neighbours asked for at first; more are asked for while all of them are too similar and spared by the guard"""
    embedder: Embedder = field(repr=False, compare=False)
    index: SemanticIndex = field(repr=False, compare=False)
    space: str = field(init=False)
    """the embedder's id, so that another embedder is another version of the gate"""
    _vectors: dict[str, Vector] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", self.embedder.id)
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {self.threshold}")
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    async def __call__(self, subject: Subject) -> Verdict:
        prompt = subject.row.prompt
        vector = await self._vector(prompt)
        if not np.isfinite(vector).all() or not vector.any():
            return verdict(self, "unscorable", "semantic.no_vector")
        k = self.k
        nearest: float | None = None
        differences: dict[str, str] = {}
        while True:
            found = await self.index.near(vector, k)
            for near in found:
                if near.id == subject.id:
                    continue
                nearest = nearest if nearest is not None else near.similarity
                if near.similarity <= self.threshold + ROUNDING:
                    break
                if difference := differs(prompt, near.prompt):
                    differences[near.id] = difference
                    continue
                evidence = {"kept": near.id, **spared(differences)}
                return verdict(self, "reject", "semantic.duplicate", value=near.similarity, threshold=self.threshold, **evidence)
            else:
                if len(found) == k:
                    k *= 4
                    continue
            return verdict(self, "accept", value=nearest, threshold=self.threshold, **spared(differences))

    async def add(self, subject: Subject) -> None:
        await self.index.add(subject.id, await self._vector(subject.row.prompt), subject.row.prompt)

    async def restore(self, subjects: Sequence[Subject]) -> None:
        """Bring the index in line with the accepted rows: forget all others, embed and add those it lacks."""
        missing = await self.index.sync(subject.id for subject in subjects)
        lost = [subject for subject in subjects if subject.id in missing]
        for chunk in _chunks(lost, WRITE):
            for subject, vector in zip(chunk, await self._encode([s.row.prompt for s in chunk]), strict=True):
                await self.index.add(subject.id, vector, subject.row.prompt)

    async def _vector(self, prompt: str) -> Vector:
        """A prompt is asked about at screen and at admission and then added, so its vector is kept for a while."""
        if prompt not in self._vectors:
            (self._vectors[prompt],) = await self._encode([prompt])
            if len(self._vectors) > 4096:
                del self._vectors[next(iter(self._vectors))]
        return self._vectors[prompt]

    async def _encode(self, prompts: list[str]) -> list[Vector]:
        return list(np.asarray(await self.embedder.encode(prompts), dtype=np.float32))


def cosine(a: Vector, b: Vector) -> float:
    """Cosine similarity, computed in double precision."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


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
    # the metric cannot be changed later, and would be squared L2
    made = client.create_collection(COLLECTION, metadata=made_for, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    return client, made


def _chunks(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
