"""Which candidates a query means: its conditions, its pages, its counts; what it does not know it says."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from leafmill.errors import InputError
from leafmill.index.filter import SORTS, Filter, facets, page
from leafmill.index.index import Index
from leafmill.index.schema import SCORES, STEPS
from leafmill.runfolder import RunFolder
from leafmill.ui.library import Library
from tests import ui


@pytest.fixture(scope="module")
def index(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    runs = ui.copy_of(shop, tmp_path_factory.mktemp("filter"))
    index = Index(RunFolder(runs / ui.NAME))
    index.refresh(60)
    yield index
    index.close()


def ids(index: Index, query: str) -> set[str]:
    return {row["id"] for row in page(index, Filter.of(query), 1000).rows}


def ledger(index: Index, condition: str) -> set[str]:
    return {row["id"] for row in index.rows(f"SELECT id FROM ledger.candidates WHERE {condition}")}


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("", "1"),
        ("state=&leaf=", "1"),
        ("format=json&lang=zh", "1"),
        ("state=rejected", "state = 'rejected'"),
        ("state=rejected&state=waiting", "state IN ('rejected', 'waiting')"),
        ("state=rejected&language=zh", "state = 'rejected' AND language = 'zh'"),
        ("leaf=whole/advice", "leaf = 'whole/advice'"),
        ("leaf=whole/a*&leaf=whole/notes", "leaf IN ('whole/advice', 'whole/notes')"),
        ("leaf=whole/[a]*", "0"),
        ("axis.tone=urgent&axis.tone=polite", "json_extract(brief, '$.axes.tone') IN ('urgent', 'polite')"),
        ("role=arbiter", "id IN (SELECT candidate FROM calls WHERE role = 'arbiter')"),
        ("variant=writer.persona.zh", "id IN (SELECT candidate FROM calls WHERE role = 'writer' AND variant = 'persona.zh')"),
        ("model=scripted-glm", "id IN (SELECT candidate FROM calls WHERE model = 'scripted-glm')"),
        ("operator=breadth", 'lineage LIKE \'%"operator":"breadth"%\''),
        ("gate=refusal", "code LIKE 'refusal.%'"),
        ("reached=admitted", "state = 'accepted'"),
        ("q=用时", "row LIKE '%用时%'"),
        ("q=用时&q=clerk", "row LIKE '%用时%' OR row LIKE '%clerk%'"),
        ("q=%3F%21", "0"),
    ],
)
def test_a_condition_means_what_the_ledger_says(index: Index, query: str, condition: str) -> None:
    expected = ledger(index, condition)
    assert ids(index, query) == expected
    assert expected or condition == "0"


def test_ids_are_a_list(index: Index) -> None:
    first, second, *_ = sorted(ids(index, ""))
    assert ids(index, f"ids={first},{second},nobody") == {first, second}


def test_a_range_holds_its_lower_end_and_not_its_upper(index: Index) -> None:
    scores = {row["id"]: row["panel"] for row in index.rows("SELECT id, panel FROM candidates")}
    assert {3.5, 4.0} <= {*scores.values()}
    assert ids(index, "panel.min=3.5&panel.max=4") == {id_ for id_, score in scores.items() if score is not None and 3.5 <= score < 4}


def test_every_candidate_is_at_one_step_and_has_reached_those_before(index: Index) -> None:
    at = [ids(index, f"step={step}") for step in STEPS]
    assert sum(map(len, at)) == len(ids(index, ""))
    for place, step in enumerate(STEPS):
        assert ids(index, f"reached={step}") == set().union(*at[place:])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sate=open", "unknown key of the query 'sate': did you mean 'state'?"),
        ("axis.=a", "unknown key of the query 'axis.'"),
        ("state=opne", "unknown state 'opne': did you mean 'open'?"),
        ("language=fr", "unknown language 'fr'"),
        ("step=answerd", "unknown step 'answerd': did you mean 'answered'?"),
        ("sort=-pannel", "unknown column to sort by '-pannel': did you mean 'panel'?"),
        ("ifd.min=much", "ifd.min: needs a number, got 'much'"),
        ("ifd.max=nan", "ifd.max: needs a number, got 'nan'"),
        ("ifd.min=1&ifd.min=2", "ifd.min: may be said once, not 2 times: 1, 2"),
        ("after=zz", "after: 'zz' is no place in the table"),
        ("after=WzEsICIxIl0=", "is no place in the table"),
    ],
)
def test_what_is_not_known_is_named(query: str, said: str) -> None:
    with pytest.raises(InputError) as told:
        Filter.of(query)
    assert said in str(told.value)


@given(
    st.lists(
        st.sampled_from(
            [
                ("state", "open"),
                ("state", "waiting"),
                ("leaf", "a/*"),
                ("q", "列表 & 100%"),
                ("axis.t=n", "&="),
                ("ifd.min", "0.5"),
                ("sort", "ifd"),
            ]
        ),
        unique=True,
    )
)
def test_a_filter_is_the_same_after_an_address(pairs: list[tuple[str, str]]) -> None:
    wanted = Filter.of(QueryParams(pairs))
    assert Filter.of(wanted.query()) == wanted


def test_changes_of_an_address_begin_at_the_first_page() -> None:
    wanted = Filter.of("state=open&sort=ifd&after=WzEsIDJd")
    assert "after" in wanted.query()
    assert wanted.query(state=["waiting", "errored"], **{"ifd.min": 0.25}) == "state=waiting&state=errored&ifd.min=0.25&sort=ifd"
    assert wanted.query(state=None, sort=None) == ""


@pytest.mark.parametrize("sort", [*SORTS, *(f"-{column}" for column in SORTS)])
def test_pages_are_the_whole_list_in_its_order(index: Index, sort: str) -> None:
    wanted = Filter.of([("sort", sort)])
    whole = [row["n"] for row in index.rows(f"SELECT n FROM candidates AS c ORDER BY {wanted.order()}")]
    assert len(whole) > 20
    assert paged(index, wanted, 7) == whole


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.sampled_from([None, None, 0.0, 1.5, -2.0]), min_size=1, max_size=12),
    sort=st.sampled_from(["ifd", "-ifd", "n", "-n"]),
    size=st.integers(1, 5),
)
def test_pages_lose_and_repeat_nothing(
    values: list[float | None], sort: str, size: int, index: Index, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With ties, with what is not known, and backwards."""
    copy = Index(
        RunFolder(
            Path(shutil.copytree(index.folder.path, tmp_path_factory.mktemp("copy") / "run", ignore=shutil.ignore_patterns("chroma")))
        )
    )
    copy.refresh(60)
    with sqlite3.connect(copy.path) as change:
        change.execute("DELETE FROM candidates WHERE n > ?", (len(values),))
        change.executemany("UPDATE candidates SET ifd = ? WHERE n = ?", [(value, n) for n, value in enumerate(values, 1)])
    change.close()
    wanted = Filter.of([("sort", sort)])
    whole = [row["n"] for row in copy.rows(f"SELECT n FROM candidates AS c ORDER BY {wanted.order()}")]
    assert paged(copy, wanted, size) == whole
    copy.close()


def paged(index: Index, wanted: Filter, size: int) -> list[int]:
    """Page by page to the end; and back again, which must come upon the same."""
    found: list[int] = []
    pages = [page(index, wanted, size)]
    while pages[-1].next:
        pages.append(page(index, Filter.of(wanted.query(after=pages[-1].next)), size))
    for one, other in pairwise(pages):
        assert one.rows == page(index, Filter.of(wanted.query(before=other.previous)), size).rows
    for one in pages:
        found += [row["n"] for row in one.rows]
    assert pages[0].total == len(found)
    return found


def test_facets_count_as_if_the_key_itself_were_not_asked(index: Index) -> None:
    found = facets(index, Filter.of("state=rejected&language=zh&panel.min=1"))
    rows = index.rows("SELECT state, language, code FROM candidates WHERE panel >= 1")
    assert {one.value: one.count for one in found["state"]} == Counter(row["state"] for row in rows if row["language"] == "zh")
    assert {one.value: one.count for one in found["language"]} == Counter(row["language"] for row in rows if row["state"] == "rejected")
    codes = Counter(row["code"] for row in rows if row["state"] == "rejected" and row["language"] == "zh" and row["code"])
    assert {one.value: one.count for one in found["code"]} == codes
    assert {one.value for one in found["step"]} <= {*STEPS}


def test_facets_of_a_leaf_follow_the_glob(index: Index) -> None:
    found = facets(index, Filter.of("leaf=whole/n*"))
    (count,) = index.rows("SELECT count(*) AS n FROM candidates WHERE leaf = 'whole/notes'")
    assert sum(one.count for one in found["state"]) == count["n"]
    assert len(found["leaf"]) == 4


@pytest.mark.parametrize(
    ("query", "used"),
    [
        ("", "SCAN c"),  # by n, from its end
        ("state=waiting", "by_state"),
        ("code=ifd.low", "by_code"),
        ("leaf=whole/notes", "by_leaf"),
        ("leaf=whole/notes*", "by_leaf"),
        ("axis.tone=urgent", "PRIMARY KEY (kind=? AND value=?)"),
        ("q=列表", "by_doc"),
        ("ids=a,b", "sqlite_autoindex_candidates_1"),
    ],
)
def test_a_common_question_is_answered_by_an_index(index: Index, query: str, used: str) -> None:
    wanted = Filter.of(query)
    where, values = wanted.where()
    plan = index.rows(f"EXPLAIN QUERY PLAN SELECT c.* FROM candidates AS c WHERE {where} ORDER BY {wanted.order()} LIMIT 51", values)
    told = " ".join(step["detail"] for step in plan)
    assert used in told
    assert query == "" or "SCAN c" not in told.replace("SCAN candidates", "")
    assert query != "" or "TEMP" not in told


def test_what_is_counted_is_read_from_an_index_alone(index: Index) -> None:
    by_score = [(f"SELECT state, language FROM candidates WHERE {score} > 1 AND leaf = 'a'", f"by_{score}") for score in SCORES]
    for question, used in [
        ("SELECT leaf, state, count(*) FROM candidates GROUP BY 1, 2", "counted"),
        ("SELECT leaf, language, axes, sum(state = 'accepted') FROM candidates GROUP BY 1, 2, 3", "planned"),
        *((question.replace("candidates", f"candidates INDEXED BY {used}"), used) for question, used in by_score),
    ]:
        (step,) = index.rows(f"EXPLAIN QUERY PLAN {question}")
        assert f"COVERING INDEX {used}" in step["detail"]


def test_a_library_serves_an_index_that_is_up_to_date(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    found = Library(runs).index(ui.NAME)
    assert found.progress.done == found.progress.total > 0
    assert page(found, Filter(), 1).rows[0]["n"] == page(found, Filter(), 1).total
