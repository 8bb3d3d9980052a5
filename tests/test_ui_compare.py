"""Two runs, or two prompt variants, side by side: shares and their intervals, scores, samples, settings."""

from __future__ import annotations

import shutil
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafmill.ui.compare.page import newcombe
from leafmill.variants import Rate
from tests import ui
from tests.test_ui_roles import harms

OTHER = "other"
BOTH = f"/compare?a={ui.NAME}&b={OTHER}"
EN, PERSONA = f"{ui.NAME}:writer.en", f"{ui.NAME}:writer.persona.en"


@pytest.fixture(scope="module")
def runs(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop, and another run: all of a leaf refused, a leaf less, a leaf more, another recipe and prompt file."""
    made = ui.copy_of(shop, tmp_path_factory.mktemp("compare"))
    shutil.copytree(made / ui.NAME, made / OTHER)
    with sqlite3.connect(made / OTHER / "ledger.db") as ledger:
        ledger.execute("UPDATE candidates SET state = 'rejected', stage = 'agree', code = 'critic.low' WHERE leaf = 'whole/notes'")
        ledger.execute("DELETE FROM candidates WHERE leaf = 'whole/sums'")
        ledger.execute("UPDATE candidates SET leaf = 'whole/bills' WHERE leaf = 'whole/orders'")
        ledger.execute("UPDATE meta SET value = replace(value, 'critic.en.md', 'critic.mild.en.md') WHERE key = 'roles'")
    recipe = (made / OTHER / "recipe.yaml").read_text(encoding="utf-8").replace("target: 5", "target: 9", 1)
    (made / OTHER / "recipe.yaml").write_text(recipe.replace("api_key: null", "api_key: sk-hidden", 1), encoding="utf-8")
    return made


@cache
def browser(runs: Path, language: str = "en") -> ui.Client:
    found = ui.client(runs, language)
    for name in (ui.NAME, OTHER):
        found.app.state.library.index(name).refresh(60)  # type: ignore[attr-defined]
    return found


def view(runs: Path, address: str = BOTH) -> Any:
    answer = browser(runs).get(address, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(runs: Path, address: str = BOTH, language: str = "en") -> str:
    answer = browser(runs, language).get(address)
    assert answer.status_code == 200, answer.text
    return answer.text


def rates() -> st.SearchStrategy[Rate]:
    return st.integers(1, 400).flatmap(lambda tried: st.builds(Rate, tried=st.just(tried), accepted=st.integers(0, tried)))


def test_the_interval_of_a_difference_is_newcombes() -> None:
    low, high = newcombe(Rate(tried=80, accepted=48), Rate(tried=70, accepted=56)) or (0, 0)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)  # his own example
    assert newcombe(Rate(), Rate(tried=3, accepted=3)) is None


@given(rates(), rates())
def test_the_interval_holds_the_difference_and_turns_round_with_the_sides(a: Rate, b: Rate) -> None:
    low, high = newcombe(a, b) or (2, 2)
    back = newcombe(b, a) or (2, 2)
    assert -1 - 1e-9 <= low <= (b.rate or 0) - (a.rate or 0) <= high <= 1 + 1e-9
    assert (-high, -low) == pytest.approx(back)


def test_leaves_are_compared_and_a_difference_that_is_none_of_chance_is_marked(runs: Path) -> None:
    found = {one["leaf"]: one for one in view(runs)["contrast"]["leaves"]}
    same, refused = found["whole/advice"], found["whole/notes"]
    assert same["a"] == same["b"]
    assert same["difference"] == 0
    assert refused["a"]["accepted"] > 0 == refused["b"]["accepted"]
    assert refused["interval"][1] < 0
    assert [leaf for leaf, one in found.items() if one["clear"]] == ["whole/notes"]
    page = shown(runs)
    assert 'class="clear less"' in page
    assert "only in A" in page
    assert "only in B" in page


def test_leaves_that_one_side_alone_has_are_not_in_what_both_have(runs: Path) -> None:
    found = view(runs)["contrast"]
    assert found["only"] == [["whole/orders", "whole/sums"], ["whole/bills"]]
    common = [one for one in found["leaves"] if one["leaf"] in ("whole/advice", "whole/notes")]
    assert found["together"]["a"]["tried"] == sum(one["a"]["tried"] for one in common)


def test_every_number_leads_to_as_many_candidates_of_its_side(runs: Path) -> None:
    found = view(runs)["contrast"]
    sides = (ui.NAME, OTHER)
    for at, side in enumerate(sides):
        for one in found["reasons"]:
            if one["counts"][at]:
                assert view(runs, f"/runs/{side}/candidates?{one['queries'][at]}")["found"] == one["counts"][at]
        for one in found["leaves"]:
            accepted = view(runs, f"/runs/{side}/candidates?{one['queries'][at]}&state=accepted")["found"]
            assert accepted == one["ab"[at]]["accepted"]
        assert view(runs, f"/runs/{side}/candidates?{found['totals'][at]['query']}")["found"] == found["totals"][at]["candidates"]
        with sqlite3.connect(runs / side / "ledger.db") as ledger:
            judged = "SELECT count(*) FROM candidates WHERE state IN ('accepted', 'rejected') AND code <> 'quota_met'"
            assert (found["totals"][at]["fared"]["tried"],) == ledger.execute(judged).fetchone()


def test_two_prompt_variants_of_a_run_are_compared_by_the_candidates_in_which_they_spoke(runs: Path) -> None:
    found = view(runs, f"/compare?a={EN}&b={PERSONA}")["contrast"]
    with sqlite3.connect(runs / ui.NAME / "ledger.db") as ledger:
        spoke = "SELECT count(DISTINCT candidate), sum(prompt_tokens + completion_tokens) FROM calls WHERE candidate IN " + (
            "(SELECT candidate FROM calls WHERE role = 'writer' AND variant = ?)"
        )
        for total, variant in zip(found["totals"], ("en", "persona.en"), strict=True):
            assert (total["candidates"], total["tokens"]) == ledger.execute(spoke, (variant,)).fetchone()
    assert found["shared"] == 0
    texts = [(runs / ui.NAME / "prompts" / name).read_text(encoding="utf-8") for name in ("writer.en.md", "writer.persona.en.md")]
    assert "".join(text for change, text in found["changes"] if change != "come") == texts[0]
    assert "".join(text for change, text in found["changes"] if change != "gone") == texts[1]
    assert found["settings"] == found["prompts"] == []


def test_candidates_on_both_sides_are_told_and_none_stands_beside_itself(runs: Path) -> None:
    address = f"/compare?a={ui.NAME}:answerer.en&b={ui.NAME}:critic.en"
    found = view(runs, address)["contrast"]
    assert found["shared"] > 0
    assert "candidates are on both sides" in shown(runs, address)
    for at in range(found["sample"]["of"]):
        pair = view(runs, f"{address}&sample={at}")["contrast"]["sample"]
        assert pair["a"]["id"] != pair["b"]["id"]


def test_samples_are_of_one_cell_first_and_of_one_leaf_always(runs: Path) -> None:
    last = view(runs, f"{BOTH}&sample=100000")["contrast"]["sample"]
    pairs = [view(runs, f"{BOTH}&sample={at}")["contrast"]["sample"] for at in range(last["of"])]
    assert last == pairs[-1]
    cells = [pair["cell"] for pair in pairs]
    assert cells == sorted(cells, reverse=True)
    assert any(cells)
    for pair in pairs:
        assert pair["a"]["leaf"] == pair["b"]["leaf"]
        if pair["cell"]:
            assert (pair["a"]["axes"], pair["a"]["language"]) == (pair["b"]["axes"], pair["b"]["language"])
    for side in "ab":
        assert len({pair[side]["id"] for pair in pairs}) == len(pairs)


def test_a_sample_shows_what_was_said_and_leads_to_the_candidate(runs: Path) -> None:
    pair = view(runs)["contrast"]["sample"]
    page = shown(runs)
    for side, run in (("a", ui.NAME), ("b", OTHER)):
        assert f'href="/runs/{run}/candidates/{pair[side]["id"]}"' in page
        assert pair[side]["row"]["answer"]
    assert '<a class="button" rel="next" href="/compare?a=shop&amp;b=other&amp;sample=1#samples">' in page


@pytest.mark.parametrize("score", ["answer_length", "panel", "similarity"])
def test_a_chart_has_the_shares_of_both_sides_and_its_bars_lead_to_their_candidates(runs: Path, score: str) -> None:
    spec = view(runs, f"/compare/charts/{score}?a={ui.NAME}&b={OTHER}")
    bars = spec["data"]["values"]
    names = {bar["group"] for bar in bars}
    assert names == {f"A · {ui.NAME}", f"B · {OTHER}"}
    for name in names:
        assert sum(bar["share"] for bar in bars if bar["group"] == name) == pytest.approx(1)
    for bar in bars:
        assert view(runs, bar["address"])["found"] == bar["count"]


def test_what_the_recipes_say_differently_is_listed_without_secrets(runs: Path) -> None:
    found = {one["key"]: (one["a"], one["b"]) for one in view(runs)["contrast"]["settings"]}
    assert found.pop("target") == ("5", "9")
    assert set(found) <= {"models.generator.api_key"}
    assert "sk-hidden" not in shown(runs)


def test_prompt_files_that_are_not_alike_are_listed(runs: Path) -> None:
    found = {one["file"]: (one["a"], one["b"]) for one in view(runs)["contrast"]["prompts"]}
    assert found.keys() == {"critic.en.md", "critic.mild.en.md"}
    assert found["critic.en.md"][1] is None


def test_a_side_without_candidates_is_said(runs: Path) -> None:
    assert f"{OTHER} has no candidates in whole/sums." in shown(runs, f"{BOTH}&leaf=whole/sums")
    found = view(runs, f"{BOTH}&leaf=whole/sums")["contrast"]
    assert found["sample"] is None
    assert found["leaves"][0]["difference"] is None
    assert view(runs, f"/compare/charts/panel?a={ui.NAME}:tool-user.en&b={OTHER}:tool-user.en&leaf=whole/advice")["data"]["values"] == []


def test_one_chooses_two_sides_that_are_not_the_same(runs: Path, tmp_path: Path) -> None:
    assert view(runs, "/compare")["problem"] == view(runs, f"/compare?a={ui.NAME}")["problem"] == "choose"
    assert view(runs, f"/compare?a={ui.NAME}&b={ui.NAME}")["problem"] == "same"
    assert "Both sides are the same." in shown(runs, f"/compare?a={EN}&b={EN}")
    assert f'<option value="{EN}" selected>writer.en</option>' in shown(runs, f"/compare?a={EN}")
    assert "There are no runs in this folder yet." in ui.client(tmp_path).get("/compare").text


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        (f"/compare?a=nothing&b={ui.NAME}", 404, "unknown run 'nothing'"),
        (f"/compare?a=nothing:writer.en&b={ui.NAME}", 404, "unknown run 'nothing'"),
        (f"/compare?a={ui.NAME}:writer.loud&b={ui.NAME}", 400, "unknown prompt variant 'writer.loud'"),
        (f"{BOTH}&leaf=whole/nothing", 400, "unknown leaf"),
        (f"/compare/charts/beauty?a={ui.NAME}&b={OTHER}", 400, "unknown score 'beauty'"),
    ],
)
def test_what_is_not_there_is_told_by_its_name(runs: Path, address: str, status: int, says: str) -> None:
    answer = browser(runs).get(address, headers={"accept": "application/json"})
    assert answer.status_code == status
    assert says in answer.json()["detail"]


def test_what_models_say_is_text(shop: Path, tmp_path: Path) -> None:
    spoilt = ui.copy_of(shop, tmp_path)
    ui.spoil(spoilt)
    shutil.copytree(spoilt / ui.NAME, spoilt / OTHER)
    with sqlite3.connect(spoilt / OTHER / "ledger.db") as ledger:
        ledger.execute("UPDATE candidates SET state = 'rejected' WHERE row IS NULL OR row NOT LIKE '%harmed%'")
        ledger.execute("UPDATE candidates SET state = 'accepted' WHERE row LIKE '%harmed%'")
    page = shown(spoilt)
    assert "window.harmed" in page
    assert not harms(page)


def test_the_page_is_chinese_for_those_who_read_it(runs: Path) -> None:
    assert "各叶子的接受率" in shown(runs, BOTH, "zh")
