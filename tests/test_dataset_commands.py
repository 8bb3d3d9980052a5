"""The commands on dataset files as a user gives them: real files, real gates, small models that are made on the spot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from terminal import leafmill
from test_end_to_end import tiny_scorer as tiny_scorer
from test_reward import folder_of

from filters.scoring.scorer import Scorer
from leafmill.dataset.items import Item
from leafmill.dataset.reader import read

POEM = "写一首关于夏天的诗，要押韵，共四句。"
ROWS: list[dict[str, Any]] = [
    {"instruction": "List three fruits that grow in cold climates.", "input": "", "output": "Apples, pears and plums all do well there."},
    {"instruction": POEM, "input": "", "output": "荷叶田田水自凉，蝉声一路送斜阳。", "category": "creative"},
    {"instruction": "LIST three fruits that grow in cold climates!", "input": "", "output": "Apples, pears, plums."},
    {"instruction": POEM.replace("诗", "诗歌"), "input": "", "output": "池上荷花开，风来满袖香。"},
    {
        "instruction": "List four fruits that grow in cold climates.",
        "input": "",
        "output": "Apples, pears, plums and cherries.",
    },
    {
        "conversations": [
            {"from": "human", "value": "What is the boiling point of water at sea level?"},
            {"from": "gpt", "value": "It is 100 degrees Celsius."},
            {"from": "human", "value": "And on top of Mount Everest, roughly?"},
            {"from": "gpt", "value": "Roughly 70 degrees, because the pressure of the air is much lower there."},
        ]
    },
    {"instruction": "Say yes.", "input": "", "output": ""},
]


def dataset(folder: Path, rows: Sequence[Mapping[str, Any]] = ROWS, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- dedup -------------------------------------------------------------------------------------------------------------


def test_dedup_keeps_the_first_of_twins_in_both_languages_and_names_it(tmp_path: Path) -> None:
    dataset(tmp_path)
    said = leafmill(tmp_path, "dedup", "data.jsonl", "--no-semantic", "--json")
    assert said.code == 0, said
    found = json.loads(said.out)
    assert (found["read"], found["kept"], found["dropped"]) == (7, 5, 2)
    assert found["languages"] == {"en": {"kept": 4, "dropped": 1}, "zh": {"kept": 1, "dropped": 1}}
    dropped = lines(tmp_path / "data.dedup" / "dropped.jsonl")
    assert [(one["line"], one["evidence"]["kept"]) for one in dropped] == [(3, "1"), (4, "2")]
    assert [one["leafmill"]["dedup"]["line"] for one in lines(tmp_path / "data.dedup" / "kept.jsonl")] == [1, 2, 5, 6, 7]


def test_dedup_by_meaning_drops_what_says_the_same_and_remembers_it_over_a_restart(tmp_path: Path) -> None:
    rephrased = {"instruction": "List three fruits that grow in a cold climate.", "output": "Apples, pears and plums."}
    dataset(tmp_path, [*ROWS, rephrased])
    said = leafmill(tmp_path, "dedup", "data.jsonl", "--minhash-threshold", "1", "--threshold", "0.8", "--json")
    assert said.code == 0, said
    assert (json.loads(said.out)["codes"]).get("semantic.duplicate", 0) >= 1
    assert {"exact", "minhash", "semantic"} == set(json.loads(said.out)["rules"])
    again = leafmill(tmp_path, "dedup", "data.dedup/kept.jsonl", "--minhash-threshold", "1", "--threshold", "0.8", "--json")
    assert json.loads(again.out)["dropped"] == 0


def test_a_table_shows_counts_reasons_mixed_formats_and_broken_lines(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + '{"instruction": "cut o\n', encoding="utf-8")
    said = leafmill(tmp_path, "dedup", "data.jsonl", "--no-semantic")
    words = " ".join(said.out.split())
    assert "dedup: data.jsonl -> data.dedup/" in words
    assert "8 rows (mixed formats: 6 alpaca, 1 sharegpt)" in words
    assert "all 8 5 2 0 1" in words
    assert "set aside in broken.jsonl, for they cannot be read: 1 line 8: no JSON: " in words


def test_the_same_command_again_says_the_same_and_other_settings_are_refused(tmp_path: Path) -> None:
    dataset(tmp_path)
    words = ("dedup", "data.jsonl", "--no-semantic", "--json")
    first = leafmill(tmp_path, *words)
    assert leafmill(tmp_path, *words).out == first.out
    said = leafmill(tmp_path, *words, "--minhash-threshold", "0.8")
    assert (said.code, said.out) == (21, "")
    assert said.err.startswith("error: data.dedup: was begun otherwise (gates: {} there, {'minhash': {'threshold': 0.8}} now): --fresh")
    assert leafmill(tmp_path, *words, "--minhash-threshold", "0.8", "--fresh").code == 0


@pytest.mark.parametrize("command", [("dedup",), ("score",), ("select", "--budget", "3"), ("decontaminate", "--against", "test.jsonl")])
def test_every_command_refuses_what_is_no_dataset_with_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    dataset(tmp_path, [{"question": "How many eggs are left over in the basket?"}], "test.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    faults = {
        "test.jsonl": "test.jsonl:1: the columns are question: not those of any format; expected: alpaca has",
        "empty.jsonl": "the file is empty",
        "none.jsonl": "cannot be read: No such file",
    }
    for name, message in faults.items():
        said = leafmill(tmp_path, *command, name)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said
        assert message in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "test.jsonl"]


def test_a_format_or_a_threshold_that_is_none_is_refused(tmp_path: Path) -> None:
    dataset(tmp_path)
    said = leafmill(tmp_path, "dedup", "data.jsonl", "--format", "alpacca", "--no-semantic")
    assert (said.code, "unknown format 'alpacca': did you mean 'alpaca'?" in said.err) == (2, True)
    said = leafmill(tmp_path, "dedup", "data.jsonl", "--minhash-threshold", "0.2", "--no-semantic")
    assert (said.code, "threshold must be from 0.5 to 1, got 0.2" in said.err) == (2, True)


# -- score -------------------------------------------------------------------------------------------------------------


def test_scores_are_the_scorers_and_stand_on_every_row_with_their_parts(tmp_path: Path, tiny_scorer: Path) -> None:
    data = dataset(tmp_path)
    said = leafmill(tmp_path, "score", "data.jsonl", "--model", tiny_scorer, "--device", "cpu", "--json")
    assert said.code == 0, said
    assert (json.loads(said.out)["kept"], json.loads(said.out)["dropped"]) == (6, 0)

    async def expected() -> dict[int, float | None]:
        items = [found for found in read(data) if isinstance(found, Item)]
        async with Scorer.load(tiny_scorer, device="cpu") as scorer:
            return {item.line: (await scorer.score(item.row.asked, item.row.answer)).loss_ratio for item in items}

    truth = asyncio.run(expected())
    for row in lines(tmp_path / "data.score" / "kept.jsonl"):
        found = row["leafmill"]["score"]
        assert found["ifd"] == pytest.approx(truth[found["line"]], abs=1e-5)
        parts = found["ifd_parts"]
        assert parts["s_cond"] / parts["s_uncond"] == pytest.approx(found["ifd"])
        assert parts["ppl_ratio"] > 0
        assert parts["n"] >= 10
    (waiting,) = lines(tmp_path / "data.score" / "waiting.jsonl")
    assert (waiting["line"], waiting["code"], waiting["row"]) == (7, "ifd.empty_answer", ROWS[6])


def test_a_second_score_stands_beside_the_first_and_selects(tmp_path: Path, tiny_scorer: Path) -> None:
    dataset(tmp_path, ROWS[:6])
    small = ("--model", str(tiny_scorer), "--device", "cpu")
    assert leafmill(tmp_path, "score", "data.jsonl", *small).code == 0
    assert leafmill(tmp_path, "score", "data.score/kept.jsonl", "--by", "reverse-ifd", *small, "--out", "both").code == 0
    rows = lines(tmp_path / "both" / "kept.jsonl")
    assert all({"ifd", "ifd_parts", "reverse_ifd", "reverse_ifd_parts"} <= row["leafmill"]["score"].keys() for row in rows)
    said = leafmill(tmp_path, "select", "both/kept.jsonl", "--budget", "2", "--by", "ifd", "--json")
    assert said.code == 0, said
    chosen = lines(tmp_path / "both" / "kept.select" / "kept.jsonl")
    assert len(chosen) <= 2
    assert all(row["leafmill"]["score"]["ifd"] < 1 for row in chosen)


def test_a_reward_is_written_on_every_row(tmp_path: Path) -> None:
    dataset(tmp_path)
    model = folder_of(tmp_path / "tiny-reward")
    said = leafmill(tmp_path, "score", "data.jsonl", "--by", "reward", "--model", model, "--device", "cpu", "--json")
    assert said.code == 0, said
    assert all(isinstance(row["leafmill"]["score"]["reward"], float) for row in lines(tmp_path / "data.score" / "kept.jsonl"))
    assert json.loads(said.out)["codes"] == {"reward.empty_answer": 1}


def test_a_way_of_scoring_or_a_ratio_that_is_none_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    dataset(tmp_path)
    said = leafmill(tmp_path, "score", "data.jsonl", "--by", "idf")
    assert (said.code, said.err) == (2, "error: unknown way to score 'idf': did you mean 'ifd'? known: ifd, reverse-ifd, reward\n")
    assert "unknown ifd variant 'ppl'" in leafmill(tmp_path, "score", "data.jsonl", "--variant", "ppl").err
    said = leafmill(tmp_path, "score", "data.jsonl", "--model", tmp_path / "nobody")
    assert said.code == 40


# -- the others --------------------------------------------------------------------------------------------------------


def test_decontaminate_drops_what_holds_a_test_item_and_reports_each_set(tmp_path: Path) -> None:
    question = "A farmer has 17 sheep and buys 25 more at the market, then sells 9 of them. How many sheep does the farmer have now?"
    dataset(tmp_path, [*ROWS, {"instruction": f"Please solve: {question}", "output": "33"}])
    dataset(tmp_path, [{"question": question}, {"question": "Write a function that reverses a linked list in place."}], "maths.jsonl")
    said = leafmill(tmp_path, "decontaminate", "data.jsonl", "--against", "maths.jsonl")
    assert said.code == 0, said
    (dropped,) = lines(tmp_path / "data.decontaminate" / "dropped.jsonl")
    assert (dropped["line"], dropped["evidence"]["set"]) == (8, "maths")
    assert "maths 2 1 50.0% over 2 % 1" in " ".join(said.out.split())
    assert (tmp_path / "data.decontaminate" / "test_sets.json").is_file()


def test_select_keeps_as_many_as_the_budget_says_and_chooses_alike_again(tmp_path: Path) -> None:
    dataset(tmp_path, ROWS[:6])
    said = leafmill(tmp_path, "select", "data.jsonl", "--budget", "3", "--by", "random", "--json")
    assert (said.code, json.loads(said.out)["kept"], json.loads(said.out)["codes"]) == (0, 3, {"select.budget": 3})
    first = (tmp_path / "data.select" / "kept.jsonl").read_bytes()
    leafmill(tmp_path, "select", "data.jsonl", "--budget", "3", "--by", "random", "--fresh")
    assert (tmp_path / "data.select" / "kept.jsonl").read_bytes() == first


def test_a_scorer_that_cannot_tell_is_refused_by_calibrate(tmp_path: Path, tiny_scorer: Path) -> None:
    dataset(tmp_path, ROWS[:6])
    said = leafmill(tmp_path, "calibrate", "ifd", "data.jsonl", "--model", tiny_scorer, "--device", "cpu")
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("error: en: ")
    assert (tmp_path / "data.calibrate-ifd" / "ifd-bands.json").is_file()


def test_calibrate_semantic_writes_thresholds_and_refuses_too_few_pairs(tmp_path: Path) -> None:
    dataset(tmp_path, [{"a": "Sort a list", "b": "Put a list in order", "same": True}], "pairs.jsonl")
    said = leafmill(tmp_path, "calibrate", "semantic", "pairs.jsonl")
    assert (said.code, "too few pairs" in said.err) == (2, True)
