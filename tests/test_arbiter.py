"""A divided panel goes to the arbiter, and only where that does not settle it to a person."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, told
from hypothesis import given
from hypothesis import strategies as st

from agents.scripted import Fault, Request, ScriptedServer
from filters.agreement import Agreement, sides_with
from filters.gate import Subject
from graphs import candidate
from leafmill.records import Row, Vote

ONE: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1, "error_share": 1}, "flow": {"evolve_rounds": 0}}
ROW = Row(language="en", instruction="Write a poem", answer="The sea")


def divided(score: int, arbiter: int) -> Cast:
    """Clarity gives `score`, the others 5."""
    return Cast(
        annotator_clarity={"rationale": "ZEBRA", "score": score}, arbiter={"rationale": "GIRAFFE: two judges are right.", "score": arbiter}
    )


async def end_of(folder: Path, server: ScriptedServer, **overrides: Any) -> dict[str, Any]:
    await go(recipe(folder, server, **{**ONE, **overrides}), folder)
    return told(folder).of(0)


@pytest.mark.parametrize(
    ("arbiter", "state", "code"),
    [(5, "accepted", ""), (4, "accepted", ""), (3, "waiting", "agreement.disagree"), (1, "waiting", "agreement.disagree")],
)
async def test_a_divided_panel_is_settled_where_the_arbiter_sides_with_most_and_else_waits(
    tmp_path: Path, server: ScriptedServer, arbiter: int, state: str, code: str
) -> None:
    server.script = divided(1, arbiter)
    end = await end_of(tmp_path, server)
    assert (end["state"], end["code"], server.count("arbiter")) == (state, code, 1)
    assert [vote["score"] for vote in told(tmp_path).votes if vote["role"] == "arbiter"] == [arbiter]
    assert end["lineage"]["panel"]["arbiter"] == arbiter


async def test_the_arbiter_sees_the_row_and_the_votes_with_their_reasons_and_not_whose_models_cast_them(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = divided(1, 5)
    end = await end_of(tmp_path, server)
    (asked,) = (record.request.task for record in server.requests if record.role == "arbiter")
    assert end["row"]["answer"] in asked
    assert "<votes>\nclarity: 1. ZEBRA\n</votes>" in asked
    assert asked.count("<votes>") == 3
    assert "llama" not in asked
    assert not {"ZEBRA", "GIRAFFE"} & set(str(end["row"]).replace(":", " ").split())


async def test_a_row_that_the_arbiter_settles_as_bad_is_revised_like_any_other_that_is_low(tmp_path: Path, server: ScriptedServer) -> None:
    def helpful(request: Request, case: Case) -> Any:
        return {"rationale": "x", "score": 5 if "better answer" in request.prompt else 1}

    server.script = Cast(
        annotator_helpfulness=helpful, annotator_correctness=helpful,
        arbiter={"rationale": "Both are right.", "score": 1},
        answerer=lambda r, c: "The better answer names the shelf and says to file the sheet last." if "<feedback>" in r.prompt else None,
        critic={"reason": "Name the shelf.", "score": 4},
    )  # fmt: skip
    end = await end_of(tmp_path, server)
    assert end["state"] == "accepted"
    assert end["row"]["answer"].startswith("The better answer")
    verdicts = [(one["gate"], one["code"]) for one in told(tmp_path).verdicts if one["gate"] in ("agreement", "revision")]
    assert verdicts == [("agreement", "agreement.disagree"), ("agreement", "agreement.low"), ("revision", "ok"), ("agreement", "ok")]


async def test_an_arbiter_that_cannot_be_heard_leaves_the_row_to_a_person(tmp_path: Path, server: ScriptedServer) -> None:
    server.script, server.faults = divided(1, 5), [Fault("500", role="arbiter")]
    end = await end_of(tmp_path, server)
    assert (end["state"], end["code"]) == ("waiting", "agreement.disagree")
    assert end["lineage"]["panel"]["arbiter"] == "server_fault"


async def test_a_run_without_an_arbiter_has_no_such_node_and_a_divided_row_waits(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = divided(1, 5)
    off = {name: {"off": True} for name in (*recipe(tmp_path, server).roles, "arbiter")}
    end = await end_of(tmp_path, server, roles=off)
    assert (end["state"], end["code"], server.count("arbiter")) == ("waiting", "agreement.disagree", 0)
    assert "arbitrate" not in candidate.build(candidate.Shape(arbitrated=False)).get_graph().nodes


async def test_a_panel_that_agrees_never_asks_the_arbiter(tmp_path: Path, server: ScriptedServer) -> None:
    assert (await end_of(tmp_path, server))["state"] == "accepted"
    assert server.count("arbiter") == 0


async def test_the_arbiters_word_is_read_again_and_not_paid_twice(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = divided(1, 5)
    await end_of(tmp_path, server)
    asked = server.count()
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("update candidates set state = 'open'")
    assert ((await end_of(tmp_path, server))["state"], server.count()) == ("accepted", asked)


# -- the rule ----------------------------------------------------------------------------------------------------------

scores = st.lists(st.integers(1, 5), min_size=2, max_size=9)


@given(scores, st.integers(1, 5))
def test_a_side_is_more_than_half_within_a_point_of_the_arbiter_who_is_on_it(panel: list[float], arbiter: int) -> None:
    side = sides_with(Vote(role="arbiter", score=arbiter), panel)
    near = [score for score in [*panel, arbiter] if abs(score - arbiter) <= 1]
    assert side == (near if 2 * len(near) > len(panel) + 1 else None)


@given(scores, st.integers(1, 5))
async def test_the_arbiter_changes_nothing_where_the_panel_agrees(panel: list[int], arbiter: int) -> None:
    votes = [Vote(role=f"r{n}", score=score) for n, score in enumerate(panel)]
    alone = await Agreement()(Subject("s", ROW, votes=tuple(votes)))
    both = await Agreement()(Subject("s", ROW, votes=(*votes, Vote(role="arbiter", score=arbiter))))
    assert alone.code == "agreement.disagree" or (both.code, both.value) == (alone.code, alone.value)
