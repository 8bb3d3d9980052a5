"""Which candidates a leaf has follows from their order alone, however they are made side by side."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from graphs.cells import Cells, seen_by
from leafmill.records import AGAIN, Brief

Place = tuple[int, int]


def brief(cell: int, attempt: int = 0) -> Brief:
    return Brief(id=f"{cell}.{attempt}", leaf="t/a", number=cell + attempt * AGAIN, language="en")


def one_after_another(needed: list[int], refills: int, most: int) -> list[Place]:
    """The candidates of a leaf whose cell `c` has a row from attempt `needed[c]` on, made one by one."""
    places = [(cell, attempt) for cell, of in enumerate(needed) for attempt in range(min(of, refills) + 1)]
    return places[:most]


def side_by_side(needed: list[int], refills: int, most: int, rng: random.Random) -> set[Place]:
    """The same with several under way at once, which end in any order."""
    cells, under_way, made = Cells(refills, most), [], set[Place]()
    while True:
        due = cells.first()
        fresh = cells.next < len(needed) and cells.room > 0
        if (due or fresh) and (not under_way or rng.random() < 0.6):
            one = cells.take()
            if one is None:
                one = brief(cells.next)
                cells.add(one)
            under_way.append(one)
            made.add(one.place)
        elif under_way:
            one = under_way.pop(rng.randrange(len(under_way)))
            attempt = cells.end(one, one.attempt >= needed[one.cell])
            if attempt is not None:
                again = brief(one.cell, attempt)
                cells.add(again)
                cells.wait(again)
            list(cells.drop(everything=False))
        else:
            assert not cells.waiting, "something waits for ever"
            return made


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 3), st.integers(1, 40), st.integers(0, 99))
def test_candidates_are_those_that_would_be_made_one_after_another(needed: list[int], refills: int, most: int, seed: int) -> None:
    assert side_by_side(needed, refills, most, random.Random(seed)) == set(one_after_another(needed, refills, most))


def test_nothing_more_has_room_while_the_cells_before_may_use_up_the_limit() -> None:
    cells = Cells(refills=2, most=4)
    cells.add(brief(0))
    assert cells.room == 1
    cells.add(brief(1))
    assert cells.room == 0
    assert cells.end(brief(0), accepted=True) is None
    assert (cells.room, cells.settled) == (0, 1), "cell 1 may take three candidates"
    assert cells.end(brief(1), accepted=True) is None
    assert (cells.room, cells.settled) == (2, 2)


def test_what_an_earlier_run_began_is_taken_up_first_and_even_beyond_the_limit() -> None:
    cells = Cells(refills=1, most=1)
    for one in (brief(0), brief(0, 1), brief(1)):
        cells.add(one)
    cells.wait(brief(1), began=True)
    assert cells.end(brief(0), accepted=False) is None, "its refill is not decided"
    assert cells.end(brief(0, 1), accepted=False) is None, "it had all its candidates"
    assert cells.take() == brief(1)
    assert cells.first() is None


def test_a_leaf_that_goes_no_further_drops_all_that_waits() -> None:
    cells = Cells(refills=1, most=10)
    cells.add(brief(0))
    assert cells.end(brief(0), accepted=False) == 1
    cells.add(brief(0, 1))
    cells.wait(brief(0, 1))
    assert list(cells.drop(everything=False)) == []
    assert list(cells.drop(everything=True)) == [brief(0, 1)]
    assert cells.settled == 0, "the next run fills it"


@given(st.integers(0, 10**6), st.sampled_from([1, 16, 128]))
def test_a_brief_looks_back_at_nearly_half_of_the_cells_before_it(number: int, first: int) -> None:
    seen = seen_by(number, first)
    assert seen <= seen_by(number + 1, first)
    assert seen == 0 if number < first else 0.4 * number - 1 <= seen <= number / 2


def test_what_briefs_look_back_at_grows_in_few_steps() -> None:
    assert len({seen_by(number) for number in range(10_000)}) < 50
