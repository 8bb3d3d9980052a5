"""The vote: each family has one, thresholds hold, and neither order nor one more voice for the winner changes who it is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.voting import PANELS, by_answer, by_family, play
from filters.scoring.reward import Reward, rank
from filters.voting.best import best, graded
from filters.voting.canonical import form
from filters.voting.vote import Ballot, count, middle

BALLOTS = st.lists(st.builds(Ballot, st.sampled_from("abc"), st.sampled_from(["1", "2", "3", None])), min_size=1, max_size=12)


def test_T27_two_against_two_is_no_consensus_in_any_order() -> None:
    ballots = [Ballot("a", "1"), Ballot("b", "1"), Ballot("c", "2"), Ballot("d", "2")]
    for seed in range(20):
        random.Random(seed).shuffle(ballots)
        tally = count(ballots)
        assert (tally.winner, tally.share, tally.margin) == (None, 0.5, 0.0)


def test_T27_ten_samples_of_one_family_count_as_one_voice() -> None:
    ballots = [*[Ballot("a", "1")] * 10, Ballot("b", "2"), Ballot("c", "2")]
    tally = count(ballots)
    assert tally.winner == "2"
    assert tally.shares == pytest.approx({"2": 2 / 3, "1": 1 / 3})
    assert tally.families == 3


def test_T27_answers_that_say_the_same_vote_together() -> None:
    found = [form(text) for text in ("0.50", "1/2", "５０%", "50")]
    tally = count(Ballot("abcd"[place], one.key if one else None) for place, one in enumerate(found))
    assert (tally.winner, tally.share) == ("1/2", 0.75)


def test_a_share_at_the_threshold_is_enough_and_below_it_is_not() -> None:
    three_of_five = [Ballot("a", "1")] * 3 + [Ballot("a", "2")] * 2
    assert count(three_of_five, share=0.6, margin=0.2).winner == "1"  # 0.6 and 0.2 exactly
    assert count(three_of_five, share=0.61, margin=0.2).winner is None
    assert count(three_of_five, share=0.6, margin=0.21).winner is None


def test_a_tie_has_no_winner_however_low_the_thresholds() -> None:
    assert count([Ballot("a", "1"), Ballot("b", "2")], share=0.1, margin=0).winner is None


def test_what_cannot_be_read_keeps_its_vote_and_gives_it_to_nobody() -> None:
    tally = count([Ballot("a", "1"), Ballot("b", None), Ballot("c", None)])
    assert (tally.winner, tally.share) == (None, pytest.approx(1 / 3))
    assert count([Ballot("a", None)]).winner is None
    assert count([]).winner is None


@given(BALLOTS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(ballots: list[Ballot], rng: random.Random) -> None:
    shuffled = list(ballots)
    rng.shuffle(shuffled)
    assert count(shuffled) == count(ballots)


@given(BALLOTS, st.data())
def test_a_winner_stays_when_a_voice_changes_to_it_or_joins_it(ballots: list[Ballot], data: st.DataObject) -> None:
    winner = count(ballots, 0.5, 0.1).winner
    if winner is None:
        return
    place = data.draw(st.integers(0, len(ballots) - 1))
    changed = [*ballots[:place], ballots[place]._replace(key=winner), *ballots[place + 1 :]]
    assert count(changed, 0.5, 0.1).winner == winner
    assert count([*ballots, Ballot(data.draw(st.sampled_from("abcd")), winner)], 0.5, 0.1).winner == winner


@given(BALLOTS, st.integers(2, 4))
def test_samples_that_only_repeat_their_family_change_nothing(ballots: list[Ballot], times: int) -> None:
    repeated = [one for one in ballots for _ in range(times if one.family == "a" else 1)]
    assert count(repeated) == count(ballots)


def test_of_those_who_agree_the_one_of_middle_length_is_taken() -> None:
    assert middle(["18", "Six and six and six: 18", "Let us think about it. " * 9 + "18"]) == 1


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_whichever_order_they_come_in(texts: list[str], rng: random.Random) -> None:
    shuffled = list(texts)
    rng.shuffle(shuffled)
    assert shuffled[middle(shuffled)] == texts[middle(texts)]


def test_a_way_that_was_taken_often_counts_once() -> None:
    short = [f"{'so ' * n}<<2*9=18>>18" for n in range(5)]
    long = ["x" * 60 + "<<3*6=18>>18", "y" * 50 + "<<20-2=18>>18"]
    texts = [*short, *long]
    assert texts[middle(texts)] == long[1]


def test_the_benchmark_tells_families_from_samples() -> None:
    weak = PANELS["a weak one, 10 samples; two others, 1 each"]
    by_sample, by_voice = (play(weak, way, 400, seed=1) for way in (by_answer, by_family))
    assert by_voice.right > by_sample.right + 0.2
    assert play(weak, by_family, 50, seed=1) == play(weak, by_family, 50, seed=1)


# -- the best by numbers -----------------------------------------------------------------------------------------------


def rewards(*values: float | None, tokens: tuple[int, ...] = ()) -> list[Reward]:
    lengths = tokens or tuple(10 + (7 * place) % 5 for place in range(len(values)))
    return [
        Reward(value, length, "scored" if value is not None else "unscored", "" if value is not None else "reward.too_long", "m")
        for value, length in zip(values, lengths, strict=True)
    ]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8), st.integers(-1000, 1000), st.sampled_from([0, 1, 5]))
def test_T29_adding_a_constant_to_all_rewards_of_a_prompt_changes_nothing(values: list[int], constant: int, lead: int) -> None:
    texts = [f"answer {place}" for place in range(len(values))]
    one = best(rank(rewards(*values)), texts, lead)
    other = best(rank(rewards(*(value + constant for value in values))), texts, lead)
    assert (one.place, one.code, one.values) == (other.place, other.code, other.values)
    generous = best(graded([[value + constant for value in values], values], texts), texts, lead)
    assert generous.values == best(graded([values, values], texts), texts, lead).values


def test_the_best_must_lead_the_mean_of_its_prompt() -> None:
    found = best(rank(rewards(5.0, 7.0, 6.0)), ["a", "b", "c"], lead=1.0)
    assert (found.place, found.lead) == (1, 1.0)
    assert best(rank(rewards(5.0, 7.0, 6.0)), ["a", "b", "c"], lead=1.1) == (None, "too_close", 1.0, (-1.0, 1.0, 0.0), *found[4:])


def test_without_a_number_there_is_no_best() -> None:
    assert best(rank(rewards(None, None)), ["a", "b"]).code == "unscored"
    assert best(rank(rewards(None, -3.0)), ["a", "b"]).place == 1


def test_equals_go_to_the_one_of_middle_length() -> None:
    assert best(rank(rewards(8.0, 8.0, 8.0, 1.0)), ["a", "bb" * 4, "c" * 90, "d"]).place == 1


def test_numbers_that_merely_follow_length_are_read_without_it() -> None:
    """Four answers, the longer the higher; the second is better than its length explains."""
    values, tokens = (1.0, 4.0, 5.0, 6.0), (10, 20, 30, 40)
    found = best(rank(rewards(*values, tokens=tokens)), ["a", "b", "c", "d"])
    assert (found.place, found.by_length, found.length_rho) == (1, True, pytest.approx(1.0))
    mixed = best(rank(rewards(*values, tokens=(40, 20, 30, 10))), ["a", "b", "c", "d"])
    assert (mixed.place, mixed.by_length) == (3, False)


def test_a_generous_grader_that_was_not_heard_on_one_answer_does_not_lift_the_others() -> None:
    strict, generous = [3.0, 5.0, 2.0], [9.0, None, 8.0]
    assert best(graded([strict, generous], ["a", "b", "c"]), ["a", "b", "c"]).place == 1
