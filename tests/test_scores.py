"""Scores read from words: what is not a score is none, and never a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.voting.scores import mean, read


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("1", 1),  # the worst stays the worst
        ("10/10", 10),
        ("Score: 7.", 7),
        ("８", 8),
        ("Good work, but the sum is wrong.", None),
        ("评分：８分", 8),
        ("得分为 6", 6),
        ("[[6]]", 6),
        ("It is right. [RESULT] 9", 9),
        ("**Rating:** 5/10", 5),
        ("Score: 3. On reflection, score: 4", 4),
        ("I would say 8 out of 10.", 8),
        ("7.5", 7.5),
        ('"7"', 7),
        ("Two of 12 sums are wrong: 7/10", 7),
        ("8/5", None),  # out of something else: not made into ours
        ("Score: 80/100", None),
        ("Score: 0", None),
        ("Score: 11", None),
        ("-3", None),
        ("7/10 or 8/10", None),
        ("", None),
        ("十分", None),
    ],
)
def test_T25_a_score_is_what_was_written_or_there_is_none(text: str, score: float | None) -> None:
    assert read(text) == score


@given(st.integers(1, 10), st.sampled_from(["Score: {}", "{}/10", "{}", "评分：{}", "[[{}]]", "reason first, then Rating = {}."]))
def test_every_score_of_the_scale_is_read_as_it_stands(score: int, said: str) -> None:
    assert read(said.format(score)) == score


def test_T25_what_could_not_be_read_does_not_enter_the_mean() -> None:
    assert mean([8, None, 6]) == (7, 2)
    assert mean([read("8"), read("no idea"), read("6/10")]) == (7, 2)
    assert mean([None, None]) == (None, 0)
    assert mean([float("nan"), 4]) == (4, 1)
