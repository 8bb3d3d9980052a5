"""Seeds: what the reader takes, and what cleaning drops and why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafmill.errors import TaxonomyError
from leafmill.records import Seed
from taxonomy import clean, read_seeds
from taxonomy.seeds import language_of, units


def jsonl(folder: Path, *lines: str) -> Path:
    path = folder / "seeds.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def seed(instruction: str = "Name the largest planet.", **fields: str) -> Seed:
    return Seed.model_validate({"instruction": instruction, **fields})


def codes(*seeds: Seed) -> list[str]:
    return [drop.code for drop in clean(seeds).dropped]


def test_T35_one_input_with_two_outputs_removes_the_whole_task() -> None:
    task = [seed("Give a synonym of the word.", input=i, output=o) for i, o in (("big", "large"), ("big", "huge"), ("small", "little"))]
    result = clean([seed(), *task])
    assert result.kept == (seed(),)
    assert result.counts == {"conflicting_outputs": 3}
    assert {drop.evidence for drop in result.dropped} == {"big"}


def test_T35_a_chinese_instruction_of_eight_characters_passes_length() -> None:
    assert clean([seed("请把这句话译成英文")]).dropped == ()
    assert clean([seed("写一首秋天的诗歌")]).kept[0].instruction == "写一首秋天的诗歌"


def test_T35_acronyms_and_code_keep_their_case() -> None:
    kept = clean([seed("Explain what NASA does with `JSON.parse(myText)`.", output="NASA reads iOS logs.")]).kept[0]
    assert kept.instruction == "Explain what NASA does with `JSON.parse(myText)`."
    assert kept.output == "NASA reads iOS logs."


def test_T35_equal_order_gives_equal_bytes_in_every_process() -> None:
    code = (
        "from leafmill.records import Seed\nfrom taxonomy import clean\n"
        "seeds = [Seed(instruction=f'Count up to number {n % 7}.', input=str(n % 3), output=str(n % 2)) for n in range(40)]\n"
        "print(clean(seeds).model_dump_json())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parent.parent,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != b""


def test_exact_duplicates_are_dropped_and_the_first_is_kept() -> None:
    result = clean([seed(output="Jupiter."), seed(output="Jupiter. "), seed("Name the smallest planet.")])
    assert [kept.instruction for kept in result.kept] == ["Name the largest planet.", "Name the smallest planet."]
    assert result.counts == {"duplicate": 1}


def test_one_empty_input_may_have_several_outputs() -> None:
    assert codes(seed("Write a short poem.", output="Roses."), seed("Write a short poem.", output="Violets.")) == []


def test_an_invalid_instance_does_not_make_a_conflict() -> None:
    assert codes(seed(input="x", output="one"), seed(input="x", output="two:")) == ["ends_in_colon"]


@pytest.mark.parametrize("text", ["Go on now", "做什么"])
def test_three_units_are_too_short_in_either_language(text: str) -> None:
    assert codes(seed(text)) == ["too_short"]


@pytest.mark.parametrize(("unit", "most"), [("word ", 150), ("字", 250)])
def test_the_most_is_counted_in_words_or_characters(unit: str, most: int) -> None:
    assert codes(seed(unit * most)) == []
    assert codes(seed(unit * (most + 1))) == ["too_long"]


def test_a_seed_without_output_passes_but_a_blank_output_is_dropped() -> None:
    assert codes(seed()) == []
    assert codes(seed(output="")) == codes(seed(output=" \n")) == ["empty_output"]


def test_an_output_that_repeats_its_input_is_dropped() -> None:
    assert codes(seed(input="same", output=" same ")) == ["output_is_input"]


@pytest.mark.parametrize("colon", [":", "\uff1a"])
def test_input_or_output_ending_in_a_colon_is_dropped(colon: str) -> None:
    result = clean([seed(input="原文" + colon, output="x"), seed(output="答案如下" + colon + "\n")])
    assert [(drop.code, drop.evidence) for drop in result.dropped] == [("ends_in_colon", "input"), ("ends_in_colon", "output")]


texts = st.sampled_from(["", "one", "two", "one:", "三"])
instructions = st.sampled_from(["Name the largest planet.", "说出最大的行星", "Short"])
seeds = st.lists(st.builds(seed, instructions, input=texts, output=texts), max_size=12)


@given(seeds)
def test_nothing_is_lost_or_changed_and_cleaning_twice_changes_nothing_more(arrived: list[Seed]) -> None:
    result = clean(arrived)
    both = [*result.kept, *(drop.seed for drop in result.dropped)]
    assert sorted(map(repr, both)) == sorted(map(repr, arrived))
    assert clean(result.kept).kept == result.kept


def test_the_reader_takes_plain_rows_and_instances(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        '{"instruction": "Name the largest planet.", "output": "Jupiter."}',
        "",
        '{"id": "t8", "instruction": "给出词语的同义词", "instances": [{"input": "高", "output": "大"}, {"input": "快", "output": "迅"}]}',
    )
    rows = [(seed.language, seed.input, seed.output) for seed in read_seeds(path)]
    assert rows == [("en", "", "Jupiter."), ("zh", "高", "大"), ("zh", "快", "迅")]


def test_a_language_that_is_given_is_not_guessed(tmp_path: Path) -> None:
    path = jsonl(tmp_path, '{"instruction": "Say hello to NASA", "language": "zh"}')
    assert read_seeds(path)[0].language == "zh"


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    assert len(read_seeds(jsonl(tmp_path, '{"instruction": "Join\u2028these two lines."}'))) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"instruction": "Name', "not valid JSON"),
        ('["Name it"]', r"should be an object, got \['Name it'\]"),
        ('{"input": "x"}', "needs an instruction, got None"),
        ('{"instruction": "  "}', "needs an instruction, got '  '"),
        ('{"instruction": 7}', "needs an instruction, got 7"),
        ('{"instruction": "Name it.", "output": 7}', "seed field output: .* got 7"),
        ('{"instruction": "Name it.", "language": "fr"}', "seed field language: .* got 'fr'"),
        ('{"instruction": "Name it.", "instances": []}', r"instances should be a list of objects, got \[\]"),
    ],
)
def test_a_bad_line_is_told_with_file_line_and_value(tmp_path: Path, line: str, message: str) -> None:
    path = jsonl(tmp_path, '{"instruction": "A good one first."}', line)
    with pytest.raises(TaxonomyError, match=message) as caught:
        read_seeds(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_an_empty_file_a_missing_file_and_bad_utf8_are_told(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"seeds.jsonl: holds no seeds"):
        read_seeds(jsonl(tmp_path))
    with pytest.raises(TaxonomyError, match=r"none.jsonl: seeds cannot be read"):
        read_seeds(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_bytes(b"\xff")
    with pytest.raises(TaxonomyError, match=r"bad.jsonl: not valid UTF-8: byte 0xff at offset 0"):
        read_seeds(tmp_path / "bad.jsonl")


def test_units_are_chinese_characters_and_latin_words() -> None:
    assert units("用Python写一个函数") == 7
    assert units("Don't use state-of-the-art words, 3 times.") == 6


def test_the_language_is_that_of_most_units() -> None:
    assert language_of("用 Python 写一个快速排序") == "zh"
    assert language_of("Translate the word 你好 for my friends.") == "en"
