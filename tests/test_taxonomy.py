"""The tree: what a leaf inherits, how it is found, and what each mistake in the file says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from filters.text import script
from leafmill.errors import TaxonomyError
from leafmill.records import Language
from taxonomy import BUILT_IN, Taxonomy, clean, library, load

SMALL = """\
name: craft
languages: [en, zh]
title: {en: Craft, zh: 手艺}
axes:
  tone:
    title: {en: tone, zh: 语气}
    values:
      calm: {weight: 2, en: calm, zh: 平静}
      loud: {en: loud, zh: 大声}
settings: {evolve_rounds: 1, gates: {ifd: {max: 1}}}
children:
  wood:
    title: {en: Wood, zh: 木工}
    weight: 3
    seeds:
      - {instruction: Name four kinds of joint.}
      - {instruction: 说出四种榫卯结构的名称。}
    children:
      saw:
        title: {en: Sawing, zh: 锯木}
        description: {en: Cut it., zh: 锯开。}
        weight: 2
        settings: {revise_rounds: 3, gates: {minhash: false}}
        axes:
          tone: null
          tool:
            title: {en: tool, zh: 工具}
            values:
              hand: {en: a hand saw, zh: 手锯}
              power: {en: a power saw, zh: 电锯}
      plane:
        title: {en: Planing, zh: 刨平}
        description: {en: Smooth it., zh: 刨光。}
  陶艺:
    title: {zh: 陶艺}
    languages: [zh]
    description: {zh: 拉坯成形。}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "craft.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def craft(tmp_path: Path) -> Taxonomy:
    return load(write(tmp_path, SMALL))


def test_leaves_come_in_file_order_with_full_paths(craft: Taxonomy) -> None:
    assert [leaf.path for leaf in craft.leaves()] == ["craft/wood/saw", "craft/wood/plane", "craft/陶艺"]


def test_a_leaf_inherits_axes_seeds_settings_languages_and_weight(craft: Taxonomy) -> None:
    plane = craft.leaf("craft/wood/plane")
    assert [axis.name for axis in plane.axes] == ["tone"]
    assert [seed.language for seed in plane.seeds] == ["en", "zh"]
    assert plane.settings == {"evolve_rounds": 1, "gates": {"ifd": {"max": 1}}}
    assert (plane.languages, plane.weight) == (("en", "zh"), 3.0)


def test_a_leaf_adds_and_removes_axes_and_merges_settings_key_by_key(craft: Taxonomy) -> None:
    saw = craft.leaf("craft/wood/saw")
    assert [axis.name for axis in saw.axes] == ["tool"]
    assert saw.settings == {"evolve_rounds": 1, "revise_rounds": 3, "gates": {"ifd": {"max": 1}, "minhash": False}}
    assert saw.weight == 6.0


def test_a_leaf_tells_its_trail_and_axes_in_either_language(craft: Taxonomy) -> None:
    saw = craft.leaf("craft/wood/saw")
    assert saw.trail_in("zh") == "手艺 > 木工 > 锯木"
    assert saw.trail_in("en") == "Craft > Wood > Sawing"
    assert saw.describe_axes({"tool": "hand"}, "zh") == {"工具": "手锯"}


def test_a_title_in_a_missing_language_falls_back_to_the_one_there_is(craft: Taxonomy) -> None:
    assert craft.leaf("craft/陶艺").title_in("en") == "陶艺"


@pytest.mark.parametrize("drawn", [{"tools": "hand"}, {"tool": "hands"}])
def test_describing_an_unknown_axis_or_value_suggests_the_nearest(craft: Taxonomy, drawn: dict[str, str]) -> None:
    with pytest.raises(TaxonomyError, match=r"did you mean '(tool|hand)'"):
        craft.leaf("craft/wood/saw").describe_axes(drawn, "en")


def test_an_unknown_leaf_suggests_the_nearest(craft: Taxonomy) -> None:
    with pytest.raises(TaxonomyError, match="did you mean 'craft/wood/saw'"):
        craft.leaf("craft/wood/saws")


def test_globs_cross_slashes_and_give_each_leaf_once_in_file_order(craft: Taxonomy) -> None:
    assert [leaf.path for leaf in craft.match(["craft/陶艺", "craft/w*", "*/saw"])] == [leaf.path for leaf in craft.leaves()]


def test_a_glob_that_matches_nothing_is_named(craft: Taxonomy) -> None:
    with pytest.raises(TaxonomyError, match=r"unknown leaf of craft 'craft/metal/\*'"):
        craft.match(["*", "craft/metal/*"])


def test_the_fingerprint_follows_the_content_and_not_the_layout(tmp_path: Path, craft: Taxonomy) -> None:
    assert load(write(tmp_path, "# a comment\n\n" + SMALL)).fingerprint == craft.fingerprint
    assert load(write(tmp_path, SMALL.replace("Cut it.", "Cut it well."))).fingerprint != craft.fingerprint


def test_a_taxonomy_survives_a_round_trip_through_json(craft: Taxonomy) -> None:
    again = Taxonomy.model_validate_json(craft.model_dump_json())
    assert again.fingerprint == craft.fingerprint
    assert [leaf.model_dump() for leaf in again.leaves()] == [leaf.model_dump() for leaf in craft.leaves()]


def test_seeds_may_stand_in_a_file_beside_the_taxonomy(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"instruction": "Throw a small clay bowl."}\n', encoding="utf-8")
    taxonomy = load(write(tmp_path, SMALL.replace("languages: [zh]", "seeds: mine.jsonl\n    languages: [zh]")))
    assert taxonomy.leaf("craft/陶艺").seeds[0].instruction == "Throw a small clay bowl."


MISTAKES = {
    "an unknown key": ("weight: 3", "wieght: 3", 14, "unknown key 'wieght': did you mean 'weight'"),
    "a weight of zero": ("weight: 3", "weight: 0", 14, "children.wood.weight: Input should be greater than 0, got 0"),
    "a weight that is no number": ("weight: 3", "weight: much", 14, "valid number, got 'much'"),
    "a weight in quotes": ("weight: 3", 'weight: "3"', 14, "valid number, got '3'"),
    "a weight that is not finite": ("weight: 3", "weight: .nan", 14, "finite number|greater than 0"),
    "a key given twice": ("weight: 3", "weight: 3\n    weight: 4", 15, "key 'weight' is given twice"),
    "another language": ("languages: [zh]", "languages: [fr]", 36, "got 'fr'"),
    "a language given twice": ("languages: [zh]", "languages: [zh, zh]", 36, "given twice"),
    "no language": ("languages: [en, zh]", "languages: []", 2, "at least 1 item"),
    "languages left out": ("languages: [en, zh]\n", "", 1, "no languages"),
    "a title missing": ("    title: {en: Wood, zh: 木工}\n", "", 12, "craft/wood has no title in en"),
    "a title missing in one language": ("{en: Wood, zh: 木工}", "{en: Wood}", 13, "craft/wood has no title in zh"),
    "a blank title": ("{en: Wood, zh: 木工}", "{en: ' ', zh: 木工}", 13, "got ' '"),
    "a leaf without a description": ("    description: {zh: 拉坯成形。}\n", "", 34, "leaf craft/陶艺 has no description in zh"),
    "a description in one language only": ("{en: Smooth it., zh: 刨光。}", "{en: Smooth it.}", 33, "plane has no description in zh"),
    "an axis with one value": ("      loud: {en: loud, zh: 大声}\n", "", 7, "at least 2 items"),
    "an axis without a title": ("    title: {en: tone, zh: 语气}\n", "", 5, "axis 'tone' has no title in en"),
    "an axis value without a label": ("{en: loud, zh: 大声}", "{en: loud}", 9, "value 'loud' of axis 'tone' has no label in zh"),
    "an axis weight below zero": ("weight: 2, en: calm", "weight: -2, en: calm", 8, "greater than 0, got -2"),
    "an axis removed that is not there": ("tone: null", "tune: null", 25, "unknown axis to remove 'tune': did you mean 'tone'"),
    "an unknown setting": ("revise_rounds: 3", "revise_round: 3", 23, "unknown key 'revise_round': did you mean 'revise_rounds'"),
    "a setting below its least": ("revise_rounds: 3", "revise_rounds: -1", 23, "greater than or equal to 0, got -1"),
    "empty children": ("    languages: [zh]\n", "    languages: [zh]\n    children: {}\n", 37, "at least 1 item"),
    "a node that holds nothing": (
        "    languages: [zh]\n",
        "    languages: [zh]\n    children: {kiln: }\n",
        37,
        "kiln: should be a mapping, got None",
    ),
    "a slash in a slug": ("  陶艺:", "  陶/艺:", 34, "'陶/艺' cannot be part of a path"),
    "a space in a slug": ("  陶艺:", "  陶 艺:", 34, "'陶 艺' cannot be part of a path"),
    "an empty slug": ("  陶艺:", "  '':", 34, "'' cannot be part of a path"),
    "a seed without instruction": ("instruction: Name", "output: Name", 16, "a seed needs an instruction, got None"),
    "a seed with an unknown key": ("- {instruction: Name", "- {outptu: x, instruction: Name", 16, "did you mean 'output'"),
    "a seed that is text": ("{instruction: Name four kinds of joint.}", "Name it.", 16, "should be a mapping, got 'Name it.'"),
    "a seed file that is not there": ("languages: [zh]", "seeds: none.jsonl\n    languages: [zh]", 36, "no file 'none.jsonl'"),
    "seeds that are a number": ("languages: [zh]", "seeds: 7\n    languages: [zh]", 36, "got 7"),
    "a cycle": ("  陶艺:", "  loop: &loop\n    children: {again: *loop}\n  陶艺:", 34, "a cycle"),
}


LIBRARY = {
    "an unknown name in the list": ("axes: [difficulty, turms]", "axis of the library 'turms': did you mean 'turns'"),
    "an unknown name in the mapping": ("axes: {difficulty: library, turms: library}", "unknown axis of the library 'turms'"),
    "a weight of a value that is not there": (
        "axes: {turns: {weights: {singel: 2}}}",
        "unknown value of axis 'turns' 'singel': did you mean",
    ),
    "one value left": ("axes: {task: {weights: {single: 0}}}", "axis 'task' needs two values or more, 1 has a weight above 0"),
    "weights of an axis of one's own": (
        "axes: {task: {weights: {single: 2}, title: {en: t, zh: t}, values: {a: {en: a, zh: a}, b: {en: b, zh: b}}}}",
        "`weights` changes an axis of the library",
    ),
    "a title of one's own": ("axes: {task: {title: {en: t, zh: t}}}", "an axis with a title of its own needs `values`"),
    "a mapping in the list": ("axes: [{task: library}]", "a list of axes holds names of the library"),
}
LISTED = """\
name: craft
languages: [en, zh]
title: {en: Craft, zh: 手艺}
description: {en: Make it., zh: 动手做。}
"""


def test_a_taxonomy_takes_axes_of_the_library_by_name(tmp_path: Path) -> None:
    (leaf,) = load(write(tmp_path, LISTED + "axes: [difficulty, turns]\n")).leaves()
    assert leaf.axes == (library()["difficulty"], library()["turns"])
    mine = "axes:\n  turns: {weights: {many: 5, switch: 0}}\n  depth: library\n"
    mine += "  tool: {title: {en: tool, zh: 工具}, values: {a: {en: a, zh: 甲}, b: {en: b, zh: 乙}}}\n"
    (leaf,) = load(write(tmp_path, LISTED + mine)).leaves()
    assert [axis.name for axis in leaf.axes] == ["turns", "depth", "tool"]
    assert {value.name: value.weight for value in leaf.axes[0].values} == {"single": 4, "few": 2, "many": 5}
    assert leaf.mode({"turns": "many", "depth": "cot"}).turns == 6


def test_a_node_adds_axes_of_the_library_to_those_that_it_inherits(tmp_path: Path) -> None:
    children = "axes: [tone]\nchildren: {saw: {title: {en: S, zh: 锯}, description: {en: S, zh: 锯}, axes: [turns]}}\n"
    (leaf,) = load(write(tmp_path, LISTED + children)).leaves()
    assert [axis.name for axis in leaf.axes] == ["tone", "turns"]


@pytest.mark.parametrize("mistake", list(LIBRARY))
def test_a_mistake_about_the_library_is_told_with_file_and_line(tmp_path: Path, mistake: str) -> None:
    text, message = LIBRARY[mistake]
    path = write(tmp_path, LISTED + text + "\n")
    with pytest.raises(TaxonomyError, match=re.escape(message)) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:5: ")


def test_the_library_has_every_axis_in_both_languages_and_sets_how_candidates_are_made() -> None:
    wanted = {"difficulty", "depth", "turns", "reasoning", "task", "phrasing", "parameters", "noise", "mapping", "persona", "tone", "genre"}
    assert set(library()) == wanted
    for axis in library().values():
        for texts in (axis.title, *(value.labels for value in axis.values)):
            assert set(texts) == {"en", "zh"}, axis.name
            assert script(texts["zh"]) > 0.5, texts
            assert script(texts["en"]) == 0, texts
        assert len({value.labels["zh"] for value in axis.values}) == len(axis.values)
    sets = {f"{axis.name}.{value.name}": value.sets for axis in library().values() for value in axis.values if value.sets}
    assert sets == {
        "task.composite": {"composite": True},
        "depth.direct": {"depth": "direct"},
        "depth.cot": {"depth": "cot"},
        "depth.deep": {"depth": "deep"},
        "turns.single": {"turns": 1},
        "turns.few": {"turns": 3},
        "turns.many": {"turns": 6},
        "turns.switch": {"turns": 4, "topic_switch": True},
        "mapping.localised": {"localised": True},
    }


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_told_with_file_line_and_value(tmp_path: Path, mistake: str) -> None:
    good, bad, line, message = MISTAKES[mistake]
    assert SMALL.count(good) >= 1
    path = write(tmp_path, SMALL.replace(good, bad, 1))
    with pytest.raises(TaxonomyError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_two_axes_of_one_title_are_refused_because_a_prompt_could_not_tell_them_apart(tmp_path: Path) -> None:
    text = SMALL.replace("          tone: null\n", "").replace("{en: tool, zh: 工具}", "{en: tool, zh: 语气}")
    with pytest.raises(TaxonomyError, match=r"craft.yaml:24: two axes have the title '语气'"):
        load(write(tmp_path, text))


def test_a_node_that_adds_a_language_needs_its_inherited_axes_in_it(tmp_path: Path) -> None:
    text = SMALL.replace("languages: [en, zh]", "languages: [zh]").replace("calm: {weight: 2, en: calm, zh", "calm: {weight: 2, zh")
    text = text.replace("  wood:\n", "  wood:\n    languages: [zh, en]\n")
    with pytest.raises(TaxonomyError, match=r"craft.yaml:13: value 'calm' of axis 'tone' has no label in en"):
        load(write(tmp_path, text))


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"craft.yaml: is empty"):
        load(write(tmp_path, "# nothing\n"))


def test_an_unknown_name_suggests_the_nearest_built_in() -> None:
    with pytest.raises(TaxonomyError, match="unknown taxonomy 'programing': did you mean 'programming'"):
        load("programing")


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"none.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


REQUIRED = {
    "ecommerce": ("ecommerce/after-sales/return-refund", ("zh",)),
    "general": ("general/role-play", ("en", "zh")),
    "programming": ("programming/debugging/locate-error", ("en", "zh")),
}


def test_the_built_in_taxonomies_are_the_three_that_are_promised() -> None:
    assert tuple(REQUIRED) == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_taxonomy_has_unique_paths_and_its_required_leaf(name: str) -> None:
    taxonomy = load(name)
    path, languages = REQUIRED[name]
    paths = [leaf.path for leaf in taxonomy.leaves()]
    assert len(set(paths)) == len(paths) >= 10
    assert taxonomy.leaf(path).languages == languages


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_leaf_of_a_built_in_has_seeds_in_each_language_and_none_that_cleaning_drops(name: str) -> None:
    for leaf in load(name).leaves():
        assert {seed.language for seed in leaf.seeds} == set(leaf.languages), leaf.path
        assert clean(leaf.seeds).dropped == (), leaf.path


@pytest.mark.parametrize("name", BUILT_IN)
def test_titles_of_siblings_differ_in_each_language(name: str) -> None:
    taxonomy = load(name)
    languages: tuple[Language, ...] = taxonomy.leaves()[0].languages
    for language in languages:
        trails = [leaf.trail_in(language) for leaf in taxonomy.leaves()]
        assert len(set(trails)) == len(trails)
