"""Duplicates by words: of twins the first stays, hard negatives both stay."""

import asyncio
import functools
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup.bands import PAIRS, WAIT, Bands, distinct
from filters.dedup.exact import Exact
from filters.dedup.minhash import Minhash, MinhashIndex, Sketch
from filters.dedup.shingles import FACTOR, hashed, jaccard, shingles
from filters.dedup.views import Seen
from filters.gate import Subject, version
from filters.memory import Preparing, Remembering, admit
from filters.text import bare
from leafmill.errors import IndexMismatchError
from leafmill.records import Row, Turn

BASE = "Explain how a suspension bridge carries the weight of the cars that cross it"
WORDS = ["sea", "poem", "write", "about", "short", "long", "wind", "海", "诗", "写", "风"]
prompts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join), max_size=12)


def subjects(texts, start=0):
    return [Subject(f"s{start + i:03}", Row(language="zh", instruction=text)) for i, text in enumerate(texts)]


def seen(text):
    """A prompt as the gate looks at it."""
    return Seen(text, text, 3)


async def kept(gate, texts, start=0):
    verdicts = await admit([gate], subjects(texts, start))
    return [text for text, (verdict,) in zip(texts, verdicts, strict=True) if verdict.decision == "accept"]


async def test_exact_sees_through_width_case_and_traditional_characters():
    texts = ["请用Python写一首诗", "請用Ｐｙｔｈｏｎ寫一首詩", "请用Python写一首歌"]
    assert await kept(Exact(), texts) == [texts[0], texts[2]]


async def test_exact_does_not_let_words_move_between_instruction_and_input():
    gate, row = Exact(), Row(language="en", instruction="Sum up", input="a b")
    await gate.add(Subject("1", row))
    assert (await gate(Subject("2", row))).evidence == {"view": "instruction", "kept": "1"}
    assert (await gate(Subject("2", Row(language="en", instruction="Sum up\n\na b")))).decision == "accept"


@pytest.mark.parametrize(
    "twin", [BASE + ".", "Please explain " + BASE[8:], BASE.replace("weight", "load"), BASE.upper(), BASE.replace("of the cars", "of cars")]
)
async def test_an_edited_twin_is_rejected_and_names_the_kept_row(twin):
    gate = Minhash()
    (_,), (verdict,) = await admit([gate], subjects([BASE, twin]))
    assert (verdict.code, verdict.evidence) == ("minhash.duplicate", {"view": "instruction", "kept": "s000"})
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
    assert (verdict.decision, verdict.code) == ("accept", "minhash.spared")
    assert verdict.evidence == {"spared": {"s000": {"kind": "numbers", "text": "5 / 3"}}}


async def test_T16_two_different_short_chinese_prompts_are_both_kept():
    assert await kept(Minhash(), ["写一首诗", "画一只猫", "写一首歌"]) == ["写一首诗", "画一只猫", "写一首歌"]
    assert await kept(Minhash(), ["写一首短诗", "写一首短诗！", "写一首短诗吧"]) == ["写一首短诗"]


def test_T16_of_a_short_prompt_the_estimate_does_not_decide():
    index = MinhashIndex()
    index.add("a", [seen("写一首短诗")])
    assert [near.id for near in index.near(seen("写一首短诗吧"), 1.0, 8, 0.9)] == ["a"]


async def test_T16_a_prompt_without_words_is_unscorable():
    assert (await Minhash()(subjects(["？！"])[0])).decision == "unscorable"


def test_T14_the_estimate_is_within_four_standard_errors():
    a, b = (MinHash(num_perm=128, seed=1, scheme="affine32") for _ in range(2))
    a.update_batch(f"t{i}".encode() for i in range(100))
    b.update_batch(f"t{i}".encode() for i in range(50, 150))
    assert abs(a.jaccard(b) - 1 / 3) < 4 * 0.0417


async def test_T17_an_index_saved_under_one_sketch_does_not_load_under_another(tmp_path):
    index = MinhashIndex()
    index.add("a", [seen(BASE)])
    index.save(tmp_path / "minhash.index")
    for other in (Sketch(seed=2), Sketch(hash="sha1"), Sketch(bands=16, rows=8), Sketch(shingles="cjk-2/latin-5")):
        with pytest.raises(IndexMismatchError, match=r"made as .* wants"):
            MinhashIndex.load(tmp_path / "minhash.index", other)


def test_T17_a_scheme_in_which_it_cannot_sign_is_refused():
    with pytest.raises(ValueError, match="scheme must be affine32, got 'legacy'"):
        Sketch(scheme="legacy")


async def test_a_saved_index_goes_on_as_if_it_had_never_stopped(tmp_path):
    gate = Minhash()
    await kept(gate, [BASE, "请解释悬索桥是如何承受重量的"])
    gate.index.save(tmp_path / "minhash.index")
    again = Minhash(index=MinhashIndex.load(tmp_path / "minhash.index"))
    assert len(again.index) == 2
    assert await kept(again, [BASE + "!", "写一首关于大海的诗"], start=9) == ["写一首关于大海的诗"]


def test_what_is_saved_are_the_last_words_of_each_row(tmp_path):
    index = MinhashIndex()
    for id, prompt in (("a", "写一首关于大海的诗"), ("b", BASE + "!"), ("a", BASE)):
        index.add(id, [seen(prompt)])
    index.save(tmp_path / "minhash.index")
    again = MinhashIndex.load(tmp_path / "minhash.index")
    assert [near.id for near in again.near(seen(BASE), 0.6, 8, 0.9)] == ["a", "b"]
    assert not again.near(seen("写一首关于大海的诗"), 0.6, 8, 0.9)


MIXED = ["写诗", "a", "ab", "abc", "海", "a海bcdef海海 x", BASE, "请解释C++的move语义", "𠀀𠀁 ok"]


def test_the_signatures_of_many_texts_at_once_are_datasketchs_of_the_same_hashes():
    words = [bare(text) for text in MIXED]
    hashes, starts = hashed(words)
    for signature, part in zip(MinhashIndex().sign(words), np.split(hashes, starts[1:]), strict=True):
        theirs = MinHash(num_perm=128, seed=1, scheme="affine32", hashfunc=lambda number: number)
        theirs.update_batch(part.tolist())
        assert signature.tolist() == theirs.hashvalues.tolist()


@given(st.lists(st.text() | st.text("ab 海诗𠀀é1"), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_hashed_shingles_of_many_texts_are_those_of_each(texts):
    words = [word for text in texts if (word := bare(text))]
    if words:
        hashes, starts = hashed(words)
        assert [set(part.tolist()) for part in np.split(hashes, starts[1:])] == [
            {number(shingle) for shingle in shingles(word)} for word in words
        ]


def number(shingle):
    """What `hashed` says it makes of a shingle."""
    return functools.reduce(lambda made, sign: (made * FACTOR + ord(sign)) % 2**32, shingle, 0) ^ (len(shingle) << 29)


def test_T15_datasketchs_optimiser_gives_poor_bands_and_ours_are_explicit():
    from datasketch.lsh import _optimal_param

    expected = {
        (0.5, 128): (25, 5),
        (0.7, 128): (14, 9),
        (0.8, 128): (9, 13),
        (0.9, 128): (5, 25),
        (0.7, 256): (25, 10),
        (0.7, 240): (24, 10),
    }
    assert {(t, slots): _optimal_param(t, slots, 0.5, 0.5) for t, slots in expected} == expected

    def found(similarity, bands, rows):
        return 1 - (1 - similarity**rows) ** bands

    assert pytest.approx(0.719008, abs=1e-6) == (1 / 14) ** (1 / 8)
    assert [round(found(s, 14, 8), 4) for s in (0.7, 0.8)] == [0.5645, 0.9235]
    assert round(found(0.7, 14, 9), 3) == 0.438
    assert (Sketch().bands, Sketch().rows) == (32, 4)
    assert round(found(0.6, 32, 4), 3) == 0.988


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
    assert (await gate(Subject("x", other.row))).evidence["kept"] == first.id


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


@given(texts=prompts)
@settings(max_examples=40, deadline=None)
def test_preparing_changes_no_verdict(texts):
    async def apart(gate):
        verdicts = []
        for subject in subjects(texts):
            verdicts.append(await gate(subject))
            if verdicts[-1].decision == "accept":
                await gate.add(subject)
        return verdicts

    together = [verdict for (verdict,) in asyncio.run(admit([Minhash()], subjects(texts)))]
    assert together == asyncio.run(apart(Minhash()))


@given(texts=prompts)
@settings(max_examples=40, deadline=None)
def test_of_twins_the_first_admitted_wins(texts):
    verdicts = [verdict for (verdict,) in asyncio.run(admit([Minhash()], subjects(texts)))]
    accepted = {subject.id for subject, verdict in zip(subjects(texts), verdicts, strict=True) if verdict.decision == "accept"}
    for subject, verdict in zip(subjects(texts), verdicts, strict=True):
        if verdict.decision == "reject":
            assert verdict.evidence["kept"] < subject.id
            assert verdict.evidence["kept"] in accepted


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
        index.add("a", [seen(" ".join(words[:36]))])
        found += bool(index.near(seen(" ".join(words[6:])), 0.5, 8, 0.9))
    assert found >= 95


def crowd(count, seed=0):
    """Signatures of few values, so that many share a band."""
    return np.random.default_rng(seed).integers(0, 7, (count, 128), dtype=np.uint32)


@pytest.mark.parametrize("size", [0, 1, WAIT, 3 * WAIT + 3])
def test_the_bands_find_what_datasketchs_index_finds(size):
    bands, theirs = Bands(32, 4), MinHashLSH(num_perm=128, params=(32, 4))
    kept = crowd(size)
    for place, signature in enumerate(kept):
        (asked,) = bands.ask(signature[np.newaxis])
        assert bands.add(asked) == place
        theirs.insert(place, MinHash(hashvalues=signature, scheme="affine32"))
    asking = np.concatenate([crowd(20, seed=1), kept[:5], kept[-5:]])
    for asked in bands.ask(asking):
        places, equal = bands.near(asked)
        assert set(places.tolist()) == set(theirs.query(MinHash(hashvalues=asked.bytes, scheme="affine32")))
        assert equal.tolist() == (kept[places] == asked.bytes).sum(axis=1).tolist()


def test_what_was_asked_about_before_finds_what_was_added_since():
    bands, kept = Bands(32, 4), crowd(2 * WAIT + 100)
    early = bands.ask(kept[:WAIT])
    for asked in early:
        bands.add(asked)
    for asked in bands.ask(kept[WAIT:]):
        bands.add(asked)
    now = bands.ask(kept[:20])
    assert [set(bands.near(asked).places.tolist()) for asked in early[:20]] == [set(bands.near(asked).places.tolist()) for asked in now]


def test_a_crowd_of_look_alikes_is_found_in_parts():
    bands = Bands(32, 4)
    for asked in bands.ask(np.repeat(crowd(1), WAIT, axis=0)):
        bands.add(asked)
    asking = np.repeat(crowd(1), 40, axis=0)
    assert WAIT * 32 * len(asking) > 2 * PAIRS
    bands.ask(crowd(WAIT + 1, seed=3))  # sorts
    assert [len(set(bands.near(asked).places.tolist())) for asked in bands.ask(asking)] == [WAIT] * 40


def test_what_only_a_hash_holds_to_be_near_is_no_duplicate():
    index = MinhashIndex()
    index._bands._factors[:] = 0  # all hashes are equal
    index.add("a", [seen(BASE)])
    assert index.near(seen("List what grows well on a shady balcony in a northern town"), 0.6, 8, 0.9) == []


def test_a_signature_takes_less_than_half_a_kilobyte():
    rows = np.random.default_rng(0).integers(0, 1 << 32, (8 * WAIT, 128), dtype=np.uint32)
    tracemalloc.start()
    bands = Bands(32, 4)
    for chunk in np.split(rows, 8):
        for asked in bands.ask(chunk):
            bands.add(asked)
        del asked
    bands.ask(rows[:WAIT])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 500 * len(rows)


def test_distinct_numbers_are_those_of_numpy():
    for numbers in ([], [3], [2, 1, 2, 2, 0]):
        assert distinct(np.array(numbers, np.uint64)).tolist() == np.unique(numbers).tolist()


def talk(*said, answer="", system=""):
    """A row of several exchanges, in which the user and the assistant take turns."""
    roles = ["user", "assistant"] * len(said)
    history = [Turn(role="system", content=system)] if system else []
    history += [Turn(role=role, content=text) for role, text in zip(roles, said[:-1], strict=False)]
    return Row(language="en", instruction=said[-1], answer=answer, history=tuple(history))


BRIDGE, GARDEN, LAMP = (
    BASE,
    "List what grows well on a shady balcony in a northern town",
    "Why does an old lamp flicker when the washing starts",
)
SAID = "The cables hang between two towers and pull them down while the deck hangs from the cables by thinner ones"


@pytest.mark.parametrize("make", [Exact, Minhash])
@pytest.mark.parametrize(
    ("first", "second", "view"),
    [
        (talk(BRIDGE), talk(BRIDGE), "instruction"),
        (talk(BRIDGE, "So.", GARDEN), talk(LAMP, "Well.", GARDEN), "instruction"),
        (talk(BRIDGE, "So.", GARDEN), talk(BRIDGE, "So.", LAMP), "opening"),
        (talk(BRIDGE), talk(BRIDGE, "So.", LAMP), "opening"),
        (talk(BRIDGE, "So.", LAMP), talk(BRIDGE), "opening"),
        (talk("Hi!", SAID, "Go on", answer=SAID), talk("Hi!", SAID, "Go on", answer=SAID), "conversation"),
        (talk(BRIDGE), talk(GARDEN, "So.", BRIDGE), "instruction"),
        (talk(BRIDGE, "So.", GARDEN), talk(GARDEN, "So.", LAMP), None),
        (talk("Hi!", SAID, "Go on"), talk("Hi!", LAMP, "Go on"), None),
    ],
)
async def test_instruction_opening_and_conversation_are_compared_with_their_like_only(make, first, second, view):
    _, (verdict,) = await admit([make()], [Subject("a", first), Subject("b", second)])
    assert (verdict.evidence.get("view"), verdict.evidence.get("kept")) == ((view, "a") if view else (None, None))


@pytest.mark.parametrize("make", [Exact, Minhash])
async def test_views_may_be_left_out_and_are_a_setting(make):
    rows = [Subject("a", talk(BRIDGE, "So.", GARDEN)), Subject("b", talk(BRIDGE, "So.", LAMP))]
    verdicts = await admit([make(views=("instruction", "conversation"))], rows)
    assert [given[-1].decision for given in verdicts] == ["accept", "accept"]
    assert version(make(views=("opening",))) != version(make())


async def test_in_a_conversation_the_guard_looks_at_what_the_user_says_only():
    gate = Minhash(views=("conversation",))
    rows = [
        talk(BRIDGE, answer=f"{SAID} {SAID} in 1883"),
        talk(f"Please {BRIDGE}", answer=f"{SAID} {SAID} in 1884"),
        talk(f"{BRIDGE} in 3 points", answer=f"{SAID} {SAID} in 1883"),
    ]
    verdicts = await admit([gate], [Subject(str(i), row) for i, row in enumerate(rows)])
    assert [given[-1].code for given in verdicts] == ["ok", "minhash.duplicate", "minhash.spared"]


async def test_what_the_system_says_makes_no_two_conversations_alike():
    same = "You are a patient teacher of physics who answers in full sentences and never leaves out a step of the way. " * 3
    rows = [Subject("a", talk(BRIDGE, answer="By its cables", system=same)), Subject("b", talk(GARDEN, answer="Ferns do", system=same))]
    assert [given[-1].code for given in await admit([Minhash()], rows)] == ["ok", "ok"]


async def test_a_long_conversation_is_kept_compressed_and_still_compared():
    long = " ".join(f"word{i}" for i in range(900))
    gate = Minhash(views=("conversation",))
    rows = [Subject("a", talk(BRIDGE, answer=long)), Subject("b", talk(BRIDGE, answer=long.replace("word7 ", "")))]
    _, (verdict,) = await admit([gate], rows)
    assert verdict.evidence == {"view": "conversation", "kept": "a"}
    assert len(gate.index._kept[0].text) < len(long) / 2


def test_datasketch_is_imported_for_the_first_prompt_and_beside_the_loop():
    code = """if True:
        import asyncio, sys, threading
        from filters.catalogue import make
        from filters.gate import Subject, version
        from leafmill.records import Row, Turn

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
    assert isinstance(Minhash(), Preparing)
