"""What a run covers, read from its ledger: values, pairs and concepts, as planned and in accepted rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import Cast, go, recipe, taxonomy
from rich.console import Console
from terminal import leafmill

from agents.scripted import ScriptedServer
from leafmill import coverage, report, screens
from leafmill.coverage import Covered
from leafmill.ledger import Ending, Ledger
from leafmill.records import AGAIN, Brief
from taxonomy.covering import FACTORS


def brief(number: int, tone: str, turns: str, *concepts: str, language: Any = "en") -> Brief:
    axes = {"tone": tone, "turns": turns}
    return Brief(id=str(number), leaf="t/a", number=number, language=language, axes=axes, concepts=concepts)


async def remember(folder: Path) -> None:
    """Four candidates: two rows, one refused, and one that takes its cell again and is under way."""
    (folder / "run").mkdir()
    with Ledger(folder / "run" / "ledger.db") as ledger:
        factors = {"language": ["en", "zh"], "tone": ["calm", "loud"], "turns": ["one", "two", "ten"]}
        await ledger.set_meta(FACTORS, {"t/a": factors, "t/b": {"language": ["en"]}})
        for one, state in [
            (brief(0, "calm", "one", "rip saw"), "accepted"),
            (brief(1, "loud", "two", "dovetail", "mortise"), "rejected"),
            (brief(2, "calm", "two", "back saw", language="zh"), "accepted"),
            (brief(1 + AGAIN, "loud", "two", "dovetail", "mortise"), "open"),
        ]:
            await ledger.begin(one)
            if state != "open":
                await ledger.finish(one, Ending(state, "admit", "x"))  # type: ignore[arg-type]


async def test_what_is_planned_and_what_is_in_rows_are_counted_apart(tmp_path: Path) -> None:
    await remember(tmp_path)
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        (leaf,) = coverage.read(ledger).leaves
    assert (leaf.leaf, leaf.candidates, leaf.accepted, leaf.refills) == ("t/a", 4, 2, 1)
    assert leaf.values == Covered(possible=7, planned=6, accepted=5)
    assert leaf.pairs == Covered(possible=2 * 2 + 2 * 3 + 2 * 3, planned=9, accepted=6)
    assert leaf.concepts == Covered(possible=4, planned=4, accepted=2)
    assert leaf.missing == {"tone": ["loud"], "turns": ["ten"]}
    assert [(hole.values, hole.tried) for hole in leaf.holes] == [
        ({"language": "en", "tone": "loud"}, 2),
        ({"language": "en", "turns": "two"}, 2),
        ({"tone": "loud", "turns": "two"}, 2),
    ]
    assert leaf.untaught == ["dovetail", "mortise"]


async def test_a_ledger_that_does_not_say_what_there_is_to_cover_shows_what_was_planned(tmp_path: Path) -> None:
    await remember(tmp_path)
    with Ledger(tmp_path / "run" / "ledger.db") as ledger:
        await ledger.set_meta(FACTORS, {})
        (leaf,) = coverage.read(ledger).leaves
    assert leaf.values == Covered(possible=6, planned=6, accepted=5)


async def test_people_see_what_is_missing_and_programs_get_all_of_it(tmp_path: Path) -> None:
    await remember(tmp_path)
    shown = leafmill(tmp_path, "report", "run", "--coverage").out
    assert "t/a" in shown
    assert "5/6/7" in shown
    assert "6/9/16" in shown
    assert "turns: ten" in shown
    assert "tone=loud x turns=two" in shown
    assert "concepts: dovetail, mortise" in shown
    told = json.loads(leafmill(tmp_path, "report", "run", "--coverage", "--json").out)
    assert told["total"]["pairs"] == {"possible": 16, "planned": 9, "accepted": 6}
    assert "accepted rows cover 5 of 7 values, 6 of 16 pairs, 2 of 4 concepts" in leafmill(tmp_path, "report", "run").out


def test_a_run_without_candidates_says_so() -> None:
    console = Console(record=True, width=80)
    screens.coverage(coverage.Coverage(), console)
    assert "nothing to cover" in console.export_text()


async def test_a_run_notes_what_there_is_to_cover_and_holes_are_filled_first(tmp_path: Path, server: ScriptedServer) -> None:
    """Every cell fails once: with refills all pairs of the first cells are in rows, without them other cells make up the number."""
    seen = set[str]()

    def once(request: Any, case: Any) -> Any:
        first = f"{case}" not in seen
        seen.add(f"{case}")
        return {"reason": "bad", "score": 1} if first else None

    server.script = Cast(critic=once)
    found = {}
    for refills in (0, 2):
        folder, _ = tmp_path / str(refills), seen.clear()
        folder.mkdir()
        taxonomy(folder, "a")
        flow = {"evolve_rounds": 0, "revise_rounds": 0}
        run = await go(
            recipe(folder, server, target=5, refills=refills, in_flight=1, flow=flow, limits={"candidates_per_leaf": 10}), folder
        )
        with Ledger(folder / "run" / "ledger.db", read_only=True) as ledger:
            (found[refills],) = coverage.read(ledger).leaves
            assert report.read(ledger).covered["pairs"].possible == 24
        assert run.exit_code == (0 if refills else 3)
    assert (found[2].pairs.possible, found[2].pairs.accepted, found[2].refills) == (24, 5, 5)
    assert not found[2].holes
    assert found[0].refills == 0
