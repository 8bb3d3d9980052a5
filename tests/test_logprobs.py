"""The expected score: read off the likelihood of each digit where the server tells it, and never where the digits cover too little."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe, told

from agents.models.logprobs import at_score
from agents.scripted import Reply, ScriptedServer
from filters.scoring.expected import expected_score

ONE: dict[str, Any] = {
    "target": 1,
    "limits": {"candidates_per_leaf": 1},
    "flow": {"evolve_rounds": 0},
    "judges": {"gold": False, "logprobs": True},
}
T26 = {"3": 0.1, "4": 0.6, "5": 0.3}


def vote(likely: dict[str, float], rationale: str = "It does what was asked.", score: int = 4) -> Reply:
    return Reply(json.dumps({"rationale": rationale, "score": score}, ensure_ascii=False), likely=likely)


async def votes_of(folder: Path, server: ScriptedServer, **overrides: Any) -> list[tuple[int, float | None]]:
    await go(recipe(folder, server, **{**ONE, **overrides}), folder)
    return [(one["score"], one["expected"]) for one in told(folder).votes]


async def test_T26_the_votes_expected_score_is_stored_beside_the_written_one(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(annotator=vote(T26))
    assert await votes_of(tmp_path, server) == [(4, pytest.approx(4.2))] * 3
    (agreed,) = (one for one in told(tmp_path).verdicts if one["gate"] == "agreement")
    assert agreed["value"] == pytest.approx(4.2)


async def test_T26_digits_that_cover_less_than_half_give_no_expected_score_and_the_written_digit_stays(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = Cast(annotator=vote({"4": 0.3, "5": 0.19, "good": 0.51}))
    assert await votes_of(tmp_path, server) == [(4, None)] * 3


async def test_the_score_is_found_behind_a_reason_that_speaks_of_scores_in_chinese(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(annotator=vote(T26, '若只看格式可给 "score": 5，但内容略有出入', 4))
    assert await votes_of(tmp_path, server) == [(4, pytest.approx(4.2))] * 3


@pytest.mark.parametrize(("most", "asked"), [(20, [20]), (8, [20, 5]), (0, [20, 5, None])])
async def test_a_server_that_takes_fewer_or_no_logprobs_is_learnt_and_the_run_goes_on(
    tmp_path: Path, server: ScriptedServer, most: int, asked: list[int | None]
) -> None:
    server.script, server.top_logprobs = Cast(annotator=vote(T26)), most
    models = {alias: {"base_url": server.base_url, "model": alias, "concurrency": 1} for alias in ("generator", "judge")}
    expected = pytest.approx(4.2) if most else None
    assert await votes_of(tmp_path, server, models=models) == [(4, expected)] * 3
    bodies = [record.request.body for record in server.requests if record.role != "writer" and record.model == "judge"]
    assert list(dict.fromkeys(body.get("top_logprobs") for body in bodies)) == asked
    assert all("logprobs" not in record.request.body for record in server.requests if record.model == "generator"), (
        "only judges are asked so"
    )


async def test_nobody_asks_for_them_unless_the_recipe_does(tmp_path: Path, server: ScriptedServer) -> None:
    assert await votes_of(tmp_path, server, judges={"gold": False}) == [(5, None)] * 3
    assert all("logprobs" not in record.request.body for record in server.requests)


async def test_a_resumed_run_reads_them_from_the_ledger(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(annotator=vote(T26))
    await votes_of(tmp_path, server)
    asked = server.count()
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("update candidates set state = 'open'")
    assert await votes_of(tmp_path, server) == [(4, pytest.approx(4.2))] * 3
    assert server.count() == asked


# -- reading what a server tells ---------------------------------------------------------------------------------------


def token(text: str, *top: tuple[str, float], raw: list[int] | None = None) -> dict[str, Any]:
    return {"token": text, "bytes": raw, "top_logprobs": [{"token": name, "logprob": math.log(p)} for name, p in top]}


def test_the_digits_place_is_counted_in_bytes_where_a_character_is_cut_between_tokens() -> None:
    first, second = list("好".encode()[:1]), list("好".encode()[1:])
    told_ = [
        token('{"a": "'),
        token("\ufffd", raw=first),
        token("\ufffd", raw=second),
        token('", "score":'),
        token(" 4", (" 4", 0.7), ("４", 0.3)),
    ]
    found = at_score({"content": told_})
    assert found is not None
    assert expected_score(found, 1, 5).value == pytest.approx(4)


@pytest.mark.parametrize(
    "told_",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"content": ["x"]},
        {"content": [token('{"score": "high"}')]},
        {"content": [token('"score": 4')]},
    ],
)
def test_what_cannot_be_read_is_none(told_: Any) -> None:
    assert at_score(told_) is None
