"""The index of vectors in memory finds exactly what a look at every row finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup import vectors as room
from filters.dedup.vectors import Found, Search, Vectors, cosine


def unit(rng, n, width=8):
    rows = rng.standard_normal((n, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_brute_force(rows, query, floor):
    near = [(-cosine(query, row), place) for place, row in enumerate(rows)]
    return [(place, -similarity) for similarity, place in sorted(near) if -similarity > floor], -min(near)[0] if near else None


@given(
    seed=st.integers(0, 1000),
    parts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    floor=st.floats(-0.5, 0.99),
    block=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_all_that_is_above_the_floor_is_found_however_often_a_search_goes_on(seed, parts, floor, block):
    rng = np.random.default_rng(seed)
    queries, rows = unit(rng, 3), []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(room, "BLOCK", block)
        index, going = Vectors(8), [Found() for _ in queries]
        for part in parts:
            for row in unit(rng, part):
                assert index.add(row) == len(rows)
                rows.append(row)
            going[1:] = index.search([Search(q, floor, found) for q, found in zip(queries[1:], going[1:], strict=True)])
        found = index.search([Search(q, floor, known) for q, known in zip(queries, going, strict=True)])
    for query, one in zip(queries, found, strict=True):
        hits, nearest = by_brute_force(rows, query, floor)
        assert [tuple(hit) for hit in one.hits] == hits
        assert (one.nearest.similarity if one.nearest else None) == nearest
        assert one.seen == len(rows)


def test_a_search_that_goes_on_does_not_look_at_old_rows_again():
    index = Vectors(2)
    index.add(np.float32([1, 0]))
    (first,) = index.search([Search(np.float32([1, 0]), 0.5)])
    index._blocks[0][0] = 0
    (again,) = index.search([Search(np.float32([1, 0]), 0.5, first)])
    assert again == first
