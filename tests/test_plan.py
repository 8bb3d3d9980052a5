"""A taxonomy is planned: level by level, merged, surveyed, resumed, bounded, written into a file that others have written in."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agents.scripted import Fault, Request, ScriptedServer
from agents.taxonomist import Wish
from graphs.planting import Growth, plant
from leafmill.errors import EndpointError, InputError, OtherRecipeError, RecipeError, TaxonomyError
from leafmill.recipe import Recipe
from leafmill.records import Language
from leafmill.runfolder import RunFolder
from leafmill.taxonomies.plan import find_recipe, from_scratch, into_tree, languages_of
from taxonomy import load

SUBJECTS: dict[str, list[str]] = {
    "Shop": ["Refunds", "Delivery"],
    "Refunds": ["Late payment", "Partial sums"],
    "Delivery": ["Lost parcels", "Courier choice"],
}
ZH = {"Shop": "网店", "Refunds": "退款", "Delivery": "配送", "Late payment": "到账太慢", "Partial sums": "部分退款",
      "Lost parcels": "包裹丢失", "Courier choice": "选择快递"}  # fmt: skip


class Village:
    """What the roles of a plan say. `missing` and `overlapping` are by the title of the node that is surveyed."""

    def __init__(self, subjects: dict[str, list[str]] | None = None, **said: Any) -> None:
        self.subjects, self.said = subjects or SUBJECTS, said
        self.asked: list[str] = []

    def __call__(self, request: Request) -> str | dict[str, Any] | None:
        role, topic = request.role or "", _topic(request.task)
        self.asked.append(f"{role} {topic}")
        match role:
            case "outliner":
                return "\n".join(f"{title} - People ask about {title.lower()}." for title in self.subjects.get(topic, []))
            case "structurer":
                return {"children": [_child(line.partition(" - ")[0]) for line in _fenced(request.task, "outline")]}
            case "surveyor":
                once = self.said.get("missing", {}).pop(topic, [])
                pairs = self.said.get("overlapping", {}).pop(topic, [])
                return {"overlapping": [{"drop": a, "keep": b} for a, b in pairs], "missing": [_child(title) for title in once]}
            case "describer":
                lines = (line.partition(": ")[::2] for line in _fenced(request.task, "nodes"))
                silent = self.said.get("silent", ())
                named = [(name, title) for name, title in lines if title not in silent] or [("nobody", "Nobody")]
                return {"nodes": [{"name": n, "title": ZH.get(t, f"{t}在这里"), "description": f"{t} 方面的请求。"} for n, t in named]}
            case "axis-planner":
                values = [{"label": "a new customer", "weight": 2}, {"label": "a regular", "weight": 1}]
                parts = [{"label": title, "weight": 1} for title in self.subjects[topic]]  # the leaves are no axis
                ready = {"name": "Reasoning", "title": "what must be thought", "values": values}  # of the library, by its name
                own = [
                    ready,
                    {"name": "Who asks", "title": "customer", "values": values},
                    {"name": "parts", "title": "parts", "values": parts},
                ]
                return {"library": ["difficulty", "no such"], "axes": own}
        return None


def _child(title: str) -> dict[str, Any]:
    return {"slug": title.lower(), "title": title, "description": f"People ask about {title.lower()}.", "weight": 2}


def _topic(task: str) -> str:
    found = re.search(r"^(?:Topic: |主题：)(?:.* > )?(.+)$", task, re.MULTILINE)
    return found[1] if found else ""


def _fenced(task: str, label: str) -> list[str]:
    found = re.search(rf"<{label}>\n(.+?)\n</{label}>", task, re.DOTALL)
    return found[1].splitlines() if found else []


@pytest.fixture
async def server() -> Any:
    async with ScriptedServer(seed=7, script=Village()) as one:
        yield one


def models(server: ScriptedServer, **overrides: Any) -> Recipe:
    model: dict[str, Any] = {"base_url": server.base_url, "model": "scripted", "attempts": 2, "patience": 1.0}
    return Recipe.model_validate({"models": {"generator": model, "judge": model}, **overrides})


async def grow(server: ScriptedServer, folder: Path, topic: str = "Shop", language: str = "en", depth: int = 2, **given: Any) -> Growth:
    """Plan a taxonomy in a folder, into `out.yaml`."""
    wish = Wish(topic, languages_of(language, topic), depth, breadth=3, guide=given.pop("guide", ""), rounds=given.pop("rounds", 2))
    planting = from_scratch(wish, folder / "out.yaml", given.pop("source", None), "Planned.", given.pop("calls", None))
    return await plant(planting, models(server, **given), RunFolder(folder / "plan"), lambda line: None)


def leaves(folder: Path) -> list[str]:
    return [leaf.path for leaf in load(folder / "out.yaml").leaves()]


async def test_a_topic_becomes_a_tree_with_weights_and_axes_that_loads(server: ScriptedServer, tmp_path: Path) -> None:
    found = await grow(server, tmp_path)
    assert (found.exit_code, found.levels, found.gaps) == (0, (1, 2, 4), ())
    taxonomy = load(tmp_path / "out.yaml")
    assert [leaf.path for leaf in taxonomy.leaves()] == [
        "shop/refunds/late-payment", "shop/refunds/partial-sums", "shop/delivery/lost-parcels", "shop/delivery/courier-choice"
    ]  # fmt: skip
    leaf = taxonomy.leaves()[0]
    assert (leaf.weight, leaf.description_in("en")) == (4.0, "People ask about late payment.")
    assert [axis.name for axis in leaf.axes] == ["difficulty", "reasoning", "who-asks"]
    text = (tmp_path / "out.yaml").read_text()
    assert text.startswith("# Planned.\nname: shop\nlanguages: [en]\ntitle: {en: Shop}\n")


async def test_the_outline_comes_as_free_text_and_is_put_into_fields_by_a_call_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    await grow(server, tmp_path, depth=1)
    outline, structure = (next(one.request for one in server.requests if one.role == role) for role in ("outliner", "structurer"))
    assert outline.schema is None
    assert "Refunds - People ask about refunds." in structure.task


async def test_a_plan_in_both_languages_writes_each_node_in_each(server: ScriptedServer, tmp_path: Path) -> None:
    found = await grow(server, tmp_path, language="both")
    assert found.exit_code == 0
    leaf = load(tmp_path / "out.yaml").leaves()[0]
    assert (leaf.trail_in("zh"), leaf.description_in("zh")) == ("网店 > 退款 > 到账太慢", "Late payment 方面的请求。")
    assert leaf.axes[-1].title["zh"] == "customer在这里"
    told = next(one.request.task for one in server.requests if one.role == "describer" and "late-payment" in one.request.task)
    assert "People ask about late payment" not in told  # a native writer is shown what it is, not a text to translate
    assert "到账太慢" in (tmp_path / "out.yaml").read_text()


async def test_a_node_without_a_title_in_a_language_does_not_speak_it_and_is_said_so(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = Village(silent=("Delivery",))
    found = await grow(server, tmp_path, language="both")
    assert found.exit_code == 3
    assert [(gap.node, gap.step, gap.code) for gap in found.gaps] == [("shop", "describe", "left_out")]
    spoken = {leaf.path.split("/")[1]: leaf.languages for leaf in load(tmp_path / "out.yaml").leaves()}
    assert spoken == {"refunds": ("en", "zh"), "delivery": ("en",)}


async def test_nodes_that_mean_the_same_are_one_across_the_whole_tree(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = Village({**SUBJECTS, "Delivery": ["Lost parcels", "Lost parcels", "Parcels lost", "Late payments"]})
    found = await grow(server, tmp_path, rounds=0)
    assert [(one.title, one.into, one.by) for one in found.merged] == [
        ("Lost parcels", "shop/delivery/lost-parcels", "meaning"),
        ("Parcels lost", "shop/delivery/lost-parcels", "meaning"),
    ]  # breadth 3: the fourth was never taken in
    assert leaves(tmp_path)[2:] == ["shop/delivery/lost-parcels"]
    server.script = Village({**SUBJECTS, "Delivery": ["Lost parcels", "Late payments"]})
    (tmp_path / "other").mkdir()
    found = await grow(server, tmp_path / "other", rounds=0)
    assert [(one.node, one.into) for one in found.merged] == [("shop/delivery/late-payments", "shop/refunds/late-payment")]


async def test_numbers_and_names_keep_siblings_apart(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = Village({"Shop": ["Python scripts", "Java scripts", "Refunds after 7 days", "Refunds after 30 days"]})
    wish = Wish("Shop", ("en",), depth=1, breadth=4, rounds=0)
    await plant(from_scratch(wish, tmp_path / "out.yaml", None, "", None), models(server), RunFolder(tmp_path / "plan"), lambda line: None)
    assert len(leaves(tmp_path)) == 4


async def test_a_gap_that_the_surveyor_finds_is_added_and_grown_like_the_others(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = Village({**SUBJECTS, "Invoices": ["Tax numbers", "Duplicates"]}, missing={"Shop": ["Invoices"], "Refunds": ["Cash"]})
    found = await grow(server, tmp_path)
    assert found.added == ("shop/invoices", "shop/refunds/cash")
    assert "shop/invoices/tax-numbers" in leaves(tmp_path)
    looks = {title: server.script.asked.count(f"surveyor {title}") for title in ("Shop", "Refunds", "Delivery")}
    assert looks == {"Shop": 2, "Refunds": 2, "Delivery": 1}  # it looks again at what has grown, and at nothing else


async def test_what_the_surveyor_holds_for_the_same_is_dropped_and_recorded(server: ScriptedServer, tmp_path: Path) -> None:
    subjects = {**SUBJECTS, "Shop": ["Refunds", "Delivery", "Couriers"]}
    server.script = Village(subjects, overlapping={"Shop": [("couriers", "delivery"), ("refunds", "delivery"), ("nothing", "delivery")]})
    found = await grow(server, tmp_path, depth=1)
    assert leaves(tmp_path) == ["shop/refunds", "shop/delivery"]
    assert [(one.node, one.into, one.by) for one in found.merged] == [("shop/couriers", "shop/delivery", "surveyor")]


async def test_a_surveyor_that_takes_two_subjects_for_one_is_not_believed(server: ScriptedServer, tmp_path: Path) -> None:
    subjects = {"Shop": ["Refunds", "Delivery", "Vouchers"]}
    server.script = Village(subjects, overlapping={"Shop": [("vouchers", "delivery")]})
    assert (await grow(server, tmp_path, depth=1)).merged == ()


async def test_a_plan_that_was_killed_goes_on_and_asks_nothing_again(server: ScriptedServer, tmp_path: Path) -> None:
    server.faults = [Fault("quota", after=6)]
    with pytest.raises(EndpointError):
        await grow(server, tmp_path)
    assert not (tmp_path / "out.yaml").exists()
    server.faults = []
    found = await grow(server, tmp_path)
    assert found.exit_code == 0
    good = Counter(json.dumps(one.request.messages) for one in server.requests if one.is_good)
    assert max(good.values()) == 1
    again = await grow(server, tmp_path)
    assert (again.calls, again.levels) == (0, found.levels)


async def test_an_interrupt_writes_nothing_and_the_same_plan_goes_on(server: ScriptedServer, tmp_path: Path) -> None:
    village = Village()

    def interrupted(request: Request) -> Any:
        if request.role == "structurer":
            os.kill(os.getpid(), signal.SIGINT)
        return village(request)

    server.script = interrupted
    found = await grow(server, tmp_path)
    assert (found.exit_code, (tmp_path / "out.yaml").exists()) == (130, False)
    asked = len(server.requests)
    server.script = village
    assert (await grow(server, tmp_path)).exit_code == 0
    assert len({json.dumps(one.request.messages) for one in server.requests}) == len(server.requests) > asked


async def test_a_branch_that_cannot_be_expanded_stays_a_leaf_and_is_said_so(server: ScriptedServer, tmp_path: Path) -> None:
    village = Village()
    server.script = lambda request: "no JSON" if request.role == "structurer" and "> Refunds" in request.task else village(request)
    found = await grow(server, tmp_path)
    assert found.exit_code == 3
    assert [(gap.node, gap.step, gap.code) for gap in found.gaps] == [("shop/refunds", "structure", "unreadable_reply")]
    assert leaves(tmp_path) == ["shop/refunds", "shop/delivery/lost-parcels", "shop/delivery/courier-choice"]
    server.script = village
    found = await grow(server, tmp_path)  # the same command again takes up what is missing
    assert (found.exit_code, found.leaves) == (0, 4)


async def test_calls_and_tokens_are_bounded_and_more_of_them_go_on(server: ScriptedServer, tmp_path: Path) -> None:
    found = await grow(server, tmp_path, calls=4)
    assert (len(server.requests), found.exit_code, found.gaps[0].code) == (4, 3, "halted")
    assert leaves(tmp_path) == ["shop/refunds", "shop/delivery"]
    found = await grow(server, tmp_path, calls=40)
    assert (found.exit_code, found.leaves) == (0, 4)
    assert len(server.requests) == len({json.dumps(one.request.messages) for one in server.requests})
    (tmp_path / "poor").mkdir()
    found = await grow(server, tmp_path / "poor", limits={"tokens": 50})
    assert (found.exit_code, found.leaves) == (3, 1)
    assert "(limits.tokens)" in found.gaps[0].detail


async def test_a_folder_is_of_one_plan_and_an_edited_file_is_not_written_over(server: ScriptedServer, tmp_path: Path) -> None:
    await grow(server, tmp_path, depth=1)
    with pytest.raises(OtherRecipeError, match="another plan"):
        await grow(server, tmp_path, topic="Garden", depth=1)
    (tmp_path / "out.yaml").write_text((tmp_path / "out.yaml").read_text().replace("Refunds", "Money back"))
    asked = len(server.requests)
    with pytest.raises(InputError, match="not what this plan wrote"):
        await grow(server, tmp_path)
    assert len(server.requests) == asked


async def test_a_plan_begins_with_what_a_person_has_and_keeps_it(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("Refunds\nDelivery/Lost parcels\nDelivery/Parcels lost\nDelivery/Stamps\n")
    server.script = Village(
        SUBJECTS, overlapping={"Delivery": [("parcels-lost", "lost-parcels")]}, missing={"Delivery": ["Courier choice"]}
    )
    found = await grow(server, tmp_path, source=tmp_path / "labels.txt")
    assert found.exit_code == 0
    assert leaves(tmp_path) == [
        "shop/refunds/late-payment", "shop/refunds/partial-sums",
        "shop/delivery/lost-parcels", "shop/delivery/parcels-lost", "shop/delivery/stamps", "shop/delivery/courier-choice",
    ]  # fmt: skip
    assert "outliner Delivery" not in server.script.asked


TREE = """\
# kept by hand
name: shop
languages: [en]
title: {en: Shop}   # a title
children:

  refunds:  # money
    title: {en: Refunds}
    description:
      en: |
        People want money back.

    # what comes next is about parcels
  delivery:
    title:   {en: "Delivery"}
    description: {en: 'Parcels.'}
    children:
      lost: {title: {en: Lost parcels}, description: {en: A parcel is lost.}}
# the end
"""


@pytest.mark.parametrize(
    ("under", "parts"), [("refunds", ["Late payment", "Partial sums"]), ("shop/delivery", ["Courier choice"]), ("", [])]
)
async def test_a_tree_grows_below_a_node_and_every_other_byte_stays(
    server: ScriptedServer, tmp_path: Path, under: str, parts: list[str]
) -> None:
    file = tmp_path / "tree.yaml"
    file.write_text(TREE)
    server.script = Village({**SUBJECTS, "Shop": ["Refunds", "Invoices"]})
    planting = into_tree(Wish(under or "tree", ("en",), 1, 3, rounds=0), file, under, None, None)
    found = await plant(planting, models(server), RunFolder(tmp_path / "plan"), lambda line: None)
    new = file.read_text()
    kept = next(at for at in range(len(TREE) + 1) if new[at : at + 1] != TREE[at : at + 1] or at == len(TREE))
    assert new.endswith(TREE[kept:])
    assert len(new) > len(TREE)
    grown = {node.title_in("en") for node in load(file).leaves()} - {"Refunds", "Lost parcels"}
    assert grown == set(parts or ["Invoices"])
    assert found.exit_code == 0
    asked = next(one.request.task for one in server.requests)
    assert "Lost parcels" in asked or under != "shop/delivery"  # what is there already is not thought of anew


def test_a_node_in_braces_or_in_another_language_is_not_grown(tmp_path: Path) -> None:
    file = tmp_path / "tree.yaml"
    file.write_text(TREE)
    with pytest.raises(TaxonomyError, match=r"tree\.yaml:18: shop/delivery/lost is written in braces"):
        into_tree(Wish("lost", ("en",)), file, "delivery/lost", None, None)
    zh: tuple[Language, ...] = ("zh",)
    with pytest.raises(InputError, match="does not speak zh"):
        into_tree(Wish("x", zh), file, "refunds", None, None)
    with pytest.raises(TaxonomyError, match="unknown node of shop 'refund': did you mean"):
        into_tree(Wish("x", ("en",)), file, "refund", None, None)


def test_a_plan_needs_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"a plan asks models, and there is no recipe\.yaml here"):
        find_recipe(None, False, None)
    (tmp_path / "recipe.yaml").write_text("name: empty\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:1: models"):
        find_recipe(None, False, None)
    (tmp_path / "recipe.yaml").unlink()
    assert find_recipe(None, True, 5).limits.tokens == 5


async def test_a_run_does_not_ask_for_the_roles_of_a_plan(server: ScriptedServer, tmp_path: Path) -> None:
    from conftest import taxonomy

    from graphs.prepare import prepare

    taxonomy(tmp_path)
    settings = {"taxonomies": [str(tmp_path / "t.yaml")], "same_family_judge": True, "roles": {"surveyor": {"temperature": 0.1}}}
    prepared = prepare(models(server, **settings))
    assert not {"outliner", "structurer", "surveyor", "describer", "axis-planner"} & set(prepared.roles.names)
