"""A revised answer takes the place of the one before it only if the judges think more of it, and no word of the critic gets into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe, told
from test_candidate import ONE, scored

from agents.scripted import Request, ScriptedServer
from filters.gate import Subject
from filters.leak import Leak
from graphs.steps.revise import means
from leafmill.records import Language, Row, Vote

FLOW = {"evolve_rounds": 0}
BETTER = "The better answer names the shelf and says to put the sheet behind the last one."
CHARGE = "It never says which shelf the clerk must walk to with it."
FIRST, SECOND, LATER = 0, 1, 2


def look(request: Request) -> int:
    """Which answer a judge looks at: the usual one, or the `nth better` one."""
    return LATER if "second better" in request.task else SECOND if "better answer" in request.task else FIRST


def cast(panel: list[int], critic: list[int], answers: list[str] | None = None, **others: Any) -> Cast:
    """Scores by the answer that is looked at; what is answered each time the answerer is told of a fault."""
    replies = iter(answers or [BETTER, BETTER.replace("better", "second better")])
    return Cast(
        annotator=lambda r, c: {"rationale": "as seen", "score": panel[look(r)]},
        critic=lambda r, c: {"reason": CHARGE, "where": others.get("where", ""), "score": critic[look(r)]},
        answerer=lambda r, c: next(replies) if "<feedback>" in r.prompt else None,
    )


async def end_of(folder: Path, server: ScriptedServer, rounds: int = 1, during: Any = None, **flow: Any) -> dict[str, Any]:
    await go(recipe(folder, server, **ONE, flow={**FLOW, "revise_rounds": rounds, **flow}), folder, during)
    return told(folder).of(0)


# -- it must raise the score -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("panel", "critic", "stays"),
    [
        ([3, 4], [2, 5], True),
        ([4, 4], [2, 5], True),  # a tie is broken by the critic's score
        ([4, 4], [2, 2], False),
        ([4, 3], [2, 5], False),
    ],
)
async def test_a_revised_answer_stays_only_if_the_panel_or_at_a_tie_the_critic_scores_it_higher(
    tmp_path: Path, server: ScriptedServer, panel: list[int], critic: list[int], stays: bool
) -> None:
    server.script = cast(panel, critic)
    end = await end_of(tmp_path, server)
    assert (end["state"], end["code"]) == (("accepted", "") if stays else ("rejected", "critic.low"))
    assert (end["row"]["answer"] == BETTER) == stays
    (tried,) = end["lineage"]["revisions"]
    assert (tried["panel"], tried["critic"], tried["stays"]) == ([float(one) for one in panel], critic, stays)
    (verdict,) = (one for one in told(tmp_path).verdicts if one["gate"] == "revision")
    assert (verdict["code"], verdict["value"], verdict["threshold"]) == ("ok" if stays else "revision.no_better", panel[1], panel[0])


async def test_a_parent_that_is_given_back_has_its_votes_its_critique_and_its_lineage_and_is_tried_once_more(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = cast([4, 3, 5], [2, 5, 5])
    end = await end_of(tmp_path, server, rounds=2)
    assert (end["state"], end["row"]["answer"]) == ("accepted", BETTER.replace("better", "second better"))
    assert [one["stays"] for one in end["lineage"]["revisions"]] == [False, True]
    assert [one["panel"] for one in end["lineage"]["revisions"]] == [[4.0, 3.0], [4.0, 5.0]]
    second = [record.request.prompt for record in server.requests if record.role == "answerer"][2]
    assert CHARGE in second
    assert BETTER not in second, "it is the parent that is revised again"
    assert len([one for one in end["lineage"]["made"] if one["part"] == "answer"]) == 1


async def test_the_row_that_stays_ends_as_its_own_verdict_had_it(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = cast([2, 1], [4, 4])
    end = await end_of(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "agree", "agreement.low")
    assert end["row"]["answer"].startswith("Look up the number")
    assert set(end["lineage"]["panel"]["votes"].values()) == {2}
    assert end["lineage"]["critic"] == {"score": 4}


async def test_a_revised_answer_that_the_gates_refuse_gives_way_too(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = cast([4, 5], [2, 5], ["I cannot help with that request."])
    end = await end_of(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "agree", "critic.low")
    assert end["row"]["answer"].startswith("Look up the number")
    assert end["lineage"]["revisions"][0]["refused"] == "refusal.inability"


@pytest.mark.parametrize(("panel", "state", "code"), [([4, 4], "accepted", ""), ([4, 3], "rejected", "ifd.misaligned")])
async def test_an_answer_written_anew_because_it_was_misaligned_may_not_please_the_panel_less(
    tmp_path: Path, server: ScriptedServer, panel: list[int], state: str, code: str
) -> None:
    server.script = cast(panel, [5, 4])
    end = await end_of(tmp_path, server, 1, scored(1.2, 0.7)[1])
    assert (end["state"], end["code"]) == (state, code)
    assert (end["row"]["answer"] == BETTER) == (state == "accepted")


def test_only_seats_that_were_heard_both_times_are_compared() -> None:
    before = [Vote(role="a", score=5), Vote(role="b", score=1), Vote(role="c", failed="timeout"), Vote(role="arbiter", score=1)]
    after = [Vote(role="a", score=4), Vote(role="b", failed="timeout"), Vote(role="c", score=5)]
    assert means(before, after) == (5.0, 4.0)
    assert means([], after) == (None, None)


# -- what the critic says ----------------------------------------------------------------------------------------------


async def test_the_answerer_is_told_what_is_wrong_and_where(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = cast([4, 5], [2, 5], where="walk to its  SHELF")
    end = await end_of(tmp_path, server)
    feedback = [record.request.prompt for record in server.requests if record.role == "answerer"][1]
    assert CHARGE in feedback
    assert 'It is here: "walk to its  SHELF"' in feedback
    assert end["state"] == "accepted"


async def test_a_place_that_is_not_in_the_answer_is_dropped_and_recorded(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = cast([4, 4], [2, 2], where="sail across the sea")
    end = await end_of(tmp_path, server)
    assert all("sail across" not in str(record.request.messages) for record in server.requests)
    assert end["lineage"]["critic"] == {"score": 2, "misquoted": True}


@pytest.mark.parametrize("rounds", [1, 2])
async def test_an_answer_that_repeats_the_critic_word_for_word_never_becomes_the_row(
    tmp_path: Path, server: ScriptedServer, rounds: int
) -> None:
    server.script = cast([4, 5, 5], [2, 5, 5], [f"{BETTER} {CHARGE}", BETTER])
    end = await end_of(tmp_path, server, rounds)
    assert end["lineage"]["revisions"][0]["refused"] == "leak.critic"
    assert CHARGE not in str(end["row"]) + str(end["lineage"])
    assert (end["state"], end["row"]["answer"] == BETTER) == (("rejected", False) if rounds == 1 else ("accepted", True))


@pytest.mark.parametrize(
    ("language", "told_", "answer", "code"),
    [
        ("en", "The sum counts the rent of March twice.", "Well: the sum counts the rent of March TWICE", "leak.critic"),
        ("zh", "总价里把三月的房租算了两次。应只算一次。", "好的，总价里把三月的房租算了两次，现改正。", "leak.critic"),
        ("en", "Name the shelf.", "Name the shelf.", "ok"),  # too short to be anybody's words
        (
            "en",
            "Explain how a volcano erupts in three short steps.",
            "You asked to explain how a volcano erupts in three short steps.",
            "ok",
        ),
        ("en", "", "The sum counts the rent of March twice.", "ok"),
    ],
)
async def test_a_sentence_of_the_critic_is_found_in_an_answer_unless_the_question_has_it(
    language: Language, told_: str, answer: str, code: str
) -> None:
    row = Row(language=language, instruction="Explain how a volcano erupts in three short steps, please", answer=answer)
    assert (await Leak()(Subject("s", row, told=told_))).code == code


async def test_without_a_fault_nothing_is_compared(tmp_path: Path, server: ScriptedServer) -> None:
    end = await end_of(tmp_path, server)
    assert "revisions" not in end["lineage"]
    assert end["lineage"]["panel"]["deviation"] == 0
    assert all(one["gate"] != "revision" for one in told(tmp_path).verdicts)
