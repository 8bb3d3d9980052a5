"""What admission by meaning costs: rows a second through the gate at a given number of rows, beside Chroma alone.

    python -m bench.semantic [--n 10000,100000] [--rows 2000] [--batch 1000]

Vectors are given (random, of length one, as wide as the built-in embedder's), so that only looking up, deciding and storing is measured;
every twentieth row is a planted neighbour (cosine 0.95) of a row that is kept or of one that came before it. All ways start from the
same n rows and are given the same new ones.

    gate, batches   filters.memory.admit over batches: looked up in memory, written to Chroma
    gate, single    the same, one row at a time: asked, then added
    chroma          Chroma with its own settings: a query for ten neighbours and an upsert for each batch
    found           of the planted neighbours, those that were refused; others refused are named, there must be none
    open            CPU seconds to read all rows back from Chroma, the resident memory that they take, Chroma's included, and the disk

Embedding is measured apart, in texts a second of one thread. The table goes to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from filters.dedup.semantic import Semantic, SemanticIndex, Text
from filters.dedup.vectors import Vector
from filters.embedder import Use3
from filters.gate import Subject
from filters.memory import admit
from leafmill.dataset.calibrate_semantic import read_pairs
from leafmill.records import Row

DIMENSION = Use3.dimension
EVERY = 20
SIMILARITY = 0.95
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Given:
    """An embedder that knows the vectors of its texts."""

    id, dimension = "given", DIMENSION

    def __init__(self) -> None:
        self.vectors: dict[str, Vector] = {}

    async def encode(self, texts: Sequence[str]) -> Any:
        return np.stack([self.vectors[text] for text in texts])


class Case(NamedTuple):
    kept: list[tuple[Text, Vector]]
    new: list[Subject]
    planted: set[str]


def case(n: int, rows: int, embedder: Given) -> Case:
    """n rows that are kept, and rows that come, with their vectors told to the embedder."""
    rng = np.random.default_rng(7)
    words = ("".join(letters) for letters in itertools.product(LETTERS, repeat=5))  # one each: they share none, and hold no number
    texts = list(itertools.islice(words, n + rows))
    vectors = _unit(rng.standard_normal((n + rows, DIMENSION), np.float32))
    planted = set()
    for i in range(n, n + rows, EVERY):
        near, other = vectors[rng.integers(n) if rng.random() < 0.5 else rng.integers(i - EVERY + 1, i)], vectors[i]
        across = _unit((other - (other @ near) * near)[None])[0]
        vectors[i] = SIMILARITY * near + np.sqrt(1 - SIMILARITY**2) * across
        planted.add(f"r{i}")
    embedder.vectors = dict(zip(texts, vectors, strict=True))
    kept = [(Text(f"r{i}", "en", texts[i], 3), vectors[i]) for i in range(n)]
    return Case(kept, [Subject(f"r{i}", Row(language="en", instruction=texts[i])) for i in range(n, n + rows)], planted)


async def of_gate(n: int, rows: int, batch: int, folder: Path) -> None:
    embedder = Given()
    given = case(n, rows, embedder)
    index = await SemanticIndex.open(folder, embedder, batch=1000)
    for text, vector in given.kept:
        await index.add(text, vector)
    await index.close()
    with get_context("spawn").Pool(1) as fresh:
        seconds, megabytes = fresh.apply(of_opening, (folder,))
    _say(n, "open", f"{seconds:.1f} s, {megabytes:.0f} MB in memory, {_on_disk(folder):.0f} MB on disk")
    index = await SemanticIndex.open(folder, embedder)
    for name, size in (("gate, batches", batch), ("gate, single", 1)):
        gate = Semantic(threshold=0.9, embedder=embedder, index=index)
        some = given.new if size > 1 else given.new[: rows // 4]
        began, cpu, refused = time.perf_counter(), time.process_time(), set[str]()
        for chunk in _chunks(some, size):
            for subject, verdicts in zip(chunk, await admit([gate], chunk), strict=True):
                refused |= {subject.id} if verdicts[-1].decision == "reject" else set()
        await index.flush()
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        planted = given.planted & {subject.id for subject in some}
        found = f"found {len(refused & planted)} of {len(planted)}, {len(refused - planted)} others"
        _say(n, name, f"{len(some) / took:.0f} rows/s, {1000 * cpu / len(some):.2f} ms of CPU a row; {found}")
        await index.forget([subject.id for subject in some])
    await index.close()


def of_opening(folder: Path) -> tuple[float, float]:
    """Seconds of CPU and megabytes that reading the index takes."""

    async def opened() -> tuple[float, float]:
        await (await SemanticIndex.open(folder.with_name("empty"), Given())).close()  # the imports are not meant
        before, began = _resident(), time.process_time()
        index = await SemanticIndex.open(folder, Given())
        seconds, megabytes = time.process_time() - began, _resident() - before
        await index.close()
        return seconds, megabytes

    return asyncio.run(opened())


def of_chroma(n: int, rows: int, batch: int, folder: Path) -> None:
    import chromadb
    from chromadb.config import Settings

    embedder = Given()
    given = case(n, rows, embedder)
    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    collection = client.create_collection("plain", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    for chunk in _chunks(given.kept, 2000):
        collection.upsert(ids=[text.id for text, _ in chunk], embeddings=[vector for _, vector in chunk])
    for name, size in (("chroma, batches", batch), ("chroma, single", 1)):
        some = given.new if size > 1 else given.new[: rows // 4]
        began, cpu, refused = time.perf_counter(), time.process_time(), set[str]()
        for chunk in _chunks(some, size):
            vectors = [embedder.vectors[subject.row.prompt] for subject in chunk]
            hits = collection.query(query_embeddings=vectors, n_results=10, include=["distances"])
            twins = {subject.id for subject, found in zip(chunk, hits["distances"], strict=True) if 1 - found[0] > 0.9}
            fresh = [(subject.id, vector) for subject, vector in zip(chunk, vectors, strict=True) if subject.id not in twins]
            if fresh:
                collection.upsert(ids=[id for id, _ in fresh], embeddings=[vector for _, vector in fresh])
            refused |= twins
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        planted = given.planted & {subject.id for subject in some}
        found = f"found {len(refused & planted)} of {len(planted)}, {len(refused - planted)} others"
        _say(n, name, f"{len(some) / took:.0f} rows/s, {1000 * cpu / len(some):.2f} ms of CPU a row; {found}")
        collection.delete(ids=[subject.id for subject in some])
    client.close()


async def of_embedder() -> None:
    embedder = Use3()
    texts = [text for pair in read_pairs() for text in (pair.a, pair.b)]
    await embedder.encode(texts[:10])
    began = time.perf_counter()
    await embedder.encode(texts)
    _say(
        len(texts),
        "embedding",
        f"{len(texts) / (time.perf_counter() - began):.0f} texts/s, {sum(map(len, texts)) / len(texts):.0f} characters each",
    )
    await embedder.aclose()


def _unit(vectors: Vector) -> Vector:
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _on_disk(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _say(n: int, what: str, text: str) -> None:
    print(f"| {n:,} | {what} | {text} |", flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", default="10000,100000")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--without-chroma", action="store_true", help="leave out Chroma alone, which takes minutes at 100,000 rows")
    options = parser.parse_args()
    for n in map(int, options.n.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(of_gate(n, options.rows, options.batch, Path(folder, "gate")))
            if not options.without_chroma:
                of_chroma(n, options.rows, options.batch, Path(folder, "chroma"))
    asyncio.run(of_embedder())


if __name__ == "__main__":
    main()
