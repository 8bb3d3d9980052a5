"""The panel: several prompts by several models, what their votes come to, and what the report says of each seat."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe, told
from rich.console import Console

from agents.scripted import ScriptedServer
from filters.agreement import Agreement
from filters.gate import Subject
from filters.reliability import spearman
from graphs.estimate import estimate
from graphs.players import seats_of
from graphs.prepare import prepare
from leafmill import panel, report, screens
from leafmill.errors import RecipeError
from leafmill.export import rows
from leafmill.ledger import Ending, Ledger, Step
from leafmill.records import Brief, Language, Row, Vote
from leafmill.runfolder import RunFolder

ONE: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1}, "flow": {"evolve_rounds": 0}}
PANEL = ["annotator-clarity", "annotator-correctness", "annotator-helpfulness"]


def models(server: ScriptedServer | str, **kin: str) -> dict[str, Any]:
    """`generator` is a qwen; other aliases by their families."""
    base_url = server if isinstance(server, str) else server.base_url
    return {alias: {"base_url": base_url, "model": f"scripted-{name}"} for alias, name in {"generator": "qwen", **kin}.items()}


# -- seats -------------------------------------------------------------------------------------------------------------


async def test_every_annotator_is_asked_with_every_model_and_each_vote_is_stored_whole(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(annotator=lambda r, c: {"rationale": f"says {r.model}", "score": 4 if "mistral" in r.model else 5})
    settings = {"models": models(server, judge="llama", other="mistral"), "panel": {"models": ["judge", "other"]}}
    await go(recipe(tmp_path, server, **ONE, **settings), tmp_path)
    votes = {(one["role"], one["alias"]): (one["score"], one["rationale"]) for one in told(tmp_path).votes}
    expected = {"judge": (5, "says scripted-llama"), "other": (4, "says scripted-mistral")}
    assert votes == {(role, alias): said for role in PANEL for alias, said in expected.items()}
    assert told(tmp_path).of(0)["state"] == "accepted"
    steps = {call["step"] for call in told(tmp_path).calls if call["role"] == PANEL[0]}
    assert steps == {"annotator-clarity.0.1", "annotator-clarity@other.0.1"}
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        (line,) = rows(ledger, "messages")
    assert line["lineage"]["votes"] == {f"{role}@{alias}": said[0] for role in PANEL for alias, said in expected.items()}
    assert line["lineage"]["panel"]["deviation"] == 0.5


async def test_one_role_may_have_models_of_its_own_and_adding_a_model_keeps_the_calls_that_are_there(
    tmp_path: Path, server: ScriptedServer
) -> None:
    settings = {**ONE, "models": models(server, judge="llama", other="mistral")}
    await go(recipe(tmp_path, server, **settings), tmp_path)
    (tmp_path / "run" / "ledger.db").chmod(0o644)
    asked = server.count()
    with __import__("sqlite3").connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("update candidates set state = 'open'")
    wanted = recipe(tmp_path, server, **settings, panel={"roles": {PANEL[1]: {"models": ["judge", "other"]}}})
    await go(wanted, tmp_path)
    assert server.count() == asked + 1
    assert [seat.name for seat in seats_of(wanted, prepare(wanted).roles)] == [PANEL[0], PANEL[1], f"{PANEL[1]}@other", PANEL[2]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"panel": {"models": ["judge", "nobody"]}}, "unknown model alias 'nobody'.*under `panel`"),
        (
            {"panel": {"roles": {"annotator-clarit": {"models": ["judge"]}}}},
            "unknown annotator 'annotator-clarit': did you mean 'annotator-clarity'",
        ),
        ({"panel": {"models": ["judge", "judge"]}}, "'judge' is named twice"),
        (
            {"panel": {"models": ["judge", "sibling"]}},
            "role 'annotator-clarity' is judged by 'sibling', of the family 'qwen' that also answers",
        ),
        ({"roles": {"arbiter": {"model": "sibling"}}}, "role 'arbiter' is judged by 'sibling', of the family 'qwen'"),
    ],
)
def test_what_is_wrong_with_a_panel_is_said_before_a_token_is_spent(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    nobody = "http://127.0.0.1:9/v1"
    with pytest.raises(RecipeError, match=said):
        prepare(recipe(tmp_path, nobody, models=models(nobody, judge="llama", sibling="qwen"), **settings))


def test_plan_cost_counts_every_seat_and_the_arbiter_at_most_once_a_look(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9/v1"
    settings = {
        "models": models(nobody, judge="llama", other="mistral"),
        "flow": {"revise_rounds": 1},
        "limits": {"candidates_per_leaf": 3},
    }
    alone, both = (
        estimate(prepare(recipe(tmp_path, nobody, **settings, panel=seats)), RunFolder(tmp_path / "run"))
        for seats in ({}, {"models": ["judge", "other"]})
    )
    for case, looks in (("least", 3), ("most", 3 * 2 * 2)):  # each call repaired once
        assert both.total[case].calls - alone.total[case].calls == looks * len(PANEL)
    assert next(role for role in both.roles if role.role == PANEL[0]).models == ["judge", "other"]
    roles = {name: {"off": True} for name in (*recipe(tmp_path, nobody).roles, "arbiter")}
    without = estimate(prepare(recipe(tmp_path, nobody, **settings, roles=roles)), RunFolder(tmp_path / "run"))
    assert [alone.total[case].calls - without.total[case].calls for case in ("least", "most")] == [0, 3 * 2 * 2]


# -- what votes come to ------------------------------------------------------------------------------------------------


def cast(**scores: Sequence[int]) -> Subject:
    """Votes by dimension, one of each model."""
    votes = [Vote(role=role, alias=f"m{n}", score=score) for role, given in scores.items() for n, score in enumerate(given)]
    return Subject("s", Row(language="en", instruction="Write a poem", answer="The sea"), votes=tuple(votes))


@pytest.mark.parametrize(
    ("scores", "code", "value"),
    [
        ({"clarity": (5, 5, 5), "correctness": (5, 5, 4), "helpfulness": (5, 5, 4)}, "ok", 5),
        ({"clarity": (5, 5, 5), "correctness": (5, 5, 1), "helpfulness": (5, 5, 5)}, "agreement.disagree", 4),  # within one dimension
        ({"clarity": (1, 1, 2), "correctness": (5, 5, 5), "helpfulness": (5, 5, 5)}, "agreement.disagree", 4),  # between dimensions
        ({"clarity": (1, 5, 5, 5, 5, 5, 5)}, "ok", 5),  # one of seven stands apart
        ({"clarity": (1, 1, 5, 5, 5, 5, 5)}, "agreement.disagree", 4),
        ({"clarity": (3, 3), "correctness": (1, 1), "helpfulness": (3, 3)}, "agreement.low_dimension", 1),
        ({"clarity": (2, 2), "correctness": (2, 2), "helpfulness": (3, 3)}, "agreement.low", 2),
    ],
)
async def test_a_panel_of_several_models_is_judged_as_a_whole_and_by_dimension(scores: Any, code: str, value: float) -> None:
    verdict = await Agreement()(cast(**scores))
    assert (verdict.code, verdict.value) == (code, value)
    if code == "agreement.low_dimension":
        assert verdict.evidence["dimension"] == "correctness"


async def test_the_evidence_names_seats_and_how_far_apart_they_are() -> None:
    verdict = await Agreement()(cast(clarity=(4, 5), correctness=(4,)))
    assert verdict.evidence == {"votes": {"clarity@m0": 4, "clarity@m1": 5, "correctness": 4}, "deviation": 0.471}


# -- what the report says ----------------------------------------------------------------------------------------------


async def remember(
    folder: Path, looks: Sequence[dict[tuple[str, str], int | None]], language: Language = "en", tokens: Sequence[int] = ()
) -> Ledger:
    """A ledger of candidates, each with one look of a panel: votes by (role, alias)."""
    ledger = Ledger(folder / "ledger.db")
    for number, votes in enumerate(looks):
        brief = Brief(id=f"c{number:03}", leaf=f"t/{'ab'[number % 2]}", number=number, language=language)
        await ledger.begin(brief)
        for (role, alias), score in votes.items():
            length = tokens[number] if tokens else 100
            vote = Vote(role=role, alias=alias, score=score, failed="" if score else "timeout", answer_tokens=length)
            ledger.note_vote(Step(brief.id, brief.leaf, 5, "annotate"), vote)
        ledger.note_vote(Step(brief.id, brief.leaf, 6, "arbitrate"), Vote(role="arbiter", alias="m1", score=1))
        await ledger.finish(brief, Ending("accepted"))
    return ledger


def noisy(n: int, seed: int = 1, apart: float = 0, confused: bool = False, moves: bool = False) -> list[dict[tuple[str, str], int | None]]:
    """Three models in one dimension, two of which see the truth with a little noise; the third as told."""
    rng, looks = random.Random(seed), []
    for number in range(n):
        truth = rng.randint(2, 4)
        near = [truth + rng.choice((0, 0, 0, 1)) for _ in range(2)]
        off = apart + (2 if moves and number >= n // 2 else 0)
        third = rng.randint(1, 5) if confused else max(1, min(5, round(truth - off)))
        looks.append({("annotator-correctness", alias): score for alias, score in zip(("m1", "m2", "m3"), (*near, third), strict=True)})
    return looks


@pytest.mark.parametrize(
    ("looks", "how"),
    [
        (noisy(60), []),
        (noisy(60, apart=1), ["off"]),
        (noisy(60, confused=True), ["confuses"]),
        (noisy(60, moves=True), ["moved"]),
        (noisy(19, apart=1), []),  # too few to say so
    ],
    ids=["steady", "low", "confused", "moved", "few"],
)
async def test_a_seat_that_drifts_from_the_others_is_named_and_the_others_are_not(tmp_path: Path, looks: Any, how: list[str]) -> None:
    with await remember(tmp_path, looks) as ledger:
        found = panel.read(ledger)
    assert set(how) <= set(found.seats["annotator-correctness@m3"].drifts)
    assert [name for name in found.drifting if not name.endswith("m3")] == []
    assert bool(found.drifting) == bool(how)


async def test_a_seat_is_told_beside_the_others(tmp_path: Path) -> None:
    seats = [("annotator-correctness", alias) for alias in ("m1", "m2", "m3")]
    with await remember(
        tmp_path, [dict(zip(seats, scores, strict=True)) for scores in ((5, 5, 3), (4, 5, None), (2, 2, 2), (4, 4, 3))]
    ) as ledger:
        third = panel.read(ledger).seats["annotator-correctness@m3"]
    assert (third.votes, third.failed, third.outliers) == (3, 1, pytest.approx(1 / 3))
    assert third.apart == pytest.approx((-2 + 0 - 1) / 3)
    assert third.mean == pytest.approx(8 / 3)


async def test_alpha_has_an_interval_by_leaf_and_by_dimension_and_the_arbiter_is_none_of_the_panel(tmp_path: Path) -> None:
    looks = [{**look, ("annotator-clarity", "m1"): 3} for look in noisy(40)]
    with await remember(tmp_path, looks) as ledger:
        found = panel.read(ledger).panel
    assert [*found] == ["t/a", "t/b", "all"]
    for one in found.values():
        ((name, dimension),) = one.dimensions.items()
        assert name == "annotator-correctness", "one model alone is no dimension to agree in"
        for part in (one, dimension):
            assert part.interval is not None
            assert part.alpha is not None
            assert part.interval[0] < part.alpha < part.interval[1]
        assert (dimension.alpha or 0) > (one.alpha or 0)


@pytest.mark.parametrize(("slope", "alarm"), [(1, True), (0, False), (-1, True)])
async def test_scores_that_go_with_length_raise_an_alarm_in_the_report_and_in_the_log(
    tmp_path: Path, slope: int, alarm: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(4)
    lengths = [rng.randint(50, 400) for _ in range(80)]
    scores = [max(1, min(5, 3 + slope * round((length - 225) / 90) + rng.choice((-1, 0, 1)))) for length in lengths]
    looks = [{("annotator-clarity", "m1"): score, ("annotator-correctness", "m1"): rng.randint(1, 5)} for score in scores]
    with await remember(tmp_path, looks, "zh", lengths) as ledger:
        read = report.read(ledger)
    found = {one.seat: one for one in read.judging.lengths}
    clarity = found["annotator-clarity"]
    assert (clarity.alarm, found["annotator-correctness"].alarm, clarity.language, clarity.votes) == (alarm, False, "zh", 80)
    assert [part.votes for part in clarity.bins] == [20] * 4
    assert clarity.bins[0].longest <= clarity.bins[1].shortest
    with caplog.at_level(logging.WARNING, "leafmill.run"):
        panel.tell(read.judging)
    assert any("scores go with length seat=annotator-clarity language=zh" in line for line in caplog.messages) == alarm
    out = StringIO()
    screens.report(read, Console(file=out, width=120))
    assert bool(re.search(r"ALARM: annotator-clarity \(zh\) scores (long|short) answers higher", out.getvalue())) == alarm


async def test_few_votes_raise_no_alarm(tmp_path: Path) -> None:
    looks = [{("annotator-clarity", "m1"): 1 + n // 6} for n in range(29)]
    with await remember(tmp_path, looks, tokens=range(29)) as ledger:
        (one,) = panel.read(ledger).lengths
    assert (one.correlation or 0) > 0.9
    assert not one.alarm


async def test_the_length_of_the_answer_is_kept_with_each_vote_of_a_run(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, **ONE), tmp_path)
    assert {10 < vote["answer_tokens"] < 60 for vote in told(tmp_path).votes} == {True}


@pytest.mark.parametrize("width", [80, 130])
async def test_the_screen_names_who_drifts_and_how(tmp_path: Path, width: int) -> None:
    with await remember(tmp_path, noisy(60, apart=1)) as ledger:
        found = report.read(ledger)
    out = StringIO()
    screens.report(found, Console(file=out, width=width))
    said = " ".join(out.getvalue().split())
    assert "annotator-correctness@m3 drifts: it scores 1." in said
    assert "below the others" in said


def test_rank_correlation_shares_ranks_among_equals() -> None:
    assert spearman([(1, 2), (2, 4), (3, 8)]) == pytest.approx(1)
    assert spearman([(1, 3), (2, 2), (2, 2), (3, 1)]) == pytest.approx(-1)
    assert spearman([(1, 5), (2, 6), (3, 7), (4, 8), (5, 7)]) == pytest.approx(0.8207826817)  # a tie, by hand: ranks 1 2 3.5 5 3.5
    assert spearman([(1, 2)]) is None
    assert spearman([(1, 2), (1, 3)]) is None
