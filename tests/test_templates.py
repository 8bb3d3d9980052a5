"""Record templates: how rows are put into words at export, and that their answers have no part in it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe, taxonomy, told
from hypothesis import given
from hypothesis import strategies as st
from terminal import leafmill

from agents.scripted import ScriptedServer
from filters.text import units
from leafmill import export
from leafmill.errors import InputError
from leafmill.ledger import Ledger
from leafmill.records import Language, Row, Turn
from leafmill.templates import FORMS, Demands, Template, Templates, load

SMALL = """\
en:
  a: {without_input: "{instruction}"}
  b: {without_input: "Please: {instruction}"}
"""
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def row(language: Language = "en", input_: str = "", **more: Any) -> Row:
    asks = {"en": "Add {both} numbers.", "zh": "把两个数相加。"}[language]
    return Row(language=language, instruction=asks, input=input_, **{"answer": "42", **more})


# -- the built-in ones -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("input_", ["", "4 and 38\n\n{instruction}"])
@pytest.mark.parametrize("name", sorted({name for of in load().by_language.values() for name in of}))
def test_every_template_says_the_instruction_and_the_input_once_and_leaves_the_answer(name: str, language: Language, input_: str) -> None:
    """Braces in a row are no slots."""
    before = row(language, input_)
    template = load().by_language[language][name].model_copy(update={"demands": Demands()})
    if not template.suits(before):
        return
    found = template.render(before)
    assert found.prompt.count(before.instruction) == 1
    assert not input_ or found.prompt.count(input_) == 1
    assert (found.answer, found.reasoning, found.input, found.language) == (before.answer, before.reasoning, "", language)


def test_both_languages_have_the_same_templates() -> None:
    named = load().by_language
    assert list(named["en"]) == list(named["zh"])
    for name, one in named["en"].items():
        other = named["zh"][name]
        assert (one.weight, one.demands.form, bool(one.system), one.with_input is None, one.without_input is None) == (
            other.weight, other.demands.form, bool(other.system), other.with_input is None, other.without_input is None
        )  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("input_", ["", "4, 38"])
def test_for_any_answer_some_template_suits(language: Language, input_: str) -> None:
    assert load().render(row(language, input_, answer="1. a\nb " + "word " * 99), "x").template


def test_order_labels_system_prompt_politeness_and_form_all_vary() -> None:
    drawn = {load().render(row(input_="4, 38", answer="Forty-two."), str(n)).template for n in range(400)}
    assert {"plain", "input-first", "labels", "assistant", "polite", "one-paragraph", "brief"} <= drawn
    assert not drawn & {"as-json", "as-bullets", "as-steps", "as-table", "code-only"}


# -- what a text may demand --------------------------------------------------------------------------------------------

ANSWERS = {
    "json": '{"sum": 42}',
    "bullets": "- four\n- thirty-eight",
    "numbered": "1. 四\n2、三十八",
    "table": "| a | b |\n|---|---|\n| 4 | 38 |",
    "code": "```python\nprint(4 + 38)\n```",
    "paragraph": "It is 42, because 4 and 38 add up to that.",
}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_of_one_form_and_nothing_else(form: str) -> None:
    met = {other for other in FORMS if FORMS[other](ANSWERS[form])}
    assert met - {"paragraph"} == {form} - {"paragraph"}
    assert FORMS["paragraph"](ANSWERS[form]) == (form in ("paragraph", "json"))
    assert not FORMS[form](f"Here you are:\n{ANSWERS[form]}\nAnything else?")


def test_two_blocks_of_code_are_more_than_code_only() -> None:
    assert not FORMS["code"]("```\na\n```\n\nor\n\n```\nb\n```")


@given(st.sampled_from(LANGUAGES), st.sampled_from([*ANSWERS.values(), "长" * 120, "a b " * 40]), st.integers(0, 500))
def test_what_a_text_demands_the_answer_already_is(language: Language, answer: str, number: int) -> None:
    found = load().render(row(language, answer=answer), str(number))
    demands = load().by_language[language][found.template].demands
    assert demands.form is None or FORMS[demands.form](answer)
    assert demands.at_most is None or units(answer) <= demands.at_most


# -- the draw ----------------------------------------------------------------------------------------------------------


def drawn(of: Templates, count: int = 600) -> dict[str, str]:
    return {str(number): of.render(row(), str(number)).template for number in range(count)}


def test_equal_seed_and_id_give_the_equal_template_and_another_seed_another() -> None:
    assert drawn(load()) == drawn(load())
    assert drawn(load()) != drawn(load(seed=1))


def test_the_weights_are_the_shares(tmp_path: Path) -> None:
    found = Counter(drawn(load(path=written(tmp_path, SMALL.replace("b: {", "b: {weight: 3, "))), 4000).values())
    assert found["b"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_new_template_takes_rows_and_moves_none_between_the_others(tmp_path: Path) -> None:
    before = drawn(load(path=written(tmp_path, SMALL)))
    after = drawn(load(path=written(tmp_path, SMALL.replace("  b:", '  c: {without_input: "{instruction} Now."}\n  b:'))))
    moved = {number for number in before if before[number] != after[number]}
    assert {after[number] for number in moved} == {"c"}
    assert 0.2 < len(moved) / len(before) < 0.46  # a third


def test_a_template_by_name_is_used_where_it_suits_and_else_the_row_stays_as_it_is() -> None:
    one = load("as-json")
    assert one.render(row(answer="[42]"), "x").template == "as-json"
    assert one.render(row(), "x") == (row(), "")


# -- conversations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [(), (Turn(role="system", content="Be brief."),)])
def test_of_a_conversation_only_the_first_user_message_and_the_system_prompt_change(system: tuple[Turn, ...]) -> None:
    history = (*system, Turn(role="user", content="Hi {you}"), Turn(role="assistant", content="Hello"))
    before = row(input_="4, 38", history=history)
    template = Template(with_input="{input}{instruction}", without_input="Dear model: {instruction}", system="You add.")
    after = template.render(before)
    first = system or (Turn(role="system", content="You add."),)
    assert after.history == (*first, Turn(role="user", content="Dear model: Hi {you}"), history[-1])
    assert (after.instruction, after.input, after.answer) == (before.instruction, before.input, before.answer)


# -- files of one's own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("en:\n  a:\n    without_input: Go on.\n", r"mine.yaml:2: en.a: .*without_input must have \{instruction\}, each once, got 'Go"),
        ('en:\n  a:\n    with_input: "{instruction}"\n', r"mine.yaml:2: .*with_input must have \{instruction\} and \{input\}"),
        ('en:\n  a:\n    without_input: "{instruction} {instruction}"\n', r"mine.yaml:2: .*each once"),
        ("en:\n  a:\n    system: Hi\n", r"mine.yaml:2: .*needs with_input, without_input or both"),
        ('en:\n  a:\n    without_inputs: "{instruction}"\n', r"mine.yaml:3: unknown key 'without_inputs': did you mean 'without_input'"),
        ('en:\n  a:\n    without_input: "{instruction}"\n    weight: 0\n', r"mine.yaml:4: en.a.weight: .*greater than 0, got 0"),
        ('en:\n  a:\n    without_input: "{instruction}"\n    demands: {form: poem}\n', r"mine.yaml:4: en.a.demands.form: .*got 'poem'"),
        ('fr:\n  a:\n    without_input: "{instruction}"\n', r"mine.yaml:1: unknown key 'fr'"),
    ],
)
def test_a_fault_in_a_file_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        load(path=written(tmp_path, text))


def test_an_unknown_name_is_said_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown template 'polit': did you mean 'polite'"):
        load("polit")


# -- export ------------------------------------------------------------------------------------------------------------


async def test_an_export_in_templates_differs_in_the_first_message_alone_and_names_them(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast()
    taxonomy(tmp_path, "ab")
    await go(recipe(tmp_path, server, target=6), tmp_path)
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        plain, worded = ({one["id"]: one for one in export.rows(ledger, "messages", templates=of)} for of in (None, load()))
        again = {one["id"]: one for one in export.rows(ledger, "messages", templates=load())}
        alpaca = {one["id"]: one for one in export.rows(ledger, "alpaca", templates=load())}
    assert worded == again
    assert plain.keys() == worded.keys() == alpaca.keys()
    for id_, one in worded.items():
        said = {message["role"]: message["content"] for message in one["messages"]}
        before = {message["role"]: message["content"] for message in plain[id_]["messages"]}
        assert said["assistant"] == before["assistant"] == alpaca[id_]["output"]
        assert before["user"] in said["user"]
        assert (alpaca[id_]["instruction"], alpaca[id_]["input"], alpaca[id_].get("system")) == (said["user"], "", said.get("system"))
        assert one["lineage"]["template"] == alpaca[id_]["lineage"]["template"] != ""
        assert {**one["lineage"], "template": None} == {**plain[id_]["lineage"], "template": None}
    assert len({one["lineage"]["template"] for one in worded.values()}) > 2
    assert [one["answer"] for one in told(tmp_path).rows] == [one["messages"][-1]["content"] for one in worded.values()]


async def test_the_command_takes_a_name_or_a_file(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, target=2), tmp_path)
    own, out = written(tmp_path, SMALL), tmp_path / "out.jsonl"

    def exported(*options: str) -> list[str]:
        said = leafmill(tmp_path, "export", tmp_path / "run", "--out", out, *options)
        assert said.code == 0, said
        return [json.loads(line)["lineage"].get("template") for line in out.read_text(encoding="utf-8").splitlines()]

    assert exported() == [None, None]
    assert exported("--template", "polite") == ["polite", "polite"]
    assert set(exported("--template-file", str(own))) <= {"a", "b"}
    said = leafmill(tmp_path, "export", tmp_path / "run", "--template", "polit")
    assert (said.code, "did you mean 'polite'" in said.err) == (2, True)
