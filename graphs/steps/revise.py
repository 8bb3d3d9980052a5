"""Revision: an answer is written anew, and takes the place of the one before it only if the judges think more of it.

The answerer is told what is wrong and where. Its new answer passes the gates of `check` and is judged like any other. Where that is no
better, the earlier answer is the row again, with its votes and what was said of it: it is tried once more while rounds are left, and then
ends as its own verdict had it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from filters.agreement import ARBITER
from graphs.state import Context, Earlier, State, Update
from leafmill.ledger import Ending, Step
from leafmill.records import Verdict, Vote

GATE = "revision"
"""what the comparison is called where verdicts are"""


def send_back(state: State, ending: Ending, feedback: str = "", told: str = "", must_rise: bool = True) -> Update:
    """To the answerer, and what to come back to should the new answer be no better."""
    votes, critique, made = tuple(state["votes"]), state.get("critique"), tuple(state["lineage"])
    earlier = Earlier(state["row"], votes, critique, state["cut_off"], made, ending, feedback, told, must_rise)
    return {"earlier": earlier, "feedback": feedback, "goto": "answer"}


def compare(state: State, context: Context, step: Step) -> Update:
    """Hold the new answer's votes against those of the earlier. It stays if their mean has risen (or, where it is not the panel that found
    fault, has not fallen); where it is as before, the critic's score decides. Only seats that were heard both times count."""
    earlier = state["earlier"]
    assert earlier is not None, "only a revised answer has an earlier one"
    before, after = means(earlier.votes, state["votes"])
    critic = [one.score if one else 0 for one in (earlier.critique, state.get("critique"))]
    higher = before is not None and after is not None and (after, critic[1]) > (before, critic[0])
    stays = higher or (not earlier.must_rise and before is not None and after is not None and after >= before)
    told = {"value": after, "threshold": before, "evidence": {"critic": critic[1], "critic_before": critic[0]}, "version": f"{GATE}@1"}
    given = ("accept", "ok") if stays else ("reject", f"{GATE}.no_better")
    context.ledger.note_verdict(step, Verdict(gate=GATE, decision=given[0], code=given[1], **told))
    tried = {"step": step.name, "panel": [before, after], "critic": critic, "stays": stays}
    if not stays:
        return give_back(state, context, tried)
    return {"earlier": None, "revisions": [*state["revisions"], tried]}


def give_back(state: State, context: Context, tried: dict[str, Any]) -> Update:
    """The earlier answer is the row again; `tried` is what the lineage says of the one that was no better."""
    earlier = state["earlier"]
    assert earlier is not None, "only a revised answer has an earlier one"
    back: Update = {
        "row": earlier.row,
        "votes": [*earlier.votes],
        "critique": earlier.critique,
        "cut_off": earlier.cut_off,
        "lineage": [*earlier.made],
        "revisions": [*state["revisions"], tried],
    }
    if earlier.must_rise and state["revised"] < context.flow.revise_rounds:
        return {**back, "revised": state["revised"] + 1, "goto": "answer"}
    if not earlier.must_rise and state["returned"] < context.flow.score_returns:
        return {**back, "returned": state["returned"] + 1, "goto": "answer"}
    return {**back, "earlier": None, "ending": earlier.ending}


def means(before: Sequence[Vote], after: Sequence[Vote]) -> tuple[float | None, float | None]:
    """The panel's mean before and after, over the seats that were heard both times; None where there are none."""
    heard = [{(v.role, v.alias): v.value for v in votes if v.value is not None and v.role != ARBITER} for votes in (before, after)]
    both = sorted(heard[0].keys() & heard[1].keys())
    first, second = (round(mean(one[seat] for seat in both), 6) if both else None for one in heard)
    return first, second
