"""Money: what a call costs, what a run will cost, and that a price which nobody gave is unknown and never 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe, taxonomy, told

from agents.scripted import ScriptedServer
from graphs.estimate import Estimate, estimate
from graphs.prepare import Prepared, prepare
from leafmill.errors import RecipeError
from leafmill.recipe import Price, Recipe
from leafmill.records import Usage
from leafmill.runfolder import RunFolder

NOBODY = "http://127.0.0.1:9/v1"
BARE = {"base_url": NOBODY, "model": "m", "family": "a"}
PRICED = {**BARE, "price": {"input": 2.0, "output": 8.0}}
JUDGE = {**BARE, "family": "b"}
PRICED_JUDGE = {**PRICED, "family": "b"}


def ready(folder: Path, text: str) -> Prepared:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return prepare(Recipe.read(path, {}))


def planned(folder: Path, **overrides: Any) -> Estimate:
    return estimate(prepare(recipe(folder, NOBODY, **overrides)), RunFolder(folder / "run"))


# -- of a call ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (Price(input=2, output=8), Usage(prompt=1_000_000, completion=500_000), 6.0),
        (Price(input=2, output=8), Usage(prompt=1_000_000, completion=0, cached=400_000), 2.0),
        (Price(input=2, output=8, cached=0.5), Usage(prompt=1_000_000, completion=0, cached=400_000), 1.4),
        (Price(input=2, output=8, cached=0.0), Usage(prompt=100, completion=0, cached=900), 0.0),
        (Price(input=0, output=0), Usage(prompt=10, completion=10), 0.0),
        (Price(input=2, output=8), Usage(prompt=10), None),
        (Price(input=2, output=8), Usage(completion=10), None),
        (Price(input=2, output=8), Usage(), None),
    ],
)
def test_a_call_costs_its_tokens_and_what_was_not_counted_costs_nobody_knows_what(price: Price, usage: Usage, cost: float | None) -> None:
    assert price.of(usage) == (None if cost is None else pytest.approx(cost))


# -- limits ------------------------------------------------------------------------------------------------------------

RECIPE = """\
models:
  generator: {base_url: "http://x/v1", model: qwen, price: {input: 1, output: 2}}
  judge: {base_url: "http://x/v1", model: llama}
  spare: {base_url: "http://x/v1", model: glm}
limits:
  minutes: 3
  money: 5
"""


@pytest.mark.parametrize("limit", ["money", "leaf_money"])
def test_a_limit_of_money_needs_a_price_of_every_model_that_plays_a_role(tmp_path: Path, limit: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ready(tmp_path, RECIPE.replace("money", limit))
    said = str(caught.value).replace(f"{tmp_path}/", "")
    assert said.startswith(f"recipe.yaml:7: limits.{limit} needs a price for every model that plays a role; models.judge has none")
    assert "spare" not in said


def test_a_model_that_plays_no_role_needs_no_price_nor_does_a_run_without_a_limit_of_money(tmp_path: Path) -> None:
    ready(tmp_path, RECIPE.replace("model: llama}", "model: llama, price: {input: 0, output: 0}}"))
    ready(tmp_path, RECIPE.replace("  money: 5\n", "  tokens: 5\n"))


def test_a_model_that_a_role_is_given_by_the_recipe_needs_a_price_too(tmp_path: Path) -> None:
    given = RECIPE.replace("model: llama}", "model: llama, price: {input: 1, output: 1}}") + "roles: {critic: {model: spare}}\n"
    with pytest.raises(RecipeError, match=r"models\.spare has none"):
        ready(tmp_path, given)


def test_an_embedded_model_may_have_limits_and_a_price_as_any_other(tmp_path: Path) -> None:
    embedded = "{embedded: smollm2-135m, family: other, rpm: 30, tpm: 9000, concurrency: 2, price: {input: 0, output: 0}}"
    assert ready(tmp_path, RECIPE.replace('{base_url: "http://x/v1", model: llama}', embedded)).recipe.models["judge"].rpm == 30


# -- of a run to come --------------------------------------------------------------------------------------------------


def test_where_a_price_is_missing_money_is_unknown_and_the_alias_is_named(tmp_path: Path) -> None:
    found = planned(tmp_path, models={"generator": PRICED, "judge": JUDGE})
    assert found.unpriced == ["judge"]
    assert {one.money for one in found.total.values()} == {None}
    known = {role.role: role.money for role in found.roles}
    assert (known["critic"], known["annotator-clarity"]) == (None, None)
    assert (known["writer"] or 0) > 0


def test_money_is_the_tokens_of_each_model_at_its_price(tmp_path: Path) -> None:
    found = planned(tmp_path, models={"generator": PRICED, "judge": {**PRICED_JUDGE, "price": {"input": 1.0, "output": 0.0}}})
    by_hand = sum((r.prompt * 2 + r.completion * 8 if r.models == ["generator"] else r.prompt * 1) / 1e6 for r in found.roles)
    assert found.total["expected"].money == pytest.approx(by_hand, rel=0.01)
    assert found.unpriced == []


def test_a_model_that_costs_nothing_costs_0_which_is_known(tmp_path: Path) -> None:
    free = {"price": {"input": 0.0, "output": 0.0}}
    found = planned(tmp_path, models={"generator": {**BARE, **free}, "judge": {**JUDGE, **free}})
    assert (found.total["expected"].money, found.unpriced) == (0.0, [])


def test_nothing_to_ask_costs_0_whatever_it_would_cost(tmp_path: Path) -> None:
    found = planned(tmp_path, models={"generator": BARE, "judge": JUDGE}, flow={"evolve_rounds": 0, "score_returns": 0})
    assert {role.role: role.money for role in found.roles}["evolver"] == 0.0


async def test_what_the_servers_cache_made_cheaper_is_foretold_as_cheap(tmp_path: Path) -> None:
    from test_estimate import Judged, remember

    await remember(tmp_path, a=[Judged()] * 10)  # of 100 tokens 40 came from the cache
    dear = planned(tmp_path, target=20, models={"generator": PRICED, "judge": PRICED_JUDGE})
    price = {"input": 2.0, "output": 8.0, "cached": 0.0}
    cheap = planned(tmp_path, target=20, models={"generator": {**PRICED, "price": price}, "judge": PRICED_JUDGE})
    cost = {name: next(r for r in found.roles if r.role == "writer") for name, found in (("dear", dear), ("cheap", cheap))}
    assert (cost["dear"].money, cost["cheap"].money) == (pytest.approx(10 * 280 / 1e6), pytest.approx(10 * 200 / 1e6))


# -- whether it fits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "kind"), [("tokens", "tokens"), ("money", "money"), ("leaf_tokens", "tokens"), ("leaf_money", "money")])
def test_a_limit_suffices_surely_or_as_expected_or_not(tmp_path: Path, limit: str, kind: str) -> None:
    models = {"generator": PRICED, "judge": PRICED_JUDGE}
    total = planned(tmp_path, models=models).total
    expected, most = getattr(total["expected"], kind), getattr(total["most"], kind)
    for allowed, verdict in ((most * 1.01, "surely"), ((expected + most) / 2, "as expected"), (expected / 2, "no")):
        wanted = {limit: int(allowed) if kind == "tokens" else allowed}
        (fit,) = planned(tmp_path, models=models, limits=wanted).limits
        assert (fit.limit, fit.fits, fit.used) == (limit, verdict, 0)


async def test_what_was_spent_before_counts_and_is_not_known_where_a_price_was_missing(tmp_path: Path, server: ScriptedServer) -> None:
    models = {"generator": {**PRICED, "base_url": server.base_url}, "judge": {**PRICED_JUDGE, "base_url": server.base_url}}
    wanted = recipe(tmp_path, server, target=2, models=models)
    await go(wanted, tmp_path)
    spent = sum(call["prompt_tokens"] + call["completion_tokens"] for call in told(tmp_path).calls)
    found = planned(tmp_path, target=4, models=models, limits={"tokens": spent + 10, "money": 1000.0})
    assert [(fit.limit, fit.used, fit.fits) for fit in found.limits] == [
        ("tokens", spent, "no"),
        ("money", pytest.approx(sum(call["cost"] for call in told(tmp_path).calls)), "surely"),
    ]


async def test_what_was_spent_on_leaves_that_are_not_asked_for_now_counts_too(tmp_path: Path) -> None:
    from test_estimate import Judged, remember

    taxonomy(tmp_path, "ab")
    await remember(tmp_path, a=[Judged()] * 3, b=[Judged()] * 2)
    found = planned(tmp_path, leaves=["t/b"], limits={"tokens": 10**9, "leaf_tokens": 10**9})
    assert [fit.used for fit in found.limits] == [5 * 110, 2 * 110]


async def test_money_spent_without_a_price_is_unknown_though_prices_are_given_later(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, target=1), tmp_path)
    found = planned(tmp_path, target=2, models={"generator": PRICED, "judge": PRICED_JUDGE}, limits={"money": 5.0})
    assert [(fit.used, fit.expected, fit.fits) for fit in found.limits] == [(None, None, "unknown")]


def test_of_a_limit_of_each_leaf_the_one_is_shown_that_needs_most_and_how_many_have_too_little(tmp_path: Path) -> None:
    taxonomy(tmp_path, "abc", {"b": {"evolve_rounds": 4}, "c": {"evolve_rounds": 3}})
    each = {leaf.leaf: leaf.expected.tokens for leaf in planned(tmp_path).leaves}
    (fit,) = planned(tmp_path, limits={"leaf_tokens": each["t/a"] + 1}).limits
    assert (fit.leaf, fit.leaves, fit.expected, fit.fits) == ("t/b", 2, each["t/b"], "no")


async def test_a_run_under_a_limit_of_money_stops_within_it(tmp_path: Path, server: ScriptedServer) -> None:
    models = {alias: {**PRICED, "base_url": server.base_url, "family": alias, "concurrency": 4} for alias in ("generator", "judge")}
    server.script = Cast()
    wanted = recipe(tmp_path, server, target=9, models=models, limits={"money": 0.02})
    before = estimate(prepare(wanted), RunFolder(tmp_path / "run"))
    run = await go(wanted, tmp_path)
    paid = sum(call["cost"] for call in told(tmp_path).calls)
    assert 0 < paid <= 0.02
    assert before.limits[0].fits == "no"
    assert run.jobs[0].outcome.state == "budget"
