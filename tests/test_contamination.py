"""Test sets stay out of the data: the rule, the index, the gate, and where a run, an export and a dataset file are held against it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Cast, go, recipe, taxonomy, told
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal import KEYLESS, leafmill, write_recipe

from bench.decontaminate import Plain
from filters.catalogue import make
from filters.contamination import index as index_module
from filters.contamination import reading as reading_module
from filters.contamination.gate import Contamination
from filters.contamination.grams import Grams
from filters.contamination.index import Index
from filters.contamination.reading import Message, code_tokens, messages
from filters.contamination.report import report
from filters.contamination.similar import Meanings
from filters.contamination.testsets import Benchmark, BenchmarkItem, Benchmarks, dump, load, load_all, loaded, parse
from filters.gate import Subject, judge, version
from graphs.prepare import prepare
from graphs.seeds import META
from leafmill.dataset.decontaminate import REPORT, open_decontaminate, write_report
from leafmill.dataset.sweep import Job, sweep
from leafmill.errors import CallError, EndpointDownError, InputError
from leafmill.ledger import Ledger
from leafmill.recipe import BenchmarkSource
from leafmill.records import Row, Turn

JANET = (
    "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends every day with four. "
    "She sells the remainder at the farmers' market daily for $2 per fresh duck egg."
)
CHINESE = "小明有十二个苹果，他把其中的一半平均分给了三个同学，又买了五个梨，请问小明现在一共有多少个水果？"
SOLUTION = """\
    result = []
    for index, value in enumerate(numbers):
        if value % 2 == 0 and index not in 'skip':
            result.append(value * index)
    return sorted(result)
"""


def words(first: int, count: int) -> str:
    return " ".join(f"w{i}" for i in range(first, first + count))


def sets(*texts: str, name: str = "quiz", reference: str = "") -> Benchmarks:
    references = (reference,) if reference else ()
    return Benchmarks((Benchmark(name, tuple(BenchmarkItem(str(i), text, references) for i, text in enumerate(texts))),))


def row(instruction: str = "Say something nice.", answer: str = "You are kind.", **fields: Any) -> Row:
    return Row(language="en", instruction=instruction, answer=answer, **fields)


def share(tests: Benchmarks, one: Row) -> float:
    return Index(tests.sets).find([messages(one)])[0].share


def hits(tests: Benchmarks, one: Row) -> list[str]:
    return [hit.item for hit in Index(tests.sets).find([messages(one)])[0].hits]


def gate(tests: Benchmarks, **given: Any) -> Contamination:
    return Contamination(tests=tests, **given)


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) + "\n" for one in rows), encoding="utf-8"
    )
    return path


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "runs", "covered", "contaminated"),
    [
        (40, [(0, 25)], 0.625, True),
        (40, [(0, 12)], 0.30, False),
        (20, [(0, 12)], 0.60, True),
        (40, [(0, 7)], 0.0, False),
        (40, [(0, 10), (20, 10)], 0.50, False),
        (40, [(0, 10), (20, 11)], 0.525, True),
    ],
)
def test_T30_a_row_hits_an_item_when_more_than_half_of_its_tokens_are_shared(length, runs, covered, contaminated):
    tests, one = sets(words(0, length)), row(" and ".join(words(*run) for run in runs))
    assert share(tests, one) == pytest.approx(covered)
    assert hits(tests, one) == (["0"] if contaminated else [])


def test_T30_what_two_rows_share_with_an_item_is_not_added_up():
    tests, rows = sets(words(0, 40)), [row(words(0, 15)), row(words(20, 15))]
    found = Index(tests.sets).find([messages(one) for one in rows])
    assert [(one.share, one.hits) for one in found] == [(0.375, ()), (0.375, ())]


@pytest.mark.parametrize(("items", "covered", "contaminated"), [(1319, 26, False), (1319, 27, True), (50, 1, False), (50, 2, True)])
def test_T30_a_set_of_1319_items_is_contaminated_by_27_and_not_by_26(items, covered, contaminated):
    tests = sets(*(words(100 * i, 10) for i in range(items)))
    verdicts = gate(tests).read([row(words(100 * i, 10)) for i in range(covered)])
    (found,) = report(tests.sets, verdicts)
    assert (found.rows_hit, found.items_covered, found.contaminated) == (covered, covered, contaminated)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (row("what is the capital of FRANCE"), ["0"]),
        (row("Answer briefly.", input="What is the capital of France?"), ["0"]),
        (row(history=(Turn(role="user", content="What is the capital of France?"),)), ["0"]),
        (row("Tell me: what is the capital of France?"), []),
        (row(answer="What is the capital of France?"), []),
        (row(history=(Turn(role="assistant", content="What is the capital of France?"),)), []),
        (row("What is the capital of Spain?"), []),
    ],
)
def test_T30_an_item_shorter_than_eight_tokens_is_hit_only_by_all_that_a_user_says(one, found):
    assert hits(sets("What is the capital of France?"), one) == found


def test_T30_a_chinese_item_without_spaces_is_found_in_a_longer_text():
    tests = sets(CHINESE, "中国的首都是哪里？")
    assert hits(tests, row(f"请仔细阅读下面的应用题并写出解题步骤：{CHINESE}谢谢。")) == ["0"]
    assert hits(tests, row("小明有十二个苹果，請問他該怎麼保存這些蘋果？")) == []
    assert hits(tests, row("中國的首都是哪裡")) == ["1"]  # short: the same characters, simplified
    assert hits(tests, row("请问中国的首都是哪里？")) == []


async def test_T30_a_checker_that_fails_is_an_error_and_never_clean():
    class Broken(Benchmarks):
        def index(self, *lengths: int) -> Any:
            raise MemoryError("no room for the index")

    verdict = await judge(gate(Broken(sets(JANET).sets)), Subject("s", row()))
    assert (verdict.decision, verdict.code) == ("error", "contamination_crashed")


def test_an_item_is_found_whatever_its_case_punctuation_and_width():
    edited = JANET.upper().replace(".", "!").replace("’", "'").replace(" ", "\n  ").replace("16", "１６")
    assert share(sets(JANET), row(f"Solve this: {edited}")) == 1.0


def test_the_script_of_the_item_decides_how_long_its_ngrams_are():
    mixed = f"{CHINESE[:20]} {words(0, 8)}"  # 19 characters and 8 words: mostly Chinese
    assert share(sets(mixed), row(words(0, 8))) == 0.0
    assert share(sets(f"{CHINESE[:6]} {words(0, 8)}"), row(words(0, 8))) == pytest.approx(8 / 14)


@pytest.mark.parametrize(
    ("one", "part"),
    [
        (row(JANET), "prompt"),
        (row("Solve this.", input=JANET), "prompt"),
        (row(answer=JANET), "answer"),
        (row(reasoning=JANET), "reasoning"),
        (row(history=(Turn(role="system", content="Be kind."), Turn(role="assistant", content=JANET))), "history.1"),
    ],
)
def test_the_whole_conversation_is_looked_at(one, part):
    (verdict,) = gate(sets(JANET)).read([one])
    assert (verdict.code, verdict.value, verdict.evidence["spans"][0]["part"]) == ("contamination.ngram", 1.0, part)


def test_ngrams_reach_from_the_instruction_into_the_input_and_not_into_the_answer():
    tests = sets(words(0, 12))
    assert share(tests, row(words(0, 6), input=words(6, 6))) == 1.0
    assert share(tests, row(words(0, 6), answer=words(6, 6))) == 0.0


def test_a_row_that_says_an_item_twice_covers_it_once():
    assert share(sets(words(0, 40)), row(f"{words(0, 15)} x {words(0, 15)}")) == 0.375


def test_a_row_that_says_an_item_a_hundred_times_is_no_more_work(monkeypatch):
    sizes, covered, index = [], Grams.covered, Index(sets(words(0, 40)).sets)
    monkeypatch.setattr(Grams, "covered", lambda self, shared: sizes.append(self.pairs(shared)) or covered(self, shared))
    for times in (1, 100):
        index.find([messages(row(f"{words(0, 40)} x " * times))])
    assert sizes == [33, 33]


def test_two_equal_items_are_both_hit():
    assert hits(sets(JANET, "Something else that has at least eight words in it.", JANET), row(JANET)) == ["0", "2"]


# -- reference solutions -----------------------------------------------------------------------------------------------


def test_a_reference_solution_is_found_with_other_white_space_and_quotes():
    tests = sets("Write a function that keeps the even numbers, each times its index.", reference=SOLUTION)
    tidied = SOLUTION.replace("    ", "\t").replace("value % 2 == 0", "value%2==0").replace("'", '"')
    (verdict,) = gate(tests).read([row(answer=f"Here you are:\n```python\ndef f(numbers):\n{tidied}```")])
    assert (verdict.decision, verdict.evidence["rule"]) == ("reject", "12 tokens of a reference solution")
    assert verdict.evidence["spans"][0]["text"].startswith("result = []")
    assert hits(tests, row(answer=SOLUTION.replace("% 2 ==", "// 3 <").replace("result", "kept").replace("value", "v"))) == []


@pytest.mark.parametrize("solution", ["return a + b", "if x > 0:\n    return [x * 2 for x in range(x)]"])
def test_a_short_reference_solution_convicts_nobody(solution):
    tests = sets("Write a function that does what these words say, whatever that may be.", reference=solution)
    assert hits(tests, row(answer=f"def f(a, b, x):\n    {solution}\n")) == []


def test_code_is_read_as_names_numbers_and_signs():
    assert code_tokens("if X[i]>=0.5:\n  print('a_b')") == ["if", "x", "[", "i", "]", ">", "=", "0.5", ":", "print", "(", "a_b", ")"]


# -- the index ---------------------------------------------------------------------------------------------------------

LETTERS = st.lists(st.sampled_from("abcd"), max_size=30).map(" ".join)
HAN = st.text("甲乙丙", max_size=30)
TEXTS = st.one_of(LETTERS, HAN, st.tuples(LETTERS, HAN).map(" ".join))
ITEMS = st.lists(TEXTS.filter(lambda text: text.strip()), min_size=1, max_size=4)
ROWS = st.lists(st.builds(row, TEXTS, TEXTS, input=TEXTS), max_size=6)


@given(ITEMS, ROWS, st.integers(2, 5), st.integers(2, 5))
@settings(max_examples=150, deadline=None)
def test_many_rows_are_judged_as_one_by_one_and_as_by_plain_sets(texts, rows, n, m):
    tests, said = sets(*texts), [messages(one) for one in rows]
    index, plain = Index(tests.sets, n, m), Plain(tests.sets, n, m)
    found = index.find(said)
    assert found == [index.find([one])[0] for one in said]
    assert [{(hit.set, hit.item): hit.share for hit in one.hits} for one in found] == [plain.find(one) for one in said]


@given(ITEMS, ROWS)
@settings(max_examples=50, deadline=None)
def test_a_collision_of_hashes_changes_nothing(texts, rows):
    tests, said = sets(*texts), [messages(one) for one in rows]
    assert Index(tests.sets, 3, 3, bits=1).find(said) == Index(tests.sets, 3, 3).find(said)


def test_more_shared_ngrams_than_there_is_room_for_are_worked_on_in_parts(monkeypatch):
    tests, said = sets(*(f"{words(0, 20)} x{i}" for i in range(30))), [messages(row(words(0, 20)))] * 9
    whole, sizes, covered = Index(tests.sets).find(said), [], Grams.covered
    monkeypatch.setattr(index_module, "PAIRS", 1000)
    monkeypatch.setattr(Grams, "covered", lambda self, shared: sizes.append(self.pairs(shared)) or covered(self, shared))
    assert Index(tests.sets).find(said) == whole
    assert len(whole[0].hits) == 30
    assert 9 * max(sizes) > 1000 >= max(sizes)


def test_pieces_of_text_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(reading_module, "PIECES", 10)
    index = Index(sets(JANET).sets)
    found = index.find([messages(row(f"{JANET} {words(i, 50)}")) for i in range(5)])
    assert [len(one.hits) for one in found] == [1] * 5
    assert len(index._numbers["words"]) <= 10


@given(st.text(max_size=60))
def test_a_span_is_cut_from_the_row_at_whole_words(around):
    said = (Message("answer", f"{around} {JANET} {around}"),)
    index = Index(sets(JANET).sets)
    (found,) = index.find([said])
    spans = index.spans(said, found.hits[0])
    assert all(said[0].text[one.start : one.end] == one.text for one in spans)
    assert any("Janet’s ducks" in one.text and "duck egg" in one.text for one in spans)


def test_a_span_of_a_short_item_is_the_field_that_is_equal():
    said = messages(row("Answer briefly.", input="Who wrote Faust?"))
    index = Index(sets("Who wrote Faust?").sets)
    (span,) = index.spans(said, index.find([said])[0].hits[0])
    assert (span.part, said[0].text[span.start : span.end], span.text) == ("prompt", "Who wrote Faust?", "Who wrote Faust?")


# -- the gate ----------------------------------------------------------------------------------------------------------


async def test_a_verdict_says_which_item_by_which_rule_and_where():
    tests = Benchmarks((*sets(JANET, name="gsm8k").sets, *sets(JANET, name="copy").sets))
    verdict = await judge(gate(tests), Subject("s", row(f"Think about this. {JANET} How much?")))
    assert (verdict.decision, verdict.code, verdict.value, verdict.threshold) == ("reject", "contamination.ngram", 1.0, 0.5)
    assert {k: v for k, v in verdict.evidence.items() if k != "spans"} == {
        "set": "gsm8k",
        "item": "0",
        "rule": "8 words",
        "others": {"copy": ["0"]},
    }
    (span,) = verdict.evidence["spans"]
    assert (span["part"], span["start"], span["text"]) == ("prompt", 18, JANET[:300])
    assert verdict.model_validate_json(verdict.model_dump_json()) == verdict


async def test_a_clean_row_says_how_near_it_came():
    verdict = await judge(gate(sets(words(0, 40))), Subject("s", row(words(0, 12))))
    assert (verdict.decision, verdict.value, verdict.threshold) == ("accept", 0.3, 0.5)


async def test_rows_that_were_prepared_get_the_same_verdicts():
    tests, rows = sets(JANET, "Who wrote Faust?"), (row(JANET), row("Who wrote Faust?"), row())
    subjects = [Subject(str(i), one) for i, one in enumerate(rows)]
    one, many = gate(tests), gate(Benchmarks(tests.sets))
    await many.prepare(subjects)
    verdicts = [await judge(one, subject) for subject in subjects]
    assert [verdict.code for verdict in verdicts] == ["contamination.ngram", "contamination.exact", "ok"]
    assert [await judge(many, subject) for subject in subjects] == one.read(rows) == verdicts
    vars(many.tests)["index"] = None  # what was prepared is not looked up again
    assert await judge(many, subjects[2]) == verdicts[2]


def test_other_test_sets_make_another_version_of_the_gate():
    assert version(gate(sets(JANET))) == version(gate(sets(JANET)))
    assert version(gate(sets(JANET))) != version(gate(sets(JANET, reference=SOLUTION)))
    assert version(gate(sets(JANET))) != version(gate(sets(JANET), words=10))


@pytest.mark.parametrize(("name", "value"), [("share", 1.0), ("share", -0.1), ("words", 1), ("code", 0), ("similar", 1.5)])
def test_a_setting_out_of_range_is_told(name, value):
    with pytest.raises(InputError, match=f"{name} must be .*, got {value}"):
        make("contamination", {name: value}, tests=sets(JANET))


class Letters:
    """Embeds a text as how often it has each letter: enough to be near to what shares most letters."""

    id, dimension = "letters", 26

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    async def encode(self, texts):
        if self.fault:
            raise self.fault
        counts = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


async def test_a_prompt_that_means_almost_the_same_is_for_a_person_to_see():
    tests = sets(JANET, "Why is the sky blue when the sun is so very yellow?")
    asked = gate(tests, similar=0.99, meanings=Meanings(tests, Letters()))
    shuffled = " ".join(reversed(JANET.split()))
    verdict = await judge(asked, Subject("s", row(shuffled)))
    assert (verdict.decision, verdict.code, verdict.evidence["item"]) == ("unscorable", "contamination.similar", "0")
    assert (await judge(asked, Subject("s", row("Sing a song.")))).decision == "accept"
    assert (await judge(asked, Subject("s", row(JANET)))).code == "contamination.ngram"


async def test_a_comparison_of_meanings_that_fails_is_for_a_person_to_see_and_an_endpoint_that_is_down_stops():
    tests = sets(JANET)
    verdict = await judge(gate(tests, similar=0.9, meanings=Meanings(tests, Letters(CallError("too long")))), Subject("s", row()))
    assert (verdict.decision, verdict.code, verdict.evidence) == ("unscorable", "contamination.not_compared", {"message": "too long"})
    with pytest.raises(EndpointDownError):
        await judge(gate(tests, similar=0.9, meanings=Meanings(tests, Letters(EndpointDownError("gone")))), Subject("s", row()))
    assert (await judge(gate(tests, similar=0.9), Subject("s", row()))).decision == "error"


# -- test sets ---------------------------------------------------------------------------------------------------------


def test_a_test_set_is_read_from_any_kind_of_file(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"task_id": "a", "question": "Who?\nYou?", "answer": "I"}, {"task_id": "b", "question": "谁？", "answer": None}]
    jsonl(tmp_path / "t.jsonl", *rows, "")
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.csv").write_text('task_id,question,answer\na,"Who?\nYou?",I\nb,谁？,\n', encoding="utf-8-sig")
    (tmp_path / "t.tsv").write_text('task_id\tquestion\tanswer\na\t"Who?\nYou?"\tI\nb\t谁？\t\n', encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    for suffix in ("jsonl", "json", "csv", "tsv", "parquet"):
        found = load("t", BenchmarkSource(path=f"t.{suffix}", reference="answer"), tmp_path)
        assert [(one.id, one.text, one.references[:1]) for one in found.items] == [
            ("a", "Who?\nYou?", ("I",)),
            ("b", "谁？", ("",) if suffix in ("csv", "tsv") else ()),
        ], suffix
    (tmp_path / "t.txt").write_text("Who?\n\nYou?\n")
    assert [one.text for one in load("t", BenchmarkSource(path="t.txt"), tmp_path).items] == ["Who?", "You?"]


@pytest.mark.parametrize(
    ("text", "source", "says"),
    [
        ("{", {}, r"t\.jsonl:1: not valid JSON"),
        ("[1]", {}, r"t\.jsonl:1: an item must be an object, got \[1\]"),
        ('{"text": "a"}\n{"text": 3}', {}, r"t\.jsonl:2: text must be a text, got 3"),
        ('{"text": "a"}\n{"text": "?!"}', {}, r"t\.jsonl:2: text must hold a text with words in it, got '\?!'"),
        ('{"stem": "a", "choices": 1}', {}, r"t\.jsonl:1: .* Found stem, choices; name it as `text`"),
        ('{"stem": "a"}', {"text": "stam"}, r"t\.jsonl:1: unknown field 'stam': did you mean 'stem'"),
        ('{"text": "a", "answer": {}}', {"reference": "answer"}, r"t\.jsonl:1: answer must be a text, a number, or a list of them, got {}"),
        ('{"text": "a"}\n{"txt": "b"}', {}, r"t\.jsonl:2: unknown field 'text'"),
        ("\n", {}, r"t\.jsonl: test set 'quiz': there is no item in it"),
    ],
)
def test_what_is_wrong_with_a_test_set_is_told_with_its_line(tmp_path, text, source, says):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(InputError, match=says):
        load("quiz", BenchmarkSource(path="t.jsonl", **source), tmp_path)


def test_bytes_that_are_no_text_and_files_of_no_known_kind_are_told(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "\xff"}')
    (tmp_path / "t.parquet").write_bytes(b"PAR0")
    (tmp_path / "t.csv").write_text("text\na,b\n")
    for suffix, says in {
        "jsonl": "UTF-8: byte 0xff",
        "parquet": "not a Parquet file",
        "csv": "t.csv:2: has more fields",
        "doc": "expected a file",
    }.items():
        with pytest.raises(InputError, match=says):
            load("quiz", BenchmarkSource(path=f"t.{suffix}"), tmp_path)


def test_items_without_ids_of_their_own_are_numbered(tmp_path):
    jsonl(tmp_path / "t.jsonl", {"id": 1, "text": "a"}, {"id": 1, "text": "b"})
    assert [one.id for one in load("t", BenchmarkSource(path="t.jsonl"), tmp_path).items] == ["1", "2"]


def test_a_test_set_that_was_written_down_is_read_back_the_same(tmp_path):
    (before,) = sets(JANET, CHINESE, reference=SOLUTION).sets
    (tmp_path / "quiz.jsonl").write_text(dump(before), encoding="utf-8")
    assert loaded(tmp_path / "quiz.jsonl") == before


@pytest.mark.parametrize(
    ("spec", "name", "source"),
    [
        ("data/gsm8k.jsonl", "gsm8k", {"path": "data/gsm8k.jsonl"}),
        ("gsm8k.jsonl:question:answer", "gsm8k", {"path": "gsm8k.jsonl", "text": "question", "reference": "answer"}),
        ("openai/openai_humaneval", "openai_humaneval", {"hub": "openai/openai_humaneval"}),
        ("openai/gsm8k/main:train:question", "gsm8k", {"hub": "openai/gsm8k", "config": "main", "split": "train", "text": "question"}),
        ("a/b::t:r", "b", {"hub": "a/b", "text": "t", "reference": "r"}),
    ],
)
def test_a_test_set_is_named_in_one_word(spec, name, source):
    found = parse(spec)
    assert found[0] == name
    assert found[1].model_dump() == BenchmarkSource(**source).model_dump()


def test_a_word_with_too_many_parts_and_two_sets_of_one_name_are_told(tmp_path):
    with pytest.raises(InputError, match="expected FILE"):
        parse("gsm8k.jsonl:a:b:c")
    path = jsonl(tmp_path / "t.jsonl", {"text": "a"})
    with pytest.raises(InputError, match="two test sets are called 't'"):
        load_all([str(path), f"{path}:text"])


def test_a_data_set_of_a_hub_is_read_through_datasets_and_needs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "quiz").mkdir()
    jsonl(tmp_path / "quiz" / "test.jsonl", {"task_id": "one", "prompt": "def f():", "canonical_solution": "pass"})
    source = BenchmarkSource(hub=str(tmp_path / "quiz"), reference="canonical_solution")
    assert load("quiz", source).items == (BenchmarkItem("one", "def f():", ("pass",)),)
    with pytest.raises(InputError, match=r"cannot be had: .*A file of your own needs no network"):
        load("quiz", BenchmarkSource(hub=str(tmp_path / "quiz"), split="no-such"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'leafmill\[hub\]'"):
        load("quiz", source)


# -- in a run ----------------------------------------------------------------------------------------------------------

KNOWN = "A clerk files invoice a-1 under the twelfth lamp beside a purple cabinet while seven geese watch in silence from the window."

PLAIN_FLOW = {"evolve_rounds": 0}


def knowing(**lines: Any) -> Cast:
    """Its writer has learned one test item by heart."""
    return Cast(writer=lambda request, case: {"instruction": f"Discuss: {KNOWN}", "input": ""} if case.number == 1 else None, **lines)


async def test_a_contaminated_instruction_is_refused_before_anybody_answers_it(server, tmp_path):
    server.script = knowing()
    quiz = jsonl(tmp_path / "quiz.jsonl", {"id": "lamp", "question": KNOWN})
    await go(recipe(tmp_path, server, test_sets={"quiz": {"path": quiz.name}}), tmp_path)
    found = told(tmp_path)
    assert [call["role"] for call in found.calls if call["candidate"] == found.of(1)["id"]] == ["writer"]
    assert (found.of(1)["state"], found.of(1)["stage"], found.of(1)["code"]) == ("rejected", "screen", "contamination.ngram")
    (verdict,) = [one for one in found.verdicts if one["decision"] == "reject"]
    assert (verdict["evidence"]["set"], verdict["evidence"]["item"]) == ("quiz", "lamp")
    assert found.steps(0).count("screen:contamination") == 2  # the instruction, and what it was evolved to
    assert "check:contamination" in found.steps(0)
    assert (tmp_path / "run" / "test_sets" / "quiz.jsonl").is_file()


async def test_a_contaminated_answer_is_refused_before_anybody_judges_it(server, tmp_path):
    server.script = Cast(answerer=lambda request, case: KNOWN if case.number == 1 else None)
    jsonl(tmp_path / "quiz.jsonl", {"question": KNOWN})
    await go(recipe(tmp_path, server, test_sets={"quiz": {"path": "quiz.jsonl"}}), tmp_path)
    one = told(tmp_path).of(1)
    assert (one["state"], one["stage"], one["code"]) == ("rejected", "check", "contamination.ngram")


async def test_without_test_sets_and_where_it_is_off_the_gate_is_not_asked(server, tmp_path):
    jsonl(tmp_path / "quiz.jsonl", {"question": KNOWN})
    off = {"semantic": False, "ifd": False, "contamination": False}
    for name, more in {"none": {}, "off": {"test_sets": {"quiz": {"path": "quiz.jsonl"}}, "gates": off}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "quiz.jsonl").write_bytes((tmp_path / "quiz.jsonl").read_bytes())
        await go(recipe(tmp_path / name, server, **more), tmp_path / name)
        assert not [one for one in told(tmp_path / name).verdicts if one["gate"] == "contamination"]
        assert not (tmp_path / name / "run" / "test_sets").exists()


async def test_a_contaminated_seed_is_left_out_of_the_briefs_and_recorded(server, tmp_path):
    path = taxonomy(tmp_path)
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    good = {"instruction": "Explain how a letter is filed.", "output": "By its date, the newest in front."}
    tree["seeds"] = [good, {"instruction": "Discuss this at length.", "output": KNOWN}]
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    jsonl(tmp_path / "quiz.jsonl", {"id": "lamp", "question": KNOWN})
    wanted = recipe(tmp_path, server, test_sets={"quiz": {"path": "quiz.jsonl"}})
    said: list[str] = []
    from graphs.run import Run
    from leafmill.runfolder import RunFolder

    async with Run.open(prepare(wanted), RunFolder(tmp_path / "run"), said.append) as run:
        await run.go()
    assert said == ["seeds that hold items of test sets are left out: 1 (quiz/lamp)"]
    assert {seed["instruction"] for one in told(tmp_path).candidates for seed in one["brief"]["seeds"]} == {good["instruction"]}
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        (left_out,) = ledger.meta(META)
    assert (left_out["leaf"], left_out["seed"]["output"], left_out["verdict"]["code"]) == ("t/a", KNOWN, "contamination.ngram")


async def test_an_export_is_held_against_test_sets_that_came_later(server, tmp_path):
    server.script = knowing()
    await go(recipe(tmp_path, server, flow=PLAIN_FLOW), tmp_path)
    assert len(told(tmp_path).accepted) == 3
    jsonl(tmp_path / "late.jsonl", {"id": "lamp", "question": KNOWN})
    said = leafmill(tmp_path, "export", "run", "--against", "late.jsonl", "--out", "rows.jsonl")
    assert said.code == 0, said
    assert "wrote 2 rows" in said.out
    assert "rows left out, for they hold items of these: 1 (see rows.test_sets.json)" in said.out
    assert KNOWN not in (tmp_path / "rows.jsonl").read_text()
    found = json.loads((tmp_path / "rows.test_sets.json").read_text())
    assert found["left_out"][0]["evidence"]["item"] == "lamp"
    assert {key: found["test_sets"][0][key] for key in ("set", "items", "rows_hit", "items_covered", "share", "contaminated")} == {
        "set": "late",
        "items": 1,
        "rows_hit": 1,
        "items_covered": 1,
        "share": 1.0,
        "contaminated": True,
    }


async def test_test_sets_may_change_under_a_run_and_the_next_export_goes_by_them(server, tmp_path):
    server.script = knowing()
    await go(recipe(tmp_path, server, flow=PLAIN_FLOW), tmp_path)
    jsonl(tmp_path / "quiz.jsonl", {"question": KNOWN})
    await go(recipe(tmp_path, server, flow=PLAIN_FLOW, test_sets={"quiz": {"path": "quiz.jsonl"}}), tmp_path)
    assert "wrote 2 rows" in leafmill(tmp_path, "export", "run").out
    await go(recipe(tmp_path, server, flow=PLAIN_FLOW), tmp_path)
    assert "wrote 3 rows" in leafmill(tmp_path, "export", "run").out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("  quiz: {path: no-such.jsonl}", r"recipe.yaml:12: test set 'quiz': .*no-such.jsonl' cannot be read: No such file"),
        ("  quiz: {}", "recipe.yaml:12: .*give either `path`, a file, or `hub`"),
        ("  quiz: {path: quiz.jsonl, split: train}", "recipe.yaml:12: .*`config` and `split` are of a `hub`"),
        ("  quiz: {path: quiz.jsonl, txt: question}", "recipe.yaml:12: unknown key 'txt': did you mean 'text'"),
        ("  ../quiz: {path: quiz.jsonl}", "recipe.yaml:12: '../quiz' is no name for a test set"),
        ("  quiz: {path: quiz.jsonl, text: stem}", "quiz.jsonl:1: unknown field 'stem'"),
    ],
)
def test_a_mistake_in_a_recipes_test_sets_is_told_before_the_run(tmp_path, line, says):
    jsonl(tmp_path / "quiz.jsonl", {"question": KNOWN})
    write_recipe(tmp_path, f"{KEYLESS}test_sets:\n{line}\n")
    said = leafmill(tmp_path, "run", "--scripted")
    assert said.code == 2
    assert re.search(says, said.err), said.err


# -- on a dataset file -------------------------------------------------------------------------------------------------


async def test_a_dataset_is_parted_into_clean_and_contaminated_rows_with_a_report(tmp_path):
    data = jsonl(
        tmp_path / "data.jsonl",
        {"instruction": "Write a poem about a lamp.", "input": "", "output": "O lamp!"},
        {"instruction": f"Solve: {JANET}", "input": "", "output": "18"},
        {"instruction": "Who wrote Faust?", "input": "", "output": "Goethe."},
    )
    tests = sets(JANET, "Who wrote Faust?", *(words(100 * i, 10) for i in range(8)))
    summary = await sweep(Job("decontaminate", data), lambda folder: open_decontaminate(tests, {}))
    folder = Path(summary.out)
    assert (summary.kept, summary.dropped, summary.codes) == (1, 2, {"contamination.ngram": 1, "contamination.exact": 1})
    (found,) = write_report(folder, tests)
    assert (found.items, found.rows_hit, found.items_covered, found.share, found.contaminated) == (10, 2, 2, 0.2, True)
    assert [one["item"] for one in found.examples] == ["0", "1"]
    assert json.loads((folder / REPORT).read_text())[0]["set"] == "quiz"


async def test_meanings_are_compared_on_a_dataset_only_when_asked_for(tmp_path):
    tests = sets("What is the tallest mountain that there is on the planet Earth?")
    subject = SimpleNamespace(subject=Subject("1", row("Which mountain on planet Earth is the tallest that there is?")))
    async with open_decontaminate(tests, {}) as plain, open_decontaminate(tests, {"similar": 0.8}) as comparing:
        assert (await plain([subject]))[0].verdicts[-1].decision == "accept"
        assert (await comparing([subject]))[0].verdicts[-1].code == "contamination.similar"
