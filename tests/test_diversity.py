"""Quotas, clusters, spread and what is said of a set: the published numbers, and the laws."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.diversity.kmeans import cluster, drawn, share_of_each, usual_k
from filters.diversity.metrics import coverage, densities, distinct, entropy, gini, novelsum, opening
from filters.diversity.quota import allot, tempered
from filters.diversity.spread import AHEAD, BLOCK, best_apart, complexity_first, farthest_first, unlike

GROUPS = st.lists(st.tuples(st.floats(0.01, 1e6), st.integers(0, 50)), max_size=30)


def unit(rows: object) -> np.ndarray:
    vectors = np.asarray(rows, np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scattered(n: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, dimension)))


def around(centres: int, each: int, dimension: int = 16, seed: int = 0) -> np.ndarray:
    """Rows in tight groups, group after group."""
    rng = np.random.default_rng(seed)
    return unit(np.repeat(np.eye(dimension)[:centres], each, axis=0) + rng.normal(size=(centres * each, dimension)) * 0.05)


# -- quotas ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "groups"), [(10_000, 1024), (500, 512)])
def test_T21_a_quota_over_clusters_with_enough_rows_adds_up_exactly(total: int, groups: int) -> None:
    quotas = allot(total, [1.0] * groups, [100] * groups)
    assert sum(quotas) == total
    assert max(quotas) - min(quotas) == 1


@given(GROUPS, st.integers(0, 2000))
def test_quotas_add_up_to_what_is_asked_or_to_all_there_is_and_fit(groups: list[tuple[float, int]], total: int) -> None:
    weights, rooms = [weight for weight, _ in groups], [room for _, room in groups]
    quotas = allot(total, weights, rooms)
    assert sum(quotas) == min(total, sum(rooms))
    assert all(0 <= quota <= room for quota, room in zip(quotas, rooms, strict=True))


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=30), st.integers(0, 2000))
def test_where_there_is_room_a_quota_is_its_share_rounded_up_or_down(weights: list[float], total: int) -> None:
    for quota, weight in zip(allot(total, weights, [total] * len(weights)), weights, strict=True):
        assert abs(quota - total * weight / sum(weights)) < 1 + 1e-6


def test_what_a_small_group_cannot_take_goes_to_the_others_by_their_weights() -> None:
    assert allot(100, [1, 1, 2], [4, 100, 100]) == [4, 32, 64]


@pytest.mark.parametrize(
    ("alpha", "shares"), [(1, (0.1, 0.3, 0.6)), (0.5, (0.1930, 0.3343, 0.4727)), (0.3, (0.2438, 0.3389, 0.4173)), (0, (1 / 3,) * 3)]
)
def test_T33_tempered_shares_of_100_300_and_600_tokens(alpha: float, shares: tuple[float, ...]) -> None:
    assert tempered([100, 300, 600], alpha) == pytest.approx(shares, abs=5e-5)


# -- clusters ----------------------------------------------------------------------------------------------------------


def test_groups_that_lie_apart_are_found_and_the_same_seed_finds_the_same() -> None:
    vectors = around(5, 20)
    found = cluster(vectors, 5, seed=3)
    assert [len(set(found.labels[start : start + 20])) for start in range(0, 100, 20)] == [1] * 5
    assert sorted(found.sizes) == [20] * 5
    assert (cluster(vectors, 5, seed=3).labels == found.labels).all()


def test_a_row_is_in_the_cluster_whose_centre_it_is_most_similar_to() -> None:
    vectors = scattered(300)
    found = cluster(vectors, 12)
    similarities = vectors @ found.centres.T
    assert (similarities.argmax(1) == found.labels).all()
    assert np.allclose(similarities.max(1), found.similarity, atol=1e-6)
    assert np.allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_there_are_never_more_clusters_than_rows(n: int) -> None:
    assert len(cluster(scattered(5)[:n], 3).centres) == n


def test_rows_that_are_all_the_same_are_one_group_whatever_k_is() -> None:
    found = cluster(np.repeat(scattered(1), 40, axis=0), 4)
    assert sorted(found.sizes)[-1] == 40
    assert np.allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-5)
    assert len(share_of_each(np.repeat(scattered(1), 40, axis=0), found, 10)) == 10


def test_the_usual_number_of_clusters_is_the_smaller_of_the_two_rules() -> None:
    assert [usual_k(n) for n in (0, 10, 40, 800, 5000, 50_000)] == [1, 1, 2, 20, 50, 158]


@given(st.integers(1, 120), st.integers(1, 30), st.integers(1, 150), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_selection_over_clusters_has_the_asked_number_of_different_rows(n: int, k: int, budget: int, equal: bool, draw: bool) -> None:
    vectors = scattered(n)
    kept = share_of_each(vectors, cluster(vectors, k), budget, np.arange(n) % 5.0, equal=equal, draw=draw)
    assert len(set(kept)) == len(kept) == min(budget, n)


def test_each_cluster_gets_its_share_by_size_or_the_same() -> None:
    vectors = np.concatenate([around(1, 60), around(3, 10, seed=1)[10:]])
    found = cluster(vectors, 3, seed=0)
    assert sorted(found.sizes) == [10, 10, 60]
    by_size = np.bincount(found.labels[share_of_each(vectors, found, 16)])
    alike = np.bincount(found.labels[share_of_each(vectors, found, 15, equal=True)])
    assert (sorted(by_size), sorted(alike)) == ([2, 2, 12], [5, 5, 5])


def test_inside_a_cluster_the_best_are_kept() -> None:
    vectors = around(2, 10)
    kept = share_of_each(vectors, cluster(vectors, 2), 4, np.array([*range(10), *range(10)], float))
    assert kept == [8, 9, 18, 19]


def test_T21_a_score_of_800_does_not_overflow_and_odds_are_those_of_exp() -> None:
    rng = np.random.default_rng(0)
    with np.errstate(all="raise"):
        first = [drawn(np.array([800.0, 800.0 + math.log(3), -800.0]), 1, rng)[0] for _ in range(4000)]
    counts = np.bincount(first, minlength=3) / 4000
    assert counts == pytest.approx([0.25, 0.75, 0.0], abs=0.03)


@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.integers(0, 25))
def test_a_draw_is_without_replacement(scores: list[float], n: int) -> None:
    places = drawn(np.array(scores), n, np.random.default_rng(0))
    assert len(set(places)) == len(places) == min(n, len(scores))


# -- spread ------------------------------------------------------------------------------------------------------------


def plain_farthest_first(vectors: np.ndarray, n: int) -> list[int]:
    chosen = [int((vectors @ vectors.mean(0)).argmax())]
    while len(chosen) < n:
        near = (vectors @ vectors[chosen].T).max(1)
        near[chosen] = np.inf
        chosen.append(int(near.argmin()))
    return chosen


@given(st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_farthest_first_looking_ahead_is_what_it_is_without(seed: int) -> None:
    vectors = scattered(6 * AHEAD, 12, seed)
    assert farthest_first(vectors, 50) == plain_farthest_first(vectors, 50)


@given(st.permutations(range(60)))
@settings(max_examples=15, deadline=None)
def test_farthest_first_takes_the_same_rows_in_whatever_order_they_come(order: list[int]) -> None:
    vectors = scattered(60)
    assert {order[place] for place in farthest_first(vectors[order], 12)} == set(farthest_first(vectors, 12))


def test_each_next_row_lies_no_farther_than_the_one_before() -> None:
    vectors = scattered(200)
    chosen = farthest_first(vectors, 40)
    nearest = [float((vectors[chosen[:at]] @ vectors[chosen[at]]).max()) for at in range(1, 40)]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(nearest))


def test_farthest_first_begins_in_the_middle_and_goes_away_from_what_is_taken() -> None:
    vectors = unit([(1, 0.1), (1, 0), (0, 1), (1, -0.1)])
    assert farthest_first(vectors, 2)[1] == 2
    assert farthest_first(vectors, 1, taken=vectors[2:3]) == [3]
    assert farthest_first(vectors, 9) == [*dict.fromkeys(farthest_first(vectors, 9))]
    assert len(farthest_first(vectors, 9)) == 4


def test_farthest_first_takes_no_row_twice_though_all_are_the_same() -> None:
    assert len(set(farthest_first(np.repeat(scattered(1), 3 * AHEAD, axis=0), 2 * AHEAD))) == 2 * AHEAD


def test_of_the_rows_with_the_last_score_those_far_from_the_better_ones_are_taken() -> None:
    vectors = unit([(1, 0), (1, 0.1), (0, 1), (1, 0.2)])
    assert best_apart(vectors, np.array([9.0, 5.0, 5.0, 1.0]), 2) == [0, 2]
    assert best_apart(vectors, np.array([9.0, 5.0, 5.0, 1.0]), 0) == []


FOUR = np.array([(1, 0), (1, 0), (0, 1), (0.6, 0.8)], np.float32)


def test_T20_of_four_vectors_the_second_goes_because_the_first_is_the_same() -> None:
    found = unlike(FOUR, range(4), 9, 0.9)
    assert found.kept == [0, 2, 3]
    assert {place: near.kept for place, near in found.passed_over.items()} == {1: 0}


def test_a_similarity_that_equals_the_limit_is_not_above_it() -> None:
    assert unlike(FOUR, [2, 3], 9, 0.8).kept == [2, 3]
    assert unlike(FOUR, [2, 3], 9, 0.79).kept == [2]


@given(st.integers(0, 30), st.floats(0.2, 0.95), st.integers(1, 2 * BLOCK))
@settings(max_examples=20, deadline=None)
def test_no_two_kept_rows_are_too_similar_and_who_is_passed_over_is_too_similar_to_a_better_one(seed: int, limit: float, n: int) -> None:
    vectors = scattered(n, 4, seed)
    order = np.random.default_rng(seed).permutation(n).tolist()
    found = unlike(vectors, order, n, limit)
    among = vectors[found.kept] @ vectors[found.kept].T - 2 * np.eye(len(found.kept))
    assert among.max(initial=-1) <= limit + 1e-5
    assert len(found.kept) + len(found.passed_over) == n
    for place, near in found.passed_over.items():
        assert order.index(near.kept) < order.index(place)
        assert vectors[place] @ vectors[near.kept] == pytest.approx(near.similarity, abs=1e-5)
        assert near.similarity > limit


def test_nobody_is_looked_at_after_the_budget_is_full() -> None:
    found = unlike(FOUR, [2, 0, 1, 3], 2)
    assert (found.kept, found.passed_over) == ([2, 0], {})


TAGGED = {"a": {1, 2, 3, 4}, "b": {1, 2, 3}, "c": {4, 5}, "d": {5}, "e": {1, 2}}


def test_T21_instag_takes_a_c_then_b_d() -> None:
    names = [*TAGGED]
    assert [names[place] for place in complexity_first([{*map(str, some)} for some in TAGGED.values()], 4)] == ["a", "c", "b", "d"]


@given(st.lists(st.frozensets(st.sampled_from("abcdefg"), max_size=5), max_size=40), st.integers(0, 50))
def test_the_tag_sampler_takes_every_row_with_tags_once_and_all_tags_in_its_first_pass(tags: list[frozenset[str]], n: int) -> None:
    there = [place for place, some in enumerate(tags) if some]
    chosen = complexity_first(tags, n)
    assert len(set(chosen)) == len(chosen) == min(n, len(there))
    assert set(chosen) <= set(there)
    if n >= 7:  # a pass takes at most as many rows as there are tags
        assert {tag for place in chosen for tag in tags[place]} == {tag for some in tags for tag in some}


def test_many_rows_of_one_tag_are_soon_done() -> None:
    assert complexity_first([{"same"}] * 5000, 4000) == list(range(4000))


# -- what is said of a set ---------------------------------------------------------------------------------------------


def test_T21_novelsum_of_three_orthogonal_vectors_and_of_a_pair_and_one() -> None:
    apart, pair = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[[0, 0, 1]]
    assert novelsum(apart) == pytest.approx(5 / 11, abs=1e-6)
    assert novelsum(pair) == pytest.approx(3 / 11, abs=1e-6)
    assert novelsum(apart, itself=False) == pytest.approx(1.0, abs=1e-6)
    assert novelsum(pair, itself=False) == pytest.approx(0.555556, abs=1e-6)


def test_a_set_of_one_has_no_novelsum() -> None:
    assert novelsum(scattered(1)) is None
    assert novelsum(scattered(0)) is None


def test_density_is_high_where_the_reference_is_dense_and_counts_no_row_as_its_own_neighbour() -> None:
    near, far = around(1, 30, seed=1), scattered(30, 16, seed=2)
    both = np.concatenate([near, far])
    found = densities(both, both)
    assert found[:30].min() > found[30:].max()
    by_hand = np.sort(2 - 2 * (both @ both[40]))[1:11].mean()
    assert found[40] == pytest.approx(by_hand**-0.5, rel=1e-4)
    assert novelsum(both, found) == pytest.approx(novelsum(both, 2 * found) / 2)  # type: ignore[operator]


@given(st.permutations(range(40)))
@settings(max_examples=10, deadline=None)
def test_novelsum_does_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    vectors = scattered(40)
    assert novelsum(vectors[order], densities(vectors[order], vectors)) == pytest.approx(novelsum(vectors, densities(vectors, vectors)))


def test_rows_scattered_are_more_novel_than_rows_in_groups() -> None:
    assert novelsum(scattered(100, 16)) > novelsum(around(4, 25))  # type: ignore[operator]


def test_coverage_is_one_when_all_are_chosen_and_none_of_nothing() -> None:
    vectors = scattered(600)
    assert coverage(vectors, vectors) == pytest.approx(1.0, abs=1e-6)
    assert coverage(vectors, vectors[7:8]) == pytest.approx(float((vectors @ vectors[7]).mean()), abs=1e-6)
    assert coverage(vectors, vectors[:0]) is None


def test_entropy_and_gini_of_equal_and_of_lopsided_counts() -> None:
    assert (entropy([3, 3, 3, 3]), entropy([5]), entropy([])) == (2.0, 0.0, None)
    assert (gini([4, 4, 4]), gini([0, 0, 0, 8]), gini([0])) == (0.0, 0.75, None)
    assert gini([1, 2, 3]) == pytest.approx(2 / 9)


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(2, 5))
def test_gini_does_not_change_with_scale_nor_order_and_lies_below_one(counts: list[int], times: int) -> None:
    if sum(counts):
        assert gini(counts) == pytest.approx(gini([times * count for count in reversed(counts)]))
        assert 0 <= gini(counts) < 1  # type: ignore[operator]


def test_the_commonest_opening_is_of_words_or_of_chinese_characters() -> None:
    english = opening(["Write a poem now", "Write a poem!", "Explain the sea"])
    assert english == ("write a poem", 2 / 3)
    assert opening(["请写一首诗", "请写一篇文章", "解释引力"]) == ("请写一", 2 / 3)
    assert opening([]) is None


def test_distinct_n_counts_units_in_both_languages() -> None:
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct(["写诗写诗"], 2) == pytest.approx(2 / 3)
    assert distinct(["one"], 2) is None
