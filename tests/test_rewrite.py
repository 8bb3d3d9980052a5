"""Rewriting the instructions of a data set, and demands on the answer that can be checked by counting."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, case_of, go, recipe, taxonomy, told
from hypothesis import given
from hypothesis import strategies as st

from agents import rewriter
from agents.scripted import Request, ScriptedServer
from filters.demand import WORDINGS, Demand, Demanded, draw, unmet, with_demand
from filters.gate import Subject
from filters.rewrite import Rewrite
from graphs.prepare import find_leaves, prepare
from graphs.run import Run
from leafmill.errors import InputError
from leafmill.records import Brief, Language, Mode, Row, Source
from leafmill.runfolder import RunFolder
from taxonomy.material import furnish

ONE: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1, "error_share": 1}, "flow": {"evolve_rounds": 0}}
WORDS = ("oats", "ledgers", "ferries", "violins", "wool")


def rows(folder: Path, count: int = 5, operations: list[str] | None = None, name: str = "rows.jsonl") -> None:
    lines = [{"instruction": f"Tell me all about {WORDS[n % 5]} {n}.", "input": f"Crate {n}.", "output": "Old."} for n in range(count)]
    (folder / name).write_text("\n".join(map(json.dumps, lines)))
    source = {"path": name, **({"operations": operations} if operations else {})}
    taxonomy(folder, settings={"a": {"mode": {"write": "rewrite"}, "source": {"rewrite": source}}})


# -- demands -----------------------------------------------------------------------------------------------------------

TWO_POINTS = "- the first\n- the second"
MEETS: dict[str, tuple[Demand, str, str]] = {
    "points": (Demand("points", "", 2), TWO_POINTS, TWO_POINTS + "\n- a third"),
    "points, numbered": (Demand("points", "", 3), "1. 甲\n2、乙\n（3）丙", "甲\n乙\n丙"),
    "length": (Demand("length", "", 5), "Only five words, not more.", "These are six words, not five."),
    "length in characters": (Demand("length", "", 5), "用Python排序吧", "用Python来排序吧"),
    "json": (Demand("json", ""), '```json\n{"a": [1]}\n```', 'Here it is: {"a": [1]}'),
    "json, but a list": (Demand("json", ""), '{"a": 1}', "[1]"),
    "question": (Demand("question", ""), "So it is. Do you see?", "Do you see? So it is."),
    "question in Chinese": (Demand("question", ""), "就是这样。你觉得呢？”", "你觉得呢？就是这样。"),
    "paragraphs": (Demand("paragraphs", "", 2), "One.\n\nTwo.\nStill two.", "One.\nStill one."),
    "label": (Demand("label", "", text="Positive"), "It is **positive**.", "It is a positively bad one."),
    "label in Chinese": (Demand("label", "", text="好评"), "这是一条好评。", "这是一条差评。"),
}


@pytest.mark.parametrize("name", MEETS)
def test_a_demand_is_checked_by_counting(name: str) -> None:
    demand, good, bad = MEETS[name]
    assert unmet(demand, good) is None
    assert unmet(demand, bad) is not None


@given(st.integers(), st.sampled_from(["en", "zh"]))
def test_a_demand_that_is_drawn_says_its_number_and_is_always_the_same(key: int, language: Language) -> None:
    demand = draw(language, str(key))
    assert demand == draw(language, str(key))
    assert demand.kind in WORDINGS
    assert not demand.number or str(demand.number) in demand.said


def test_all_demands_are_drawn() -> None:
    assert {draw("zh", str(n)).kind for n in range(60)} == set(WORDINGS)


def test_a_demand_stands_behind_the_instruction_as_its_language_writes() -> None:
    assert with_demand("Name two towns", Demand("json", "Use JSON."), "en") == "Name two towns. Use JSON."
    assert with_demand("说出两座城市", Demand("json", "用JSON。"), "zh") == "说出两座城市。用JSON。"
    assert with_demand("哪两座？", Demand("json", "用JSON。"), "zh") == "哪两座？用JSON。"


async def test_an_answer_is_held_to_a_demand_while_the_instruction_says_it() -> None:
    demand = Demand("points", "Give exactly 2 points.", 2)

    async def judged(instruction: str, answer: str) -> Any:
        facts = {"demand": demand._asdict()}
        return await Demanded()(Subject("a", Row(language="en", instruction=instruction, answer=answer), facts=facts))

    assert (await judged("Name towns. Give exactly 2 points.", TWO_POINTS)).decision == "accept"
    verdict = await judged("Name towns. Give exactly 2 points.", "- one")
    assert (verdict.code, verdict.value, verdict.threshold) == ("demand.points", 1, 2)
    assert (await judged("Name towns, as two points.", "- one")).decision == "accept", "an evolution has reworded it"


# -- the gate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "input", "code"),
    [
        ("Name two towns.", "In Peru.", "rewrite.unchanged"),
        ("name  two towns.", "In Peru.", "rewrite.unchanged"),
        ("Ｎame two towns.", "In Peru.", "rewrite.unchanged"),
        ("Name two towns!", "In Peru.", "ok"),
        ("Name two towns.", "In Chile.", "ok"),
    ],
)
async def test_a_rewrite_that_is_its_source_is_none(instruction: str, input: str, code: str) -> None:
    source = Source(name="x", place="line 3", text="Name two towns.", input="In Peru.")
    brief = Brief(id="a", leaf="t/a", number=0, language="en", mode=Mode(write="rewrite"), source=source)
    row = Row(language="en", instruction=instruction, input=input)
    assert (await Rewrite()(Subject("a", row, brief=brief))).code == code
    assert (await Rewrite()(Subject("a", row))).code == "ok"


# -- which row ---------------------------------------------------------------------------------------------------------


def test_each_row_is_used_once_before_any_is_used_twice(tmp_path: Path) -> None:
    rows(tmp_path, 7)
    (leaf,) = find_leaves(recipe(tmp_path, "http://localhost:1/v1"))
    plain = Brief(id="", leaf=leaf.path, number=0, language="en", mode=Mode(write="rewrite"))
    drawn = [furnish(plain, leaf, 7, turn).source for turn in range(21)]
    assert [Counter(one.place for one in drawn[at : at + 7] if one).most_common(1)[0][1] for at in (0, 7, 14)] == [1, 1, 1]
    assert drawn == [furnish(plain, leaf, 7, turn).source for turn in range(21)]
    assert drawn[:7] != [furnish(plain, leaf, 8, turn).source for turn in range(7)]


@pytest.mark.parametrize(
    "line",
    [
        {"conversations": [{"from": "human", "value": "Name two towns."}, {"from": "gpt", "value": "Lima."}]},
        {"messages": [{"role": "user", "content": "Name two towns."}, {"role": "assistant", "content": "Lima."}]},
        {"instruction": "Name two towns.", "input": "", "output": "Lima."},
    ],
)
def test_rows_of_every_format_can_be_rewritten(tmp_path: Path, line: Any) -> None:
    rows(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(line))
    (leaf,) = find_leaves(recipe(tmp_path, "http://localhost:1/v1"))
    (source,) = leaf.sources["rewrite"]
    assert (source.text, source.output, source.place, source.language) == ("Name two towns.", "Lima.", "line 1", "en")


def test_a_follow_up_and_a_line_that_is_no_row_are_left_out(tmp_path: Path) -> None:
    rows(tmp_path)
    turns = [("user", "Name two towns."), ("assistant", "Lima."), ("user", "And another?"), ("assistant", "Cusco.")]
    talk = json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
    good = json.dumps({"instruction": "Name two towns.", "output": "Lima."})
    (tmp_path / "rows.jsonl").write_text(f"{talk}\n{{broken\n{good}\n")
    (leaf,) = find_leaves(recipe(tmp_path, "http://localhost:1/v1"))
    assert [source.place for source in leaf.sources["rewrite"]] == ["line 3"]


def test_a_file_that_is_missing_or_holds_no_rows_is_told_before_a_token_is_spent(tmp_path: Path) -> None:
    rows(tmp_path)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(InputError, match=r"leaf t/a: settings.source: there is no file 'rows.jsonl' beside the taxonomy"):
        prepare(recipe(tmp_path, "http://localhost:1/v1"))
    (tmp_path / "rows.jsonl").write_text('{"colour": "red"}')
    with pytest.raises(InputError, match=r"rows.jsonl:1: the columns are colour"):
        prepare(recipe(tmp_path, "http://localhost:1/v1"))


def test_the_operations_of_a_leaf_are_dealt_in_turn(tmp_path: Path) -> None:
    rows(tmp_path, operations=["formal", "constraint"])
    (leaf,) = find_leaves(recipe(tmp_path, "http://localhost:1/v1"))
    briefs = [Brief(id=str(n), leaf=leaf.path, number=n, language="zh") for n in range(20)]
    assert Counter(rewriter.operation(leaf, brief) for brief in briefs) == {"formal": 10, "constraint": 10}
    assert [(rewriter.demand(leaf, brief) is not None) for brief in briefs] == [
        rewriter.operation(leaf, brief) == "constraint" for brief in briefs
    ]


# -- a run -------------------------------------------------------------------------------------------------------------


def anew(request: Request, case: Case) -> dict[str, str]:
    return {"instruction": f"In your own words: what is there to know of invoice a-{case.number} and of its sheet?"}


async def end_of(folder: Path, server: ScriptedServer, operations: list[str]) -> dict[str, Any]:
    rows(folder, operations=operations)
    await go(recipe(folder, server, **ONE), folder)
    return told(folder).of(0)


async def test_a_row_is_rewritten_answered_anew_and_kept_in_the_lineage(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(rewriter=anew)
    end = await end_of(tmp_path, server, ["formal"])
    assert end["state"] == "accepted"
    assert [call["role"] for call in told(tmp_path).calls][:2] == ["rewriter", "answerer"]
    made = end["lineage"]["made"][0]
    source = made["source"]
    number = int(source["place"].removeprefix("line ")) - 1
    assert (source["name"], source["text"]) == ("rows.jsonl", f"Tell me all about {WORDS[number]} {number}.")
    assert (made["operation"], len(source["hash"])) == ("formal", 16)
    assert end["row"]["input"] == f"Crate {number}.", "the material stays"
    assert end["row"]["answer"] != source["output"], "the old answer is never taken over"
    prompt = told(tmp_path).calls[0]["messages"][-1]["content"]
    assert f"<instruction>\n{source['text']}\n</instruction>" in prompt
    assert "make it formal" in prompt
    assert "card: card" in prompt, "the leaf's own axes"


async def test_a_rewrite_that_changes_nothing_is_rejected(tmp_path: Path, server: ScriptedServer) -> None:
    def copy(request: Request, case: Case) -> Any:
        return {"instruction": request.task.split("<instruction>\n")[1].split("\n</instruction>")[0]}

    server.script = Cast(rewriter=copy)
    end = await end_of(tmp_path, server, ["paraphrase"])
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "screen", "rewrite.unchanged")
    assert end["detail"].startswith("rewrite: source=rows.jsonl:line")


async def test_a_demand_is_said_in_the_instruction_and_an_answer_that_ignores_it_rejected(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(rewriter=anew, answerer='[1, 2, 3, "none of what was asked for, at great length and without an end"]' * 12)
    end = await end_of(tmp_path, server, ["constraint"])
    demand = end["lineage"]["made"][0]["demand"]
    assert end["row"]["instruction"].endswith(demand["said"])
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "check", f"demand.{demand['kind']}")


async def test_the_rows_of_a_run_are_all_different_while_there_are_enough(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(rewriter=lambda request, case: anew(request, case_of(request)))
    rows(tmp_path, 8, operations=["casual"])
    await go(recipe(tmp_path, server, target=8, flow={"evolve_rounds": 0}), tmp_path)
    used = [one["brief"]["source"]["place"] for one in told(tmp_path).candidates]
    assert sorted(used[:8]) == sorted(f"line {n}" for n in range(1, 9))


async def test_a_row_that_holds_an_item_of_a_test_set_is_not_written_from(tmp_path: Path, server: ScriptedServer) -> None:
    rows(tmp_path, 3)
    item = {"question": "A lamp burns for six hours a day; how many days does a can of nine litres of oil last it at half a litre an hour?"}
    (tmp_path / "quiz.jsonl").write_text(json.dumps(item))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"instruction": item["question"], "output": "Three."}))
    wanted = recipe(tmp_path, server, test_sets={"quiz": {"path": "quiz.jsonl"}})
    said: list[str] = []
    async with Run.open(prepare(wanted), RunFolder(tmp_path / "run"), said.append) as run:
        assert [source.place for source in run.jobs[0].leaf.sources["rewrite"]] == ["line 1", "line 2", "line 3"]
    assert said == ["seeds, rows and passages that hold items of test sets are left out: 1 (quiz/1)"]
