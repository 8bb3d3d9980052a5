"""The page of a candidate: its row, its timeline, what changed it, what was thought of it; and that nothing a model wrote runs in it."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from selectolax.lexbor import LexborHTMLParser

from leafmill import screens, trace
from leafmill.errors import RunFolderError
from leafmill.ledger import Call, Ending, Ledger, Step
from leafmill.records import Brief, Row, Seed, ToolCall, Turn, Verdict, Vote
from leafmill.ui.candidate import chain, timeline
from leafmill.ui.diff import diff
from tests import ui

BRIEF = Brief(id="c0ffee00", leaf="shop/care", number=3, language="en", axes={"tone": "dry"}, seeds=(Seed(instruction="Ask."),))
NEAR = BRIEF.model_copy(update={"id": "bea20000", "number": 4})
ROW = Row(language="en", instruction="Say how to wash a red shirt.", answer="Cold, alone, with $2$ spoons.")
OF_LEAF = Step("leaf:shop/care", "shop/care", 1, "plan.0.en")
Make = Callable[[Ledger], Any]


def tree(page: Any) -> LexborHTMLParser:
    assert page.status_code == 200, page.text[:500]
    return LexborHTMLParser(page.text)


def texts(found: LexborHTMLParser, selector: str) -> list[str]:
    return [" ".join(node.text().split()) for node in found.css(selector)]


def call(seq: int, step: str, role: str, reply: str, **more: Any) -> Call:
    at = Step(BRIEF.id, BRIEF.leaf, seq, step)
    told: dict[str, Any] = {"params": {"max_tokens": 9, "seed": seq}, "messages": [{"role": "user", "content": f"{role}?"}], **more}
    return Call(
        f"{seq}{step}{reply}", at, role, "en", "abc123", "generator", "m-1", reply=reply, started_at=1000.0 + seq, seconds=0.5, **told
    )


def own(folder: Path, *writes: Make, row: Row | None = ROW, lineage: dict[str, Any] | None = None, ending: Ending | None = None) -> Path:
    """A folder of runs with one run, `own`, of one candidate of which this much is known, and of one that was accepted before it."""

    async def write() -> None:
        (folder / "runs" / "own").mkdir(parents=True)
        with Ledger(folder / "runs" / "own" / "ledger.db") as ledger:
            for brief in (BRIEF, NEAR):
                await ledger.begin(brief)
            await ledger.finish(NEAR, Ending("accepted", "admit"), ROW.model_copy(update={"instruction": "Say how to wash a blue shirt."}))
            for one in writes:
                if (done := one(ledger)) is not None:
                    await done
            await ledger.finish(BRIEF, ending or Ending("rejected", "screen", "minhash.duplicate", "0.9"), row, lineage)

    asyncio.run(write())
    return folder / "runs"


def page_of(runs: Path, id_: str = BRIEF.id, run: str = "own", **query: str) -> Any:
    return ui.client(runs).get(f"/runs/{run}/candidates/{id_}", params=query)


def view_of(runs: Path) -> dict[str, Any]:
    found: dict[str, Any] = page_of(runs, format="json").json()
    return found


# -- a run of the scripted server --------------------------------------------------------------------------------------


def test_each_step_says_who_was_asked_by_which_prompt_and_what_it_took(shop: Path) -> None:
    id_ = ui.an_id(shop, "accepted")
    found = tree(page_of(shop, id_, ui.NAME))
    view = ui.client(shop).get(f"/runs/shop/candidates/{id_}?format=json").json()
    assert len(found.css("details.step")) == len(view["steps"]) > 5
    calls = [event for event in view["events"] if event["kind"] == "call"]
    assert [node.attributes["id"] for node in found.css(".call")] == [f"call-{call['id']}" for call in calls]
    first = found.css(".call")[0]
    said = " ".join(first.text().split())
    for part in (calls[0]["file"], calls[0]["prompt_hash"], calls[0]["model"], f"max_tokens {calls[0]['params']['max_tokens']}"):
        assert part in said
    role = first.css_first("a").attributes["href"] or ""
    assert role.startswith(f"/runs/shop/roles/{calls[0]['role']}?leaf=")
    assert f"leafmill replay {id_} {calls[0]['id']} --run shop" in said
    assert (view["calls"], view["tokens"]) == (len(calls), sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls))
    assert view["money"] == pytest.approx(sum(call["cost"] for call in calls))


def test_the_json_is_the_trace_and_the_document_describes_it(shop: Path) -> None:
    id_ = ui.an_id(shop, "rejected")
    client = ui.client(shop, accept="application/json")
    view = client.get(f"/runs/shop/candidates/{id_}").json()
    assert view["candidate"]["id"] == view["head"]["id"] == id_
    assert {event["kind"] for event in view["events"]} >= {"call", "verdict"}
    assert [at for step in view["steps"] for at in step["events"]] == list(range(len(view["events"])))
    answer = client.get("/openapi.json").json()["paths"]["/runs/{run}/candidates/{id}"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/CandidateView")


def test_a_candidate_is_found_by_the_beginning_of_its_id_and_by_its_number(shop: Path) -> None:
    id_ = ui.an_id(shop, "accepted")
    entry = ui.client(shop).get(f"/runs/shop/candidates/{id_}?format=json").json()["head"]
    for name in (
        id_[:12],
        f"{entry['leaf']}#{entry['number']}".replace("#", "%23"),
        f"{entry['leaf']}#{entry['number']}".replace("/", "%2F").replace("#", "%23"),
    ):
        assert ui.client(shop).get(f"/runs/shop/candidates/{name}?format=json").json()["id"] == id_
    for name in ("nobody", "%25"):
        answer = page_of(shop, name, ui.NAME)
        assert answer.status_code == 404
        assert "no candidate has the id" in answer.text
    assert page_of(shop, id_, "nowhere").status_code == 404


def test_the_candidates_of_a_leaf_can_be_walked(shop: Path) -> None:
    client, at, seen = ui.client(shop), ui.an_id(shop, "accepted"), list[str]()
    while (head := client.get(f"/runs/shop/candidates/{at}?format=json").json()["head"])["previous"]:
        at = head["previous"]
    while at and len(seen) < 3:
        page = tree(client.get(f"/runs/shop/candidates/{at}"))
        seen.append(at)
        link = page.css_first("a[data-after]")
        at = (link.attributes["href"] or "").rpartition("/")[2] if link else ""
    assert len(set(seen)) == 3


def test_what_the_leaf_itself_asked_is_linked_and_has_a_page(shop: Path) -> None:
    id_ = ui.an_id(shop, "accepted")
    view = ui.client(shop).get(f"/runs/shop/candidates/{id_}?format=json").json()
    assert view["leaf_calls"]
    link = f"/runs/shop/candidates/leaf%3A{view['head']['leaf']}"
    assert link in page_of(shop, id_, ui.NAME).text
    of_leaf = tree(ui.client(shop).get(link))
    assert len(of_leaf.css(".call")) == len(view["leaf_calls"])
    assert page_of(shop, "leaf:no/such", ui.NAME).status_code == 404


def test_a_prompt_is_fetched_when_it_is_unfolded_and_has_an_address_of_its_own(shop: Path) -> None:
    client = ui.client(shop)
    fold = tree(page_of(shop, ui.an_id(shop, "accepted"), ui.NAME)).css_first("details.prompt")
    address = fold.attributes["hx-get"] or ""
    assert fold.css_first("a").attributes["href"] == address
    part = client.get(address, headers={"hx-request": "true"}).text
    assert "<html" not in part
    assert "turn system" in part
    assert "<html" in client.get(address).text
    told = client.get(address, headers={"accept": "application/json"}).json()
    assert [turn["role"] for turn in told["turns"]] == ["system", "user"]
    one = client.get(f"{address}.1?raw=1", headers={"hx-request": "true"}).text
    assert LexborHTMLParser(one).css_first(".raw").text()[:40] == told["turns"][1]["content"][:40]
    answer = client.get(address.replace(".prompt", ".secret"))
    assert answer.status_code == 404
    assert "expected call-" in answer.text


def test_a_row_is_shown_as_it_should_look_and_as_it_is(shop: Path) -> None:
    rich = _like(shop, "row", "%def total%$$E%")
    row = tree(page_of(shop, rich, ui.NAME)).css_first("#row")
    assert row.css_first(".turn.assistant table td.right") is not None
    assert row.css_first(".math.display").text() == "E = 0.2 \\times 40 = 8."
    assert row.css_first("pre.code .t-k") is not None
    row = tree(page_of(shop, rich, ui.NAME, raw="1")).css_first("#row")
    assert not row.css(".said")
    assert "$$E = 0.2 \\times 40 = 8.$$" in row.text()


def test_of_several_answers_it_shows_which_won_and_the_words_of_all(shop: Path) -> None:
    id_ = _like(shop, "lineage", '%"vote":{"sample"%')
    view = ui.client(shop).get(f"/runs/shop/candidates/{id_}?format=json").json()
    assert view["choice"]["code"] == "ok"
    answers = view["choice"]["answers"]
    assert [answer["won"] for answer in answers].count(True) == 1
    won = next(answer for answer in answers if answer["won"])
    assert won["text"] == view["candidate"]["row"]["answer"]
    replies = {event["id"]: event["reply"] for event in view["events"] if event["kind"] == "call"}
    assert all(
        answer["text"] and json.dumps(answer["text"][:30], ensure_ascii=False)[1:-1] in replies[answer["call"]] for answer in answers
    )


def test_nothing_that_a_model_wrote_becomes_part_of_the_page(shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    for state, id_ in ui.spoil(runs).items():
        raw = "?raw=1" if state == "accepted" else ""
        addresses = [f"/runs/shop/candidates/{id_}{raw}", f"/runs/shop/candidates/{id_}/text/row.answer"]
        first = tree(ui.client(runs).get(addresses[0]))
        for address in (*addresses, first.css_first("details.prompt").attributes["hx-get"] or ""):
            page = tree(ui.client(runs).get(address))
            assert not page.css("main script, main style, main iframe, main img, main form, main object, main embed, main meta, main base")
            for node in page.css("main, main *"):
                names = {name: value or "" for name, value in node.attributes.items()}
                assert not [
                    name for name in names if name.startswith(("on", "style", "src")) or name in ("autofocus", "action", "formaction")
                ]
                assert names.get("href", "#").startswith(("/", "#", "?", "http://harm.example/")), node.html
                assert all(value.startswith("/runs/shop/") for name, value in names.items() if name == "hx-get")
            assert "\u202e" not in page.html
            assert "1337" not in page.css_first("main").text(), "7 * 191 was worked out"


def test_the_page_speaks_chinese(shop: Path) -> None:
    said = ui.client(shop, "zh").get(f"/runs/shop/candidates/{ui.an_id(shop, 'waiting')}").text
    for word in ("时间线", "等待人工审核", "重新运行这一步", "关卡"):
        assert word in said
    assert not re.search(r"<h2[^>]*>\s*[A-Z]", said)


def _like(runs: Path, column: str, pattern: str) -> str:
    with closing(sqlite3.connect(runs / ui.NAME / "ledger.db")) as ledger:
        query = f"SELECT id FROM candidates WHERE {column} LIKE ? AND state = 'accepted' ORDER BY id LIMIT 1"
        return str(ledger.execute(query, (pattern,)).fetchone()[0])


# -- a ledger of its own -----------------------------------------------------------------------------------------------


def verdict(gate: str, decision: str = "accept", code: str = "ok", seq: int = 2, **more: Any) -> Make:
    told = Verdict.model_validate({"gate": gate, "decision": decision, "code": code, **more})
    return lambda ledger: ledger.note_verdict(Step(BRIEF.id, BRIEF.leaf, seq, "screen.0.0"), told)


def test_a_duplicate_stands_beside_its_neighbour_with_what_is_different(tmp_path: Path) -> None:
    near = verdict("minhash", "reject", "minhash.duplicate", value=0.91, threshold=0.6, evidence={"kept": NEAR.id, "view": "instruction"})
    seed = verdict("novelty", value=0.2, threshold=0.7, evidence={"nearest": "seed 2 of shop/care"})
    runs = own(tmp_path, near, seed)
    found = tree(page_of(runs)).css("article.near")
    assert len(found) == 2
    assert f"/runs/own/candidates/{NEAR.id}" in (found[0].html or "")
    assert "0.91" in found[0].text()
    assert [(node.tag, node.text()) for node in found[0].css(".changed del, .changed ins")] == [("del", "blue "), ("ins", "red ")]
    assert "seed 2 of shop/care" in found[1].text()


def test_a_piece_of_a_test_set_is_marked_where_it_stands(tmp_path: Path) -> None:
    spans = [{"part": "instruction", "start": 4, "end": 15, "text": "how to wash"}]
    evidence = {"set": "exam", "item": "q7", "rule": "words", "spans": spans}
    held = tree(page_of(own(tmp_path, verdict("contamination", "reject", "contamination.ngram", evidence=evidence)))).css_first("#near")
    assert held.css_first("mark").text() == "how to wash"
    assert " ".join(held.css_first("div.raw").text().split()) == "Say how to wash a red shirt."


def test_a_gate_shows_its_value_against_its_threshold_or_its_band(tmp_path: Path) -> None:
    low = verdict("length", "reject", "length.short", value=2, threshold=8)
    band = verdict("ifd", value=0.5, threshold=0.8, evidence={"band": [0.2, 0.8]}, seq=3)
    quiet = verdict("form", seq=3)
    runs = own(tmp_path, low, band, quiet)
    rows = tree(page_of(runs)).css("#gates tbody tr")
    assert [row.css("td")[1].text() for row in rows] == ["length", "ifd", "form"]
    assert [[part.attributes["class"] for part in row.css("svg rect")] for row in rows] == [["track", "off"], ["track", "band", "on"], []]
    gauge = view_of(runs)["judgements"][0]["gauge"]
    assert gauge["value"] < gauge["threshold"] < 100


def test_votes_stand_side_by_side_with_median_and_spread_and_a_seat_that_failed(tmp_path: Path) -> None:
    def vote(seq: int, role: str, **more: Any) -> Make:
        return lambda ledger: ledger.note_vote(Step(BRIEF.id, BRIEF.leaf, seq, "annotate.0.1"), Vote(role=role, **more))

    cast = [vote(4, "one", score=5, expected=4.5, rationale="Fine."), vote(4, "two", score=1), vote(4, "three", failed="timeout")]
    settled = verdict("agreement", "reject", "agreement.disagree", seq=5)
    runs = own(tmp_path, *cast, settled, vote(6, "arbiter", score=2), verdict("agreement", code="ok", seq=7), vote(8, "one", score=3))
    first, second = view_of(runs)["looks"]
    assert (first["median"], first["spread"], first["arbiter"]["score"]) == (2.75, 1.75, 2)
    assert [(seat["role"], seat["value"], seat["failed"]) for seat in first["seats"]] == [
        ("one", 4.5, ""),
        ("two", 1, ""),
        ("three", None, "timeout"),
    ]
    assert (first["code"], second["code"], second["median"]) == ("ok", "", 3)
    panel = tree(page_of(runs)).css_first("#panel")
    assert [node.text().strip() for node in panel.css(".who")] == ["one", "two", "three", "arbiter", "one"]
    assert "timeout" in panel.text()


def test_evolutions_are_a_chain_of_what_stood_and_what_did_not(tmp_path: Path) -> None:
    lineage = {
        "made": [
            {"part": "instruction", "step": "write.0.0", "role": "writer"},
            {"part": "instruction", "role": "evolver", "operator": "deepen", "from": "Say how to wash a shirt."},
        ],
        "evolutions": [
            {"operator": "breadth", "refused": "evolution.no_gain"},
            {"operator": "deepen", "refused": ""},
            {"operator": "constraints", "refused": "unreadable_reply"},
        ],
    }
    evolver = [
        lambda ledger, at=at, reply=reply, status=status: ledger.record_call(
            call(3 + at, f"evolve.{at}.0", "evolver", reply, status=status)
        )
        for at, (reply, status) in enumerate(
            [('{"instruction": "Iron it."}', "ok"), ('{"instruction": "x"}', "ok"), ("no", "unreadable_reply")]
        )
    ]
    compared = verdict("comparer", "reject", "evolution.no_gain", evidence={"rationale": "Something else."})
    runs = own(tmp_path, *evolver, compared, lineage=lineage)
    found = view_of(runs)["changes"]
    assert [(one["what"], one["stands"], one["code"], one["before"], one["after"]) for one in found] == [
        ("breadth", False, "evolution.no_gain", "Say how to wash a shirt.", "Iron it."),
        ("deepen", True, "", "Say how to wash a shirt.", ROW.instruction),
        ("constraints", False, "unreadable_reply", ROW.instruction, None),
    ]
    page = tree(page_of(runs))
    assert texts(page, ".chain li:nth-child(2) ins") == ["red"]
    assert page.css_first(".chain li a").attributes["href"] == f"#call-{found[0]['call']}"


def test_a_revision_shows_the_answer_before_and_after_and_what_the_critic_said(tmp_path: Path) -> None:
    calls = [
        call(1, "answer.0.0", "answerer", "Cold, alone."),
        call(3, "criticise.0.1", "critic", '{"reason": "No amount.", "score": 2}'),
        call(4, "answer.0.1", "answerer", ROW.answer),
    ]
    tried = {"step": "agree.0.2", "panel": [2.0, 4.0], "critic": [2, 4], "stays": True}
    writes = [lambda ledger, one=one: ledger.record_call(one) for one in calls]
    (change,) = view_of(own(tmp_path, *writes, lineage={"made": [], "revisions": [tried]}))["changes"]
    assert (change["kind"], change["before"], change["after"], change["stands"]) == ("revision", "Cold, alone.", ROW.answer, True)
    assert (change["said"], change["panel"]) == ("No amount.", [2.0, 4.0])


def test_a_reply_that_was_asked_for_again_says_so(tmp_path: Path) -> None:
    first = call(1, "answer.0.0", "answerer", "{", status="unreadable_reply", error="no JSON")
    again = call(1, "answer.0.0", "answerer", "{}", messages=[*first.messages, {"role": "user", "content": "Reply again"}], attempts=2)
    runs = own(tmp_path, lambda ledger: ledger.record_call(first), lambda ledger: ledger.record_call(again))
    one, two = tree(page_of(runs)).css(".call")
    assert "unreadable_reply" in one.text()
    assert "no JSON" in one.text()
    assert two.css_first(f"a[href='#{one.attributes['id']}']") is not None
    assert "2 tries" in " ".join(two.text().split())


def test_a_conversation_shows_tools_their_calls_and_results_and_the_reasoning(tmp_path: Path) -> None:
    turns = (Turn(role="system", content="Be brief."), Turn(role="user", content="Hi"), Turn(role="assistant", content="Hello"))
    steps = (
        Turn(role="assistant", content="", calls=(ToolCall(id="1", name="look_up", arguments={"of": "red <b>"}),)),
        Turn(role="tool", content='{"dye": 3}', answers="1"),
    )
    row = ROW.model_copy(
        update={"history": turns, "steps": steps, "reasoning": "Red bleeds.", "input": "A shirt", "tools": ({"name": "look_up"},)}
    )
    runs = own(tmp_path, row=row)
    page = tree(page_of(runs))
    assert texts(page, "#row .turn > .who") == ["System", "User", "Assistant", "User", "Input", "Assistant", "Tool", "Assistant"]
    assert "look_up" in page.css_first("#row .called").text()
    assert "Red bleeds." in page.css_first("#row details.reasoning").text()
    exported = view_of(runs)["exported"]
    assert [message["role"] for message in exported["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert exported["tools"]


def test_a_text_of_200_000_characters_is_shown_in_part_and_whole_at_its_own_address(tmp_path: Path) -> None:
    row = ROW.model_copy(update={"answer": "a line that is long enough\n" * 7_500 + "\u202e the end"})
    runs = own(tmp_path, row=row)
    page = page_of(runs)
    assert len(page.text) < 120_000
    link = tree(page).css_first("#row .rest a").attributes["href"] or ""
    whole = tree(ui.client(runs).get(link))
    assert whole.css_first("article .raw").text().endswith("U+202E the end")
    assert ui.client(runs, accept="application/json").get(link).json()["turns"][0]["content"] == row.answer


def test_a_candidate_without_a_row_or_with_one_of_another_version_has_its_page(tmp_path: Path) -> None:
    runs = own(tmp_path / "none", row=None, ending=Ending("errored", "write", "timeout", "no reply"))
    page = page_of(runs).text
    assert "There is no row" in page
    assert "It ended in an error at write:" in page
    runs = own(tmp_path / "other", lambda ledger: ledger.set_meta("roles", [{"odd": 1}]))
    with sqlite3.connect(runs / "own" / "ledger.db") as db:
        odd = json.dumps({"instruction": "Only this", "colour": "red", "lone": "\ud800"})
        db.execute("UPDATE candidates SET row = ?, lineage = '{\"made\": [7]}' WHERE id = ?", (odd, BRIEF.id))
    db.close()
    assert "Only this" in page_of(runs).text
    assert view_of(runs)["exported"] is None


def test_what_people_decided_stands_in_the_timeline(tmp_path: Path) -> None:
    runs = own(tmp_path, verdict("form"), row=ROW, ending=Ending("waiting", "agree", "agreement.disagree", "?"))
    with sqlite3.connect(runs / "own" / "ledger.db") as db:
        db.execute(
            "INSERT INTO reviews (candidate, seq, reviewer, decision, code, note, at) VALUES (?, 9, ?, 'reject', 'style', 'too *dry*', 5)",
            (BRIEF.id, "Ana <b>"),
        )
    db.close()
    page = tree(page_of(runs))
    assert texts(page, ".step:last-of-type .node") == ["review"]
    assert "Ana <b>" in page.css_first(".review").text()
    assert page.css_first(".review em").text() == "dry"
    assert "/runs/own/review?candidate=" in (page.css_first(".why .button").attributes["href"] or "")


def test_the_terminal_shows_decisions_and_what_a_leaf_asked(tmp_path: Path) -> None:
    runs = own(tmp_path, verdict("form"), lambda ledger: ledger.record_call(replace(call(1, "plan.0.en", "planner", "[]"), step=OF_LEAF)))
    with sqlite3.connect(runs / "own" / "ledger.db") as db:
        columns = "candidate, seq, reviewer, decision, note, at, undone_at"
        db.execute(f"INSERT INTO reviews ({columns}) VALUES (?, 9, 'Ana', 'edit', 'shorter', 5, 6)", (BRIEF.id,))
    db.close()
    with Ledger(runs / "own" / "ledger.db", read_only=True) as ledger:
        assert "9. Ana: edit shorter (undone)" in _shown(trace.read(ledger, BRIEF.id))
        of_leaf = _shown(trace.read(ledger, f"leaf:{BRIEF.leaf}"))
        assert "planner.en -> m-1" in of_leaf
        assert "in 1 calls" in of_leaf
        with pytest.raises(RunFolderError, match="the leaf 'no/such' has asked nothing by itself"):
            trace.read(ledger, "leaf:no/such")


def _shown(found: trace.Trace) -> str:
    console = Console(width=120, record=True, file=StringIO())
    screens.trace(found, console)
    return console.export_text()


# -- laws --------------------------------------------------------------------------------------------------------------

WORDY = st.lists(st.sampled_from(["a", "bc", "d ", " ", "\n", "\u4f60", "\u597d", ", ", "7.5", "!"]), max_size=40).map("".join)


@settings(max_examples=150, deadline=None)
@given(WORDY, WORDY)
def test_a_diff_holds_both_texts_and_says_the_same_of_nothing_else(before: str, after: str) -> None:
    pieces = diff(before, after)
    assert "".join(piece.text for piece in pieces if piece.change != "come") == before
    assert "".join(piece.text for piece in pieces if piece.change != "gone") == after
    assert all(piece.text for piece in pieces)
    assert before != after or {piece.change for piece in pieces} <= {"same"}


def test_a_diff_is_by_words_and_of_chinese_by_signs() -> None:
    assert [piece for piece in diff("Wash it cold.", "Wash it warm.") if piece.change != "same"] == [("gone", "cold"), ("come", "warm")]
    assert [piece for piece in diff("\u6d17\u7ea2\u8863", "\u6d17\u84dd\u8863") if piece.change != "same"] == [
        ("gone", "\u7ea2"),
        ("come", "\u84dd"),
    ]


def test_long_texts_are_compared_by_lines_and_then_not_at_all() -> None:
    before = [f"{n} a b c d e f g\n" for n in range(1500)]
    after = [line if n not in (10, 900) else "new\n" for n, line in enumerate(before)]
    changed = [piece for piece in diff("".join(before), "".join(after)) if piece.change != "same"]
    assert changed == [("gone", before[10]), ("come", "new\n"), ("gone", before[900]), ("come", "new\n")]
    assert [piece.change for piece in diff("".join(before * 2), "".join(before[::-1] * 2))] == ["gone", "come"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=12))
def test_bars_stand_on_the_axis_in_the_order_of_their_times(times: list[tuple[float, float]]) -> None:
    events = [{"kind": "call", "started_at": start, "seconds": took} for start, took in times]
    bar = timeline._axis(events)
    found = [(event["started_at"], bar(event)) for event in events]
    placed = sorted((start, one.start) for start, one in found if one)
    assert all(0 <= place <= 100 for _, place in placed)
    assert [place for _, place in placed] == sorted(place for _, place in placed)
    assert all(one.width > 0 for _, one in found if one)


def test_a_night_between_two_calls_takes_little_of_the_axis() -> None:
    events = [{"kind": "call", "started_at": start, "seconds": 1.0} for start in (0.0, 50_000.0)]
    first, second = (timeline._axis(events)(event) for event in events)
    assert first is not None
    assert second is not None
    assert first.width == second.width > 45


def test_a_choice_without_the_seed_of_the_run_names_no_words() -> None:
    made = [{"step": "vote.0.0", "vote": {"by": "vote", "code": "x", "answers": [{"sample": 0, "alias": "a"}]}}]
    found = chain.choice(made, [], None, None)
    assert found is not None
    assert found.answers[0].text is None
