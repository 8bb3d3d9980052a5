"""The page of one run: what it counts, where its numbers lead, and what it says while the run goes on."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphs import about
from leafmill import coverage, panel, report
from leafmill.errors import EXIT_INTERRUPTED, EXIT_UNMET
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.index.schema import STEPS
from leafmill.ledger import Ledger
from leafmill.runfolder import RunFolder
from leafmill.ui.library import Library
from leafmill.ui.run import crossing, judging, standing
from leafmill.ui.run.distributions import Plot, edges_of
from leafmill.ui.run.page import CHARTS, PARTS, changes
from tests import ui

RUN = f"/runs/{ui.NAME}"


@pytest.fixture(scope="module")
def index(shop: Path) -> Index:
    made = Index(RunFolder(shop / ui.NAME))
    made.refresh(60)
    return made


def view(shop: Path, address: str = RUN) -> Any:
    return ui.client(shop, accept="application/json").get(address).json()


def numbers(shown: Any) -> Iterator[tuple[str, int]]:
    """All that is counted somewhere in a view, with the query that leads to it."""
    if isinstance(shown, list):
        for one in shown:
            yield from numbers(one)
    elif isinstance(shown, dict):
        counted = next((shown[key] for key in ("count", "reached", "planned") if key in shown), None)
        if "query" in shown and counted is not None:
            yield shown["query"], counted
        for one in shown.values():
            yield from numbers(one)


@pytest.mark.parametrize("leaf", ["", "whole/sums"])
def test_every_number_leads_to_as_many_candidates(shop: Path, index: Index, leaf: str) -> None:
    found = [*numbers(view(shop, f"{RUN}?leaf={leaf}"))]
    assert len(found) > 60
    for query, count in found:
        where, values = Filter.of(query).where()
        assert index.rows(f"SELECT count(*) AS n FROM candidates AS c WHERE {where}", values) == [{"n": count}], query


def test_it_says_the_same_as_the_report(shop: Path) -> None:
    said = view(shop)["standing"]
    with Ledger(shop / ui.NAME / "ledger.db", read_only=True) as ledger:
        told = report.read(ledger)
    total = told.total
    assert (said["accepted"], said["asked"], said["tokens"], said["calls"]) == (total.accepted, total.asked, total.tokens, total.calls)
    assert said["money"] == pytest.approx(total.money)
    assert said["waiting"] == total.states["waiting"]
    for leaf in told.leaves:
        (line,) = (one for one in said["leaves"] if one["leaf"] == leaf.leaf)
        assert {state: one["count"] for state, one in line["states"].items() if one["count"]} == leaf.states
        assert (line["outcome"], line["asked"], line["tokens_per_accepted"]) == (leaf.outcome, leaf.asked, leaf.tokens_per_accepted)


def test_the_funnel_loses_nobody_without_a_reason(shop: Path) -> None:
    funnel = view(shop)["funnel"]
    assert [step["name"] for step in funnel["steps"]] == list(STEPS)
    for step, after in pairwise(funnel["steps"]):
        assert step["reached"] == step["went_on"] + step["left"] + step["waiting"] + step["open"]
        assert step["went_on"] == after["reached"]
        assert sum(reason["count"] for reason in step["reasons"]) == step["left"] + step["waiting"]
    assert {"vote.no_consensus", "refusal.refused"} & {reason["code"] for step in funnel["steps"] for reason in step["reasons"]}


def test_the_heat_map_has_the_pairs_and_holes_of_the_coverage_report(shop: Path) -> None:
    with Ledger(shop / ui.NAME / "ledger.db", read_only=True) as ledger:
        told = next(leaf for leaf in coverage.read(ledger).leaves if leaf.leaf == "whole/advice")
    tried = {frozenset(hole.values.items()): hole.tried for hole in told.holes}
    pairs = Counter[str]()
    axes = view(shop, f"{RUN}?leaf=whole/advice")["coverage"]["axes"]
    for at, across in enumerate(axes):
        for down in axes[at + 1 :]:
            shown = view(shop, f"{RUN}/parts/coverage?leaf=whole/advice&across={across}&down={down}")
            for line in shown["rows"]:
                for column, cell in zip(shown["columns"], line["cells"], strict=True):
                    pairs.update(possible=1, planned=cell["planned"] > 0, accepted=cell["accepted"] > 0)
                    if cell["hole"] == "none":
                        assert tried.pop(frozenset({(across, column), (down, line["value"])})) == cell["planned"]
    assert dict(pairs) == told.pairs.model_dump()
    assert not tried


def test_a_cell_that_was_never_planned_is_a_hole_and_one_that_cannot_be_is_none(index: Index) -> None:
    factors = {"whole/notes": {"language": ["en", "zh"], "tone": ["plain", "sung"]}, "whole/sums": {"language": ["en", "zh"]}}
    shown = crossing.read(index, factors, across="tone", down="leaf")
    cells = {(line.value, column): cell for line in shown.rows for column, cell in zip(shown.columns, line.cells, strict=True)}
    assert (cells["whole/notes", "sung"].hole, cells["whole/notes", "sung"].possible) == ("never", True)
    assert (cells["whole/sums", "sung"].hole, cells["whole/sums", "sung"].possible) == ("", False)
    assert shown.never == 1


def test_sums_of_the_heat_map_are_those_of_its_cells_and_lead_to_all_of_them(shop: Path) -> None:
    shown = view(shop, f"{RUN}/parts/coverage?across=language&down=leaf")
    for line in shown["rows"]:
        assert line["sum"]["planned"] == sum(cell["planned"] for cell in line["cells"])
    assert sum(one["accepted"] for one in shown["sums"]) == view(shop)["standing"]["accepted"]
    assert max(cell["level"] for line in shown["rows"] for cell in line["cells"]) == 5


@given(st.sampled_from([Plot("outcome"), Plot("outcome", -1)]), st.floats(1, 1e6), st.floats(0, 1e6))
@example(Plot("outcome", 0.05), 0.15, 0.15)
@example(Plot("outcome", 0.5, 0.75), 1.0, 4.0)
def test_bins_hold_every_value_in_one_of_them(plot: Plot, least: float, more: float) -> None:
    edges = edges_of(plot, least, least + more)
    assert edges[0] <= least
    assert least + more < edges[-1]
    assert all(one < other for one, other in pairwise(edges))
    assert len(edges) < 80


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_has_the_colours_of_the_page_and_an_address_for_every_mark(shop: Path, chart: str) -> None:
    spec = view(shop, f"{RUN}/charts/{chart}")
    drawn = [part["data"]["values"] for part in (spec, *spec.get("layer", ())) if "data" in part]
    marks = [datum for values in drawn for datum in values if "count" in datum or "value" in datum]
    assert all(datum["address"].startswith(f"{RUN}/candidates?") and datum["told"] for datum in marks)
    assert bool(marks) == (chart != "ifd")
    assert spec["description"]
    assert not re.search("#[0-9a-f]{3,8}\\b", str(spec))


def test_thresholds_stand_in_the_chart_of_their_score(shop: Path) -> None:
    by_score = {one["score"]: one for one in view(shop)["distributions"]["histograms"]}
    assert {limit["gate"] for limit in by_score["panel"]["limits"]} == {"agreement"}
    assert {limit["gate"]: limit["at"] for limit in by_score["critic"]["limits"]} == {"critic": 3}
    assert "minhash" in {limit["gate"] for limit in by_score["similarity"]["limits"]}


def test_costs_of_roles_add_up_to_those_of_the_run(shop: Path) -> None:
    said = view(shop)
    spending, total = said["spending"], said["spending"]["total"]
    assert (total["calls"], total["money"]) == (said["standing"]["calls"], pytest.approx(said["standing"]["money"]))
    for part in ("tokens_per_accepted", "money_per_accepted"):
        assert sum(role[part] for role in spending["roles"]) == pytest.approx(total[part])
    assert sum(role["share"] for role in spending["roles"]) == pytest.approx(1)
    by_role = {one["role"]: one for one in spending["latencies"] if not one["model"]}
    with Ledger(shop / ui.NAME / "ledger.db", read_only=True) as ledger:
        told = report.read(ledger).roles
    assert by_role["answerer"]["p95"] == pytest.approx(told["answerer"].p95, rel=0.06)


def test_of_one_leaf_its_parts_are_those_of_that_leaf(shop: Path) -> None:
    said = view(shop, f"{RUN}?leaf=whole/notes")
    line = next(one for one in said["standing"]["leaves"] if one["leaf"] == "whole/notes")
    assert said["funnel"]["started"] == sum(one["count"] for one in line["states"].values())
    assert said["spending"]["total"]["tokens_per_accepted"] == line["tokens_per_accepted"]
    assert "leaf" not in said["coverage"]["axes"]


@pytest.mark.parametrize("address", ["?leaf=whole/none", "?across=colour", "/parts/colour", "/charts/colour", "/parts/funnel?leaf=none"])
def test_what_is_not_there_is_told_by_its_name(shop: Path, address: str) -> None:
    answer = ui.client(shop).get(f"{RUN}{address}")
    assert answer.status_code == 400
    assert re.search("none|colour", answer.text)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_asked_for_alone_and_asks_for_itself_again(shop: Path, part: str) -> None:
    text = ui.client(shop).get(f"{RUN}/parts/{part}?leaf=whole/notes").text
    assert re.match(rf'\s*<section id="{part}"', text)
    assert f'hx-get="{RUN}/parts/{part}?leaf=whole%2Fnotes"' in text
    assert " style=" not in text
    assert "<script" not in text


def test_the_page_is_chinese_for_those_who_read_it(shop: Path) -> None:
    text = ui.client(shop, "zh").get(RUN).text
    seen = re.sub("<code.*?</code>|<option.*?</option>|<th scope=.row.*?</th>|<[^>]+>", " ", text[text.index("<main") :], flags=re.DOTALL)
    assert "漏斗" in seen
    assert "覆盖" in seen
    assert not re.search("\\b(the|of|and|candidates|tokens)\\b", seen)


async def test_a_run_that_has_ended_closes_the_stream_at_once(shop: Path) -> None:
    assert [event.event async for event in changes(Library(shop), ui.NAME)] == ["changed", "ended"]
    assert "data-events" not in ui.client(shop).get(RUN).text


async def test_a_run_that_goes_on_tells_of_every_change_and_of_its_end(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    with Ledger(runs / ui.NAME / "ledger.db") as ledger:
        process = about.process("leafmill run shop.yaml")
        await ledger.set_meta("process", process)
        page = ui.client(runs).get(RUN).text
        assert f'data-events="{RUN}/events"' in page
        assert "running" in page
        told = changes(Library(runs), ui.NAME, every=0.01)
        first = await anext(told)
        following = asyncio.create_task(anext(told))
        await asyncio.sleep(0.1)
        assert not following.done()
        (brief, _), *_rest = ledger.accepted()
        await ledger.begin(brief.model_copy(update={"id": "new", "number": 999}))
        second = await following
        assert (first.event, second.event) == ("changed", "changed")
        assert int(second.data) > int(first.data)
        await ledger.set_meta("process", {**process, "ended_at": time.time(), "exit_code": EXIT_UNMET})
        assert [event.event async for event in told][-1] == "ended"
    said = view(runs)["standing"]
    assert (said["state"], said["command"]) == ("short", "leafmill run shop.yaml")


async def test_a_run_that_is_deleted_ends_its_stream(shop: Path, tmp_path: Path) -> None:
    library = Library(ui.copy_of(shop, tmp_path))
    with Ledger(library.runs / ui.NAME / "ledger.db") as ledger:
        await ledger.set_meta("process", about.process("leafmill run shop.yaml"))
    told = changes(library, ui.NAME, every=0.01)
    assert (await anext(told)).event == "changed"
    shutil.rmtree(library.runs / ui.NAME)
    assert [event.event async for event in told] == ["ended"]


@pytest.mark.parametrize(
    ("code", "state"),
    [(0, "finished"), (EXIT_UNMET, "short"), (EXIT_INTERRUPTED, "stopped"), (None, "stopped"), (1, "failed")],
    ids=lambda value: str(value),
)
def test_the_state_of_a_run_is_how_its_process_ended(code: int | None, state: str) -> None:
    ended = standing.Process(pid=2**22 + 1, host=about.process("")["host"], began_at=1.0, ended_at=2.0, exit_code=code)
    assert standing.state_of(ended, is_open=False, is_met=False, has_ended=True) == state


def test_a_run_without_anything_says_so_in_every_part(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "bare"
    folder.mkdir(parents=True)
    Ledger(folder / "ledger.db").close()
    text = ui.client(tmp_path / "runs").get("/runs/bare").text
    for part in PARTS:
        if part != "head":
            said = text[text.index(f'<section id="{part}"') :]
            assert '<p class="faint">' in said[: said.index("</section>")], part
    assert "data-chart" not in text


def test_many_votes_are_read_by_another_process_while_the_page_goes_on(shop: Path, tmp_path: Path) -> None:
    index = Index(RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME))
    index.refresh(60)
    found = judging.read(index, few=0)
    assert found.working
    assert found.judging is None
    while (found := judging.read(index, few=0)).working:
        time.sleep(0.05)
    with Ledger(index.folder.ledger, read_only=True) as ledger:
        assert found.judging == panel.read(ledger)
        assert not found.fault
