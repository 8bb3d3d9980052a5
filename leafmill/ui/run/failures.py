"""What failed in a run: candidates that ended in an error, and calls, by code."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.ui.run import counts


class Errored(BaseModel):
    """Candidates that an error ended."""

    stage: str
    code: str
    count: int
    query: str


class FailedCalls(BaseModel):
    """Calls of a role that failed with a code; a candidate may have gone on by asking again."""

    role: str
    code: str
    calls: int
    query: str
    """finds the candidates that it ended"""


class Failures(BaseModel):
    leaf: str
    candidates: list[Errored]
    calls: list[FailedCalls]
    """both: the commonest first"""


def read(index: Index, leaf: str = "", rest: float = 0.0) -> Failures:
    """Of one leaf or of all; `rest` as `Index.once` has it."""
    errored: Counter[tuple[str, str]] = Counter()
    for one in counts.read(index, rest):
        if one.state == "errored" and leaf in ("", one.leaf):
            errored[one.stage, one.code] += one.n
    failed = f"""SELECT role, status AS code, sum(calls) AS calls FROM spent WHERE status <> 'ok' {"AND leaf = :leaf" if leaf else ""}
        GROUP BY role, status ORDER BY calls DESC, role, status"""

    def find(**keys: str) -> str:
        return Filter().query(leaf=leaf, state="errored", **keys)

    return Failures(
        leaf=leaf,
        candidates=[
            Errored(stage=stage, code=code, count=count, query=find(stage=stage, code=code))
            for (stage, code), count in errored.most_common()
        ],
        calls=[
            FailedCalls(**row, query=find(role=row["role"], code=row["code"])) for row in index.rows(failed, {"leaf": leaf} if leaf else {})
        ],
    )
