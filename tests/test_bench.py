"""The benchmark of the runtime: both sides do the same work, none of it is turned away, and the goals say what is missed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import orjson
import pytest

from agents.role import BUILT_IN, Roles
from bench.runtime import compare, plain, stub
from bench.runtime.process import HERE, RUNNERS, measure
from filters.dedup.shingles import jaccard, shingles


@pytest.mark.parametrize("runner", RUNNERS)
def test_three_rows_are_eighteen_calls(runner: str) -> None:
    line = measure(runner, rows=3, concurrency=4, latency=1)
    assert (line["made"], line["requests"], line["repeated"]) == (3, 18, 0)
    assert 0 < line["start"] < line["wall"]
    assert 0 < line["mean"] <= line["peak"] <= 4


def test_both_sides_ask_for_the_same_bytes() -> None:
    roles = Roles.load(BUILT_IN, HERE / "prompts")
    row = {"instruction": "Why?", "input": "", "answer": "So."}
    asked = {
        "writer": plain.write("sailing", "a nurse"),
        "evolver": plain.evolve("Why?"),
        "answerer": plain.answer("Why?"),
        **{f"annotator-{criterion}": plain.judge(criterion, "Why?", "So.") for criterion in plain.CRITERIA},
    }
    told = {"trail": "Everyday questions > Ask", "axes": {"topic": "sailing", "person": "a nurse"}, **row}
    for name, body in asked.items():
        (role,) = {id(one): one for one in (roles.pick(name, "en", str(candidate)) for candidate in range(20))}.values()
        assert Path(role.path).parent == HERE / "prompts"
        assert body["messages"] == role.render(told)
        assert (body["temperature"], body["max_tokens"]) == (role.head.temperature, role.head.max_tokens)
        assert body.get("response_format", {}).get("json_schema", {}).get("schema") == role.schema


def test_the_stub_never_writes_nearly_the_same_instruction_twice() -> None:
    draws = Random(1)
    asked = plain.write("sailing", "a nurse")
    said = [orjson.loads(stub.content(asked, draws.getrandbits(256)))["instruction"] for _ in range(150)]
    parts = [shingles(instruction) for instruction in said]
    assert max(jaccard(one, other) for i, one in enumerate(parts) for other in parts[:i]) < 0.5


def _lines() -> list[compare.Line]:
    """Two sizes of each runner, in which a call of Leafmill costs 2 ms more than nothing, of openai 3, of aiohttp 0.5."""
    same = {"concurrency": 10, "latency": 100, "start": 1.0, "rss": 100.0, "repeated": 0, "mean": 9.0, "wall": 3.0, "stub_cpu": 0.1}
    return [
        {**same, "runner": runner, "rows": rows, "made": rows, "requests": rows * 6, "cpu": 1 + rows * 6 * cost / 1000, "span": rows * 0.06}
        for runner, cost in (("leafmill", 2.0), ("openai", 3.0), ("aiohttp", 0.5))
        for rows in (50, 100)
    ]


def test_a_goal_that_is_missed_says_by_how_much() -> None:
    told = [line for line in compare.goals(compare.Results(_lines())).splitlines() if "CPU per call" in line]
    assert "0.67  <= 0.5    MISSED by 0.17" in told[0]
    assert "4.00  <= 5      met" in told[1]


def test_one_call_too_many_in_one_of_the_runs_is_a_goal_missed() -> None:
    lines = _lines()
    spoilt = {**lines[0], "requests": lines[0]["requests"] + 1}
    assert "MISSED" not in _of("requests", lines)
    assert "MISSED by 1.00" in _of("requests", [*lines, spoilt])


def _of(what: str, lines: list[compare.Line]) -> str:
    (told,) = (line for line in compare.goals(compare.Results(lines)).splitlines() if what in line and "<=" in line)
    return told
