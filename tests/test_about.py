"""What the ledger is told of a run for those who look at it: whose process it is, its leaves, roles and graphs."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe

from agents.scripted import Reply, ScriptedServer
from leafmill.errors import WrongKeyError
from leafmill.ledger import Ledger


def meta(folder: Path, key: str) -> Any:
    with Ledger(folder / "run" / "ledger.db", read_only=True) as ledger:
        return ledger.meta(key)


async def test_a_run_that_goes_is_told_from_one_that_has_ended(tmp_path: Path, server: ScriptedServer) -> None:
    during: list[Any] = []
    await go(recipe(tmp_path, server), tmp_path, lambda run: during.append(run.ledger.meta("process")))
    assert during[0]["pid"] == os.getpid()
    assert during[0]["ended_at"] is None
    after = meta(tmp_path, "process")
    assert after["began_at"] < after["ended_at"]
    assert after["exit_code"] == 0


async def test_a_run_that_fails_says_with_which_code(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(writer=lambda request, case: Reply("no", status=401))
    with pytest.raises(WrongKeyError):
        await go(recipe(tmp_path, server), tmp_path)
    assert meta(tmp_path, "process")["exit_code"] == WrongKeyError.exit_code


async def test_every_role_stands_at_a_node_of_the_graph_that_its_leaf_has(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server), tmp_path)
    graphs = meta(tmp_path, "graphs")
    (shape,) = graphs["shapes"]
    assert graphs["leaves"] == {"t/a": 0}
    assert {"source": "wait", "target": "review", "data": None, "conditional": True} in shape["edges"]
    roles = {one["name"]: one for one in meta(tmp_path, "roles")}
    assert {roles[name]["node"] for name in ("writer", "evolver", "answerer", "critic")} <= set(shape["nodes"])
    assert roles["critic"]["returns"]["score"]["type"] == "int"
    assert meta(tmp_path, "leaves") == {"t/a": {"title": {"en": "A", "zh": "A"}, "target": 3}}
