"""Candidates that wait for a person: they stop at LangGraph's interrupt, and go on from there by what somebody decided."""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, taxonomy, told

from agents.scripted import Request, ScriptedServer
from graphs import run as running
from leafmill.records import Row

TALE = "Once upon a time a sheet of paper wanted to be filed, and nobody knew on which shelf."


def decide(folder: Path, number: int, decision: str, row: Row | None = None, code: str = "", note: str = "", leaf: str = "t/a") -> None:
    """As a reviewer would: one row in the ledger's table."""
    with sqlite3.connect(folder / "run" / "ledger.db") as ledger:
        (id_,) = ledger.execute("SELECT id FROM candidates WHERE leaf = ? AND number = ?", (leaf, number)).fetchone()
        entry = (id_, 99, "ann", decision, code, note, row and row.model_dump_json(), time.time())
        ledger.execute(
            'INSERT INTO reviews (candidate, seq, reviewer, decision, code, note, "row", at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)', entry
        )
    ledger.close()


def taken(folder: Path) -> list[bool]:
    with sqlite3.connect(folder / "run" / "ledger.db") as ledger:
        found = [row[0] is not None for row in ledger.execute("SELECT taken_at FROM reviews ORDER BY id")]
    ledger.close()
    return found


def checkpoints(folder: Path) -> int:
    with sqlite3.connect(folder / "run" / "ledger.db") as ledger:
        (count,) = ledger.execute("SELECT count(DISTINCT thread_id) FROM checkpoints").fetchone()
    ledger.close()
    return int(count)


def divided(*numbers: int) -> Cast:
    """A cast whose panel is split over these candidates, and whose arbiter is on nobody's side."""

    def vote(request: Request, case: Case) -> Any:
        first = "helpful" in (request.role or "")
        return {"rationale": "So it is.", "score": 1 if first else 5} if case.number in numbers else None

    return Cast(annotator=vote, arbiter={"rationale": "Hard to say.", "score": 3})


async def one_divided(tmp_path: Path, server: ScriptedServer, **overrides: Any) -> Any:
    server.script = divided(1)
    wanted = recipe(tmp_path, server, **overrides)
    await go(wanted, tmp_path)
    held = told(tmp_path).of(1)
    assert (held["state"], held["stage"], held["code"]) == ("waiting", "agree", "agreement.disagree")
    return wanted


async def test_who_is_accepted_goes_on_behind_the_panel_and_gets_in_though_the_leaf_is_full(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = await one_divided(tmp_path, server)
    before, asked = told(tmp_path), len(server.requests)
    assert (before.states["accepted"], before.states["waiting"]) == (3, 1)
    assert checkpoints(tmp_path) == 1  # of no other candidate
    decide(tmp_path, 1, "accept")
    again = await go(wanted, tmp_path)
    after = told(tmp_path)
    assert (after.states["accepted"], after.states["waiting"]) == (4, 0)
    assert again.exit_code == 0
    assert len(server.requests) == asked  # nothing is asked again, not even by a look at the ledger
    assert "review:review" in after.steps(1)
    assert after.of(1)["lineage"]["review"]["reviewer"] == "ann"
    assert taken(tmp_path) == [True]
    assert checkpoints(tmp_path) == 0


async def test_who_is_rejected_ends_with_the_reviewers_reason(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = await one_divided(tmp_path, server)
    decide(tmp_path, 1, "reject", code="wrong", note="The shelf does not exist.")
    await go(wanted, tmp_path)
    end = told(tmp_path).of(1)
    assert (end["state"], end["stage"], end["code"], end["detail"]) == ("rejected", "review", "review.wrong", "The shelf does not exist.")


async def test_an_edited_row_goes_through_the_gates_of_the_answer_and_has_no_votes(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = await one_divided(tmp_path, server)
    row = Row.model_validate(told(tmp_path).of(1)["row"])
    decide(tmp_path, 1, "edit", row.model_copy(update={"answer": f"{row.answer} Then tell the accountant."}))
    await go(wanted, tmp_path)
    after = told(tmp_path)
    end = after.of(1)
    assert end["state"] == "accepted"
    assert end["row"]["answer"].endswith("Then tell the accountant.")
    steps = after.steps(1)
    assert "check:refusal" in steps[steps.index("review:review") :]
    assert {"part": "answer", "step": end["lineage"]["made"][-1]["step"], "reviewer": "ann"} == end["lineage"]["made"][-1]
    assert "panel" not in end["lineage"]


async def test_an_edited_row_that_a_gate_refuses_is_rejected_by_that_gate(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = await one_divided(tmp_path, server)
    row = Row.model_validate(told(tmp_path).of(1)["row"])
    decide(tmp_path, 1, "edit", row.model_copy(update={"answer": "I'm sorry, but as an AI I can't help with that."}))
    await go(wanted, tmp_path)
    end = told(tmp_path).of(1)
    assert (end["state"], end["stage"]) == ("rejected", "check")
    assert end["lineage"]["review"]["decision"] == "edit"


async def test_the_running_process_goes_on_by_a_decision_without_being_started_again(
    tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LISTEN", 0.05)
    monkeypatch.setattr(running, "SETTLED", 0.0)
    server.script = divided(0)
    server.latency = 0.05

    async def person() -> None:
        while not told(tmp_path).states["waiting"]:
            await asyncio.sleep(0.05)
        decide(tmp_path, 0, "accept")
        while told(tmp_path).of(0)["state"] == "waiting":
            await asyncio.sleep(0.05)

    tasks: list[asyncio.Task[None]] = []

    def during(run: Any) -> None:
        tasks.append(asyncio.get_running_loop().create_task(person()))

    await go(recipe(tmp_path, server, target=8, in_flight=1), tmp_path, during)
    await asyncio.wait_for(tasks[0], 5)
    assert told(tmp_path).of(0)["state"] == "accepted"


async def test_rows_of_the_audit_sample_count_towards_the_quota_and_the_leaf_waits(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = recipe(tmp_path, server, review={"share": 1.0})
    first = await go(wanted, tmp_path)
    held = told(tmp_path)
    assert held.states == {"waiting": 3}
    assert {one["code"] for one in held.candidates} == {"review.sample"}
    assert first.jobs[0].outcome.state == "waiting"
    assert first.exit_code == 3
    for number in (0, 1):
        decide(tmp_path, number, "accept")
    decide(tmp_path, 2, "reject", code="style")
    await go(wanted, tmp_path)
    after = told(tmp_path)
    assert after.accepted == [("t/a", 0), ("t/a", 1)]
    assert after.states["waiting"] == 1  # another in place of the rejected one
    decide(tmp_path, next(one["number"] for one in after.candidates if one["state"] == "waiting"), "accept")
    last = await go(wanted, tmp_path)
    assert last.exit_code == 0


async def test_the_audit_sample_is_drawn_alike_in_every_run(tmp_path: Path, server: ScriptedServer) -> None:
    drawn = []
    for name in ("one", "two"):
        (folder := tmp_path / name).mkdir()
        await go(recipe(folder, server, target=8, review={"share": 0.4}), folder)
        drawn.append([one["number"] for one in told(folder).candidates if one["code"] == "review.sample"])
    assert drawn[0] == drawn[1]
    assert 0 < len(drawn[0]) < 8


async def test_a_low_vote_waits_where_the_rule_says_so(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(annotator=lambda request, case: {"rationale": "Fine.", "score": 3 if case.number == 1 else 5})
    await go(recipe(tmp_path, server, review={"panel_below": 4}), tmp_path)
    assert [(one["number"], one["code"]) for one in told(tmp_path).candidates if one["state"] == "waiting"] == [(1, "review.panel")]


async def test_one_that_lost_its_checkpoint_is_carried_there_again_without_paying(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = await one_divided(tmp_path, server)
    asked = len(server.requests)
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("DELETE FROM checkpoints")
        ledger.execute("DELETE FROM writes")
    ledger.close()
    decide(tmp_path, 1, "accept")
    await go(wanted, tmp_path)
    assert told(tmp_path).of(1)["state"] == "accepted"
    assert len(server.requests) == asked


async def test_a_row_that_lost_its_checkpoint_holds_its_place_once(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = recipe(tmp_path, server, review={"share": 1.0})
    await go(wanted, tmp_path)
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("DELETE FROM checkpoints")
    ledger.close()
    for number in range(3):
        decide(tmp_path, number, "reject", code="wrong")
    await go(wanted, tmp_path)
    after = told(tmp_path)
    assert [after.of(number)["code"] for number in range(3)] == ["review.wrong"] * 3
    assert after.states["waiting"] == 3  # three others


async def test_a_run_stopped_as_it_goes_on_keeps_the_decision_for_the_next(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = await one_divided(tmp_path, server)
    decide(tmp_path, 1, "accept")
    await go(wanted, tmp_path, during=lambda run: run.stop())
    assert taken(tmp_path) == [False]
    assert told(tmp_path).of(1)["state"] == "waiting"
    await go(wanted, tmp_path)
    assert told(tmp_path).of(1)["state"] == "accepted"


async def test_a_decision_that_was_undone_counts_for_nothing(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = await one_divided(tmp_path, server)
    decide(tmp_path, 1, "reject", code="wrong")
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("UPDATE reviews SET undone_at = 1")
    ledger.close()
    await go(wanted, tmp_path)
    assert told(tmp_path).of(1)["state"] == "waiting"


async def test_nobody_can_accept_a_candidate_without_an_answer_but_somebody_can_write_one(tmp_path: Path, server: ScriptedServer) -> None:
    taxonomy(tmp_path, settings={"a": {"mode": {"answers": 3}}})
    each = iter(range(1000))
    server.script = Cast(answerer=lambda request, case: f"Of {case.leaf}-{case.number}, walk along it and count.\nAnswer: {next(each)}")
    wanted = recipe(tmp_path, server, target=1, limits={"candidates_per_leaf": 1})
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["code"] == "vote.no_consensus"
    decide(tmp_path, 0, "accept")
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["state"] == "waiting"
    row = Row.model_validate(told(tmp_path).of(0)["row"])
    decide(tmp_path, 0, "edit", row.model_copy(update={"answer": "Count every sheet on the shelf, and write the number on its lid."}))
    last = await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted"
    assert taken(tmp_path) == [True, True]
    assert last.exit_code == 0


async def test_what_no_gate_can_measure_passes_once_a_person_accepts_it(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = recipe(tmp_path, server, target=1, gates={"semantic": False, "ifd": False, "agreement": {"min_votes": 9}})
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["code"] == "agreement.too_few_votes"
    decide(tmp_path, 0, "accept")
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted"


async def test_a_budget_that_ends_in_the_middle_leaves_it_waiting_with_its_decision(tmp_path: Path, server: ScriptedServer) -> None:
    rule = {"critic_below": 2}  # so that there is a node between the person and the door
    wanted = await one_divided(tmp_path, server, review=rule)
    before = told(tmp_path).steps(1)
    decide(tmp_path, 1, "accept")
    await go(recipe(tmp_path, server, review=rule, limits={"minutes": 1e-9}), tmp_path)
    held = told(tmp_path)
    assert (held.of(1)["state"], held.of(1)["code"], taken(tmp_path)) == ("waiting", "agreement.disagree", [False])
    await go(wanted, tmp_path)
    after = told(tmp_path)
    assert after.of(1)["state"] == "accepted"
    assert after.steps(1)[: len(before)] == before
    assert after.steps(1).count("review:review") == 1


def test_a_checkpoint_gives_back_all_that_a_state_may_hold() -> None:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from agents.critic import Critique
    from graphs.candidate import start
    from graphs.state import Earlier, Evolved
    from graphs.waiting import STATE
    from leafmill.ledger import Ending
    from leafmill.records import Brief, Mode, Review, Seed, Source, ToolCall, Turn, Vote
    from taxonomy.tools import Tool, ToolTask

    tool = Tool(name="find", description="Finds.", parameters={"type": "object", "properties": {}}, returns={"type": "object"})
    seed, source = Seed(instruction="归档", language="zh"), Source(name="s", place="1", text="passage")
    brief = Brief(id="1", leaf="t/a", number=0, language="zh", axes={"card": "c1"}, seeds=(seed,), mode=Mode(turns=2), source=source)
    turn = Turn(role="assistant", content="", calls=(ToolCall(id="c", name="find", arguments={"q": 1}),))
    row = Row(language="zh", instruction="说明", answer="好", history=(turn,), tools=({"name": "find"},))
    votes, critique, ending = [Vote(role="a", score=3, expected=2.5)], Critique(score=2, reason="短"), Ending("waiting", "agree", "x", "y")
    review = Review(candidate="1", reviewer="安", decision="edit", row=row, at=1.5)
    earlier = Earlier(row, votes, critique, False, [{"part": "answer"}], ending, "f", "t", True)
    state = {
        **start(brief),
        **{"row": row, "votes": votes, "critique": critique, "earlier": earlier, "review": review, "ending": ending, "eliminated": row},
        **{"evolutions": [Evolved("deepen", row, [{"part": "instruction"}])], "tool_task": ToolTask(needed=(tool,), shown=(tool,))},
    }
    kept = JsonPlusSerializer(allowed_msgpack_modules=[(one.__module__, one.__qualname__) for one in STATE])
    assert kept.loads_typed(kept.dumps_typed(state)) == state
