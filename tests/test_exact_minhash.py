"""Duplicates by words: of twins the first stays, hard negatives both stay."""

import asyncio
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup.bands import WAIT, Bands
from filters.dedup.exact import Exact
from filters.dedup.minhash import Minhash, MinhashIndex, Sketch
from filters.dedup.shingles import jaccard, shingles
from filters.gate import Subject
from filters.memory import Remembering, admit
from leafmill.errors import IndexMismatchError
from leafmill.records import Row

BASE = "Explain how a suspension bridge carries the weight of the cars that cross it"
WORDS = ["sea", "poem", "write", "about", "short", "long", "wind", "海", "诗", "写", "风"]
prompts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join), max_size=12)


def subjects(texts, start=0):
    return [Subject(f"s{start + i:03}", Row(language="zh", instruction=text)) for i, text in enumerate(texts)]


async def kept(gate, texts, start=0):
    verdicts = await admit([gate], subjects(texts, start))
    return [text for text, (verdict,) in zip(texts, verdicts, strict=True) if verdict.decision == "accept"]


async def test_exact_sees_through_width_case_and_traditional_characters():
    texts = ["请用Python写一首诗", "請用Ｐｙｔｈｏｎ寫一首詩", "请用Python写一首歌"]
    assert await kept(Exact(), texts) == [texts[0], texts[2]]


async def test_exact_does_not_let_words_move_between_instruction_and_input():
    gate, row = Exact(), Row(language="en", instruction="Sum up", input="a b")
    await gate.add(Subject("1", row))
    assert (await gate(Subject("2", row))).evidence == {"kept": "1"}
    assert (await gate(Subject("2", Row(language="en", instruction="Sum up\n\na b")))).decision == "accept"


@pytest.mark.parametrize(
    "twin", [BASE + ".", "Please explain " + BASE[8:], BASE.replace("weight", "load"), BASE.upper(), BASE.replace("of the cars", "of cars")]
)
async def test_an_edited_twin_is_rejected_and_names_the_kept_row(twin):
    gate = Minhash()
    (_,), (verdict,) = await admit([gate], subjects([BASE, twin]))
    assert (verdict.code, verdict.evidence) == ("minhash.duplicate", {"kept": "s000"})
    assert verdict.value is not None
    assert verdict.value >= 0.6


@pytest.mark.parametrize(
    "twin",
    ["請解釋懸索橋是如何承受過往車輛的重量的", "请帮忙解释悬索桥是如何承受过往车辆的重量的。", "请说明悬索桥是如何承受过往车辆的重量的"],
)
async def test_an_edited_chinese_twin_is_rejected(twin):
    base = "请解释悬索桥是如何承受过往车辆的重量的"
    assert await kept(Minhash(), [base, twin]) == [base]


async def test_hard_negatives_are_spared_and_the_verdict_says_why():
    gate = Minhash()
    _, (verdict,) = await admit([gate], subjects(["写三条在家里节约用水的实用建议", "写五条在家里节约用水的实用建议"]))
    assert verdict.decision == "accept"
    assert verdict.evidence == {"spared": {"s000": "numbers: 5 / 3"}}


async def test_T16_two_different_short_chinese_prompts_are_both_kept():
    assert await kept(Minhash(), ["写一首诗", "画一只猫", "写一首歌"]) == ["写一首诗", "画一只猫", "写一首歌"]
    assert await kept(Minhash(), ["写一首短诗", "写一首短诗！", "写一首短诗吧"]) == ["写一首短诗"]


def test_T16_of_a_short_prompt_the_estimate_does_not_decide():
    index = MinhashIndex()
    index.add("a", "写一首短诗")
    assert [near.id for near in index.near("写一首短诗吧", 1.0, 8, 0.9)] == ["a"]


async def test_T16_a_prompt_without_words_is_unscorable():
    assert (await Minhash()(subjects(["？！"])[0])).decision == "unscorable"


def test_T14_the_estimate_is_within_four_standard_errors():
    a, b = (MinHash(num_perm=128, seed=1, scheme="affine32") for _ in range(2))
    a.update_batch(f"t{i}".encode() for i in range(100))
    b.update_batch(f"t{i}".encode() for i in range(50, 150))
    assert abs(a.jaccard(b) - 1 / 3) < 4 * 0.0417


async def test_T17_an_index_saved_under_one_sketch_does_not_load_under_another(tmp_path):
    index = MinhashIndex()
    index.add("a", BASE)
    index.save(tmp_path / "minhash.npz")
    for other in (Sketch(seed=2), Sketch(scheme="affine64"), Sketch(bands=16, rows=8), Sketch(shingles="cjk-2/latin-5")):
        with pytest.raises(IndexMismatchError, match=r"made as .* wants"):
            MinhashIndex.load(tmp_path / "minhash.npz", other)


async def test_a_saved_index_goes_on_as_if_it_had_never_stopped(tmp_path):
    gate = Minhash()
    await kept(gate, [BASE, "请解释悬索桥是如何承受重量的"])
    gate.index.save(tmp_path / "minhash.npz")
    again = Minhash(index=MinhashIndex.load(tmp_path / "minhash.npz"))
    assert len(again.index) == 2
    assert await kept(again, [BASE + "!", "写一首关于大海的诗"], start=9) == ["写一首关于大海的诗"]


async def test_what_is_saved_are_the_last_words_of_each_row_with_datasketchs_signatures(tmp_path):
    index = MinhashIndex()
    for id, prompt in (("a", "写一首关于大海的诗"), ("b", BASE + "!"), ("a", BASE)):
        index.add(id, prompt)
    index.save(tmp_path / "minhash.npz")
    expected = MinHash(num_perm=128, seed=1, scheme="affine32")
    expected.update_batch(shingle.encode() for shingle in shingles(BASE))
    assert np.load(tmp_path / "minhash.npz")["signatures"].tolist() == [expected.hashvalues.tolist()] * 2
    again = MinhashIndex.load(tmp_path / "minhash.npz")
    assert [near.id for near in again.near(BASE, 0.6, 8, 0.9)] == ["a", "b"]


async def test_T19_a_chain_keeps_the_first_and_the_third():
    words = [f"word{chr(97 + i)}" for i in range(20)]
    chain = [" ".join(words[i : i + 14]) for i in (0, 3, 6)]
    near = [jaccard(shingles(a), shingles(b)) for a, b in ((chain[0], chain[1]), (chain[1], chain[2]), (chain[0], chain[2]))]
    assert near[0] >= 0.6
    assert near[1] >= 0.6
    assert near[2] < 0.6
    assert await kept(Minhash(), chain) == [chain[0], chain[2]]


async def test_a_row_never_meets_itself_on_replay():
    gate, (subject,) = Minhash(), subjects([BASE])
    await gate.add(subject)
    await gate.add(subject)
    assert (await gate(subject)).decision == "accept"
    assert len(gate.index) == 1


async def test_a_row_added_again_with_other_words_is_known_by_those_only():
    gate, (first, other) = Minhash(), subjects([BASE, "写一首关于大海的诗"])
    await gate.add(first)
    await gate.add(Subject(first.id, other.row))
    assert (await gate(Subject("x", first.row))).decision == "accept"
    assert (await gate(Subject("x", other.row))).evidence == {"kept": first.id}


@pytest.mark.parametrize("make", [Exact, Minhash])
@given(texts=prompts)
@settings(max_examples=40, deadline=None)
def test_deduplicating_what_is_deduplicated_changes_nothing(make, texts):
    once = asyncio.run(kept(make(), texts))
    assert asyncio.run(kept(make(), once)) == once


@pytest.mark.parametrize("make", [Exact, Minhash])
@given(text=prompts.filter(bool).map(" ".join))
@settings(max_examples=40, deadline=None)
def test_of_a_duplicate_pair_exactly_one_stays(make, text):
    assert asyncio.run(kept(make(), [text, text])) == [text]


@pytest.mark.parametrize("make", [Exact, Minhash])
@given(texts=prompts, cut=st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_the_result_does_not_depend_on_how_the_rows_are_batched(make, texts, cut):
    gate = make()
    apart = asyncio.run(kept(gate, texts[:cut])) + asyncio.run(kept(gate, texts[cut:], start=cut))
    assert apart == asyncio.run(kept(make(), texts))


def test_the_bands_find_a_pair_at_the_threshold_nearly_always():
    rng, found = np.random.default_rng(0), 0
    for _ in range(100):
        words = [f"w{n}" for n in rng.integers(0, 10**6, 40)]
        index = MinhashIndex()
        index.add("a", " ".join(words[:36]))
        found += bool(index.near(" ".join(words[6:]), 0.5, 8, 0.9))
    assert found >= 95


def crowd(count, seed=0):
    """Signatures of few values, so that many share a band."""
    return np.random.default_rng(seed).integers(0, 7, (count, 128), dtype=np.uint32)


@pytest.mark.parametrize("size", [0, 1, WAIT - 1, WAIT, 2 * WAIT + 3])
def test_the_bands_find_what_datasketchs_index_finds(size):
    bands, theirs = Bands(32, 4), MinHashLSH(num_perm=128, params=(32, 4))
    kept = crowd(size)
    for place, signature in enumerate(kept):
        assert bands.add(signature) == place
        theirs.insert(place, MinHash(hashvalues=signature, scheme="affine32"))
    for signature in (*crowd(20, seed=1), *kept[:5], *kept[-5:]):
        places, equal = bands.near(signature)
        assert places.tolist() == sorted(theirs.query(MinHash(hashvalues=signature, scheme="affine32")))
        assert equal.tolist() == (kept[places] == signature).sum(axis=1).tolist()


def test_bands_with_equal_hashes_that_are_not_equal_do_not_count():
    bands, kept = Bands(32, 4), crowd(WAIT + 9)
    bands._factors[:] = 0  # now all hashes are
    for signature in kept:
        bands.add(signature)
    shared = [place for place, signature in enumerate(kept) if (signature == kept[3]).reshape(32, 4).all(axis=1).any()]
    assert bands.near(kept[3]).places.tolist() == shared


def test_a_signature_takes_less_than_a_kilobyte():
    rows = np.random.default_rng(0).integers(0, 1 << 32, (8 * WAIT, 128), dtype=np.uint32)
    tracemalloc.start()
    bands = Bands(32, 4)
    for signature in rows:
        bands.add(signature)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 1000 * len(rows)


def test_datasketch_is_imported_for_the_first_prompt_and_beside_the_loop():
    code = """if True:
        import asyncio, sys, threading
        from filters.catalogue import make
        from filters.gate import Subject
        from leafmill.records import Row

        class Watch:
            def find_spec(self, name, *_):
                if name == "datasketch":
                    print("asked" if asking else "made", threading.current_thread() is threading.main_thread())

        sys.meta_path.insert(0, Watch())
        asking, gate = False, make("minhash")
        asking = True
        asyncio.run(gate(Subject("s", Row(language="en", instruction="Write a poem"))))
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "asked False\n"


def test_the_dedup_gates_are_remembering():
    assert isinstance(Exact(), Remembering)
    assert isinstance(Minhash(), Remembering)
