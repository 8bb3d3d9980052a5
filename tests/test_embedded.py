"""A whole run on a real embedded model, with real embeddings, Chroma, MinHash and the real IFD scorer: no key, no GPU, no hub."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, told

from agents.scripted import Request, ScriptedServer

ENDS = {"accepted", "rejected", "errored", "waiting"}


@pytest.mark.slow
async def test_a_small_model_plays_every_role_and_every_candidate_has_an_end(tmp_path: Path) -> None:
    """135 million parameters write weakly, so few rows may be accepted or none: what counts is that each end has its reason."""
    pytest.importorskip("xllamacpp")
    settings = {
        "taxonomies": ["programming"],
        "leaves": ["programming/debugging/locate-error"],
        "target": 1,
        "in_flight": 2,
        "models": {alias: {"embedded": "smollm2-135m", "concurrency": 2, "attempts": 1} for alias in ("generator", "judge")},
        "same_family_judge": True,
        "roles": {"answerer": {"max_tokens": 160}, "writer": {"max_tokens": 200}, "evolver": {"max_tokens": 200}},
        "flow": {"evolve_rounds": 1, "revise_rounds": 1},
        "limits": {"candidates_per_leaf": 4, "minutes": 10, "error_share": 1.0},
        # a model of this size repeats itself: the panel is heard, but not obeyed, so that some rows get as far as the scorer
        "gates": {"agreement": {"min_median": 1, "max_spread": 4}, "critic": {"min_score": 1}},
        "scorer": {"model": "smollm2-135m", "max_len": 512, "min_tokens": 3},
    }
    run = await go(recipe(tmp_path, "http://unused", **settings), tmp_path)
    ledger = told(tmp_path)
    assert run.exit_code in (0, 3), run.failure
    assert ledger.candidates
    assert {one["state"] for one in ledger.candidates} <= ENDS
    assert all(one["stage"] and one["code"] for one in ledger.candidates if one["state"] != "accepted")
    assert all(call["prompt_tokens"] and call["completion_tokens"] for call in ledger.calls if call["status"] == "ok")
    assert {call["role"] for call in ledger.calls} >= {"planner", "writer"}
    scored = [one for one in ledger.verdicts if one["gate"] == "ifd" and one["decision"] in ("accept", "reject")]
    reached = {one["id"]: (one["state"], one["stage"], one["code"], one["detail"]) for one in ledger.candidates}
    for one in scored:
        assert all(math.isfinite(one["evidence"][loss]) and one["evidence"][loss] > 0 for loss in ("s_cond", "s_uncond")), one
    assert scored or all(stage not in ("score", "admit") or code == "quota_met" for _, stage, code, _ in reached.values()), reached
    assert run.jobs[0].outcome.state in ("met", "starved", "budget")


REPEATED = "Look up the number in the ledger, walk to the shelf, and put the sheet behind the last one that stands there."
EXPLAINED = (
    "First look up the number {case} in the ledger. Then walk to shelf {shelf} and put the sheet behind the last one that stands there. "
    "The most common mistake is to put it in front, so that the order of the numbers is lost."
)
OFF_TOPIC = (
    "The sun is a star at the center of the solar system. It is a nearly perfect sphere of hot plasma, heated to incandescence by nuclear "
    "fusion reactions in its core."
)


def write(request: Request, case: Case) -> Any:
    """Candidate 0 asks for what it says itself."""
    asks = f'Write the following sentence about invoice a-0 once more, exactly as it stands: "{REPEATED}"'
    return {"instruction": asks, "input": ""} if case.number == 0 else None


def criticise(request: Request, case: Case) -> Any:
    """The critic sees no fault until it is told of one."""
    return {"reason": "It talks about the sun: explain the filing.", "score": 1} if "A measurement found" in request.prompt else None


def answer(request: Request, case: Case) -> Any:
    """What is asked for; of candidate 1, only once it is told its fault."""
    if "once more, exactly as it stands" in request.prompt:
        return REPEATED
    explained = EXPLAINED.format(case=f"a-{case.number}", shelf=case.number * 13 + 5)
    return explained if case.number == 0 or "talks about the sun" in request.prompt else OFF_TOPIC


@pytest.mark.slow
async def test_a_real_scorer_sends_what_is_too_easy_to_the_evolver_and_what_is_misaligned_to_the_critic(
    tmp_path: Path, server: ScriptedServer
) -> None:
    """The models are scripted, the scores are not: an answer that stands in its instruction, and one about something else."""
    server.script = Cast(writer=write, critic=criticise, answerer=answer)
    settings: dict[str, Any] = {
        "target": 2,
        "limits": {"candidates_per_leaf": 2, "error_share": 1.0},
        "flow": {"evolve_rounds": 0, "score_returns": 1},
        "gates": {"semantic": False, "ifd": {"low": {"en": 0.3}}},
        "scorer": {"model": "smollm2-135m", "device": "cpu", "max_len": 512},
    }
    await go(recipe(tmp_path, server, **settings), tmp_path)
    ledger = told(tmp_path)
    ids = [ledger.of(number)["id"] for number in range(2)]
    codes = [[one["code"] for one in ledger.verdicts if one["gate"] == "ifd" and one["candidate"] == id_] for id_ in ids]
    assert codes == [["ifd.too_easy", "ok"], ["ifd.misaligned", "ok"]]
    asked = [[call["role"] for call in ledger.calls if call["candidate"] == id_] for id_ in ids]
    others = [[role for role in roles if not role.startswith("annotator")] for roles in asked]
    assert others[0] == ["writer", "answerer", "critic", "evolver", "answerer", "critic"]
    assert others[1] == ["writer", "answerer", "critic", "critic", "answerer", "critic"]
    assert ledger.accepted == [("t/a", 0), ("t/a", 1)]
    for one in (one for one in ledger.verdicts if one["gate"] == "ifd"):
        assert one["value"] == pytest.approx(one["evidence"]["s_cond"] / one["evidence"]["s_uncond"])
        assert (one["evidence"]["stratum"], one["evidence"]["band"]) == ("en", [0.3, 1.0])
