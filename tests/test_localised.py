"""Language mapping: written in the other language first, said again as a native would, answered natively. And personas."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, taxonomy, told

from agents.scripted import Request, ScriptedServer
from graphs.prepare import prepare
from leafmill.errors import InputError

ONE: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1, "error_share": 1}, "flow": {"evolve_rounds": 0}}
FIRST = "请说明这张发票应该放到哪个架子上，由谁来签字，放错了怎么办。"
CAST = Cast(
    writer={"instruction": FIRST, "input": "发票一张，金额三百元。"},
    localiser=lambda request, case: {
        "instruction": f"Who signs invoice a-{case.number}, and on which shelf does it go?",
        "input": "One invoice, $40.",
    },
)


async def end_of(folder: Path, server: ScriptedServer, settings: Any, **overrides: Any) -> dict[str, Any]:
    taxonomy(folder, settings={"a": settings})
    await go(recipe(folder, server, **{**ONE, **overrides}), folder)
    return told(folder).of(0)


def call(folder: Path, role: str) -> dict[str, Any]:
    return next(one for one in told(folder).calls if one["role"] == role)


async def test_an_instruction_is_written_in_the_other_language_and_answered_in_its_own(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = CAST
    end = await end_of(tmp_path, server, {"mode": {"localised": True}})
    roles = [one["role"] for one in told(tmp_path).calls]
    assert (end["state"], roles[:3]) == ("accepted", ["writer", "localiser", "answerer"])
    assert (end["row"]["language"], end["row"]["input"]) == ("en", "One invoice, $40.")
    assert end["row"]["instruction"].startswith("Who signs invoice a-")
    assert "主题" in call(tmp_path, "writer")["messages"][-1]["content"], "the writer is asked in Chinese"
    asked = call(tmp_path, "localiser")["messages"]
    assert FIRST in asked[-1]["content"]
    assert "Do not translate word by word" in asked[0]["content"]
    assert FIRST not in str(call(tmp_path, "answerer")["messages"]), "the answer is nobody's translation"


async def test_the_lineage_holds_both(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = CAST
    first, second, answer = (await end_of(tmp_path, server, {"mode": {"localised": True}}))["lineage"]["made"]
    assert (first["role"], second["role"], answer["role"]) == ("writer", "localiser", "answerer")
    assert (second["from"], second["from_input"], second["from_language"]) == (FIRST, "发票一张，金额三百元。", "zh")


async def test_a_row_of_the_other_language_is_rewritten_in_it_and_demands_are_said_in_the_rows_own(
    tmp_path: Path, server: ScriptedServer
) -> None:
    rows = [{"instruction": text, "output": "x"} for text in ("写一首关于大海的诗，要押韵。", "Write a poem about the sea.")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"rewrite": {"path": "rows.jsonl", "operations": ["constraint"]}}
    server.script = Cast(**{**CAST.lines, "rewriter": {"instruction": FIRST}})
    end = await end_of(tmp_path, server, {"mode": {"write": "rewrite", "localised": True}, "source": source})
    assert end["brief"]["source"]["place"] == "line 1", "the Chinese row, for a row in English"
    assert "<instruction>\n写一首关于大海的诗" in call(tmp_path, "rewriter")["messages"][-1]["content"]
    said = end["lineage"]["made"][1]["demand"]["said"]
    assert said.isascii()
    assert end["row"]["instruction"].endswith(said)


async def test_a_passage_stays_as_its_document_has_it(tmp_path: Path, server: ScriptedServer) -> None:
    (tmp_path / "rules.txt").write_text("自签收之日起七天内可以无理由退货，运费由买家承担，商品应当完好无损，吊牌齐全。")
    server.script = Cast(**{**CAST.lines, "document_writer": {"instruction": FIRST}})
    end = await end_of(tmp_path, server, {"mode": {"write": "document", "localised": True}, "source": "rules.txt"})
    assert end["row"]["input"] == end["brief"]["source"]["text"]
    assert end["row"]["input"] not in call(tmp_path, "localiser")["messages"][-1]["content"], "it is not to be said again"
    assert end["row"]["instruction"].startswith("Who signs invoice a-")


async def test_an_axis_may_localise_a_share_of_the_candidates(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = CAST
    taxonomy(tmp_path)
    text = (tmp_path / "t.yaml").read_text()
    axis = "axes:\n  mapped:\n    title: {en: mapped, zh: 映射}\n    values:\n"
    values = "      plain: {en: plain, zh: 直接}\n      mapped: {en: mapped, zh: 映射, sets: {localised: true}}\n"
    (tmp_path / "t.yaml").write_text(text.replace("axes:\n", axis + values))
    limits = {"candidates_per_leaf": 6, "error_share": 1}
    await go(recipe(tmp_path, server, target=6, limits=limits, flow={"evolve_rounds": 0}), tmp_path)
    asked = Counter(one["role"] for one in told(tmp_path).calls)
    assert (asked["writer"], asked["localiser"]) == (6, 3)


def test_roles_are_checked_in_the_language_that_they_are_asked_in(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    built_in = Path(__file__).parent.parent / "prompts"
    text = (built_in / "localiser.en.md").read_text()
    (tmp_path / "mine" / "localiser.en.md").write_text(text.replace("language: en", "language: zh"))
    taxonomy(tmp_path, settings={"a": {"mode": {"localised": True}}})
    with pytest.raises(InputError, match=r"leaf t/a \(write: brief, localised\) needs a role of stage 'localise' that speaks 'en'"):
        prepare(recipe(tmp_path, "http://localhost:1/v1", prompts="mine"))


# -- personas ----------------------------------------------------------------------------------------------------------


async def test_people_of_a_list_ask_in_turn(tmp_path: Path, server: ScriptedServer) -> None:
    people = ["a night porter in Leeds", "a retired judge", "a student of law"]
    (tmp_path / "people.txt").write_text("\n".join([*people, "", "一位退休的法官"]))
    taxonomy(tmp_path, settings={"a": {"source": {"persona": "people.txt"}}})
    await go(recipe(tmp_path, server, target=3, flow={"evolve_rounds": 0}), tmp_path)
    assert sorted(one["brief"]["persona"] for one in told(tmp_path).candidates[:3]) == sorted(people)
    prompts = [one["messages"][-1]["content"] for one in told(tmp_path).calls if one["role"] == "writer"]
    assert sum(f": {person}\n" in prompt for prompt in prompts for person in people) == len(prompts)


async def test_without_a_list_nobody_is_told_who_asks(tmp_path: Path, server: ScriptedServer) -> None:
    def write(request: Request, case: Case) -> None:
        assert "Who asks" not in request.prompt

    server.script = Cast(writer=write)
    await go(recipe(tmp_path, server, target=1, flow={"evolve_rounds": 0}), tmp_path)
    assert {one["brief"]["persona"] for one in told(tmp_path).candidates} == {""}


def test_people_may_stand_in_the_taxonomy(tmp_path: Path) -> None:
    taxonomy(tmp_path, settings={"a": {"source": {"persona": {"texts": ["a night porter"]}}}})
    (leaf,) = prepare(recipe(tmp_path, "http://localhost:1/v1")).leaves
    assert [source.text for source in leaf.sources["persona"]] == ["a night porter"]
