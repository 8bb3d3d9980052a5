"""The gate `novelty`: ROUGE-L against seeds and accepted rows, exact in spite of its shortcut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import catalogue
from filters.gate import Subject
from filters.memory import admit
from filters.novelty import NEARBY, Novelty, NoveltyIndex
from filters.text import rouge_l
from leafmill.errors import RecipeError
from leafmill.records import Row, Verdict


def subject(id: str, instruction: str) -> Subject:
    return Subject(id, Row(language="en", instruction=instruction))


async def against(known: str, instruction: str) -> Verdict:
    gate = Novelty()
    await gate.add(subject("known", known))
    return await gate(subject("new", instruction))


@pytest.mark.parametrize(
    ("known", "instruction", "similarity"),
    [
        ("Write a short poem about the sea.", "Write a short poem about the ocean.", 0.857143),
        ("List three ways to save water", "List three ways to save energy", 0.833333),
        ("请写一首关于大海的诗", "请写一首关于海洋的诗", 0.9),
        ("请写一首关于大海的诗", "请写一首关于大海的诗", 1.0),
    ],
)
async def test_T10_T11_what_is_nearly_known_is_not_new(known: str, instruction: str, similarity: float) -> None:
    verdict = await against(known, instruction)
    assert (verdict.decision, verdict.code) == ("reject", "novelty.near")
    assert verdict.value == pytest.approx(similarity, abs=1e-6)
    assert verdict.evidence == {"nearest": "known", "mean": pytest.approx(similarity, abs=1e-4)}


async def test_T10_seven_of_ten_units_in_order_is_exactly_the_threshold_and_kept() -> None:
    verdict = await against("a b c d e f g h i j", "a b c d e f g x y z")
    assert (verdict.decision, verdict.value, verdict.threshold) == ("accept", 0.7, 0.7)


async def test_the_first_of_two_twins_is_new_and_the_second_is_not() -> None:
    twins = [subject(id, f"Name {id} towns on the river.") for id in ("two", "three")]
    first, second = await admit([Novelty()], twins)
    assert [one.decision for one in (*first, *second)] == ["accept", "reject"]
    assert second[0].evidence["nearest"] == "two"


async def test_a_row_that_is_replayed_is_not_its_own_twin() -> None:
    gate, row = Novelty(), subject("a", "Name two towns on the river.")
    await gate.add(row)
    await gate.add(row)
    assert (await gate(row)).decision == "accept"
    assert len(gate.index) == 1


words = st.lists(
    st.sampled_from(["写", "一", "首", "关", "于", "海", "的", "诗", "write", "a", "poem", "about", "sea"]), min_size=1, max_size=9
).map(" ".join)


@settings(max_examples=60)
@given(st.lists(words, max_size=25), words)
def test_the_bound_misses_no_row_that_comparing_with_all_would_find(known: list[str], text: str) -> None:
    index = NoveltyIndex()
    for number, one in enumerate(known):
        index.add(str(number), one)
    whole = sorted(((rouge_l(text, one), -number) for number, one in enumerate(known)), reverse=True)
    near = [similarity for similarity, _ in whole if similarity >= NEARBY][:10]
    found = index.nearest(text)
    assert [one.similarity for one in found] == pytest.approx(near)
    assert [one.id for one in found] == [str(-place) for similarity, place in whole if similarity >= NEARBY][:10]


def test_a_text_replaces_the_one_that_its_id_had() -> None:
    index = NoveltyIndex()
    index.add("a", "Name two towns on the river.")
    index.add("a", "Sing of the mountains and the snow.")
    assert index.nearest("Name two towns on the river.") == []
    assert index.nearest("Sing of the mountains and the snow.")[0].id == "a"


def test_a_threshold_out_of_range_is_told() -> None:
    with pytest.raises(RecipeError, match=r"threshold must be above 0 and at most 1, got 1\.5"):
        catalogue.check("novelty", {"threshold": 1.5})
