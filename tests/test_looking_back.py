"""What a brief is planned by may depend on what became of others: of those that are settled long before it, and of no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.chat import Chat
from agents.role import BUILT_IN, Roles
from graphs.briefs import FIRST_EVOLVED, Briefs
from leafmill.ledger import Ending, Ledger
from leafmill.recipe import Flow
from leafmill.records import AGAIN, Brief, Evolution, Row, Seed
from taxonomy import Leaf

SEEDS = tuple(Seed(instruction=f"Saw board number {one}.", language="en") for one in range(9))


def briefs(ledger: Ledger, rounds: int, **mode: Any) -> Briefs:
    leaf = Leaf(path="t/a", title={"en": "A"}, description={"en": "B."}, weight=1, languages=("en",), seeds=SEEDS, settings={"mode": mode})
    roles = Roles.load(BUILT_IN).without(["planner", "syllabus-planner"])
    return Briefs(leaf, 7, ("en",), Chat(ledger, roles, {}, {}, 7), Flow(evolve_rounds=rounds))


async def settle(ledger: Ledger, cells: range) -> None:
    """Of each cell one candidate, by turns deepened and accepted, or concretised and refused; the refused cells are filled by another."""
    for cell in cells:
        good = cell % 2 == 0
        for attempt in range(1 + (not good)):
            brief = Brief(id=f"{cell}.{attempt}", leaf="t/a", number=cell + attempt * AGAIN, language="en")
            evolution = Evolution(operator="deepen" if good or attempt else "concretise").model_dump()
            row = Row(language="en", instruction=f"Row of cell {cell}, attempt {attempt}.", answer="Done.")
            lineage = {"made": [{"part": "instruction"}], "evolutions": [evolution], "other": 1}
            await ledger.begin(brief)
            await ledger.finish(brief, Ending("accepted" if good or attempt else "rejected", "x", "x.y"), row, lineage)


async def test_the_choice_of_operators_learns_from_the_older_half_of_many_cells(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        await settle(ledger, range(FIRST_EVOLVED))
        one = briefs(ledger, rounds=1)
        assert (one.looks_back(FIRST_EVOLVED - 1), one.looks_back(FIRST_EVOLVED)) == (0, FIRST_EVOLVED // 2)
        before, after = await one.next(FIRST_EVOLVED - 1), await one.next(FIRST_EVOLVED)
        assert len({round(share, 9) for share in before.operators.values()}) == 1, "all alike"
        assert after.operators["deepen"] > 2 * after.operators["concretise"] > 0
        await settle(ledger, range(FIRST_EVOLVED, 2 * FIRST_EVOLVED))
        assert (await briefs(ledger, rounds=1).next(FIRST_EVOLVED)).operators == after.operators, "later ones are not looked at"


async def test_examples_that_models_wrote_come_from_the_older_half_too(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        await settle(ledger, range(40))
        one = briefs(ledger, rounds=0, write="self_instruct")
        assert (one.looks_back(15), one.looks_back(16), one.looks_back(32)) == (0, 8, 16)
        assert not any(seed.made for seed in (await one.next(15)).seeds)
        brief = await one.next(16)
        made = [seed.instruction for seed in brief.seeds if seed.made]
        assert made
        assert all(int(text.split()[3].rstrip(",")) < 8 for text in made)
        again = one.again(brief, 1)
        assert any(seed.made for seed in again.seeds)
        assert (again.cell, [seed.instruction for seed in again.seeds]) != (16, [seed.instruction for seed in brief.seeds])


@pytest.mark.parametrize("number", [0, 16, 128, 1000])
async def test_a_leaf_that_learns_nothing_looks_back_at_nothing(tmp_path: Path, number: int) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert briefs(ledger, rounds=0).looks_back(number) == 0
