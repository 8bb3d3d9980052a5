"""The syllabus: what briefs are about, each concept once before any comes again, and then several together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from conftest import Case, Cast, Told, go, recipe, taxonomy, told
from hypothesis import given
from hypothesis import strategies as st

from agents.role import BUILT_IN, Roles
from agents.scripted import Fault, Request, ScriptedServer
from agents.syllabus import PAGES
from filters.twins import Twins
from graphs.syllabus import Syllabus
from taxonomy.syllabus import Session, alone, one_session, together, two_sessions

OFF = {"planner": {"off": True}, "comparer": {"off": True}}
FLAT = {"flow": {"evolve_rounds": 0, "revise_rounds": 0}}
COURSE = [Session("saws", ("rip saw", "back saw", "set of a tooth")), Session("joints", ("dovetail", "mortise"))]


# -- counting and choosing ---------------------------------------------------------------------------------------------


def test_T21_combinations_are_counted_as_in_GLAN() -> None:
    """T21: five concepts of one session, two sessions of five, one of five and one of three."""
    assert (one_session(5), two_sessions(5, 5), two_sessions(5, 3)) == (31, 575, 180)


def test_a_short_run_gets_something_of_every_session() -> None:
    assert list(alone(COURSE)) == ["rip saw", "dovetail", "back saw", "mortise", "set of a tooth"]


sessions = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(
    lambda sizes: [Session(f"s{i}", tuple(f"{i}.{n}" for n in range(size))) for i, size in enumerate(sizes)]
)


@given(sessions, st.booleans(), st.integers(0, 99))
def test_concepts_come_together_by_twos_or_threes_from_one_session_or_two(of: list[Session], composite: bool, seed: int) -> None:
    rng, before = Random(seed), list[tuple[str, ...]]()
    for turn in range(8):
        found = together(of, before, composite, rng)
        assert len(set(found)) == len(found) <= 2 + composite
        across = turn % 2 == 1 or all(len(session.concepts) == 1 for session in of)
        assert len({concept.split(".")[0] for concept in found}) == 1 + (across and len(of) > 1)
        assert len(found) > 1 or len(of) == len(of[0].concepts) == 1
        before.append(found)


def test_no_combination_comes_again_while_there_are_others_and_all_concepts_come_alike() -> None:
    rng, before, course = Random(1), list[tuple[str, ...]](), [Session(f"s{i}", tuple(f"{i}.{n}" for n in range(5))) for i in range(3)]
    for _ in range(30):
        before.append(together(course, before, False, rng))
    assert len({frozenset(found) for found in before}) == 30
    counts = Counter(concept for found in before for concept in found)
    assert max(counts.values()) - min(counts.values()) <= 2


# -- what says the same ------------------------------------------------------------------------------------------------


async def test_without_an_embedder_the_same_words_are_the_same() -> None:
    twins = Twins()
    assert await twins.fresh(["Dovetail", "dovetail.", "ＤＯＶＥＴＡＩＬ", "mortise"]) == ["Dovetail", "mortise"]
    assert await twins.fresh(["mortise", "榫卯", "榫卯。", "C#", "C++"]) == ["榫卯", "C#", "C++"]


async def test_with_an_embedder_the_same_meaning_is_the_same() -> None:
    class Angles:
        id, dimension = "angles", 2

        async def encode(self, texts: Any) -> np.ndarray:
            return np.array([[np.cos(float(text)), np.sin(float(text))] for text in texts], np.float32).reshape(-1, 2)

    twins = Twins(Angles(), floor=0.99)
    assert await twins.fresh(["0", "0.1", "1", "1.5"]) == ["0", "1", "1.5"]
    assert await twins.fresh(["1.45", "3"]) == ["3"]


# -- in a run ----------------------------------------------------------------------------------------------------------


def concepts(ledger: Told) -> list[tuple[str, ...]]:
    return [tuple(one["brief"]["concepts"]) for one in ledger.candidates]


def pages(ledger: Told) -> list[str]:
    return [call["step"] for call in ledger.calls if call["role"] == "syllabus-planner"]


async def test_every_concept_is_alone_in_one_brief_before_any_comes_again(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, target=4, roles=OFF, **FLAT), tmp_path)
    assert pages(told(tmp_path)) == ["syllabus.0.en"]
    await go(recipe(tmp_path, server, target=14, roles=OFF, **FLAT), tmp_path)
    found = concepts(told(tmp_path))
    assert [len(one) for one in found] == [1] * 14
    assert len(set(found)) == 14
    assert pages(told(tmp_path)) == ["syllabus.0.en", "syllabus.1.en"], "read back, and one page more when ten were not enough"
    shown = [call["messages"][-1]["content"] for call in told(tmp_path).calls if call["role"] == "writer"]
    assert all(
        f"<concepts>\n{one[0]}\n</concepts>" in prompt for prompt, one in zip(sorted(shown, key=card), by_card(told(tmp_path)), strict=True)
    )


def card(prompt: str) -> int:
    return int(prompt.split("card: card ")[1].split()[0])


def by_card(ledger: Told) -> list[list[str]]:
    ordered = sorted(ledger.candidates, key=lambda one: int(one["brief"]["axes"]["card"][1:]))
    return [one["brief"]["concepts"] for one in ordered]


async def test_when_the_planner_has_nothing_new_concepts_come_together(tmp_path: Path, server: ScriptedServer) -> None:
    course = {"sessions": [{"title": one.title, "concepts": list(one.concepts)} for one in COURSE]}
    server.script = Cast(syllabus_planner=course)
    await go(recipe(tmp_path, server, target=12, roles=OFF, **FLAT), tmp_path)
    found = concepts(told(tmp_path))
    assert [len(one) for one in found] == [1] * 5 + [2] * 7
    assert {one for (one,) in found[:5]} == {concept for session in COURSE for concept in session.concepts}
    assert len({frozenset(one) for one in found}) == 12
    assert len(pages(told(tmp_path))) == 2, "the second page brought nothing: no third is asked for"


async def test_a_planner_that_always_knows_more_is_asked_for_so_many_pages_and_no_more(tmp_path: Path, server: ScriptedServer) -> None:
    def plan(request: Request, case: Case) -> Any:
        page = len(server.requests)
        return {"sessions": [{"title": "s", "concepts": [f"stamp {page} {n}" for n in range(5)]}]}

    taxonomy(tmp_path, "a")
    server.script = Cast(syllabus_planner=plan)
    await go(recipe(tmp_path, server, target=5 * PAGES + 4, roles=OFF, in_flight=30, **FLAT), tmp_path)
    assert len(pages(told(tmp_path))) == PAGES


async def test_a_composite_task_is_about_two_or_three_concepts(tmp_path: Path, server: ScriptedServer) -> None:
    taxonomy(tmp_path, "a", {"a": {"mode": {"composite": True}}})
    await go(recipe(tmp_path, server, target=8, roles=OFF, **FLAT), tmp_path)
    found = concepts(told(tmp_path))
    assert Counter(map(len, found)).keys() == {2, 3}
    assert len({frozenset(one) for one in found}) == 8


async def test_equal_runs_are_about_equal_concepts_also_after_a_stop(tmp_path: Path, server: ScriptedServer) -> None:
    seen = []
    for targets in ([12], [2, 7, 12]):
        folder = tmp_path / str(len(targets))
        folder.mkdir()
        taxonomy(folder, "a", {"a": {"mode": {"composite": True}}})
        for target in targets:
            await go(recipe(folder, server, target=target, roles=OFF, **FLAT), folder)
        seen.append(concepts(told(folder)))
    assert seen[0] == seen[1]


async def test_what_was_asked_for_ahead_does_not_change_what_briefs_are_about() -> None:
    async def ask(page: int, known: Any) -> list[Session]:
        return [Session("s", tuple(f"{page}.{one}" for one in range(5)))]

    seen = []
    for ahead in (0, 20):
        syllabus, found = Syllabus(ask, Twins(), "key"), []
        await syllabus.ahead(ahead)
        for number in range(12):
            found.append(await syllabus.concepts(composite=number % 2 == 1))
            syllabus.told(found[-1])
        seen.append(found)
    assert seen[0] == seen[1]
    assert [one for (one,) in seen[0][::2]] == [f"0.{one}" for one in range(5)] + ["1.0"]


async def test_a_syllabus_that_cannot_be_had_costs_concepts_and_nothing_else(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("bad_json", role="syllabus-planner")]
    run = await go(recipe(tmp_path, server, target=2, roles=OFF, **FLAT), tmp_path)
    assert run.exit_code == 0
    assert concepts(told(tmp_path)) == [(), ()]


async def test_it_can_be_switched_off(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, target=2, roles={**OFF, "syllabus-planner": {"off": True}}, **FLAT), tmp_path)
    assert concepts(told(tmp_path)) == [(), ()]
    assert server.count("syllabus-planner") == 0


async def test_pages_are_asked_for_while_there_are_briefs_left_and_none_in_vain(tmp_path: Path, server: ScriptedServer) -> None:
    server.latency = 0.01
    await go(recipe(tmp_path, server, target=20, in_flight=2, roles={"comparer": {"off": True}}, **FLAT), tmp_path)
    began = [one.request.role for one in server.requests]
    pages, writers = ([at for at, role in enumerate(began) if role == wanted] for wanted in ("planner", "writer"))
    assert (len(pages), began.count("syllabus-planner")) == (3, 2), "of 8 scenarios, and of 10 concepts"
    assert pages[2] < writers[7], "the last page is there before the first is used up"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_variant_of_the_writer_shows_concepts_and_scenario(language: Any) -> None:
    variants = [role for role in Roles.load(BUILT_IN).files if role.name == "writer" and language in role.head.language]
    assert len(variants) >= 2
    told_ = {"language": language, "trail": "t", "description": "d", "axes": {}, "seeds": [], "persona": "", "scenario": "A flood."}
    for role in variants:
        shown = role.render({**told_, "concepts": ("rip saw", "榫卯")})[-1]["content"]
        assert "<concepts>\nrip saw\n</concepts>" in shown
        assert "<concepts>\n榫卯\n</concepts>" in shown
        assert "A flood." in shown
        assert "concepts" not in role.render({**told_, "concepts": ()})[-1]["content"]
