"""What a run will take, said before it: the bounds hold, assumptions give way to what a ledger has seen, and nobody is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import pytest
from conftest import Cast, go, recipe, taxonomy, told
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from terminal import LEAVES, RECIPE, leafmill, write_recipe

from agents.role import BUILT_IN
from agents.scripted import ScriptedServer
from agents.stages import STAGES
from agents.syllabus import PAGES
from graphs.estimate import ACCEPTED, Estimate, estimate
from graphs.history import ENOUGH, FEW
from graphs.prepare import Prepared, prepare
from graphs.rehearsal import BRIEFS, Rehearsal, text_of
from leafmill import screens
from leafmill.errors import OtherRecipeError
from leafmill.ledger import Call, Ending, Ledger, Step
from leafmill.recipe import Recipe
from leafmill.records import Brief, Usage
from leafmill.runfolder import RunFolder
from leafmill.tokens import count_prompt, count_tokens

NOBODY = "http://127.0.0.1:9/v1"
PRICE = {"input": 1.0, "output": 4.0}


def planned(folder: Path, acceptance: float | None = None, **overrides: Any) -> Estimate:
    return estimate(prepare(recipe(folder, NOBODY, **overrides)), RunFolder(folder / "run"), acceptance)


@cache
def _plain() -> Prepared:
    """A recipe of one leaf that stands in no file."""
    models = {alias: {"base_url": NOBODY, "model": alias, "price": PRICE} for alias in ("generator", "judge")}
    return prepare(Recipe.model_validate({"models": models, "taxonomies": ["general"], "leaves": ["general/writing/*"]}))


def of_role(found: Estimate, name: str) -> Any:
    return next(role for role in found.roles if role.role == name)


class Judged(NamedTuple):
    state: Any = "accepted"
    code: str = ""
    calls: int = 1


async def remember(folder: Path, **leaves: Sequence[Judged]) -> None:
    """A ledger of candidates whose writer took 100 tokens to read and 10 to write, 40 of the 100 from the server's cache."""
    (folder / "run").mkdir()
    with Ledger(folder / "run" / "ledger.db") as ledger:
        for letter, ends in leaves.items():
            for number, end in enumerate(ends):
                brief = Brief(id=f"{letter}{number}", leaf=f"t/{letter}", number=number, language="en")
                await ledger.begin(brief)
                for n in range(end.calls):
                    step = Step(brief.id, brief.leaf, n, f"write.{n}")
                    usage = Usage(prompt=100, completion=10, cached=40)
                    await ledger.record_call(Call(f"{brief.id}{n}", step, "writer", "en", "", "generator", "q", [], {}, usage=usage))
                if end.state != "open":
                    await ledger.finish(brief, Ending(end.state, "x", end.code))


# -- counting tokens ---------------------------------------------------------------------------------------------------


def test_four_latin_letters_or_ten_sevenths_of_a_chinese_character_make_a_token() -> None:
    assert [count_tokens(text) for text in ("", "a", "a" * 400, "字" * 1000, "д" * 400)] == [0, 1, 100, 700, 190]


@given(st.text(st.characters(), max_size=60), st.text(st.characters(), max_size=60))
def test_the_tokens_of_a_text_are_those_of_its_parts_but_for_rounding(one: str, other: str) -> None:
    assert count_tokens(one) + count_tokens(other) - count_tokens(one + other) in (0, 1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_placeholder_has_about_the_tokens_that_it_shall_have(language: Any) -> None:
    assert all(abs(count_tokens(text_of(tokens, language)) - tokens) <= 2 for tokens in (0, 1, 25, 60, 300, 1024))


# -- the prompts are the real ones -------------------------------------------------------------------------------------


async def test_the_prompts_of_the_writer_are_those_that_a_run_sends(tmp_path: Path, server: ScriptedServer) -> None:
    (tmp_path / "mine").mkdir()  # one writer, so that no variant is drawn
    (tmp_path / "mine" / "writer.persona.en.md").write_text((BUILT_IN / "writer.en.md").read_text())
    wanted = recipe(tmp_path, server, target=BRIEFS, prompts="mine")
    await go(wanted, tmp_path)
    sent = [count_prompt(call["messages"]) for call in told(tmp_path).calls if call["role"] == "writer"]
    prepared = prepare(wanted)
    assert sorted(ask.prompt for ask in Rehearsal(prepared).calls(prepared.leaves[0], "writer")) == sorted(sent)


@pytest.mark.parametrize("role", ["planner", "writer", "evolver", "answerer", "annotator-clarity", "critic"])
def test_a_prompt_can_be_rehearsed_that_shows_all_that_its_stage_offers(tmp_path: Path, role: str) -> None:
    head = (BUILT_IN / f"{role}.en.md").read_text().split("---\n")[1]
    stage = head.split("stage: ")[1].split("\n")[0]
    shown = "".join(f"{{{{ {name} }}}}\n" for name in sorted(STAGES[stage].offers)) * 8
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"{role}.all.md").write_text(f"---\n{head}weight: 1000000\n---\n{shown}")
    prepared = prepare(recipe(tmp_path, NOBODY, prompts="mine", roles={}))
    for longest in (False, True):
        asks = Rehearsal(prepared, longest=longest).calls(prepared.leaves[0], role)
        assert (len(asks), len({ask.prompt for ask in asks}) == 1) == (BRIEFS, role == "planner")  # a planner is told of no brief


def test_a_prompt_in_chinese_is_rehearsed_with_chinese_texts(tmp_path: Path) -> None:
    found = {language: planned(tmp_path, languages=[language]) for language in ("en", "zh")}
    asked = {language: of_role(one, "annotator-clarity").prompt for language, one in found.items()}
    assert asked["zh"] != asked["en"]
    assert 0.7 < asked["zh"] / asked["en"] < 1.4  # both show an answer of the same assumed tokens


def test_the_schema_is_part_of_the_prompt_where_the_server_is_told_it_in_words(tmp_path: Path) -> None:
    models = recipe(tmp_path, NOBODY).model_dump(mode="json", exclude_none=True)["models"]
    said = {**models, "judge": {**models["judge"], "structured": "json_object"}}
    plain, told_ = planned(tmp_path), planned(tmp_path, models=said)
    assert of_role(told_, "critic").prompt > of_role(plain, "critic").prompt
    assert of_role(told_, "writer").prompt == of_role(plain, "writer").prompt


# -- the bounds hold ---------------------------------------------------------------------------------------------------


def careless(request: Any, case: Any) -> Any:
    """Every other candidate is found wanting, and its second answer too."""
    return {"reason": "It misses the point.", "score": 1 if case.number % 2 else 5}


@pytest.mark.parametrize(
    ("flow", "lines"),
    [
        ({}, {}),
        ({"evolve_rounds": 2, "revise_rounds": 0}, {"critic": careless}),
        ({"evolve_rounds": 0, "revise_rounds": 2}, {"critic": careless}),
        ({}, {"critic": careless, "evolver": lambda request, case: None if case.number % 3 else "no JSON"}),
    ],
)
async def test_what_a_run_takes_lies_between_least_and_most(
    tmp_path: Path, server: ScriptedServer, flow: dict[str, int], lines: dict[str, Any]
) -> None:
    server.script = Cast(**lines)
    wanted = recipe(tmp_path, server, target=6, flow=flow, in_flight=2)
    before = estimate(prepare(wanted), RunFolder(tmp_path / "run")).total
    run = await go(wanted, tmp_path)
    assert run.exit_code == 0
    calls = told(tmp_path).calls
    assert before["least"].calls <= len(calls) <= before["most"].calls
    assert sum(count_prompt(call["messages"]) for call in calls) <= before["most"].prompt
    if not lines:  # all are accepted
        assert len(calls) == before["least"].calls


def wordy(request: Any, case: Any) -> Any:
    """Unreadable at first, then as long as the contract allows."""
    if "could not be used" not in request.prompt:
        return "" if request.role == "answerer" else "no JSON " * 200
    filler, kind = f"invoice {case.leaf}-{case.number} " + "some more words of it " * 300, (request.role or "").split("-")[0]
    usual: dict[str, Any] = {
        "writer": {"instruction": filler[:590], "input": filler[:1190]},
        "evolver": {"instruction": filler[:598], "input": filler[:1198]},
        "annotator": {"rationale": filler[:190], "score": 5},
        "critic": {"reason": filler[:290], "score": 5},
    }
    return usual.get(kind, filler[:2700])


async def test_a_run_in_which_all_goes_as_badly_as_it_may_takes_no_more_than_the_most(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(**dict.fromkeys(("writer", "evolver", "answerer", "annotator", "critic"), wordy))
    off = dict.fromkeys(("semantic", "ifd", "length", "minhash", "evolution", "language", "exact", "form", "repetition"), False)
    roles = {name: {"off": True} for name in ("planner", "syllabus-planner", "comparer", "arbiter")}
    wanted = recipe(tmp_path, server, target=3, limits={"candidates_per_leaf": 3}, flow={"revise_rounds": 0}, gates=off, roles=roles)
    total = estimate(prepare(wanted), RunFolder(tmp_path / "run")).total
    run = await go(wanted, tmp_path)
    assert run.exit_code == 0
    calls = told(tmp_path).calls
    assert len(calls) == total["most"].calls
    assert total["least"].completion < sum(count_tokens(call["reply"]) for call in calls) < total["most"].completion
    prepared = prepare(wanted)
    for name in prepared.roles.names:
        sent = [count_prompt(call["messages"]) for call in calls if call["role"] == name]
        assert mean(sent) < mean(ask.prompt for ask in Rehearsal(prepared, longest=True).calls(prepared.leaves[0], name)), name


async def test_no_single_prompt_is_longer_than_the_bound_says(tmp_path: Path, server: ScriptedServer) -> None:
    long = "word " * 2000
    server.script = Cast(answerer=lambda request, case: f"{case.leaf}-{case.number} {long}"[:2800], critic=careless)
    wanted = recipe(tmp_path, server, target=4, gates={"semantic": False, "ifd": False, "length": False, "minhash": False})
    prepared = prepare(wanted)
    await go(wanted, tmp_path)
    for name in prepared.roles.names:
        most = max(ask.prompt for ask in Rehearsal(prepared, longest=True).calls(prepared.leaves[0], name))
        assert all(count_prompt(call["messages"]) <= most for call in told(tmp_path).calls if call["role"] == name), name


async def test_the_longest_reply_is_the_max_tokens_that_a_run_asks_for(tmp_path: Path, server: ScriptedServer) -> None:
    (tmp_path / "mine").mkdir()
    head = "name: polisher\nafter: answer\nwrites: answer"
    (tmp_path / "mine" / "polisher.md").write_text(f"---\n{head}\n---\nPolish: {{{{ answer }}}} {{{{ instruction }}}}\n")
    off = {name: {"off": True} for name in ("planner", "syllabus-planner", "comparer", "arbiter")}
    wanted = recipe(tmp_path, server, target=1, prompts="mine", roles={**off, "critic": {"max_tokens": 99}})
    server.script = Cast(polisher="Look it up on its shelf, then close the drawer again.")
    await go(wanted, tmp_path)
    prepared = prepare(wanted)
    calls = told(tmp_path).calls
    assert {call["role"] for call in calls} == set(prepared.roles.names)
    for call in calls:
        asks = Rehearsal(prepared, longest=True).calls(prepared.leaves[0], call["role"])
        assert {ask.completion for ask in asks} == {call["params"]["max_tokens"]}, call["role"]


def test_a_leaf_is_carried_by_its_own_settings(tmp_path: Path) -> None:
    taxonomy(tmp_path, "abc", {"b": {"evolve_rounds": 0}, "c": {"gates": {"agreement": False, "critic": False}}})
    most = {leaf.leaf: leaf.most.calls for leaf in planned(tmp_path, target=1).leaves}
    # ten candidates, each call made twice: writer, evolver and, where that evolves, one answer that is eliminated with its child;
    # then two rounds of answerer, panel, arbiter and critic
    assert most == {"t/a": 20 * (3 + 2 * 6), "t/b": 20 * (1 + 2 * 6), "t/c": 20 * (3 + 5)}


def test_at_most_each_return_is_an_evolution_an_answer_its_panel_and_two_critiques(tmp_path: Path) -> None:
    """A row that is too easy goes to the evolver; a misaligned one to the critic, before it is answered and judged anew."""
    one = {"target": 1, "limits": {"candidates_per_leaf": 1}, "gates": {"semantic": False}}
    calls = {returns: planned(tmp_path, **one, flow={"score_returns": returns}).total["most"].calls for returns in (0, 2)}
    assert calls[2] - calls[0] == 2 * 2 * (1 + 1 + 3 + 1 + 2)  # two returns, and each call made twice


@pytest.mark.parametrize(("share", "calls"), [(0.0, (4, 4, 8)), (0.25, (0, 3, 8)), (1.0, (0, 0, 8))])
def test_the_comparer_is_asked_of_each_rewrite_and_of_no_other_evolution(tmp_path: Path, share: float, calls: tuple[int, int, int]) -> None:
    one = {"target": 2, "limits": {"candidates_per_leaf": 2}, "flow": {"evolve_rounds": 2, "breadth_share": share, "score_returns": 0}}
    off = {name: {"off": True} for name in ("planner", "syllabus-planner")}
    with_, without = (
        planned(tmp_path, 1.0, **one, roles={**off, **more}).total for more in ({}, {"comparer": {"off": True}})
    )  # fmt: skip
    assert tuple(with_[case].calls - without[case].calls for case in with_) == calls


@settings(max_examples=30, deadline=None)
@given(target=st.integers(1, 40), allowed=st.integers(1, 60), acceptance=st.floats(0.01, 1), rounds=st.integers(0, 3))
def test_least_is_never_more_than_expected_nor_that_more_than_most(target: int, allowed: int, acceptance: float, rounds: int) -> None:
    base = _plain()
    flow = base.recipe.flow.model_copy(update={"evolve_rounds": rounds, "revise_rounds": rounds})
    limits = base.recipe.limits.model_copy(update={"candidates_per_leaf": allowed})
    changed = base.recipe.model_copy(update={"target": target, "flow": flow, "limits": limits})
    total = estimate(type(base)(changed, base.leaves, base.roles), RunFolder(Path("nowhere")), acceptance).total
    for kind in ("candidates", "calls", "prompt", "completion", "tokens", "money"):
        assert getattr(total["least"], kind) <= getattr(total["expected"], kind) <= getattr(total["most"], kind), kind


# -- what a ledger has seen --------------------------------------------------------------------------------------------


def test_without_a_ledger_the_acceptance_is_assumed_and_said_to_be(tmp_path: Path) -> None:
    (leaf,) = (found := planned(tmp_path, target=7)).leaves
    assert (leaf.acceptance, leaf.basis, leaf.missing, leaf.expected.candidates) == (ACCEPTED, "assumed", 7, 14)
    assert "acceptance assumed to be 0.5" in found.sources
    assert {role.measured for role in found.roles} == {0}
    assert not (tmp_path / "run").exists()


async def test_what_is_accepted_is_not_asked_for_again_and_the_rest_at_the_ledgers_own_rate(tmp_path: Path) -> None:
    await remember(tmp_path, a=[Judged("accepted"), Judged("rejected"), Judged("waiting"), Judged("accepted"), Judged("errored")])
    (leaf,) = planned(tmp_path, target=4).leaves
    assert (leaf.missing, leaf.acceptance, leaf.basis, leaf.expected.candidates) == (2, 0.4, "run", 5)
    assert (leaf.least.candidates, leaf.most.candidates) == (2, 4 * 10 - 4)  # an errored one may be tried again
    assert leaf.used_tokens == 5 * 110


async def test_candidates_that_are_open_or_came_too_late_say_nothing_about_acceptance(tmp_path: Path) -> None:
    late = Judged("rejected", "quota_met", calls=9)
    await remember(tmp_path, a=[Judged()] * 4 + [Judged("rejected")] * 4 + [late] * 9 + [Judged("open", calls=9)] * 9)
    found = planned(tmp_path, target=10)
    assert found.leaves[0].acceptance == 0.5
    assert of_role(found, "writer").calls == found.leaves[0].expected.candidates == 12


async def test_a_leaf_with_enough_candidates_goes_by_its_own_and_the_others_by_all(tmp_path: Path) -> None:
    taxonomy(tmp_path, "abc")
    await remember(tmp_path, a=[Judged()] * ENOUGH, b=[Judged("rejected")] * (ENOUGH - 1))
    found = planned(tmp_path, target=100)
    rates = {leaf.leaf: (round(leaf.acceptance, 3), leaf.basis) for leaf in found.leaves}
    both = round(ENOUGH / (2 * ENOUGH - 1), 3)
    assert rates == {"t/a": (1.0, "leaf"), "t/b": (both, "run"), "t/c": (both, "run")}
    assert f"acceptance from the ledger: {ENOUGH} of {2 * ENOUGH - 1} candidates; 1 of 3 leaves by their own" in found.sources


async def test_too_few_candidates_are_no_rate_but_their_calls_have_lengths(tmp_path: Path) -> None:
    await remember(tmp_path, a=[Judged(calls=3)] * (FEW - 1))
    found = planned(tmp_path, target=10)
    assert (found.leaves[0].acceptance, found.leaves[0].basis) == (ACCEPTED, "assumed")
    assert of_role(found, "writer").prompt / of_role(found, "writer").calls == pytest.approx(100, rel=0.1)
    assert "acceptance assumed to be 0.5 (the ledger has judged only 4 candidates)" in found.sources


async def test_the_command_lines_acceptance_is_stronger_than_the_ledgers(tmp_path: Path) -> None:
    await remember(tmp_path, a=[Judged("rejected")] * 30)
    (leaf,) = planned(tmp_path, 0.25, target=5).leaves
    assert (leaf.acceptance, leaf.basis, leaf.expected.candidates) == (0.25, "given", 20)


async def test_calls_and_lengths_are_the_ledgers_means_and_what_is_not_in_it_is_assumed(tmp_path: Path) -> None:
    await remember(tmp_path, a=[Judged(calls=3)] * 10)
    found = planned(tmp_path, target=20)
    writer, critic = of_role(found, "writer"), of_role(found, "critic")
    assert (writer.calls, writer.prompt, writer.completion, writer.measured) == (30, 3000, 300, 30)
    assert (critic.measured, critic.completion > 0) == (0, True)


@pytest.mark.parametrize("rounds", [0, 1, 3])
async def test_calls_follow_a_flow_that_has_changed_since(tmp_path: Path, server: ScriptedServer, rounds: int) -> None:
    await go(recipe(tmp_path, server, target=8, flow={"evolve_rounds": 1}), tmp_path)
    found = planned(tmp_path, target=16, flow={"evolve_rounds": rounds})
    assert of_role(found, "evolver").calls == 8 * rounds
    assert of_role(found, "writer").calls == 8


async def test_what_a_ledger_foretells_is_about_what_comes(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(critic=careless)
    await go(recipe(tmp_path, server, target=6, in_flight=2), tmp_path)
    before = told(tmp_path).calls
    wanted = recipe(tmp_path, server, target=11, in_flight=2)
    expected = estimate(prepare(wanted), RunFolder(tmp_path / "run")).total["expected"]
    await go(wanted, tmp_path)
    new = told(tmp_path).calls[len(before) :]
    assert expected.calls == pytest.approx(len(new), rel=0.25)
    assert expected.tokens == pytest.approx(sum(call["prompt_tokens"] + call["completion_tokens"] for call in new), rel=0.25)


async def test_a_run_that_has_all_its_rows_takes_nothing(tmp_path: Path) -> None:
    await remember(tmp_path, a=[Judged()] * 9)
    found = planned(tmp_path, target=9)
    assert {(one.candidates, one.calls, one.tokens, one.money) for one in found.total.values()} == {(0, 0, 0, 0.0)}
    assert shown(found, 80) == "test has all its rows: nothing will be asked\n"


async def test_a_leaf_that_never_had_a_row_or_too_few_candidates_left_will_starve(tmp_path: Path) -> None:
    taxonomy(tmp_path, "ab")
    await remember(tmp_path, a=[Judged("rejected")] * ENOUGH, b=[Judged()] * ENOUGH + [Judged("rejected")] * ENOUGH)
    found = planned(tmp_path, target=30, limits={"candidates_per_leaf": 45})
    assert [(leaf.needed, leaf.allowed, leaf.expected.candidates, leaf.starves) for leaf in found.leaves] == [
        (None, 25, 25, True),
        (20, 5, 5, True),
    ]
    said = shown(found, 80)
    assert "t/a will starve: nothing has ever been accepted, limits.candidates_per_leaf leaves 25" in said
    assert "t/b will starve: 10 rows take about 20 candidates, limits.candidates_per_leaf leaves 5" in said


async def test_the_ledger_of_another_recipe_is_refused_as_a_run_would(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, target=1), tmp_path)
    with pytest.raises(OtherRecipeError, match=r"seed: 7 there, 8 now"):
        planned(tmp_path, seed=8)


# -- the planner's pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("languages", "target", "pages"), [(["en"], 4, 1), (["en"], 5, 2), (["en", "zh"], 8, 2), (["en", "zh"], 9, 4)])
def test_a_page_of_scenarios_is_asked_for_each_eight_briefs_of_a_language(
    tmp_path: Path, languages: list[str], target: int, pages: int
) -> None:
    found = planned(tmp_path, languages=languages, target=target, roles={})
    assert of_role(found, "planner").calls == pages


async def test_pages_that_are_there_are_not_asked_for_again(tmp_path: Path) -> None:
    await remember(tmp_path, a=[Judged("rejected")] * 5 + [Judged()] * 5)
    assert of_role(planned(tmp_path, target=8, roles={}), "planner").calls == 0  # ten are drawn, six more fit the second page


async def test_a_syllabus_takes_a_page_of_each_language_at_least_and_a_bounded_number_at_most(tmp_path: Path) -> None:
    roles = {"planner": {"off": True}, "comparer": {"off": True}}

    def calls(on: bool, **settings: Any) -> list[int]:
        off = {} if on else {"syllabus-planner": {"off": True}}
        found = planned(tmp_path, roles={**roles, **off}, **settings).total
        return [found[case].calls for case in ("least", "expected", "most")]

    def pages(**settings: Any) -> list[int]:
        return [with_ - without for with_, without in zip(calls(True, **settings), calls(False, **settings), strict=True)]

    assert pages(target=4) == [1, 1, 2 * PAGES]
    assert pages(target=10, languages=["en", "zh"]) == [2, 2, 4 * PAGES]
    assert pages(target=20)[1] == 4, "40 briefs, 12 concepts a page"
    assert pages(target=5000)[1] in (PAGES, PAGES + 1), "no more than are ever asked for"
    await remember(tmp_path, a=[Judged("rejected")] * 5 + [Judged()] * 5)
    assert pages(target=6)[:2] == [0, 0], "the page that is there will do"


# -- what a person sees ------------------------------------------------------------------------------------------------


def shown(found: Estimate, width: int) -> str:
    console = Console(width=width, file=StringIO())
    screens.estimate(found, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal_in_chinese_too(tmp_path: Path, width: int) -> None:
    text = "name: 电商\ntaxonomies: [ecommerce]\ntarget: 1000\nmodels:\n  generator: {model: q, base_url: 'http://x/v1'}\n"
    (tmp_path / "recipe.yaml").write_text(
        text + "  judge: {model: j, base_url: 'http://x/v1', price: {input: 5, output: 9}}\n", encoding="utf-8"
    )
    found = estimate(prepare(Recipe.read(tmp_path / "recipe.yaml", {})), RunFolder(tmp_path / "run"))
    tables, _, remarks = shown(found, width).partition("\nmodels.generator has no price")
    assert max(len(line.rstrip()) for line in tables.splitlines()) <= width
    assert remarks
    assert "…" not in tables
    assert ("completion" in tables) == (width > 110)


def test_numbers_have_three_digits_and_a_unit_and_what_is_unknown_is_never_0() -> None:
    shown_ = [screens._short(number) for number in (0, 7, 999, 999.6, 1000, 12345, 999_600, 4_560_000, 7_890_000_000, None)]
    assert shown_ == ["0", "7", "999", "1k", "1k", "12.3k", "1M", "4.56M", "7.89G", "unknown"]
    assert [screens._money(one) for one in (None, 0.0, 0.0004, 0.012345, 3.14159, 12345.678)] == [
        "unknown", "0.00", "<0.001", "0.012", "3.14", "12,345.68"
    ]  # fmt: skip


def test_plan_cost_and_run_estimate_say_the_same_need_no_key_and_leave_no_trace(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    plain, other = leafmill(tmp_path, "plan-cost"), leafmill(tmp_path, "run", "--estimate")
    assert (plain.code, plain.out, plain.err) == (other.code, other.out, other.err) == (0, plain.out, "")
    assert LEAVES[0] in plain.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]
    found = json.loads(leafmill(tmp_path, "plan-cost", "--json", "--target", 3, "--leaf", LEAVES[1], "--acceptance", 1).out)
    assert [(leaf["leaf"], leaf["missing"], leaf["expected"]["candidates"]) for leaf in found["leaves"]] == [(LEAVES[1], 3, 3)]
    assert (found["total"]["expected"]["money"], found["unpriced"]) == (None, ["judge", "generator"])


def test_a_dry_run_is_estimated_from_its_own_ledger_and_the_real_one_is_not(tmp_path: Path) -> None:
    write_recipe(tmp_path, RECIPE.replace("target: 2", "target: 4"))
    assert leafmill(tmp_path, "run", "--scripted", "--log-level", "error").code == 0
    dry = json.loads(leafmill(tmp_path, "run", "--scripted", "--estimate", "--json", "--target", 9).out)
    real = json.loads(leafmill(tmp_path, "run", "--estimate", "--json", "--target", 9).out)
    assert [leaf["missing"] for leaf in dry["leaves"]] == [5, 5]
    assert [leaf["missing"] for leaf in real["leaves"]] == [9, 9]
    assert dry["roles"][0]["measured"] > 0
