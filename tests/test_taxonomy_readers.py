"""What a person has, as a taxonomy: a list of labels, an InstructLab tree; and how it is written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafmill.errors import TaxonomyError
from leafmill.records import Language
from taxonomy import Taxonomy, load
from taxonomy.draft import Draft, slug_of
from taxonomy.outline import describe_plainly, read_outline
from taxonomy.tree import parse
from taxonomy.writing import written


def read(path: Path, language: Language = "en", name: str = "") -> Taxonomy:
    """A source as the taxonomy that is written of it."""
    root = read_outline(path, language, name)
    describe_plainly(root, language)
    return parse(written(root, "Read."), path)


def labels(folder: Path, text: str) -> Path:
    path = folder / "shop.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_slashes_and_indentation_are_levels_and_hashes_are_comments(tmp_path: Path) -> None:
    lines = ["# what we sell", "Refunds/Late refunds   # often", "Refunds/Partial refunds", "", "- Delivery", "  - Lost parcels"]
    lines += ["  - Couriers", "    - C# for couriers", "  - Stamps"]
    found = read(labels(tmp_path, "\n".join(lines)))
    assert [leaf.trail_in("en") for leaf in found.leaves()] == [
        "shop > Refunds > Late refunds", "shop > Refunds > Partial refunds", "shop > Delivery > Lost parcels",
        "shop > Delivery > Couriers > C# for couriers", "shop > Delivery > Stamps",
    ]  # fmt: skip
    assert found.leaves()[0].path == "shop/refunds/late-refunds"
    assert found.leaves()[0].description_in("en") == 'Requests about "Refunds > Late refunds".'


def test_chinese_labels_are_paths_and_titles_as_they_are(tmp_path: Path) -> None:
    found = read(labels(tmp_path, "售后/退货退款\n售后/换货\n"), "zh", "电商客服")
    assert [leaf.path for leaf in found.leaves()] == ["电商客服/售后/退货退款", "电商客服/售后/换货"]
    assert found.leaves()[0].description_in("zh") == "与“售后 > 退货退款”有关的请求。"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\nb//c\n", "shop.txt:2: a label is empty in 'b//c'"),
        ("a\n    b\n  c\n", "shop.txt:3: is indented by '  ', like no line above it"),
        ("a\nb\na\n", "shop.txt:3: 'a' is given twice: first on line 1"),
        ("# nothing\n\n", "shop.txt: holds no labels"),
    ],
)
def test_a_bad_list_is_told_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TaxonomyError) as fault:
        read(labels(tmp_path, text))
    assert said in str(fault.value)


def test_a_list_that_is_no_text_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "shop.txt").write_bytes(b"a\n\xff\xfe")
    with pytest.raises(TaxonomyError, match=r"shop\.txt: not valid UTF-8: byte 0xff at offset 2"):
        read(tmp_path / "shop.txt")
    with pytest.raises(TaxonomyError, match=r"there is no '.*nothing'"):
        read(tmp_path / "nothing")


def qna(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qna.yaml").write_text(text, encoding="utf-8")
    return folder


SKILL = """\
version: 2
task_description: |
  Write a haiku
  about a season.
created_by: somebody
seed_examples:
  - question: Write a haiku about snow.
    answer: |
      Snow on the old roof
      the cat steps out and steps back
      tea again, then sleep
  - question: Shorten the text to a haiku.
    context: It was a long day at the harbour.
    answer: Harbour, end of day
"""
KNOWLEDGE = """\
version: 3
domain: biology
created_by: somebody
document_outline: How bees live.
document: {repo: r, commit: c, patterns: [b.md]}
seed_examples:
  - context: Bees live in hives.
    questions_and_answers:
      - {question: "Where do bees live?", answer: In hives.}
      - {question: "Who lives in hives?", answer: Bees.}
"""


def test_an_instructlab_tree_keeps_its_folders_descriptions_and_examples(tmp_path: Path) -> None:
    qna(tmp_path / "il" / "compositional_skills" / "writing" / "haiku", SKILL)
    qna(tmp_path / "il" / "knowledge" / "bees", KNOWLEDGE)
    (tmp_path / "il" / ".git").mkdir()
    (tmp_path / "il" / "docs").mkdir()
    found = read(tmp_path / "il", name="Lab")
    haiku, bees = found.leaves()
    assert (haiku.path, haiku.title_in("en")) == ("lab/compositional-skills/writing/haiku", "Haiku")
    assert haiku.description_in("en") == "Write a haiku about a season."
    assert haiku.seeds[0].output == "Snow on the old roof\nthe cat steps out and steps back\ntea again, then sleep"
    assert (haiku.seeds[1].input, haiku.seeds[1].instruction) == ("It was a long day at the harbour.", "Shorten the text to a haiku.")
    assert (bees.path, bees.description_in("en")) == ("lab/knowledge/bees", "How bees live.")
    assert [(seed.input, seed.instruction, seed.output, seed.language) for seed in bees.seeds] == [
        ("Bees live in hives.", "Where do bees live?", "In hives.", "en"),
        ("Bees live in hives.", "Who lives in hives?", "Bees.", "en"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 7\nseed_examples: []\n", "qna.yaml:1: version should be 2 (a skill) or 3 (knowledge), got 7"),
        ("seed_examples: []\n", "qna.yaml:1: version should be 2"),
        (SKILL.replace("    answer: Harbour, end of day\n", ""), "seed_examples.1.answer"),
        (KNOWLEDGE.replace("answer: Bees.", "answer: ''"), "qna.yaml:10: seed_examples.0.questions_and_answers.1.answer"),
        ("version: 2\nseed_examples: []\n", "qna.yaml:2: seed_examples"),
        ("- a list\n", "qna.yaml:1: version should be 2"),
        ("version: [\n", "not valid YAML"),
    ],
)
def test_a_bad_qna_file_is_told_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TaxonomyError) as fault:
        read(qna(tmp_path / "il" / "leaf", text).parent)
    assert said in str(fault.value)


def test_a_folder_without_examples_is_told(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"there is no qna\.yaml in it"):
        read(tmp_path)


TITLE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=30).filter(str.strip)


@given(st.lists(TITLE, min_size=1, max_size=6), TITLE)
def test_whatever_titles_are_what_is_written_loads_as_it_was(titles: list[str], description: str) -> None:
    root = Draft("root", {"en": titles[0]}, languages=("en",))
    for title in titles:
        slug = slug_of(title, {child.slug for child in root.children})
        root.children.append(Draft(slug, {"en": title}, {"en": description}, weight=2.5))
    found = parse(written(root), Path("x.yaml"))
    assert [leaf.title["en"] for leaf in found.leaves()] == titles
    assert {leaf.description["en"] for leaf in found.leaves()} == {description}
    assert len({leaf.path for leaf in found.leaves()}) == len(titles)


def test_what_is_written_is_what_a_person_would_write(tmp_path: Path) -> None:
    path = labels(tmp_path, "售后/退货\n")
    root = read_outline(path, "zh", "店")
    describe_plainly(root, "zh")
    assert written(root, "说明") == (
        "# 说明\nname: 店\nlanguages: [zh]\ntitle: {zh: 店}\n\nchildren:\n  售后:\n    title: {zh: 售后}\n    children:\n"
        "      退货:\n        title: {zh: 退货}\n        description:\n          zh: 与“售后 > 退货”有关的请求。\n"
    )
    (tmp_path / "t.yaml").write_text(written(root), encoding="utf-8")
    assert load(tmp_path / "t.yaml").leaves()[0].title == {"zh": "退货"}
