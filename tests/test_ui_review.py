"""The page `review`: the queue in a browser and for programs, decisions, undo, and people against the panel."""

from __future__ import annotations

import html
import os
import platform
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from leafmill.ledger import Ledger
from leafmill.records import Review, Turn
from leafmill.reviews import Queue
from tests import ui
from tests.waiting import Held, sampled, several, written

PAGE = "/runs/shop/review"
JSON = {"accept": "application/json"}
ZERO, ONE, TWO = (Held(number).id for number in range(3))


def opened(folder: Path, *held: Held, language: str = "en", **meta: Any) -> ui.Client:
    """A browser on a run in which these wait."""
    written(folder / "shop", *held, **meta)
    return ui.client(folder, language)


def decided(folder: Path) -> list[Review]:
    with Ledger(folder / "shop" / "ledger.db", read_only=True) as ledger:
        return ledger.decisions(time.time() + 1)


def seen(text: str) -> str:
    """A page as it is read: without its marks, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def word(page: ui.Client) -> dict[str, str]:
    """What a change must bring, as a program gets it."""
    return {"X-CSRF-Token": page.get(PAGE, headers=JSON).headers["X-CSRF-Token"]}


def decide(page: ui.Client, id_: str, query: str = "", **fields: str) -> Any:
    return page.change(f"{PAGE}/{id_}{query}", PAGE, **fields)


# -- looking -----------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_row_why_it_waits_and_what_was_said_of_it(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0, reasoning="Heavy sheets lie low.", history=(Turn(role="user", content="Good morning."),)), Held(1))
    text = seen(page.get(PAGE).text)
    for said in (
        "The panel is divided: its votes lie 4 points apart, and at most 2 are allowed.",
        "Good morning.",
        "Which shelf does sheet 0 go on?",
        "Heavy sheets lie low.",
        "Sheet 0 goes on the lowest shelf.",
        "annotator@judge-0 5",
        "It is worth 1.",
        "The critic's remark 4",
        "It does not say why.",
        "card c0",
        "2 gates looked at it",
    ):
        assert said in text


def test_to_open_the_page_claims_and_to_ask_for_json_does_not(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), Held(1))
    assert page.get(f"{PAGE}?reviewer=ann", headers=JSON).json()["case"]["id"] == ZERO
    assert page.get(f"{PAGE}?reviewer=bob", headers=JSON).json()["case"]["id"] == ZERO
    page.get(f"{PAGE}?reviewer=ann")
    view = page.get(f"{PAGE}?reviewer=bob", headers=JSON).json()
    assert (view["case"]["id"], view["counts"]["claimed"], view["claimed_until"]) == (ONE, 1, None)
    assert ui.client(tmp_path).change(f"{PAGE}/{ZERO}/claim", f"{PAGE}?reviewer=bob").status_code == 409


def test_who_leaves_lets_go_and_who_stays_keeps(tmp_path: Path) -> None:
    page, queue = opened(tmp_path, Held(0), Held(1)), Queue(tmp_path / "shop" / "ledger.db")
    until = re.search(r'data-until="([\d.]+)"', page.get(f"{PAGE}?reviewer=ann").text)
    assert until
    assert page.change(f"{PAGE}/{ZERO}/claim", PAGE).json()["until"] > float(until[1]) - 1
    time.sleep(0.01)
    page.change(f"{PAGE}/release?until={until[1]}", PAGE)
    assert queue.first_for("bob") == ONE  # the page was opened again before it was told that it was left
    assert page.post(f"{PAGE}/release", headers=word(page)).status_code == 204
    assert queue.first_for("bob") == ZERO


def test_the_reviewer_is_asked_once(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), Held(1))
    assert "Who reviews?" in page.get(PAGE).text
    page.get(f"{PAGE}?reviewer=%E7%8E%8B%E8%8A%B3")
    assert "Who reviews?" not in page.get(PAGE).text
    assert page.get(PAGE, headers=JSON).json()["case"]["id"] == ZERO  # whoever has said their name looks at the same one
    decide(page, ZERO, decision="accept")
    page.post(f"{PAGE}/{ONE}", json={"decision": "accept", "reviewer": "dan"}, headers=word(page))
    assert [one.reviewer for one in decided(tmp_path)] == ["王芳", "dan"]


def test_the_filter_of_the_candidates_narrows_the_queue_and_stays(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), sampled(1), Held(2, leaf="t/b"), Held(3, state="rejected"))
    b2, query = Held(2, leaf="t/b").id, "?leaf=t%2Fb&code=agreement.disagree"
    assert page.get(f"{PAGE}{query}", headers=JSON).json()["case"]["id"] == b2
    went = decide(page, b2, query, decision="skip")
    assert went.headers["location"].startswith(f"{PAGE}{query}&did=")
    assert "Of those chosen, nobody waits" not in page.get(went.headers["location"]).text
    assert page.get(f"{PAGE}?state=waiting&panel.min=4", headers=JSON).json()["case"]["id"] == sampled(1).id  # known to the index alone
    assert "Of those chosen, nobody waits" in page.get(f"{PAGE}?state=rejected").text
    assert page.get(f"{PAGE}?leef=x").status_code == 400


def test_of_a_selection_those_that_do_not_wait_are_named(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), Held(1), Held(2, "minhash.duplicate", state="rejected"))
    Queue(tmp_path / "shop" / "ledger.db").decide(ONE, "bob", "accept")
    view = page.get(f"{PAGE}?ids={ONE},{TWO}&ids={ZERO}&ids=nobody", headers=JSON).json()
    assert view["case"]["id"] == ZERO
    assert [(one["id"], one["code"]) for one in view["refused"]] == [(ONE, "decided"), (TWO, "not_waiting"), ("nobody", "unknown")]
    assert "3 of those selected cannot be decided" in page.get(f"{PAGE}?ids={ONE},{TWO},{ZERO},nobody").text


def test_an_empty_queue_teaches_how_to_fill_it(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0, state="rejected"))
    text = seen(page.get(PAGE).text)
    assert "Nobody waits" in text
    assert "review: share: 0.1" in text
    assert "59 rows of the audit sample" in text


def test_what_all_others_look_at_is_not_shown(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0))
    Queue(tmp_path / "shop" / "ledger.db").next_for("bob")
    assert "All who wait are with other reviewers" in page.get(PAGE).text


def test_a_hostile_row_stays_text(tmp_path: Path) -> None:
    harm = Held(0, answer="", reasoning=ui.HARM, answers=(ui.HARM,), history=(Turn(role="user", content=ui.HARM),))._replace(stage="vote")
    page = opened(tmp_path, harm)
    for text in (page.get(PAGE).text, page.get(f"{PAGE}?take=0").text):
        assert "window.harmed" in text
        assert not re.search(r"<[^>]*\s(on\w+|style)=", text)
        assert set(re.findall(r"<script[^>]*>", text)) == set(re.findall(r'<script src="/static/[^>]*>', text))
        assert not re.search(r"<(iframe|meta http|style|img src=.?/harm|form action=.http)", text)
        assert "\u202e" not in re.sub(r"<textarea.*?</textarea>", "", text, flags=re.DOTALL)


def test_all_that_the_page_says_is_said_in_chinese_too(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), several(1), language="zh")
    for text in (
        seen(page.get(PAGE).text),
        seen(page.get(f"{PAGE}?code=vote.no_consensus").text),
        seen(page.get(f"{PAGE}/agreement").text),
    ):
        assert not re.search(r"waiting|Accept|Reject|reviewer|panel|answers|decided", text.replace("agreement.disagree", ""))


# -- deciding ----------------------------------------------------------------------------------------------------------


def test_a_form_decides_and_leads_to_the_next_with_a_line_that_says_so(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), Held(1))
    went = decide(page, ZERO, decision="reject", code="style", note="啰嗦")
    assert went.status_code == 303
    text = seen(page.get(went.headers["location"]).text)
    assert re.search(r"t/a #0 : rejected by \S+; it goes on with the next run: leafmill run", text)
    assert "Which shelf does sheet 1 go on?" in text
    assert [(one.decision, one.code, one.note) for one in decided(tmp_path)] == [("reject", "style", "啰嗦")]


def test_beside_a_running_process_the_line_says_that_it_takes_it(tmp_path: Path) -> None:
    process = {"pid": os.getpid(), "host": platform.node(), "began_at": 1.0, "command": "leafmill run x.yaml"}
    page = opened(tmp_path, Held(0), process=process)
    went = decide(page, ZERO, decision="accept")
    assert "it goes on in the running run, in 5 s." in seen(page.get(went.headers["location"]).text)


def test_json_decides_as_well(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0))
    token = word(page)
    made = page.post(
        f"{PAGE}/{ZERO}", json={"decision": "edit", "row": {"answer": "Better."}, "note": "n", "reviewer": "ann"}, headers=token
    )
    assert made.status_code == 200
    assert (made.json()["entry"]["reviewer"], made.json()["entry"]["became"], made.json()["going"]["running"]) == ("ann", "pending", False)
    assert [one.row and one.row.answer for one in decided(tmp_path)] == ["Better."]
    again = page.post(f"{PAGE}/{ZERO}", json={"decision": "accept"}, headers=token)
    assert (again.status_code, again.json()["code"]) == (409, "decided")
    assert page.post(f"{PAGE}/{ZERO}", json={"decide": "accept"}, headers=token).status_code == 400
    described = page.get("/openapi.json").json()["paths"]["/runs/{run}/review/{id}"]["post"]["requestBody"]["content"]
    assert set(described) == {"application/json", "application/x-www-form-urlencoded"}


def test_without_the_pages_word_nothing_is_decided(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0))
    for address in (f"{PAGE}/{ZERO}", f"{PAGE}/undo", f"{PAGE}/release", f"{PAGE}/{ZERO}/claim"):
        assert page.post(address, data={"decision": "accept"}).status_code == 403
    assert decided(tmp_path) == []


def test_whoever_is_slower_gets_a_notice_and_the_next_candidate(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), Held(1))
    Queue(tmp_path / "shop" / "ledger.db").decide(ZERO, "bob", "accept")
    slower = decide(page, ZERO, decision="accept")
    assert slower.status_code == 409
    assert "Somebody was faster: it is decided already." in slower.text
    assert "bob accepted it at" in slower.text
    assert "Which shelf does sheet 1 go on?" in slower.text


def test_an_edit_takes_the_fields_of_the_form(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0))
    decide(page, ZERO, decision="edit", instruction="Where?", input="", answer="There.\r\nOr not.")
    (one,) = decided(tmp_path)
    assert one.row is not None
    assert (one.row.instruction, one.row.answer) == ("Where?", "There.\nOr not.")


def test_an_edit_that_is_none_keeps_what_was_written(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0))
    refused = decide(page, ZERO, decision="edit", instruction="A new question", answer=" ")
    assert refused.status_code == 400
    assert "the answer of an edited row must not be empty" in refused.text
    assert re.search(r'<details id="edit"[^>]* open>', refused.text)
    assert "A new question</textarea>" in refused.text
    assert decided(tmp_path) == []


def test_one_of_several_answers_is_taken_into_the_edit(tmp_path: Path) -> None:
    page = opened(tmp_path, several(0))
    text = page.get(PAGE).text
    assert re.search(r'<button class="first"[^>]*value="accept"[^>]* disabled', text)
    taken = page.get(f"{PAGE}?take=1").text
    assert "Sheet 0: the second shelf.</textarea>" in taken
    assert "take=1" not in re.findall(r'action="([^"]+)"', taken)
    assert page.get(f"{PAGE}?take=9").status_code == 200


def test_undo_shows_the_candidate_again_or_says_what_became_of_it(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0), Held(1))
    decide(page, ZERO, decision="accept")
    undone = page.change(f"{PAGE}/undo", PAGE)
    assert undone.status_code == 303
    text = seen(page.get(undone.headers["location"]).text)
    assert "t/a #0 : taken back; it waits again." in text
    assert "Which shelf does sheet 0 go on?" in text
    decide(page, ZERO, decision="accept")
    with closing(sqlite3.connect(tmp_path / "shop" / "ledger.db")) as ledger:
        ledger.execute("UPDATE reviews SET taken_at = 5")
        ledger.execute("UPDATE candidates SET state = 'rejected', stage = 'score', code = 'ifd.low' WHERE id = ?", (ZERO,))
        ledger.commit()
    late = page.change(f"{PAGE}/undo", PAGE)
    assert late.status_code == 409
    assert "That cannot be undone any more: it has gone on." in late.text
    assert "it is rejected (score: ifd.low)" in late.text


# -- agreement and history ---------------------------------------------------------------------------------------------


def test_the_side_page_has_the_figures_and_the_history(tmp_path: Path) -> None:
    page = opened(tmp_path, sampled(0, 5, 4), sampled(1, 5, 4), Held(2, votes=(1, 2)), Held(3))
    queue = Queue(tmp_path / "shop" / "ledger.db")
    queue.decide(ZERO, "ann", "accept")
    queue.decide(ONE, "bob", "reject", code="wrong", note="no")
    queue.decide(TWO, "ann", "reject", code="unsafe")
    view = page.get(f"{PAGE}/agreement", headers=JSON).json()
    assert (view["people"]["all"]["accuracy"]["value"], view["people"]["all"]["kappa"]) == (pytest.approx(2 / 3), pytest.approx(0.4))
    assert [(one["reviewer"], one["decision"]) for one in view["history"]] == [("ann", "reject"), ("bob", "reject"), ("ann", "accept")]
    text = seen(page.get(f"{PAGE}/agreement").text)
    for said in ("of one mind 67%", "Cohen's kappa 0.40", "review.sample", "annotator@judge-0", "bob"):
        assert said in text
    assert "Of 2 rows drawn by chance from all that passed everything, people rejected 1 (50%; 9–91% with 95%)" in text
    assert "wrong · no" in text


def test_without_reviews_the_side_page_says_so(tmp_path: Path) -> None:
    page = opened(tmp_path, Held(0))
    text = seen(page.get(f"{PAGE}/agreement").text)
    assert "there is nothing to compare yet" in text
    assert "Nobody has decided a row of an audit sample yet." in text


def test_the_history_has_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leafmill.ui import review

    monkeypatch.setattr(review, "HISTORY", 2)
    page = opened(tmp_path, Held(0), Held(1), Held(2))
    for id_ in (ZERO, ONE, TWO):
        decide(page, id_, decision="accept")
    first = page.get(f"{PAGE}/agreement", headers=JSON).json()
    rest = page.get(f"{PAGE}/agreement?before={first['before']}", headers=JSON).json()
    assert [one["number"] for one in (*first["history"], *rest["history"])] == [2, 1, 0]
    assert rest["before"] is None
