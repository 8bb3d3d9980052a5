"""The page of a run's roles, and of one role: figures as the ledger has them, what was really sent, places in the graph."""

from __future__ import annotations

import itertools
import json
import sqlite3
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from leafmill import variants
from leafmill.ledger import Ledger
from leafmill.ui.roles import cast, drawing
from leafmill.ui.roles.drawing import Edge, Graph
from tests import ui

ROLES = f"/runs/{ui.NAME}/roles"


@cache
def browser(runs: Path, language: str = "en") -> ui.Client:
    """One that finds all of the run in its index."""
    found = ui.client(runs, language)
    found.app.state.library.index(ui.NAME).refresh(60)  # type: ignore[attr-defined]
    return found


def view(runs: Path, address: str = ROLES) -> Any:
    answer = browser(runs).get(address, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(runs: Path, address: str = ROLES, language: str = "en") -> str:
    answer = browser(runs, language).get(address)
    assert answer.status_code == 200, answer.text
    return answer.text


def asked(runs: Path, query: str, *values: str) -> list[Any]:
    with sqlite3.connect(runs / ui.NAME / "ledger.db") as ledger:
        return ledger.execute(query, values).fetchall()


def change(runs: Path, query: str, *values: str) -> None:
    with sqlite3.connect(runs / ui.NAME / "ledger.db") as ledger:
        assert ledger.execute(query, values).rowcount


def test_every_role_is_there_with_its_calls_and_how_its_candidates_fared(shop: Path) -> None:
    found = {one["name"]: one for one in view(shop)["roles"]}
    calls = dict(asked(shop, "SELECT role, count(*) FROM calls GROUP BY 1"))
    assert {name: one["calls"] for name, one in found.items() if one["calls"]} == calls
    tokens = dict(asked(shop, "SELECT role, sum(prompt_tokens + completion_tokens) FROM calls GROUP BY 1"))
    assert {name: found[name]["tokens"] for name in calls} == tokens
    with Ledger(shop / ui.NAME / "ledger.db", read_only=True) as ledger:
        fared = {(one.role, one.variant): (one.tried, one.accepted) for one in variants.read(ledger).variants}
    for name, one in found.items():
        for variant in one["variants"]:
            tried = variant["fared"] or {"tried": 0, "accepted": 0}
            assert (tried["tried"], tried["accepted"]) == fared.get((name, variant["variant"]), (0, 0)), (name, variant["variant"])


def test_a_share_of_accepted_candidates_leads_to_them(shop: Path) -> None:
    writer = next(one for one in view(shop)["roles"] if one["name"] == "writer")
    for one in writer["variants"]:
        found = view(shop, f"/runs/{ui.NAME}/candidates?{one['query']}&state=accepted")
        assert found["found"] == one["fared"]["accepted"]


def test_who_is_asked_before_there_are_candidates_has_no_place_in_the_graph(shop: Path) -> None:
    found = {one["name"]: one for one in view(shop)["roles"]}
    assert found["planner"]["nodes"] == []
    assert found["planner"]["fared"] is None
    assert found["writer"]["nodes"] == ["write"]
    assert found["reasoner"]["nodes"] == ["vote"]  # where it was asked, not where it would be
    assert found["annotator-clarity"]["nodes"] == ["annotate"]
    assert "before there are candidates" in shown(shop)


def test_a_leaf_has_its_own_graph_and_figures(shop: Path) -> None:
    of_leaf, of_all = view(shop, f"{ROLES}?leaf=whole/notes"), view(shop)
    assert {"vote", "answer"} <= {*of_all["graph"]["nodes"]}
    assert "vote" not in of_leaf["graph"]["nodes"]
    calls = dict(asked(shop, "SELECT role, count(*) FROM calls WHERE leaf = 'whole/notes' GROUP BY 1"))
    assert {one["name"]: one["calls"] for one in of_leaf["roles"] if one["calls"]} == calls


def test_the_graph_is_drawn_with_a_link_to_each_role(shop: Path) -> None:
    page = shown(shop, f"{ROLES}?leaf=whole/notes")
    assert f'<a href="{ROLES}/evolver?leaf=whole%2Fnotes"><g class="node" data-node="evolve">' in page
    assert f'href="{ROLES}?leaf=whole%2Fnotes#node-write"' in page  # several roles
    assert f'href="/runs/{ui.NAME}/candidates?leaf=whole%2Fnotes&amp;state=rejected"' in page
    assert 'class="node chosen" data-node="evolve"' in shown(shop, f"{ROLES}/evolver")


def test_a_role_shows_what_was_really_sent_last_in_a_leaf(shop: Path) -> None:
    found = view(shop, f"{ROLES}/critic?leaf=whole/advice")["rendered"]
    last = "SELECT id FROM candidates WHERE leaf = 'whole/advice' AND id IN (SELECT candidate FROM calls WHERE role = 'critic')"
    candidate = asked(shop, f"{last} ORDER BY rowid DESC")[0][0]
    row = asked(shop, "SELECT messages, reply, step FROM calls WHERE candidate = ? AND role = 'critic' ORDER BY seq DESC", candidate)[0]
    assert (found["candidate"], found["messages"], found["reply"], found["step"]) == (candidate, json.loads(row[0]), row[1], row[2])
    page = shown(shop, f"{ROLES}/critic?leaf=whole/advice")
    assert f'href="/runs/{ui.NAME}/candidates/{candidate}#call-{found["call"]}"' in page


@pytest.mark.parametrize(
    ("role", "more"), [("evolver", "&leaf=whole/advice"), ("writer", "&variant=persona.en"), ("planner", "&leaf=whole/sums")]
)
def test_from_call_to_call_one_comes_by_all_of_them_and_back(shop: Path, role: str, more: str) -> None:
    where, value = more[1:].split("=")
    wanted = {row[0] for row in asked(shop, f"SELECT id FROM calls WHERE role = ? AND {where} = ?", role, value)}
    seen, call = [], view(shop, f"{ROLES}/{role}?{more[1:]}")["rendered"]
    assert call["newer"] is None
    while call and len(seen) <= len(wanted):
        seen.append(call["call"])
        call = call["older"] and view(shop, f"{ROLES}/{role}?call={call['older']}{more}")["rendered"]
    assert len(seen) == len(wanted)
    assert set(seen) == wanted
    assert view(shop, f"{ROLES}/{role}?call={seen[-1]}{more}")["rendered"]["newer"] == seen[-2]


def test_a_leaf_in_which_it_was_not_asked_is_said_and_another_one_shown(shop: Path) -> None:
    found = view(shop, f"{ROLES}/tool-user?leaf=whole/notes")
    assert found["elsewhere"]
    assert found["rendered"]["leaf"] == "whole/orders"
    assert "In whole/notes it has not been asked yet." in shown(shop, f"{ROLES}/tool-user?leaf=whole/notes")


def test_the_prompt_file_is_shown_by_its_parts_with_what_it_reads_and_returns(shop: Path) -> None:
    found = view(shop, f"{ROLES}/critic?language=zh")
    assert found["file"]["file"] == "critic.zh.md"
    assert found["file"]["hash"] == found["rendered"]["prompt"]
    assert [one["kind"] for one in found["sections"]] == ["head", "system", "user"]
    text = (shop / ui.NAME / "prompts" / "critic.zh.md").read_text(encoding="utf-8")
    assert all(one["text"] in text for one in found["sections"])
    assert {"answer", "finding"} <= {*found["file"]["reads"]}
    assert {"name": "score", "type": "int, 1 to 5", "says": ""} in found["file"]["returns"]


def test_other_versions_of_a_prompt_file_are_named(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    change(runs, "UPDATE calls SET prompt_hash = 'before' WHERE role = 'annotator-clarity' AND id % 2 AND variant = 'en'")
    en = next(one for one in view(runs, f"{ROLES}/annotator-clarity")["role"]["variants"] if one["variant"] == "en")
    assert en["prompts"].keys() == {"before", en["file"]["hash"]}
    assert sum(en["prompts"].values()) == en["calls"]
    assert "versions of this file:" in shown(runs, f"{ROLES}/annotator-clarity")


def test_reasons_of_refusal_lead_to_the_candidates_that_it_worked_on(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    one_of_them = "SELECT c.id FROM candidates AS c JOIN calls AS k ON k.candidate = c.id AND k.role = 'answerer'"
    change(runs, f"UPDATE candidates SET stage = 'screen' WHERE id = ({one_of_them} WHERE c.state = 'rejected' AND c.code <> 'quota_met')")
    reasons = view(runs, f"{ROLES}/answerer")["reasons"]
    assert len({one["code"] for one in reasons}) < len(reasons)  # one code at two stages
    for one in reasons:
        assert view(runs, f"/runs/{ui.NAME}/candidates?{one['query']}")["found"] == one["count"]


def test_an_older_run_says_it_by_its_prompt_files_and_the_whole_graph(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    new = {one["name"]: one for one in view(shop)["roles"]}
    change(runs, "DELETE FROM meta WHERE key IN ('roles', 'graphs', 'leaves')")
    (runs / ui.NAME / "prompts" / "critic.en.md").write_text("---\nname: [critic\n", encoding="utf-8")  # spoilt since
    found = view(runs)
    assert found["graph"] == drawing.whole().model_dump()
    old = {one["name"]: one for one in found["roles"]}
    for name in ("writer", "annotator-clarity", "answerer"):
        assert [one["file"] for one in old[name]["variants"]] == [
            one["file"] | {"alias": "", "node": old[name]["variants"][0]["file"]["node"]} for one in new[name]["variants"]
        ]
    assert old["critic"]["calls"] == new["critic"]["calls"]


def test_a_node_that_no_prompt_file_plays_is_a_role_in_python(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    (written,) = (json.loads(row[0]) for row in asked(runs, "SELECT value FROM meta WHERE key = 'graphs'"))
    for shape in written["shapes"]:
        shape["nodes"].insert(2, "plain")
        shape["edges"].append({"source": "write", "target": "plain", "conditional": True})
    change(runs, "UPDATE meta SET value = ? WHERE key = 'graphs'", json.dumps(written))
    plain = next(one for one in view(runs)["roles"] if one["name"] == "plain")
    assert plain["python"]
    assert plain["nodes"] == ["plain"]
    assert "A role in Python" in shown(runs, f"{ROLES}/plain")


def test_what_models_and_files_say_is_text(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    ids = ui.spoil(runs)
    (runs / ui.NAME / "prompts" / "writer.en.md").write_text(f"---\n{ui.HARM}\n---\n{ui.HARM}", encoding="utf-8")
    call = asked(runs, "SELECT id FROM calls WHERE role = 'evolver' AND candidate = ?", ids["accepted"])[0][0]
    for address in (ROLES, f"{ROLES}/writer?variant=en", f"{ROLES}/evolver?call={call}"):
        page = shown(runs, address)
        assert "window.harmed" in page or address == ROLES
        assert not harms(page)


def harms(page: str) -> list[str]:
    """What a page has of elements and attributes that only somebody else can have put there."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag in ("iframe", "object", "embed", "style", "base") or (
                tag in ("script", "img") and not (given.get("src") or "").startswith("/static/")
            ):
                found.append(tag)
            found.extend(name for name in given if name.startswith("on") or name in ("style", "srcdoc"))
            found.extend(value for value in (given.get("href"), given.get("action")) if value and not value.startswith(("/", "#", "http")))

    Reader().feed(page)
    return found


def test_a_file_outside_of_the_prompts_is_never_shown(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    change(runs, "UPDATE meta SET value = replace(value, 'critic.en.md', '../recipe.yaml') WHERE key = 'roles'")
    assert view(runs, f"{ROLES}/critic?variant=en")["sections"] == []


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        (f"{ROLES}/nobody", 404, "unknown role"),
        (f"{ROLES}?leaf=whole/nothing", 400, "unknown leaf"),
        (f"{ROLES}/writer?leaf=whole/nothing", 400, "unknown leaf"),
        (f"{ROLES}/writer?variant=loud", 400, "unknown variant"),
        (f"{ROLES}/writer?call=999999", 400, "call 999999"),
        ("/runs/none/roles", 404, "unknown run"),
    ],
)
def test_what_is_not_there_is_told_by_its_name(shop: Path, address: str, status: int, says: str) -> None:
    answer = browser(shop).get(address, headers={"accept": "application/json"})
    assert answer.status_code == status
    assert says in answer.json()["detail"]


def test_the_pages_are_chinese_for_those_who_read_it(shop: Path) -> None:
    assert "角色分工" in shown(shop, ROLES, "zh")
    page = shown(shop, f"{ROLES}/critic", "zh")
    assert "在流程图中的位置" in page
    assert "次调用" in page


def test_graphs_of_several_leaves_are_put_together_in_the_order_of_each() -> None:
    def line(*names: str) -> Graph:
        return Graph(nodes=list(names), edges=[Edge(source=one, target=other) for one, other in itertools.pairwise(names)])

    found = cast.together([line("write", "answer", "admit"), line("write", "vote", "check", "admit")])
    assert found.nodes == ["write", "vote", "check", "answer", "admit"]
    assert len(found.edges) == 5
