"""The recipe of docs/whole, in which everything that a candidate can be occurs: it runs whole, and its rows are what it says."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from agents.scripted import ScriptedServer
from leafmill import coverage, report
from leafmill.export import rows
from leafmill.ledger import Ledger
from leafmill.recipe import Recipe
from tests.conftest import Told, go, told

WHOLE = Path(__file__).parent.parent / "docs" / "whole"


def verdicts(ledger: Told, candidate: dict[str, Any], gate: str) -> list[dict[str, Any]]:
    return [one for one in ledger.verdicts if one["candidate"] == candidate["id"] and one["gate"] == gate]


async def test_everything_at_once_runs_whole(tmp_path: Path) -> None:
    for file in ("recipe.yaml", "taxonomy.yaml"):
        shutil.copy(WHOLE / file, tmp_path)
    async with ScriptedServer(seed=7) as server:
        models = {
            name: model.model_dump(exclude_unset=True) | {"base_url": server.base_url}
            for name, model in Recipe.read(tmp_path / "recipe.yaml").models.items()
        }
        run = await go(Recipe.read(tmp_path / "recipe.yaml", models=models), tmp_path)
    assert run.exit_code == 0, [(job.leaf.path, job.outcome) for job in run.jobs]
    ledger = told(tmp_path)
    accepted = [one for one in ledger.candidates if one["state"] == "accepted"]
    assert Counter(one["leaf"] for one in accepted) == {f"whole/{leaf}": 6 for leaf in ("sums", "advice", "orders", "notes")}
    of = {leaf: [one for one in accepted if one["leaf"] == f"whole/{leaf}"] for leaf in ("sums", "advice", "orders", "notes")}
    assert all({one["language"] for one in ones} == {"en", "zh"} for ones in of.values())

    for one in of["sums"]:  # thought through in steps, and voted on by two families
        assert one["row"]["reasoning"]
        assert verdicts(ledger, one, "vote")[-1]["decision"] == "accept"
        answered = [call for call in ledger.calls if call["candidate"] == one["id"] and call["role"] == "reasoner"]
        assert {call["model"] for call in answered} == {"scripted-qwen", "scripted-glm"}
    for one in of["advice"]:  # conversations of as many exchanges as were planned
        users = [turn for turn in one["row"]["history"] if turn["role"] == "user"]
        assert len(users) + 1 == one["brief"]["mode"]["turns"]
    assert {one["brief"]["mode"]["topic_switch"] for one in of["advice"]} == {True, False}
    for one in of["orders"]:  # tools are called, unless the right answer is not to
        called = [call for turn in one["row"]["steps"] for call in turn["calls"]]
        assert bool(called) == (one["brief"]["mode"]["tools"] not in ("missing_tool", "missing_parameter"))
    for one in of["notes"]:  # written from seeds, evolved twice
        assert one["brief"]["mode"]["write"] == "self_instruct"
        assert len(one["lineage"]["evolutions"]) == 2

    seats = {(vote["role"], vote["alias"]) for vote in ledger.votes if vote["role"].startswith("annotator")}
    assert len(seats) == 6
    assert any(one["state"] == "waiting" for one in ledger.candidates), "some are for a person to decide"
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as opened:
        read, covered = report.read(opened), coverage.read(opened)
        exported = [*rows(opened, "messages")]
    assert read.total.states == ledger.states
    assert read.judging.panel
    assert read.varied.operators
    assert covered
    assert len(exported) == 24
