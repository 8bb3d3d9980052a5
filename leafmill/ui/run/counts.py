"""How many candidates there are of each kind: one look at all of them, which several parts of a run's page are made from."""

from __future__ import annotations

from typing import NamedTuple

from leafmill.index.index import Index


class Counted(NamedTuple):
    """Candidates that are alike in what they are counted by. `apart`: the sum of the deviations of their panels; `judged`: of how many."""

    leaf: str
    state: str
    stage: str
    code: str
    step: int
    n: int
    apart: float
    judged: int


def read(index: Index, rest: float = 0.0) -> list[Counted]:
    """Of the whole run; `rest` as `Index.once` has it."""
    # in the order of an index of these columns, so that nothing has to be sorted
    kinds = "leaf, state, stage, code, language, step"
    sums = "count(*) AS n, total(deviation) AS apart, count(deviation) AS judged"
    sql = f"SELECT {', '.join(Counted._fields[:5])}, {sums} FROM candidates GROUP BY {kinds}"
    return index.once("counts", lambda: [Counted(**row) for row in index.rows(sql)], rest)
