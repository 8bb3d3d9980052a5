"""The state machine of one candidate, run whole: the real graph, gates, ledger and HTTP, with a cast that says what the test wants."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import Case, Cast, go, recipe, taxonomy, told

from agents.role import NODES
from agents.scripted import Fault, Reply, Request, ScriptedServer
from filters.gate import Stage, Subject, verdict
from filters.scoring.ifd import Ifd
from filters.scoring.scorer import IfdScore
from graphs import candidate
from leafmill.records import Verdict

ONE = {"target": 1, "limits": {"candidates_per_leaf": 1, "error_share": 1}}
"""one candidate, whatever becomes of it"""
PLAIN = {**ONE, "flow": {"evolve_rounds": 0, "revise_rounds": 0}}
IN_DEPTH = {"evolve_rounds": 1, "breadth_share": 0}
"""every evolution is a rewrite"""
PANEL = ["annotator-clarity", "annotator-correctness", "annotator-helpfulness"]
SCREEN = ["evolution", "length", "language", "form", "leak", "repetition", "exact", "minhash", "safety"]


def with_gate(stage: Stage, gate: Any) -> Callable[[Any], None]:
    """Put a gate in front of those of a stage, in every leaf of an open run."""

    def change(run: Any) -> None:
        for job in run.jobs:
            gates = {**job.context.gates, stage: [gate, *job.context.gates.get(stage, [])]}
            job.context, job.graph = replace(job.context, gates=gates), candidate.build()

    return change


async def end_of(folder: Path, server: ScriptedServer, during: Any = None, **overrides: Any) -> dict[str, Any]:
    """Run one candidate; what the ledger says of it."""
    await go(recipe(folder, server, **overrides), folder, during)
    return told(folder).of(0)


async def test_a_good_candidate_visits_every_stage_in_order(tmp_path: Path, server: ScriptedServer) -> None:
    end = await end_of(tmp_path, server, **ONE)
    screen = [f"screen:{gate}" for gate in SCREEN]
    early = [step for step in screen if not step.endswith(("exact", "minhash"))]  # duplicates are looked for once the instruction is final
    check = [f"check:{gate}" for gate in ("evolution", "length", "language", "form", "leak", "refusal", "repetition", "safety")]
    panel = [*PANEL, "critic", "agree:agreement", "agree:critic"]
    steps = ["writer", *early, "evolver", *screen, "answerer", *check, *panel, "admit:exact", "admit:minhash"]
    assert told(tmp_path).steps(0) == steps
    assert (end["state"], end["stage"], end["code"]) == ("accepted", "admit", "")
    assert {one["decision"] for one in told(tmp_path).verdicts} == {"accept"}
    assert [(vote["role"], vote["score"]) for vote in told(tmp_path).votes] == [(name, 5) for name in PANEL]


async def test_the_lineage_names_prompt_and_model_of_each_part(tmp_path: Path, server: ScriptedServer) -> None:
    end = await end_of(tmp_path, server, **ONE)
    made = end["lineage"]["made"]
    assert [(one["part"], one["role"], one["model"]) for one in made] == [
        ("instruction", "writer", "scripted-qwen"),
        ("instruction", "evolver", "scripted-qwen"),
        ("answer", "answerer", "scripted-qwen"),
    ]
    prompts = {call["role"]: call["prompt_hash"] for call in told(tmp_path).calls}
    assert all(one["prompt"] == prompts[one["role"]] for one in made)
    assert made[1]["from"].startswith("Explain to a new colleague how invoice a-0")
    assert made[1]["operator"]


BAD_WRITING = {
    "length.instruction_short": "Sort this.",
    "language.mismatch": "请把下面这张发票按照日期归档，并且说明每一步应该怎么做。",
    "leak.prompt_words": "#Rewritten Prompt#: explain how an invoice gets filed on its shelf.",
}
BAD_ANSWERS: dict[str, Any] = {
    "length.answer_empty": "...",
    "length.open_fence": "Do it like this:\n```python\nprint('invoice')",
    "refusal.inability": "I cannot help with that request.",
    "language.mismatch": "先查到这张发票的号码，再走到对应的架子前面，把它放在最后一张的后面。",
}


@pytest.mark.parametrize("code", BAD_WRITING)
async def test_a_bad_instruction_never_reaches_the_answerer(tmp_path: Path, server: ScriptedServer, code: str) -> None:
    server.script = Cast(writer={"instruction": BAD_WRITING[code], "input": ""})
    end = await end_of(tmp_path, server, **ONE)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "screen", code)
    assert end["row"]["instruction"] == BAD_WRITING[code]
    assert [call["role"] for call in told(tmp_path).calls] == ["writer"]


@pytest.mark.parametrize("code", BAD_ANSWERS)
async def test_a_bad_answer_never_reaches_the_panel(tmp_path: Path, server: ScriptedServer, code: str) -> None:
    server.script = Cast(answerer=BAD_ANSWERS[code])
    end = await end_of(tmp_path, server, **PLAIN)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "check", code)
    assert [call["role"] for call in told(tmp_path).calls] == ["writer", "answerer"]


async def test_an_answer_that_max_tokens_cut_is_rejected_as_that(tmp_path: Path, server: ScriptedServer) -> None:
    end = await end_of(tmp_path, server, **PLAIN, roles={"planner": {"off": True}, "answerer": {"max_tokens": 8}})
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "check", "length.cut_off")


async def test_a_duplicate_of_an_accepted_row_is_rejected_and_named(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(writer={"instruction": "Explain how invoice a-0 gets filed on shelf 5.", "input": ""})
    settings = {"target": 2, "limits": {"candidates_per_leaf": 4}, "flow": {"evolve_rounds": 0}, "in_flight": 1}
    run = await go(recipe(tmp_path, server, **settings), tmp_path)
    first, *others = told(tmp_path).candidates
    assert first["state"] == "accepted"
    assert {(one["state"], one["stage"], one["code"]) for one in others} == {("rejected", "screen", "exact.duplicate")}
    assert all(first["id"] in one["detail"] for one in others)
    assert (run.exit_code, run.jobs[0].outcome.state) == (3, "starved")
    assert "3 exact.duplicate" in run.jobs[0].outcome.reason


# -- evolution ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("child", "code"),
    [
        ("Explain to a new colleague how invoice a-0 gets filed on shelf 5!", "evolution.equal"),
        ("#Rewritten Prompt# Explain to a new colleague how invoice a-0 gets filed on shelf 5, and why.", "evolution.leak"),
        ("Explain how invoice a-0 gets filed. " + "Then do it again. " * 30, "evolution.growth"),
        ("解释一下发票应该怎样归档，并且说明为什么一定要这样做才行。", "language.mismatch"),
    ],
)
async def test_an_evolution_that_is_refused_gives_way_to_its_parent(tmp_path: Path, server: ScriptedServer, child: str, code: str) -> None:
    """T34: the parent returns to the pool."""
    server.script = Cast(evolver={"instruction": child, "input": ""})
    end = await end_of(tmp_path, server, **ONE, flow=IN_DEPTH)
    assert end["state"] == "accepted"
    assert end["row"]["instruction"] == "Explain to a new colleague how invoice a-0 gets filed on shelf 5."
    assert [one["role"] for one in end["lineage"]["made"]] == ["writer", "answerer"]
    assert [one["code"] for one in told(tmp_path).verdicts if one["decision"] != "accept"] == [code]


async def test_an_evolution_whose_reply_cannot_be_used_gives_way_to_its_parent_too(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("empty", role="evolver")]
    end = await end_of(tmp_path, server, **ONE)
    assert end["state"] == "accepted"
    assert [one["role"] for one in end["lineage"]["made"]] == ["writer", "answerer"]
    assert [call["status"] for call in told(tmp_path).calls if call["role"] == "evolver"] == ["empty_reply", "empty_reply"]


async def test_a_refused_evolution_is_tried_again_by_another_operator_while_rounds_are_left(tmp_path: Path, server: ScriptedServer) -> None:
    replies = iter(["Explain to a new colleague how invoice a-0 gets filed on shelf 5!"])
    server.script = Cast(evolver=lambda request, case: {"instruction": said, "input": ""} if (said := next(replies, None)) else None)
    end = await end_of(tmp_path, server, **ONE, flow={"evolve_rounds": 2})
    evolved = [one for one in end["lineage"]["made"] if one["role"] == "evolver"]
    assert (end["state"], len(evolved)) == ("accepted", 1)
    assert server.count("evolver") == 2
    assert evolved[0]["from"] == "Explain to a new colleague how invoice a-0 gets filed on shelf 5."


async def test_an_input_is_kept_when_the_evolver_leaves_it_out(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(writer={"instruction": "Explain how invoice a-0 gets filed on shelf 5.", "input": "invoice a-0: 12 chairs"})
    end = await end_of(tmp_path, server, **ONE, flow=IN_DEPTH)
    assert (end["state"], end["row"]["input"]) == ("accepted", "invoice a-0: 12 chairs")


# -- the panel and the critic ------------------------------------------------------------------------------------------


async def test_the_critics_fault_is_mended_and_its_words_stay_out_of_the_row(tmp_path: Path, server: ScriptedServer) -> None:
    heard: list[str] = []

    def answer(request: Request, case: Case) -> Any:
        heard.append(request.prompt)
        return None if len(heard) == 1 else f"The better answer names shelf {case.number * 13 + 5} and says to file the sheet last."

    server.script = Cast(
        critic=lambda r, c: {"reason": "ZEBRA is missing", "score": 5 if "better answer" in r.prompt else 2}, answerer=answer
    )
    end = await end_of(tmp_path, server, **ONE)
    assert end["state"] == "accepted"
    assert ["ZEBRA" in prompt for prompt in heard] == [False, True]
    assert "ZEBRA" not in str(end["row"]) + str(end["lineage"])
    assert end["row"]["answer"].startswith("The better answer")
    assert [one["role"] for one in end["lineage"]["made"]].count("answerer") == 1
    assert all("ZEBRA" not in record.request.prompt for record in server.requests if record.role != "answerer")


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize(
    ("lines", "code"),
    [({"critic": {"reason": "bad", "score": 1}}, "critic.low"), ({"annotator": {"rationale": "bad", "score": 1}}, "agreement.low")],
)
async def test_the_revisions_are_bounded(tmp_path: Path, server: ScriptedServer, rounds: int, lines: Any, code: str) -> None:
    server.script = Cast(**lines)
    end = await end_of(tmp_path, server, **ONE, flow={"evolve_rounds": 0, "revise_rounds": rounds})
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "agree", code)
    assert [server.count(role) for role in ("answerer", *PANEL, "critic")] == [rounds + 1] * 5


async def test_a_panel_that_disagrees_waits_for_a_person(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(annotator_clarity={"rationale": "no", "score": 1})
    end = await end_of(tmp_path, server, **ONE)
    assert (end["state"], end["stage"], end["code"]) == ("waiting", "agree", "agreement.disagree")
    assert end["row"]["answer"]
    assert server.count("answerer") == 1


async def test_an_annotator_that_fails_is_a_failed_vote_and_never_a_number(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("500", role="annotator-clarity")]
    end = await end_of(tmp_path, server, **ONE)
    assert end["state"] == "accepted"
    votes = {vote["role"]: (vote["score"], vote["failed"]) for vote in told(tmp_path).votes}
    assert votes == {PANEL[0]: (None, "server_fault"), PANEL[1]: (5, ""), PANEL[2]: (5, "")}


async def test_a_panel_too_small_to_be_heard_waits(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("bad_json", role="annotator-clarity"), Fault("500", role="annotator-correctness")]
    end = await end_of(tmp_path, server, **ONE)
    assert (end["state"], end["stage"], end["code"]) == ("waiting", "agree", "agreement.too_few_votes")
    assert {vote["failed"] for vote in told(tmp_path).votes} == {"unreadable_reply", "server_fault", ""}


async def test_votes_of_a_revised_answer_replace_those_of_the_first(tmp_path: Path, server: ScriptedServer) -> None:
    first = iter([True] * 3)
    server.script = Cast(annotator=lambda r, c: {"rationale": "meh", "score": 2} if next(first, False) else None)
    end = await end_of(tmp_path, server, **ONE)
    assert end["state"] == "accepted"
    medians = [one["value"] for one in told(tmp_path).verdicts if one["gate"] == "agreement"]
    assert medians == [2.0, 5.0]


# -- the score ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FakeScorer:
    """Ratios one after the other; the last one for ever. None: unscorable."""

    ratios: list[float | None]
    asked: list[tuple[str, str]] = field(default_factory=list)
    id: str = "fake"
    min_tokens: int = 1

    async def score(self, prompt: str, answer: str) -> IfdScore:
        ratio = self.ratios[min(len(self.asked), len(self.ratios) - 1)]
        self.asked.append((prompt, answer))
        common: dict[str, Any] = {"n": 9, "truncated": False, "model": "fake", "dtype": "f", "template": "line", "max_len": 9}
        if ratio is None:
            return IfdScore(s_cond=None, s_uncond=2.0, state="unscorable", code="ifd.short", **common)
        return IfdScore(s_cond=2 * ratio, s_uncond=2.0, state="scored", code="", **common)


def scored(*ratios: float | None) -> tuple[FakeScorer, Callable[[Any], None]]:
    scorer = FakeScorer(list(ratios))
    return scorer, with_gate("score", Ifd(scorer=scorer, low=0.3))


async def test_too_easy_goes_back_to_be_evolved_and_is_answered_anew(tmp_path: Path, server: ScriptedServer) -> None:
    scorer, during = scored(0.1, 0.7)
    end = await end_of(tmp_path, server, during, **ONE, flow={"evolve_rounds": 0})
    assert end["state"] == "accepted"
    assert [one["role"] for one in end["lineage"]["made"]] == ["writer", "evolver", "answerer"]
    roles = [call["role"] for call in told(tmp_path).calls if not call["role"].startswith("annotator")]
    assert roles == ["writer", "answerer", "critic", "evolver", "answerer", "critic"]
    assert [one["code"] for one in told(tmp_path).verdicts if one["gate"] == "ifd"] == ["ifd.too_easy", "ok"]
    assert scorer.asked[0][0] != scorer.asked[1][0]


@pytest.mark.parametrize("mark", [1, 5])
async def test_misaligned_goes_to_the_critic_and_with_its_words_to_the_answerer(tmp_path: Path, server: ScriptedServer, mark: int) -> None:
    """Whatever score the critic gives then: it is asked for the fault, not for leave."""
    explain = "A measurement found: knowing what was asked makes this answer no easier to predict"

    def criticise(request: Request, case: Case) -> Any:
        return {"reason": "Shelves are missing: ZEBRA.", "score": mark} if explain in request.prompt else None

    server.script = Cast(critic=criticise)
    scorer, during = scored(1.2, 0.7)
    end = await end_of(tmp_path, server, during, **ONE, flow={"evolve_rounds": 0})
    assert end["state"] == "accepted"
    calls = [call for call in told(tmp_path).calls if not call["role"].startswith("annotator")]
    assert [call["role"] for call in calls] == ["writer", "answerer", "critic", "critic", "answerer", "critic"]
    assert [call["step"] for call in calls if call["role"] == "critic"] == ["criticise.0.1", "criticise.0.1.again", "criticise.0.2"]
    assert ["ZEBRA" in str(call["messages"]) for call in calls] == [False, False, False, False, True, False]
    assert scorer.asked[0][0] == scorer.asked[1][0]
    marks = [one["value"] for one in told(tmp_path).verdicts if one["gate"] == "critic"]
    assert marks == [5.0, 5.0], "the second look is no vote on the row"


async def test_a_second_look_is_found_again_and_not_paid_for_twice(tmp_path: Path, server: ScriptedServer) -> None:
    """A recipe is run to its end, the candidate is opened again, and all of its calls are read from the ledger."""
    settings: dict[str, Any] = {**ONE, "flow": {"evolve_rounds": 0}}
    await end_of(tmp_path, server, scored(1.2, 0.7)[1], **settings)
    asked, steps = server.count(), told(tmp_path).steps(0)
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as ledger:
        ledger.execute("update candidates set state = 'open'")
    end = await end_of(tmp_path, server, scored(1.2, 0.7)[1], **settings)
    assert (end["state"], server.count()) == ("accepted", asked)
    assert steps.count("critic") == told(tmp_path).steps(0).count("critic") == 3


async def test_misaligned_goes_straight_to_the_answerer_where_there_is_no_critic(tmp_path: Path, server: ScriptedServer) -> None:
    _, ifd = scored(1.2, 0.7)

    def during(run: Any) -> None:
        ifd(run)
        for job in run.jobs:
            job.graph = candidate.build(candidate.Shape(criticised=False))

    off = {"planner": {"off": True}, "critic": {"off": True}}
    end = await end_of(tmp_path, server, during, **ONE, flow={"evolve_rounds": 0}, roles=off)
    assert end["state"] == "accepted"
    answers = [call for call in told(tmp_path).calls if call["role"] == "answerer"]
    assert ["The answer does not follow from what was asked." in str(call["messages"]) for call in answers] == [False, True]
    assert server.count("critic") == 0


async def test_a_critic_that_fails_at_the_second_look_leaves_the_candidate_errored(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("500", role="critic", after=1)]
    end = await end_of(tmp_path, server, scored(1.2)[1], **ONE, flow={"evolve_rounds": 0})
    assert (end["state"], end["stage"], end["code"]) == ("errored", "criticise", "server_fault")


@pytest.mark.parametrize(("ratio", "code"), [(0.1, "ifd.too_easy"), (1.2, "ifd.misaligned")])
@pytest.mark.parametrize("returns", [0, 2])
async def test_the_returns_are_bounded(tmp_path: Path, server: ScriptedServer, ratio: float, code: str, returns: int) -> None:
    scorer, during = scored(ratio)
    end = await end_of(tmp_path, server, during, **ONE, flow={"evolve_rounds": 0, "score_returns": returns})
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "score", code)
    assert len(scorer.asked) == server.count("answerer") == returns + 1
    assert server.count("critic") == (2 * returns + 1 if code == "ifd.misaligned" else returns + 1)


async def test_what_cannot_be_evolved_further_ends_as_too_easy(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(evolver={"instruction": "Explain to a new colleague how invoice a-0 gets filed on shelf 5.", "input": ""})
    scorer, during = scored(0.1)
    end = await end_of(tmp_path, server, during, **ONE, flow={"evolve_rounds": 0})
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "score", "ifd.too_easy")
    assert end["row"]["answer"], "the parent that was scored is kept for those who look"
    assert len(scorer.asked) == 1


async def test_a_score_that_cannot_be_measured_waits(tmp_path: Path, server: ScriptedServer) -> None:
    end = await end_of(tmp_path, server, scored(None)[1], **ONE)
    assert (end["state"], end["stage"], end["code"]) == ("waiting", "score", "ifd.short")


# -- what fails --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crashing:
    name: ClassVar[str] = "crashing"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check", "agree", "score", "admit")
    says: ClassVar[str] = "it crashes"

    async def __call__(self, subject: Subject) -> Verdict:
        raise ZeroDivisionError("a bug in a gate")


@pytest.mark.parametrize("stage", ["screen", "check", "agree", "score"])
async def test_a_gate_that_crashes_leaves_the_candidate_errored(tmp_path: Path, server: ScriptedServer, stage: Stage) -> None:
    """Part of T36: a gate raising an exception yields `error`, not a reject and not an accept."""
    end = await end_of(tmp_path, server, with_gate(stage, Crashing()), **ONE)
    assert (end["state"], end["stage"], end["code"]) == ("errored", stage, "crashing_crashed")
    assert "ZeroDivisionError" in end["detail"]


async def test_a_gate_that_crashes_on_a_child_is_no_refusal_of_the_child(tmp_path: Path, server: ScriptedServer) -> None:
    @dataclass(frozen=True)
    class OnChild(Crashing):
        async def __call__(self, subject: Subject) -> Verdict:
            if subject.parent is not None:
                raise ZeroDivisionError("a bug in a gate")
            return verdict(self, "accept")

    end = await end_of(tmp_path, server, with_gate("screen", OnChild()), **ONE)
    assert (end["state"], end["code"]) == ("errored", "crashing_crashed")


@pytest.mark.parametrize(
    ("role", "stage", "fault", "code"),
    [
        ("writer", "write", Fault("500"), "server_fault"),
        ("evolver", "evolve", Fault("reset"), "server_fault"),
        ("answerer", "answer", Fault("bad_utf8"), "undecodable_reply"),
        ("critic", "criticise", Fault("bad_json"), "unreadable_reply"),
    ],
)
async def test_a_call_that_fails_leaves_the_candidate_errored_where_it_stood(
    tmp_path: Path, server: ScriptedServer, role: str, stage: str, fault: Fault, code: str
) -> None:
    server.faults = [replace(fault, role=role)]
    models = {alias: {"base_url": server.base_url, "model": alias, "attempts": 1} for alias in ("generator", "judge")}
    end = await end_of(tmp_path, server, **ONE, models=models)
    assert (end["state"], end["stage"], end["code"]) == ("errored", stage, code)
    assert role in end["detail"] or "model" in end["detail"]
    assert {call["role"] for call in told(tmp_path).calls if call["status"] == code} == {role}


async def test_a_context_that_overflows_leaves_the_candidate_errored(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=Reply("maximum context length is 5 tokens", status=400, code="context_length_exceeded"))
    end = await end_of(tmp_path, server, **ONE)
    assert (end["state"], end["stage"], end["code"]) == ("errored", "answer", "context_overflow")


# -- roles of the user's own -------------------------------------------------------------------------------------------

OWN = "---\nname: {name}\nafter: {after}\nwrites: {writes}\nmodel: generator\nlanguage: en\n---\nRewrite {{{{ {writes} }}}}\n"


def own_role(folder: Path, name: str, after: str, writes: str) -> dict[str, Any]:
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / f"{name}.md").write_text(OWN.format(name=name, after=after, writes=writes))
    return {"prompts": "mine"}


async def test_a_role_of_ones_own_stands_behind_its_stage_and_is_in_the_lineage(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(polisher="The polished answer says: look up the number, walk to the shelf, file the sheet last.")
    end = await end_of(tmp_path, server, **ONE, **own_role(tmp_path, "polisher", "answer", "answer"))
    assert end["row"]["answer"].startswith("The polished answer")
    assert [one["role"] for one in end["lineage"]["made"]] == ["writer", "evolver", "answerer", "polisher"]
    steps = told(tmp_path).steps(0)
    assert steps[steps.index("answerer") + 1 :][:2] == ["polisher", "check:evolution"]


async def test_a_refused_evolution_takes_all_that_was_made_of_it_out_of_the_lineage(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(shortener="Sort this.")  # too short for the gate
    end = await end_of(tmp_path, server, **ONE, **own_role(tmp_path, "shortener", "evolve", "instruction"))
    assert end["row"]["instruction"] == "Explain to a new colleague how invoice a-0 gets filed on shelf 5."
    assert [one["role"] for one in end["lineage"]["made"]] == ["writer", "answerer"]


async def test_an_answer_that_a_role_of_ones_own_left_cut_off_is_rejected(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(polisher="One two three four five six seven eight nine ten eleven twelve thirteen.")
    roles = {"planner": {"off": True}, "polisher": {"max_tokens": 6}}
    end = await end_of(tmp_path, server, **ONE, **own_role(tmp_path, "polisher", "answer", "answer"), roles=roles)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "check", "length.cut_off")


# -- others in flight --------------------------------------------------------------------------------------------------


async def test_twins_in_flight_at_once_give_one_row_and_always_the_same(tmp_path: Path, server: ScriptedServer) -> None:
    """T36, through the whole graph, 20 times at once: candidates 1 and 2 are equal, and replies come in another order in every leaf."""

    def write(request: Request, case: Case) -> Any:
        twin = f"Explain how the twin invoice {case.leaf}-1 gets filed on shelf {ord(case.leaf)}."
        return {"instruction": twin, "input": ""} if case.number in (1, 2) else None

    leaves = "abcdefghijklmnopqrst"
    taxonomy(tmp_path, leaves)
    server.script = Cast(writer=write)
    server.latency = lambda request: random.Random(request.key).random() / 50
    settings = {"target": 3, "limits": {"candidates_per_leaf": 4}, "flow": {"evolve_rounds": 0}, "in_flight": 80}
    await go(recipe(tmp_path, server, **settings), tmp_path)
    assert told(tmp_path).accepted == [(f"t/{leaf}", number) for leaf in leaves for number in (0, 1, 3)]
    assert {told(tmp_path).of(2, f"t/{leaf}")["code"] for leaf in leaves} == {"exact.duplicate"}


async def test_a_leaf_that_fills_while_a_panel_is_about_to_vote_ends_the_candidate_as_surplus(
    tmp_path: Path, server: ScriptedServer
) -> None:
    @dataclass(frozen=True)
    class Filling(Crashing):
        fill: Callable[[], None] = lambda: None

        async def __call__(self, subject: Subject) -> Verdict:
            self.fill()
            return verdict(self, "accept")

    def during(run: Any) -> None:
        admission = run.jobs[0].admission
        gate = Filling(lambda: admission._accepted.update({"t/a": 1}))
        job = run.jobs[0]
        job.context = replace(job.context, gates={**job.context.gates, "check": [gate]})

    end = await end_of(tmp_path, server, during, **PLAIN)
    assert (end["state"], end["code"]) == ("rejected", "quota_met")
    assert end["stage"] == "annotate"


def test_no_role_can_take_the_name_of_a_node() -> None:
    """The list that role files are checked against is that of the graph itself."""
    nodes = set(candidate.build().get_graph().nodes) - {"__start__", "__end__"}
    assert nodes | {"screen", "check", "agree"} == NODES
