"""Self-Instruct: which examples are shown, what is written after them, and which filter refuses what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, taxonomy, told

from agents.scripted import Reply, Request, ScriptedServer
from filters.gate import Subject
from filters.self_instruct import SelfInstruct
from graphs.prepare import prepare
from leafmill.errors import InputError
from leafmill.records import Row, Seed, Settled
from taxonomy.demonstrations import choose
from taxonomy.seeds import language_of

ONE: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1, "error_share": 1}, "flow": {"evolve_rounds": 0}}
SEEDS = [Seed(instruction=f"Seed number {n} asks for a thing.", language="en") for n in range(10)]


def settled(number: int, language: str = "en", state: str = "accepted") -> Settled:
    row = {"language": language, "instruction": f"Made number {number} asks for another thing.", "answer": "So."}
    return Settled.model_validate({"number": number, "state": state, "code": "", "row": row})


def shown(past: Sequence[Settled] = (), seeds: Sequence[Seed] = SEEDS, number: int = 0) -> tuple[Seed, ...]:
    return choose(seeds, past, 7, "t/a", number, "en")


# -- examples ----------------------------------------------------------------------------------------------------------


def test_six_seeds_and_two_rows_that_models_wrote_are_shown() -> None:
    found = shown([settled(n) for n in range(5)])
    assert Counter(one.made for one in found) == {False: 6, True: 2}
    assert len(set(found)) == 8


@pytest.mark.parametrize(("accepted", "made"), [(0, 0), (1, 1), (9, 2)])
def test_while_few_are_accepted_seeds_take_their_places(accepted: int, made: int) -> None:
    assert Counter(one.made for one in shown([settled(n) for n in range(accepted)])) == Counter({False: 8 - made, True: made})


def test_what_was_not_accepted_or_is_in_another_language_is_not_shown() -> None:
    assert not any(one.made for one in shown([settled(0, state="rejected"), settled(1, language="zh")]))
    assert not any(seed.language == "zh" for seed in shown(seeds=[*SEEDS, Seed(instruction="写一首诗", language="zh")]))


def test_of_few_seeds_all_are_shown_and_none_twice() -> None:
    assert sorted(one.instruction for one in shown(seeds=SEEDS[:3])) == [one.instruction for one in SEEDS[:3]]


def test_the_order_is_shuffled_and_differs_by_candidate() -> None:
    assert len({shown(number=number) for number in range(20)}) == 20
    places = {next(at for at, one in enumerate(shown([settled(1)], number=number)) if one.made) for number in range(60)}
    assert places == set(range(8))


def test_T35_equal_seed_and_order_show_the_same_bytes_in_every_process() -> None:
    code = (
        "from leafmill.records import Seed, Settled\nfrom taxonomy.demonstrations import choose\n"
        "seeds = [Seed(instruction=f'Seed {n} of these.') for n in range(30)]\n"
        "past = [Settled.model_validate({'number': n, 'state': 'accepted', 'code': '', 'row': "
        "{'language': 'en', 'instruction': f'Made {n} of these.'}}) for n in range(9)]\n"
        "print([one.model_dump_json() for n in range(9) for one in choose(seeds, past, 7, 't/a', n, 'en')])"
    )
    root = Path(__file__).parent.parent
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": one}, cwd=root
        ).stdout
        for one in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != b""


# -- filters -----------------------------------------------------------------------------------------------------------


def code_of(text: str, **settings: Any) -> str:
    return SelfInstruct(**settings).instruction(text, language_of(text)).code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Go on now", "too_short"),
        ("做什么", "too_short"),
        ("word " * 151, "too_long"),
        ("字" * 251, "too_long"),
        ("Describe the image of a lighthouse.", "keyword"),
        ("Draw a map of the old town.", "keyword"),
        ("Summarise the page at https://example.org in a line.", "keyword"),
        ("请描述这张图片里的人物", "keyword"),
        ("打开下面的链接并总结内容", "keyword"),
        ("把ChatGPT的优点列出来给我", "keyword"),
        ("Write a program that sorts names.", "starts_with_program"),
        ("请编写一个程序来排序", "starts_with_program"),
        ("- name two towns in Peru", "starts_with_punctuation"),
        ("，然后说明理由是什么", "starts_with_punctuation"),
    ],
)
def test_every_filter_has_a_code_of_its_own(text: str, code: str) -> None:
    assert code_of(text) == f"self_instruct.{code}"


@pytest.mark.parametrize(
    "text",
    [
        "写一首秋天的诗歌",
        "把句子中的人名链接到百科词条",
        "《红楼梦》里最年长的女性是谁？",
        "“天道酬勤”这句话是什么意思？",
        '"Carpe diem": what does it mean?',
        "Explain what NASA does with `JSON.parse(myText)`.",
        "Tell the plotting of a novel from its setting.",
    ],
)
def test_T35_what_is_fine_passes_with_its_case(text: str) -> None:
    assert code_of(text) == "ok"


def test_what_a_leaf_allows_is_no_fault_there() -> None:
    text = "Read the file line by line and count the words."
    assert (code_of(text), code_of(text, allow=("File",))) == ("self_instruct.keyword", "ok")
    assert code_of("Write a program that sorts names.", allow=("write a program",)) == "ok"
    assert code_of("Read the file and draw it.", allow=("file",)) == "self_instruct.keyword"


def instance(input: str, output: str) -> Seed:
    return Seed(instruction="Give a synonym of the word.", input=input, output=output)


@pytest.mark.parametrize(
    ("instances", "code"),
    [
        ([instance("big", "large"), instance("big", "huge")], "conflicting_outputs"),
        ([instance("big", "big")], "output_is_input"),
        ([instance("big:", "large")], "ends_in_colon"),
        ([instance("大：", "巨大")], "ends_in_colon"),
        ([instance("big", " ")], "empty_output"),
    ],
)
def test_T35_a_task_whose_instances_are_no_examples_is_dropped_whole(instances: list[Seed], code: str) -> None:
    chosen, verdict = SelfInstruct().instances(instances)
    assert (chosen, verdict.decision, verdict.code) == (None, "reject", f"self_instruct.{code}")


def test_an_instance_that_is_no_example_gives_way_to_one_that_is() -> None:
    assert SelfInstruct().instances([instance("big", "big"), instance("small", "little")])[0] == instance("small", "little")


async def test_the_gate_judges_the_row() -> None:
    row = Row(language="en", instruction="Describe the image of a lighthouse.")
    assert (await SelfInstruct()(Subject("a", row))).code == "self_instruct.keyword"


# -- a run -------------------------------------------------------------------------------------------------------------


def by_self_instruct(folder: Path, **settings: Any) -> None:
    lines = [json.dumps({"instruction": f"Say what shelf {n} of the old cellar is for.", "output": "Ink."}) for n in range(9)]
    (folder / "seeds.jsonl").write_text("\n".join(lines))
    taxonomy(folder, settings={"a": {"mode": {"write": "self_instruct"}, "source": "seeds.jsonl", **settings}})


async def end_of(folder: Path, server: ScriptedServer, **overrides: Any) -> dict[str, Any]:
    by_self_instruct(folder)
    await go(recipe(folder, server, **{**ONE, **overrides}), folder)
    return told(folder).of(0)


async def test_a_task_is_written_after_examples_and_answered_by_somebody_else(tmp_path: Path, server: ScriptedServer) -> None:
    end = await end_of(tmp_path, server)
    assert end["state"] == "accepted"
    assert [call["role"] for call in told(tmp_path).calls][:4] == ["self-instructor", "task-classifier", "instance-writer", "answerer"]
    assert end["row"]["input"] == "Sheet a-0, 12 lines, unsigned."
    assert end["row"]["answer"].startswith("Look up the number a-0"), "the draft of the instance never becomes the answer"
    first = end["lineage"]["made"][0]
    assert (first["role"], first["instances"][0]["output"]) == ("self-instructor", "On its shelf.")
    assert len(end["brief"]["seeds"]) == 8, "the brief records what was shown"
    prompt = told(tmp_path).calls[0]["messages"][-1]["content"]
    assert [prompt.count(f"{n}. <example>\nSay what shelf ") for n in range(1, 9)] == [1] * 8
    assert "\n9. Write this task." in prompt


async def test_accepted_rows_are_shown_once_they_are_settled(tmp_path: Path, server: ScriptedServer) -> None:
    by_self_instruct(tmp_path)
    gates = {"semantic": False, "ifd": False, "novelty": False}
    await go(recipe(tmp_path, server, target=20, flow={"evolve_rounds": 0}, gates=gates), tmp_path)
    made = {one["number"]: [seed for seed in one["brief"]["seeds"] if seed["made"]] for one in told(tmp_path).candidates}
    assert [len(made[number]) for number in range(20)] == [0] * 16 + [2] * 4
    written = {row["instruction"] for row in told(tmp_path).rows}
    assert {seed["instruction"] for seed in made[19]} <= written


async def test_a_classification_gets_its_label_first_and_is_held_to_it(tmp_path: Path, server: ScriptedServer) -> None:
    labels = {"classification": True, "labels": ["complete", "torn"]}
    server.script = Cast(task_classifier=labels, answerer="It is either complete or torn.")
    end = await end_of(tmp_path, server)
    (made, _), (writer,) = end["lineage"]["made"], [call for call in told(tmp_path).calls if call["role"] == "instance-writer"]
    assert made["label"] in ("complete", "torn")
    assert f"<label>\n{made['label']}\n</label>" in writer["messages"][-1]["content"]
    assert (end["state"], made["demand"]["text"]) == ("accepted", made["label"])


async def test_an_answer_that_does_not_name_the_label_is_rejected(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(task_classifier={"classification": True, "labels": ["crimson", "azure"]})
    end = await end_of(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "check", "demand.label")


@pytest.mark.parametrize("said", [{"classification": True, "labels": ["only one"]}, {"classification": False, "labels": ["a", "b"]}])
async def test_only_a_yes_with_labels_to_choose_from_counts(tmp_path: Path, server: ScriptedServer, said: Any) -> None:
    server.script = Cast(task_classifier=said)
    end = await end_of(tmp_path, server)
    assert "label" not in end["lineage"]["made"][0]
    assert "<label>" not in str([call["messages"] for call in told(tmp_path).calls])


async def test_what_a_filter_refuses_is_given_no_material(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(self_instructor={"instruction": "Describe the picture of invoice a-0."})
    end = await end_of(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "write", "self_instruct.keyword")
    assert [call["role"] for call in told(tmp_path).calls] == ["self-instructor"]
    assert [one["code"] for one in told(tmp_path).verdicts] == ["self_instruct.keyword"]


async def test_instances_that_contradict_each_other_end_the_task(tmp_path: Path, server: ScriptedServer) -> None:
    twice = [{"input": "Sheet a-0.", "output": "On shelf 5."}, {"input": "Sheet a-0.", "output": "In the bin."}]
    server.script = Cast(instance_writer={"instances": twice})
    end = await end_of(tmp_path, server)
    assert (end["state"], end["code"]) == ("rejected", "self_instruct.conflicting_outputs")
    assert "answerer" not in {call["role"] for call in told(tmp_path).calls}


async def test_a_reply_that_was_cut_off_is_discarded_under_its_own_code(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(self_instructor=Reply('{"instruction": "Explain to a new coll', finish="length"))
    end = await end_of(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "write", "self_instruct.truncated")


async def test_a_task_that_is_nearly_a_seed_is_rejected_and_the_seed_named(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(self_instructor={"instruction": "Say what shelf 5 of the new cellar is for."})
    end = await end_of(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "screen", "novelty.near")
    assert "of t/a" in end["detail"]


async def test_the_second_of_two_nearly_equal_tasks_is_rejected(tmp_path: Path, server: ScriptedServer) -> None:
    def write(request: Request, case: Case) -> Any:
        places = ["the red folder", "the blue folder", "a green box", "its own drawer"]
        return {"instruction": f"Explain to our newest clerk why invoice a-{case.number} goes into {places[case.number % 4]} at last."}

    server.script = Cast(self_instructor=write)
    by_self_instruct(tmp_path)
    settings = {"target": 2, "limits": {"candidates_per_leaf": 3, "error_share": 1}, "in_flight": 1, "flow": {"evolve_rounds": 0}}
    await go(recipe(tmp_path, server, **settings, gates={"semantic": False, "ifd": False, "minhash": False}), tmp_path)
    first, second, *_ = told(tmp_path).candidates
    assert (first["state"], second["code"]) == ("accepted", "novelty.near")
    assert first["id"] in second["detail"]


# -- before a token is spent -------------------------------------------------------------------------------------------


def test_no_seeds_in_a_language_that_is_wanted_is_told_before_a_token_is_spent(tmp_path: Path) -> None:
    by_self_instruct(tmp_path)
    with pytest.raises(InputError, match=r"leaf t/a: seeds in zh are needed for write: self_instruct, settings.source: seeds.jsonl"):
        prepare(recipe(tmp_path, "http://localhost:1/v1", languages=["en", "zh"]))
    taxonomy(tmp_path, settings={"a": {"mode": {"write": "self_instruct"}}})
    with pytest.raises(InputError, match=r"leaf t/a: seeds in en are needed .* settings.source names none"):
        prepare(recipe(tmp_path, "http://localhost:1/v1"))


def test_a_role_that_is_switched_off_is_told_before_a_token_is_spent(tmp_path: Path) -> None:
    by_self_instruct(tmp_path)
    with pytest.raises(InputError, match=r"leaf t/a \(write: self_instruct\) needs a role of stage 'instances' that speaks 'en'"):
        prepare(recipe(tmp_path, "http://localhost:1/v1", roles={"instance-writer": {"off": True}}))


def test_roles_that_write_in_other_ways_are_not_of_this_run(tmp_path: Path) -> None:
    by_self_instruct(tmp_path)
    names = prepare(recipe(tmp_path, "http://localhost:1/v1")).roles.names
    assert {"self-instructor", "task-classifier", "instance-writer"} <= set(names)
    assert not {"rewriter", "document-writer", "localiser", "grounding-judge"} & set(names)
