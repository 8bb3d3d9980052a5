"""Sums in solutions: they hold or they do not, nothing in them is ever run, and they tell one way from another."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.voting.equations import equations, path, wrong
from filters.voting.vote import middle

NATALIA = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether 48+24 = <<48+24=72>>72.\n#### 72"


@pytest.mark.parametrize(
    "sum_",
    [
        "48/2=24",
        "0.5*20=10",
        ".5*20=10",
        "1/3=0.333",
        "2*(3+4)=14",
        "-5+8=3",
        "2**5=32",
        "1,000*2=2,000",
        "$5*3=$15",
        "20%*50=10",
        "6×3=18",
    ],
)
def test_a_sum_within_a_thousandth_holds(sum_: str) -> None:
    assert wrong(f"so <<{sum_}>>") is None
    assert [one.holds for one in equations(f"so <<{sum_}>>")] == [True]


@pytest.mark.parametrize(
    "sum_", ["48/2=25", "1/3=0.33", "5/0=0", "x+1=3", "=3", "3=", "7", "2**99999=1", "3>2=1", "[1]=[1]", "9" * 300 + "=1"]
)
def test_another_does_not_nor_does_what_is_no_sum(sum_: str) -> None:
    assert wrong(f"so <<{sum_}>>") == sum_


def test_T28_what_a_model_wrote_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert wrong("<<__import__('os')=1>>") == "__import__('os')=1"
    assert wrong("<<open('made', 'w').write('1')=1>>") is not None
    assert wrong("<<(lambda: 1)()=1>>") is not None
    assert wrong("<<1 if 1 else 2=1>>") is not None
    assert not any(tmp_path.iterdir())


def test_T28_the_same_sums_in_the_same_order_are_one_way_in_another_order_another() -> None:
    same = NATALIA.replace("clips in May", "of them in the month of May").replace("<<48/2=24>>", "<<48 / 2 = 24>>")
    turned = "Half of 48 more: <<48+24=72>>72, as <<48/2=24>>24.\n#### 72"
    assert path(NATALIA) == path(same) == "48/2=24|48+24=72"
    assert path(turned) == "48+24=72|48/2=24"
    texts = [NATALIA, same, turned]
    ways = {path(text) for text in texts}
    assert len(ways) == 2
    assert texts[middle(texts)] in texts


def test_the_first_wrong_sum_is_named() -> None:
    assert wrong(NATALIA) is None
    assert wrong(NATALIA.replace("48+24=72", "48+24=74")) == "48+24=74"
    assert path("no sums at all") == ""


@given(st.integers(-999, 999), st.integers(-999, 999), st.sampled_from("+-*"))
def test_a_right_sum_holds_and_one_that_is_off_by_one_does_not(a: int, b: int, sign: str) -> None:
    right = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert wrong(f"<<({a}){sign}({b})={right}>>") is None
    assert wrong(f"<<({a}){sign}({b})={right + 1}>>") is not None
