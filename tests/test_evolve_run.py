"""Evolution through the whole graph: what each operator does, what eliminates its child, and who goes on then."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, told
from test_candidate import IN_DEPTH, ONE, end_of, scored

from agents import evolver
from agents.scripted import Fault, Request, ScriptedServer
from leafmill import report
from leafmill.ledger import Ledger

COMPARING = {"roles": {"planner": {"off": True}, "syllabus-planner": {"off": True}}}
ASKS = "Explain to a new colleague how invoice a-0 gets filed on shelf 5."
SAME = {"rationale": "Nothing new.", "demands": "same", "depth": "same"}
SORRY = "I'm sorry, but I cannot help with invoice a-0."
GOOD = "Look up the number a-0 first, then walk to its shelf and put the sheet behind the last one there."
CHANGES = {
    "constraints": "add one more demand",
    "deepen": "ask also for the cause",
    "concretise": "put something specific",
    "reasoning": "ask also for a comparison",
    "complicate_input": "a richer input",
    "breadth": "brand-new, rarer request",
}


def by(operator: str) -> dict[str, Any]:
    """A recipe by which this operator alone can be drawn first, as a test asks for it."""
    return {"flow": {"evolve_rounds": 1, "breadth_share": float(operator == "breadth")}}


def evolutions(end: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["operator"], one["refused"]) for one in end["lineage"].get("evolutions", [])]


def roles(folder: Path) -> list[str]:
    """Who spoke, the panel apart."""
    return [call["role"] for call in told(folder).calls if not call["role"].startswith("annotator")]


# -- operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", evolver.OPERATORS)
async def test_each_operator_asks_for_its_own_change_and_is_in_the_lineage(
    tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, operator: str
) -> None:
    """Only two of them write an input: the richer one, and that of a new instruction."""
    monkeypatch.setattr(evolver, "operator", lambda brief, round_, in_depth=False: operator)
    child = {
        "instruction": "Name three folders that invoice a-0 must never get into.",
        "input": "invoice a-0: 12 chairs, 3 tables",
    }
    if operator != "breadth":
        child["instruction"] = f"{ASKS} Also name the most common mistake."
    server.script = Cast(writer={"instruction": ASKS, "input": "invoice a-0: 12 chairs"}, evolver=child)
    end = await end_of(tmp_path, server, **ONE)
    (asked,) = (call["messages"] for call in told(tmp_path).calls if call["role"] == "evolver")
    assert [name for name, words in CHANGES.items() if words in asked[-1]["content"]] == [operator]
    assert ("write another one" in asked[0]["content"]) == (operator == "breadth")
    assert (end["state"], evolutions(end)) == ("accepted", [(operator, "")])
    assert end["lineage"]["made"][1]["operator"] == operator
    new_input = operator in ("complicate_input", "breadth")
    assert (end["row"]["instruction"], end["row"]["input"] == child["input"]) == (child["instruction"], new_input)


async def test_a_breadth_that_rewrites_gives_way_and_is_tried_again_in_depth(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(evolver={"instruction": f"{ASKS} Also name the most common mistake.", "input": ""})
    end = await end_of(tmp_path, server, **ONE, flow={"evolve_rounds": 2, "breadth_share": 0.999999})
    assert [refused for _, refused in evolutions(end)] == ["evolution.equal", ""]
    assert (evolutions(end)[0][0], end["row"]["instruction"]) == ("breadth", f"{ASKS} Also name the most common mistake.")


async def test_what_was_too_easy_is_made_harder_and_not_replaced(tmp_path: Path, server: ScriptedServer) -> None:
    _, during = scored(0.1, 0.7)
    end = await end_of(tmp_path, server, during, **ONE, flow={"evolve_rounds": 0, "breadth_share": 1})
    assert end["state"] == "accepted"
    assert next(name for name, _ in evolutions(end)) in evolver.IN_DEPTH


# -- no gain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demands", "depth", "gains"),
    [("more", "same", True), ("less", "more", True), ("same", "same", False), ("less", "same", False), ("less", "less", False)],
)
async def test_a_child_that_asks_for_no_more_than_its_parent_gives_way(
    tmp_path: Path, server: ScriptedServer, demands: str, depth: str, gains: bool
) -> None:
    server.script = Cast(comparer={"rationale": "ZEBRA", "demands": demands, "depth": depth})
    end = await end_of(tmp_path, server, **ONE, **COMPARING, flow=IN_DEPTH)
    assert end["state"] == "accepted"
    assert (end["row"]["instruction"] == ASKS, evolutions(end)[0][1]) == (not gains, "" if gains else "evolution.no_gain")
    assert "ZEBRA" not in str(end["row"]) + str(end["lineage"])
    (asked,) = (call for call in told(tmp_path).calls if call["role"] == "comparer")
    assert asked["alias"] == "judge"
    assert f"<parent>\n{ASKS}\n</parent>" in asked["messages"][-1]["content"]
    (said,) = (one for one in told(tmp_path).verdicts if one["gate"] == "comparer")
    assert (said["decision"], said["code"]) == (("accept", "ok") if gains else ("reject", "evolution.no_gain"))


async def test_a_comparer_that_cannot_be_read_lets_nothing_pass_and_the_parent_goes_on(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("bad_json", role="comparer")]
    end = await end_of(tmp_path, server, **ONE, **COMPARING, flow=IN_DEPTH)
    assert (end["state"], end["row"]["instruction"], evolutions(end)[0][1]) == ("accepted", ASKS, "evolution.unheard")
    (said,) = (one for one in told(tmp_path).verdicts if one["gate"] == "comparer")
    assert (said["decision"], said["evidence"]["failed"]) == ("unscorable", "unreadable_reply")


async def test_a_comparer_s_call_that_fails_is_tried_again_by_the_next_run(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("500", role="comparer")]
    end = await end_of(tmp_path, server, **ONE, **COMPARING, flow=IN_DEPTH)
    assert (end["state"], end["stage"], end["code"]) == ("errored", "compare", "server_fault")


async def test_the_gates_come_before_the_comparer_and_those_that_remember_after_it(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast()
    await end_of(tmp_path, server, **ONE, **COMPARING, flow=IN_DEPTH)
    steps = told(tmp_path).steps(0)
    at = steps.index("comparer")
    assert steps[at - 1 : at + 5] == ["screen:safety", "comparer", "compare:comparer", "compare:exact", "compare:minhash", "answerer"]


async def test_without_gain_another_operator_is_tried_while_rounds_are_left(tmp_path: Path, server: ScriptedServer) -> None:
    first = iter([SAME])
    server.script = Cast(comparer=lambda request, case: next(first, None))
    end = await end_of(tmp_path, server, **ONE, **COMPARING, flow={"evolve_rounds": 2, "breadth_share": 0})
    assert [refused for _, refused in evolutions(end)] == ["evolution.no_gain", ""]
    assert len({name for name, _ in evolutions(end)}) == 2
    assert roles(tmp_path) == ["writer", "evolver", "comparer", "evolver", "comparer", "answerer", "critic"]


@pytest.mark.parametrize("off", ["breadth", "role"])
async def test_who_writes_no_rewrite_or_has_no_comparer_asks_none(tmp_path: Path, server: ScriptedServer, off: str) -> None:
    settings = {**by("breadth"), **COMPARING} if off == "breadth" else {"flow": IN_DEPTH}
    end = await end_of(tmp_path, server, **ONE, **settings)
    assert (end["state"], evolutions(end)[0][1], server.count("comparer")) == ("accepted", "", 0)


async def test_a_reply_that_cannot_be_used_is_a_refused_evolution_and_nothing_to_compare(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("empty", role="evolver")]
    end = await end_of(tmp_path, server, **ONE, **COMPARING, flow=IN_DEPTH)
    assert (end["state"], evolutions(end)[0][1], server.count("comparer")) == ("accepted", "empty_reply", 0)


async def test_what_the_comparer_said_is_found_again_and_not_paid_for_twice(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(comparer=SAME)
    settings: dict[str, Any] = {**ONE, **COMPARING, "flow": IN_DEPTH}
    first = await end_of(tmp_path, server, **settings)
    asked = server.count()
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("update candidates set state = 'open'")
    again = await end_of(tmp_path, server, **settings)
    assert (again["row"], again["lineage"], server.count()) == (first["row"], first["lineage"], asked)


# -- what an answer gives away -----------------------------------------------------------------------------------------


def answers(*said: str) -> Callable[[Request, Case], str | None]:
    """Replies one after the other; then the usual one."""
    left = iter(said)
    return lambda request, case: next(left, None)


@pytest.mark.parametrize(("answer", "code"), [(SORRY, "evolution.refused"), ("It is what it is, and so it was.", "evolution.hollow")])
async def test_T34_an_evolution_whose_answer_is_no_answer_gives_way_and_its_parent_is_answered(
    tmp_path: Path, server: ScriptedServer, answer: str, code: str
) -> None:
    server.script = Cast(answerer=answers(answer))
    end = await end_of(tmp_path, server, **ONE, flow=IN_DEPTH)
    assert (end["state"], end["row"]["instruction"], end["row"]["answer"] != answer) == ("accepted", ASKS, True)
    assert [one["role"] for one in end["lineage"]["made"]] == ["writer", "answerer"]
    assert evolutions(end)[0][1] == code
    assert roles(tmp_path) == ["writer", "evolver", "answerer", "answerer", "critic"]
    shown = [call["messages"][-1]["content"] for call in told(tmp_path).calls if call["role"] == "answerer"]
    assert ["most common mistake" in text for text in shown] == [True, False]


REFUSED = {
    "evolution.equal": {"evolver": {"instruction": f"{ASKS[:-1]}!", "input": ""}},
    "evolution.leak": {"evolver": {"instruction": f"#Rewritten Prompt#: {ASKS} Say why.", "input": ""}},
    "evolution.dropped": {"writer": {"instruction": ASKS, "input": ""}, "evolver": None},
    "evolution.growth": {"evolver": {"instruction": f"{ASKS} " + "Do it. " * 40, "input": ""}},
    "evolution.no_gain": {"comparer": SAME},
    "evolution.refused": {"answerer": SORRY},
    "evolution.hollow": {"answerer": "?!"},
}


@pytest.mark.parametrize("code", REFUSED)
async def test_T34_each_elimination_has_its_own_code_and_the_parent_returns(tmp_path: Path, server: ScriptedServer, code: str) -> None:
    lines: dict[str, Any] = dict(REFUSED[code])
    asks = ASKS
    if said := lines.get("answerer"):
        lines["answerer"] = answers(said)
    if code == "evolution.dropped":
        asks = f"{ASKS} The lines are 12, 15, 9, 22 and 31."
        lines = {
            "writer": {"instruction": asks, "input": ""},
            "evolver": {"instruction": f"{ASKS} Also name the most common mistake.", "input": ""},
        }
    server.script = Cast(**lines)
    end = await end_of(tmp_path, server, **ONE, **COMPARING, flow=IN_DEPTH)
    assert (end["state"], end["row"]["instruction"], [why for _, why in evolutions(end)]) == ("accepted", asks, [code])
    assert [one["code"] for one in told(tmp_path).verdicts if one["decision"] != "accept"] == [code]


async def test_T34_a_chinese_refusal_eliminates_the_evolution_and_a_long_letter_of_apology_is_kept(
    tmp_path: Path, server: ScriptedServer
) -> None:
    asks = "请写一封给客户的道歉信，说明 invoice a-0 为什么迟到了三天。"
    child = "请写一封给客户的道歉信，说明 invoice a-0 为什么迟到了三天，并提出补救办法，语气要诚恳。"
    letter = "尊敬的客户：抱歉，您的单据迟到了三天。" + "".join(f"第 {n} 天我们又核对了地址和日期，" for n in range(1, 12)) + "特此致歉。"
    server.script = Cast(
        writer={"instruction": asks, "input": ""},
        evolver={"instruction": child, "input": ""},
        answerer=answers("抱歉，我无法完成这个请求。", letter),
    )
    gates = {"semantic": False, "ifd": False, "repetition": False}
    end = await end_of(tmp_path, server, **ONE, flow=IN_DEPTH, languages=["zh"], gates=gates)
    assert (end["state"], end["row"]["instruction"], end["row"]["answer"]) == ("accepted", asks, letter)
    assert [why for _, why in evolutions(end)] == ["evolution.refused"]


async def test_a_parent_is_answered_once_and_its_own_refusal_is_the_end(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=SORRY)
    end = await end_of(tmp_path, server, **ONE, flow=IN_DEPTH)
    assert (end["state"], end["stage"], end["code"], server.count("answerer")) == ("rejected", "check", "refusal.apology", 2)


async def test_of_two_evolutions_one_is_taken_back_for_its_answer(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=SORRY)
    end = await end_of(tmp_path, server, **ONE, flow={"evolve_rounds": 2, "breadth_share": 0})
    assert (end["state"], end["code"], server.count("answerer")) == ("rejected", "evolution.refused", 2)
    assert [why for _, why in evolutions(end)] == ["", "evolution.refused"]


async def test_a_revision_that_refuses_is_no_fault_of_the_instruction(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=answers(GOOD, SORRY), critic={"reason": "Name the shelf.", "score": 1})
    end = await end_of(tmp_path, server, **ONE, flow=IN_DEPTH)
    assert [why for _, why in evolutions(end)] == [""]
    assert server.count("answerer") == 2


async def test_an_evolution_that_was_sent_for_and_refuses_leaves_the_finding_as_it_was(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=answers(GOOD, SORRY))
    end = await end_of(tmp_path, server, scored(0.1)[1], **ONE, flow={"evolve_rounds": 0})
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "score", "ifd.too_easy")
    assert (end["row"]["instruction"], end["row"]["answer"]) == (ASKS, GOOD), "the parent that was scored is kept for those who look"
    assert [one["role"] for one in end["lineage"]["made"]] == ["writer", "answerer"]


@pytest.mark.parametrize("in_flight", [1, 8])
async def test_who_came_first_decides_nothing_of_a_candidate_whose_evolution_was_taken_back(
    tmp_path: Path, server: ScriptedServer, in_flight: int
) -> None:
    """The child of candidate 1 is the row that candidate 0 becomes. Alone in flight it is found at once; side by side it is answered, taken
    back, and found when the door looks at what it was."""
    child = "Explain to a new colleague how invoice a-0 gets filed, and name the most common mistake of all"
    server.script = Cast(
        evolver=lambda request, case: {"instruction": child + ".!"[case.number], "input": ""},
        answerer=lambda request, case: SORRY if f"{child}!" in request.task else None,
    )
    await go(recipe(tmp_path, server, target=2, limits={"candidates_per_leaf": 2}, flow=IN_DEPTH, in_flight=in_flight), tmp_path)
    ends = {one["number"]: (one["state"], one["code"]) for one in told(tmp_path).candidates}
    assert list(ends.values()) == [("accepted", ""), ("rejected", "minhash.duplicate")]


# -- the choice --------------------------------------------------------------------------------------------------------


async def test_an_operator_whose_children_are_refused_is_drawn_less(tmp_path: Path, server: ScriptedServer) -> None:
    """By the weights in the briefs of candidates that come late enough to have a past; and the report says how each operator fared."""

    def say(request: Request) -> Any:
        bad = request.role == "evolver" and CHANGES["deepen"] in request.task
        return {"instruction": "No.", "input": ""} if bad else None

    server.script, server.duplicates = say, 0.0
    settings = {"target": 150, "limits": {"candidates_per_leaf": 170, "error_share": 1}, "flow": {"evolve_rounds": 1, "revise_rounds": 0}}
    roles = {name: {"off": True} for name in ("planner", "syllabus-planner", "comparer", "critic")}
    gates = dict.fromkeys(("semantic", "ifd", "minhash", "evolution", "language"), False)
    await go(recipe(tmp_path, server, **settings, roles=roles, gates=gates, in_flight=32), tmp_path)
    shares = [one["brief"]["operators"] for one in told(tmp_path).candidates]
    assert shares[0] == pytest.approx(dict.fromkeys(evolver.OPERATORS, 1 / 6))
    assert min(shares[-1], key=shares[-1].__getitem__) == "deepen"
    assert shares[-1]["deepen"] < 0.1
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        fared = report.read(ledger).varied.operators
    assert fared["deepen"].accepted == 0
    assert fared["deepen"].refused == Counter({"length.instruction_short": fared["deepen"].tried})
