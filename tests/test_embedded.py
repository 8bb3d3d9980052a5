"""A whole run on a real embedded model, with real embeddings, Chroma, MinHash and the real IFD scorer: no key, no GPU, no hub."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conftest import go, recipe, told

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
