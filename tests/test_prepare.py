"""What a recipe names is looked up before a token is spent: leaves, taxonomies, roles, models, gates, kinship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphs.prepare import Prepared, prepare
from leafmill.errors import InputError, RecipeError
from leafmill.recipe import Recipe
from tests.conftest import recipe as make_recipe
from tests.conftest import taxonomy as make_taxonomy

MODELS = 'models:\n  generator: {base_url: "http://x/v1", model: qwen}\n  judge: {base_url: "http://x/v1", model: llama}\n'
TREE = """\
name: craft
languages: [en]
title: {en: Craft}
children:
  saw:
    title: {en: Saw}
    description: {en: Cut it.}
"""
ANNOTATOR = """\
---
name: annotator-safety
stage: annotate
reply:
  rationale: str
  score: {type: int, min: 1, max: 5}
---
{{ answer }}
"""


def ready(folder: Path, text: str, **options: Any) -> Prepared:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return prepare(Recipe.read(path, {}, **options))


def fault(folder: Path, text: str, code: int = 2) -> str:
    with pytest.raises(InputError) as caught:
        ready(folder, text)
    assert caught.value.exit_code == code
    return str(caught.value).replace(f"{folder}/", "")


def own(folder: Path, **files: str) -> str:
    """Role files in a folder of their own, and the line of the recipe that names it."""
    (folder / "mine").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "mine" / f"{name.replace('_', '-')}.md").write_text(text, encoding="utf-8")
    return "prompts: mine\n"


def test_a_recipe_whose_names_are_known_is_ready(tmp_path: Path) -> None:
    found = ready(tmp_path, MODELS + 'taxonomies: [programming, ecommerce]\nleaves: ["programming/debugging/*", "ecommerce/*"]\n')
    assert {leaf.path.split("/")[0] for leaf in found.leaves} == {"programming", "ecommerce"}
    assert "critic" in found.roles.names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("taxonomies: [programing]", "recipe.yaml:4: unknown taxonomy 'programing': did you mean 'programming'?"),
        ("leaves: [programming/*,\n  programming/debuging]", "recipe.yaml:5: unknown leaf 'programming/debuging': did you mean"),
        ("leaves: [nothing/*]", "recipe.yaml:4: unknown leaf 'nothing/*': known: programming/"),
        ("taxonomies: [ecommerce]\nlanguages: [en]", "recipe.yaml:5: none of the 29 leaves is in the languages ['en']"),
        ("taxonomies: [general, general]", "recipe.yaml:4: two taxonomies have the leaf 'general/"),
        ("languages: {programing: [en]}", "recipe.yaml:4: unknown taxonomy of this recipe 'programing': did you mean 'programming'?"),
        ("prompts: mine", "recipe.yaml:4: 'mine' is not a folder of role files"),
        ("roles: {critc: {temperature: 0}}", "recipe.yaml:4: unknown role 'critc': did you mean 'critic'?"),
        ("roles:\n  critic:\n    model: juge", "recipe.yaml:6: role 'critic': unknown model alias 'juge': did you mean 'judge'?"),
        ("roles: {answerer: {off: true}}", "recipe.yaml:4: no role of stage 'answer' speaks 'en': none at all"),
        ("roles: {evolver: {off: true}}\nflow: {evolve_rounds: 0}", "recipe.yaml:4: no role of stage 'evolve' speaks 'en': none at all"),
        ("gates:\n  minhsh: false", "recipe.yaml:5: unknown gate 'minhsh': did you mean 'minhash'? known: "),
        ("gates: {minhash: {treshold: 1}}", "recipe.yaml:4: unknown setting of gate 'minhash' 'treshold': did you mean 'threshold'?"),
        ("gates: {minhash: {threshold: high}}", "recipe.yaml:4: gate 'minhash': threshold must be float, got 'high'"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_known_is_said_with_its_line_and_the_nearest_one(tmp_path: Path, text: str, expected: str) -> None:
    assert fault(tmp_path, f"{MODELS}{text}\n").startswith(expected)


def test_the_first_role_without_a_model_is_named(tmp_path: Path) -> None:
    said = fault(tmp_path, MODELS.replace("judge:", "referee:"))
    assert said.startswith("recipe.yaml:1: role 'annotator-clarity': unknown model alias 'judge': known: generator, referee")


def test_an_evolver_is_not_needed_where_nothing_is_evolved_and_nothing_sent_back(tmp_path: Path) -> None:
    (tmp_path / "craft.yaml").write_text(TREE)
    off = "taxonomies: [craft.yaml]\nroles: {evolver: {off: true}}\nflow: {evolve_rounds: 0, score_returns: 0}\n"
    assert "evolver" not in ready(tmp_path, MODELS + off).roles.names


# -- taxonomies of one's own -------------------------------------------------------------------------------------------


def test_a_taxonomy_beside_the_recipe_is_found_and_its_faults_are_said_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "craft.yaml").write_text(TREE)
    assert [leaf.path for leaf in ready(tmp_path, MODELS + "taxonomies: [craft.yaml]\n").leaves] == ["craft/saw"]
    (tmp_path / "craft.yaml").write_text(TREE + "    titel: {en: S}\n")
    said = fault(tmp_path, MODELS + "taxonomies: [craft.yaml]\n", 12)
    assert said.startswith("craft.yaml:8: unknown key 'titel': did you mean 'title'?")


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ("{minhsh: false}", "leaf craft/saw: settings.gates: unknown gate 'minhsh': did you mean 'minhash'?"),
        ("{minhash: {treshold: 1}}", "leaf craft/saw: settings.gates: unknown setting of gate 'minhash' 'treshold'"),
        ("{minhash: 3}", "leaf craft/saw: settings.gates: gate 'minhash': give its settings as a mapping, or false, got 3"),
        ("minhash", "leaf craft/saw: settings.gates must be a mapping, got 'minhash'"),
        ("", "leaf craft/saw: settings.gates must be a mapping, got None"),
    ],
)
def test_gates_that_a_leaf_sets_are_checked_too_and_the_leaf_is_named(tmp_path: Path, gates: str, expected: str) -> None:
    (tmp_path / "craft.yaml").write_text(f"{TREE}    settings:\n      gates: {gates}\n")
    assert fault(tmp_path, MODELS + "taxonomies: [craft.yaml]\n", 12).startswith(expected)


def test_a_leaf_is_run_in_the_languages_that_both_it_and_the_recipe_want(tmp_path: Path) -> None:
    both = "taxonomies: [programming, general]\nlanguages: {programming: [zh]}\n"
    found = ready(tmp_path, MODELS + both + "leaves: [programming/debugging/locate-error, general/*]\n")
    assert found.languages(found.leaves[0]) == ("zh",)
    assert found.languages(found.leaves[1]) == ("en", "zh")


# -- roles of one's own ------------------------------------------------------------------------------------------------


def test_a_file_dropped_into_the_folder_joins_the_panel_and_off_takes_one_out(tmp_path: Path) -> None:
    line = own(tmp_path, annotator_safety=ANNOTATOR) + "roles: {annotator-clarity: {off: true}}\n"
    assert ready(tmp_path, MODELS + line).roles.at("annotate") == ["annotator-correctness", "annotator-helpfulness", "annotator-safety"]


def test_a_faulty_role_file_is_said_with_its_own_line(tmp_path: Path) -> None:
    line = own(tmp_path, annotator_safety=ANNOTATOR.replace("{{ answer }}", "{{ feedback }}"))
    assert fault(tmp_path, MODELS + line, 13).startswith("mine/annotator-safety.md:8: unknown variable 'feedback'")


def test_an_annotator_that_does_not_speak_a_wanted_language_is_found_before_the_run(tmp_path: Path) -> None:
    line = own(tmp_path, annotator_safety=ANNOTATOR.replace("stage:", "language: zh\nstage:"))
    assert (
        fault(tmp_path, MODELS + line) == "recipe.yaml:4: role 'annotator-safety' has no file for language 'en', in which rows are wanted"
    )
    assert ready(tmp_path, MODELS + line + "languages: [zh]\n")


# -- nobody judges its own kind ----------------------------------------------------------------------------------------


def test_a_judge_of_the_answerers_family_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    kin = MODELS.replace("model: llama", "model: Qwen3-32B")
    said = fault(tmp_path, kin)
    assert said.startswith("recipe.yaml:3: role 'annotator-clarity' is judged by 'judge', of the family 'qwen' that also answers")
    assert ready(tmp_path, kin + "same_family_judge: true\n")
    assert ready(tmp_path, kin.replace("Qwen3-32B}", "Qwen3-32B, family: other}"))


def test_one_judge_among_many_that_is_kin_is_refused(tmp_path: Path) -> None:
    said = fault(tmp_path, MODELS + "roles: {critic: {model: generator}}\n")
    assert said.startswith("recipe.yaml:2: role 'critic' is judged by 'generator'")


def test_whoever_rewrites_the_answer_answers_too(tmp_path: Path) -> None:
    line = own(tmp_path, polisher="---\nname: polisher\nafter: answer\nwrites: answer\nmodel: judge\n---\n{{ answer }}\n")
    assert "of the family 'llama' that also answers" in fault(tmp_path, MODELS + line)


def test_the_recipe_s_mode_holds_where_a_leaf_sets_no_other(tmp_path: Path) -> None:
    make_taxonomy(tmp_path, "ab", {"b": {"mode": {"depth": "deep"}}})
    a, b = prepare(make_recipe(tmp_path, "http://nobody", mode={"depth": "cot", "answers": 3})).leaves
    assert (a.mode({}).depth, a.mode({}).answers) == ("cot", 3)
    assert (b.mode({}).depth, b.mode({}).answers) == ("deep", 3)


def test_a_mode_that_there_is_not_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe.yaml:\d+: mode: unknown field of a mode 'dept': did you mean 'depth'\?"):
        make_recipe(tmp_path, "http://nobody", mode={"dept": "cot"})
