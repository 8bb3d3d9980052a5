"""The table of candidates: what is found, in which order, page by page; what may be exported, and what text of models does to it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from leafmill import export
from leafmill.index import filter as filters
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.ledger import CANDIDATES, Ending, Ledger
from leafmill.records import Brief, Row, Turn
from leafmill.runfolder import RunFolder
from leafmill.ui.candidates import download
from tests import ui

HERE = f"/runs/{ui.NAME}/candidates"
HOSTILE = "<script>alert(1)</script> \u202egnp.exe\u2066 \u200b\u200f \u05e9\u05dc\u05d5\u05dd & \"quoted\" 'text'"


@pytest.fixture(scope="module")
def index(shop: Path) -> Iterator[Index]:
    """All of the run is in it, however slow the machine is."""
    with closing(Index(RunFolder(shop / ui.NAME))) as whole:
        whole.refresh(60)
        yield whole


@pytest.fixture(scope="module")
def browser(shop: Path, index: Index) -> ui.Client:
    return ui.client(shop)


@pytest.fixture(scope="module")
def kept(shop: Path) -> list[dict[str, Any]]:
    """All candidates, as the ledger has them."""
    with Ledger(shop / ui.NAME / "ledger.db", read_only=True) as ledger:
        return ledger.rows(sa.select(CANDIDATES).order_by(CANDIDATES.c.begun_at))


@pytest.fixture
async def odd(tmp_path: Path) -> ui.Client:
    """A run of four candidates: hostile text, a conversation, one that waits without an answer, one that has nothing yet."""
    (tmp_path / ui.NAME).mkdir()
    with Ledger(tmp_path / ui.NAME / "ledger.db") as ledger:
        briefs = [Brief(id=name, leaf="odd & <b>/leaf", number=number, language="en") for number, name in enumerate("hcwo")]
        for brief in briefs:
            await ledger.begin(brief)
        hostile, talk, waits, _ = briefs
        history = (Turn(role="user", content="First?"), Turn(role="assistant", content="Yes."))
        await ledger.finish(hostile, Ending("accepted"), Row(language="en", instruction=HOSTILE, answer=HOSTILE), {})
        await ledger.finish(
            talk, Ending("rejected", "agree", "a.<i>b"), Row(language="en", instruction="Then?", answer="So.", history=history)
        )
        await ledger.finish(waits, Ending("waiting", "vote", "vote.none"), Row(language="en", instruction="Which?"))
    with closing(Index(RunFolder(tmp_path / ui.NAME))) as whole:
        whole.refresh(60)
    return ui.client(tmp_path)


def seen(browser: ui.Client, query: str = "") -> dict[str, Any]:
    """The view that a query gives."""
    found = browser.get(f"{HERE}?{query}", headers={"accept": "application/json"})
    assert found.status_code == 200, found.text
    view: dict[str, Any] = found.json()
    return view


def ids(view: dict[str, Any]) -> list[str]:
    return [row["id"] for row in view["rows"]]


# -- what is found -----------------------------------------------------------------------------------------------------


def test_the_newest_candidates_come_first_each_with_a_link_to_its_trace(browser: ui.Client, kept: list[dict[str, Any]]) -> None:
    text = browser.get(HERE).text
    linked = re.findall(rf'<td class="place"><a href="{HERE}/(\w+)"', text)
    assert linked == ids(seen(browser))
    assert set(linked) == {row["id"] for row in kept[-len(linked) :]}
    assert f"{len(kept)} of {len(kept)} candidates" in text


def test_a_filter_finds_what_the_ledger_has(browser: ui.Client, kept: list[dict[str, Any]]) -> None:
    view = seen(browser, "state=rejected&state=waiting&language=zh")
    wanted = [row for row in kept if row["state"] in ("rejected", "waiting") and row["language"] == "zh"]
    assert wanted
    assert view["found"] == len(wanted)
    assert set(ids(view)) <= {row["id"] for row in wanted}


@pytest.mark.parametrize("key", ["state", "code", "language", "step"])
def test_a_choice_finds_as_many_as_it_says(browser: ui.Client, key: str) -> None:
    for one in seen(browser, "leaf=whole/*")["facets"][key]:
        assert seen(browser, f"leaf=whole/*&{key}={one['value']}")["found"] == one["count"]


def test_a_choice_that_is_made_is_shown_even_where_it_finds_nothing(browser: ui.Client) -> None:
    text = browser.get(f"{HERE}?state=open&code=no.such").text
    assert re.search(r'name="state" value="open" checked', text)
    assert re.search(r'name="code" value="no.such" checked', text)
    assert "No candidate is like this." in text


@pytest.mark.parametrize("words", ["volcanic", "关于"])
def test_a_search_finds_texts_and_marks_what_was_sought(browser: ui.Client, kept: list[dict[str, Any]], words: str) -> None:
    found = seen(browser, f"q={words}")["found"]
    wanted = [row for row in kept if row["row"] and words in json.dumps(row["row"], ensure_ascii=False).casefold()]
    assert wanted
    assert found == len(wanted)
    text = browser.get(f"{HERE}?q={words}").text
    assert f"<mark>{words}</mark>" in text.casefold()


def test_each_condition_can_be_taken_away_alone(browser: ui.Client) -> None:
    view = seen(browser, "state=accepted&state=rejected&ifd.max=0.9&sort=-tokens")
    without = {(one["key"], one["value"]): one["without"] for one in view["conditions"]}
    assert without == {
        ("state", "accepted"): "state=rejected&ifd.max=0.9&sort=-tokens",
        ("state", "rejected"): "state=accepted&ifd.max=0.9&sort=-tokens",
        ("ifd.max", "0.9"): "state=accepted&state=rejected&sort=-tokens",
    }


def test_what_the_form_has_no_control_for_outlives_another_choice(browser: ui.Client) -> None:
    text = browser.get(f"{HERE}?reached=answered&leaf=whole/sums&leaf=whole/notes&stage=agree&language=en&role=writer").text
    kept = re.findall(r'type="hidden" name="([\w.]+)" value="([^"]*)"', text.partition('<form class="filter"')[2].partition("</form>")[0])
    assert kept == [("leaf", "whole/notes"), ("stage", "agree"), ("reached", "answered")]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=acepted", "did you mean &#39;accepted&#39;"),
        ("ifd.min=low", "needs a number"),
        ("sort=answer", "column to sort by"),
        ("after=zzz", "no place in the table"),
        ("colour=red", "unknown key of the query"),
    ],
)
def test_a_bad_parameter_is_told_with_what_was_expected(browser: ui.Client, query: str, said: str) -> None:
    found = browser.get(f"{HERE}?{query}")
    assert found.status_code == 400
    assert said in found.text


def test_a_run_without_candidates_says_so(tmp_path: Path) -> None:
    (tmp_path / ui.NAME).mkdir()
    Ledger(tmp_path / ui.NAME / "ledger.db").close()
    assert "has begun no candidate yet" in ui.client(tmp_path).get(HERE).text


# -- order and pages ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(sort=st.sampled_from(filters.SORTS), down=st.booleans(), size=st.integers(1, 40))
def test_pages_hold_everything_once_and_lead_back_the_way_they_came(index: Index, sort: str, down: bool, size: int) -> None:
    wanted = Filter(sort=f"-{sort}" if down else sort)
    pages = [filters.page(index, wanted, size)]
    while place := pages[-1].next:
        pages.append(filters.page(index, Filter(sort=wanted.sort, after=place), size))
    every = [row["n"] for page in pages for row in page.rows]
    assert sorted(every) == list(range(1, 1 + pages[0].total))
    back = [pages[-1]]
    while place := back[-1].previous:
        back.append(filters.page(index, Filter(sort=wanted.sort, before=place), size))
    assert [page.rows for page in back[::-1]] == [page.rows for page in pages]
    known = [value for page in pages for row in page.rows if (value := row[sort]) is not None]
    assert known == sorted(known, reverse=down)


def test_the_links_of_the_table_lead_to_the_next_page_and_back(browser: ui.Client) -> None:
    first = seen(browser)
    assert first["previous"] is None
    second = seen(browser, first["next"])
    assert second["rows"]
    assert not set(ids(first)) & set(ids(second))
    assert ids(seen(browser, second["previous"])) == ids(first)


def test_a_head_sorts_and_turns_round(browser: ui.Client) -> None:
    text = browser.get(f"{HERE}?state=accepted").text
    assert "aria-sort" not in text
    query = re.search(rf'id="by-panel" href="{re.escape(HERE)}\?([^"]+)"', text)
    assert query
    assert query[1] == "state=accepted&amp;sort=-panel"
    text = browser.get(f"{HERE}?state=accepted&sort=-panel").text
    assert re.search(r'aria-sort="descending">\s*<a id="by-panel" href="[^"]*sort=panel"', text)


def test_an_address_says_only_what_is_asked(browser: ui.Client) -> None:
    asked = browser.get(f"{HERE}?q=&leaf=&state=accepted&sort=-n&ifd.min=", headers={"hx-request": "true"})
    assert asked.headers["HX-Push-Url"] == f"{HERE}?state=accepted"
    again = browser.get(f"{HERE}?state=accepted", headers={"hx-request": "true", "hx-current-url": f"{ui.HOST}{HERE}?state=accepted"})
    assert "HX-Push-Url" not in again.headers


# -- the export --------------------------------------------------------------------------------------------------------


def lines(browser: ui.Client, **fields: str) -> list[dict[str, Any]]:
    """An export, line by line."""
    said = browser.change(f"{HERE}/export", HERE, **fields)
    assert said.status_code == 200, said.text
    return [json.loads(line) for line in said.text.splitlines()]


def test_what_is_accepted_is_exported_as_the_command_does_it(browser: ui.Client, shop: Path) -> None:
    with Ledger(shop / ui.NAME / "ledger.db", read_only=True) as ledger:
        assert lines(browser, state="accepted", format="messages", lineage="on") == list(export.rows(ledger, "messages"))


@pytest.mark.parametrize("format_", export.FORMATS)
def test_an_export_has_as_many_lines_as_its_page_said(browser: ui.Client, kept: list[dict[str, Any]], format_: str) -> None:
    view = browser.get(f"{HERE}/export", headers={"accept": "application/json"}).json()
    (shape,) = (one for one in view["formats"] if one["name"] == format_)
    told = lines(browser, format=format_)
    assert len(told) == shape["rows"] == view["found"] - shape["unanswered"] - shape["refused"]
    states = {row["id"]: row["state"] for row in kept}
    assert Counter(line.get("state", "accepted") for line in told) == Counter(states[line["id"]] for line in told)
    assert not any("lineage" in line for line in told)


async def test_what_cannot_be_written_is_left_out_and_named(odd: ui.Client) -> None:
    view = odd.get(f"{HERE}/export", headers={"accept": "application/json"}).json()
    assert (view["found"], view["accepted"]) == (4, 1)
    assert [(one["name"], one["rows"], one["unanswered"], one["refused"]) for one in view["formats"]] == [
        ("messages", 2, 2, 0),
        ("sharegpt", 2, 2, 0),
        ("alpaca", 1, 2, 1),
    ]
    (refused,) = view["formats"][2]["named"]
    assert refused["id"] == "c"
    assert "a conversation is no Alpaca row" in refused["why"]
    assert [line["id"] for line in lines(odd, format="alpaca")] == ["h"]
    assert [(line["id"], line.get("state")) for line in lines(odd, format="messages", ids="c,h")] == [("h", None), ("c", "rejected")]


async def test_an_export_is_written_in_batches(odd: ui.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lines(odd, format="sharegpt", lineage="on")
    monkeypatch.setattr(export, "BATCH", 1)
    assert lines(odd, format="sharegpt", lineage="on") == whole


async def test_of_many_candidates_the_page_is_shown_before_they_are_looked_at(odd: ui.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "AT_ONCE", 3)
    assert "part=formats" in odd.get(f"{HERE}/export").text
    view, whole = (odd.get(f"{HERE}/export{query}", headers={"accept": "application/json"}).json() for query in ("", "?part=formats"))
    assert view["formats"] is None
    assert [one["rows"] for one in whole["formats"]] == [2, 2, 1]


async def test_an_export_says_how_many_of_the_selection_are_accepted(odd: ui.Client) -> None:
    view = odd.get(f"{HERE}/export?state=rejected&ids=c&ids=h,w", headers={"accept": "application/json"}).json()
    assert (view["found"], view["accepted"]) == (1, 0)
    assert ("ids", "c,h,w") in [(one["key"], one["value"]) for one in view["conditions"]]


async def test_an_export_takes_a_page_of_ours_and_a_format_that_there_is(odd: ui.Client) -> None:
    assert odd.post(f"{HERE}/export", data={"format": "messages"}).status_code == 403
    said = odd.change(f"{HERE}/export", HERE, format="csv")
    assert said.status_code == 400
    assert "unknown format" in said.text


# -- text of models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?q=script", "/export", "?leaf=odd+%26+%3Cb%3E/leaf"])
async def test_hostile_text_stays_text(odd: ui.Client, query: str) -> None:
    text = odd.get(HERE + query).text
    assert "<script>" not in text
    assert "<b>/leaf" not in text
    assert "<i>b" not in text
    assert not set("\u202e\u2066\u200b") & set(text)


async def test_what_turns_text_round_is_shown_and_kept_to_its_place(odd: ui.Client) -> None:
    text = odd.get(HERE).text
    assert '<p dir="auto"><bdi class="snippet">&lt;script&gt;' in text
    assert "U+202E" in text


def test_the_page_speaks_chinese(shop: Path) -> None:
    text = ui.client(shop, "zh").get(f"{HERE}?state=accepted&reached=answered").text
    assert "已接受" in text
    assert "至少走到" in text
    assert "已入库" in text


def test_programs_are_told_what_can_be_asked(browser: ui.Client) -> None:
    paths = browser.get("/openapi.json").json()["paths"]
    told = {one["name"]: one for one in paths["/runs/{run}/candidates"]["get"]["parameters"]}
    assert {"run", "q", "ifd.min", "after"} < set(told)
    assert "accepted" in told["state"]["schema"]["items"]["enum"]
    assert "requestBody" in paths["/runs/{run}/candidates/export"]["post"]
