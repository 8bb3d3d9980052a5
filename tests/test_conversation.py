"""Conversations of two agents, run whole: a user who plays a part and an assistant, turn by turn, each through its gates."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from conftest import LATER, Case, Cast, go, recipe, taxonomy, told, usual

from agents.scripted import Request, ScriptedServer
from filters.gate import Stage, Subject, verdict
from graphs import candidate
from graphs.estimate import Estimate, estimate
from graphs.prepare import prepare
from leafmill import export, trace
from leafmill.errors import InputError
from leafmill.ledger import Ledger
from leafmill.records import Verdict
from leafmill.runfolder import RunFolder

ONE = {"target": 1, "limits": {"candidates_per_leaf": 1, "error_share": 1}, "flow": {"evolve_rounds": 0}}
"""one candidate, whatever becomes of it"""
FOUR = {"turns": 4}


@dataclass(frozen=True)
class TooEasy:
    """A score gate that finds every row too easy."""

    name: ClassVar[str] = "ifd"
    stage: ClassVar[tuple[Stage, ...]] = ("score",)
    says: ClassVar[str] = ""

    async def __call__(self, subject: Subject) -> Verdict:
        return verdict(self, "reject", "ifd.too_easy")


async def talk(folder: Path, server: ScriptedServer, mode: dict[str, Any] = FOUR, letters: str = "a", **overrides: Any) -> dict[str, Any]:
    """Run one candidate of this mode; what the ledger says of it."""
    taxonomy(folder, letters, {leaf: {"mode": mode} for leaf in letters})
    await go(recipe(folder, server, **{**ONE, **overrides}), folder)
    return told(folder).of(0)


def asked_of(server: ScriptedServer, role: str) -> list[str]:
    """The whole prompts of a role's calls, in order."""
    return ["\n".join(str(m["content"]) for m in one.request.messages) for one in server.requests if one.role == role]


def said_by(row: dict[str, Any], role: str) -> list[str]:
    return [turn["content"] for turn in row["history"] if turn["role"] == role]


async def test_a_conversation_has_as_many_exchanges_as_its_brief_asks_for(tmp_path: Path, server: ScriptedServer) -> None:
    end = await talk(tmp_path, server)
    row = end["row"]
    assert end["state"] == "accepted"
    assert [turn["role"] for turn in row["history"]] == ["user", "assistant"] * 3
    assert row["history"][0]["content"].startswith("Explain to a new colleague")
    assert [*said_by(row, "user")[1:], row["instruction"]] == [f"And {asked} invoice a-0?" for asked, _ in LATER[:3]]
    assert [*said_by(row, "assistant")[1:], row["answer"]] == [f"Of a-0: {answer}" for _, answer in LATER[:3]]
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        (listed,) = trace.listing(ledger)
    assert listed["row"].startswith("Explain to a new colleague")
    turns = [step for step in told(tmp_path).steps(0) if ":" not in step]
    assert turns[: 1 + 7] == ["writer", "answerer", *["simulated-user", "answerer"] * 3]
    assert set(turns[8:]) == {"annotator-clarity", "annotator-correctness", "annotator-helpfulness", "critic"}


async def test_a_conversation_is_exported_whole_as_messages_and_never_as_alpaca(tmp_path: Path, server: ScriptedServer) -> None:
    await talk(tmp_path, server, {"turns": 3, "depth": "deep"})
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        (line,) = export.rows(ledger, "messages", reasoning=True)
        with pytest.raises(InputError, match="a conversation is no Alpaca row"):
            list(export.rows(ledger, "alpaca"))
    assert [one["role"] for one in line["messages"]] == ["user", "assistant"] * 3
    assert [one["content"].startswith("<think>\n") for one in line["messages"]] == [False] * 5 + [True]


async def test_only_leaves_with_conversations_have_the_user_s_node(tmp_path: Path, server: ScriptedServer) -> None:
    end = await talk(tmp_path, server, {})
    assert (end["state"], end["row"]["history"]) == ("accepted", [])
    assert not asked_of(server, "simulated-user")


async def test_the_user_sees_what_was_said_and_none_of_the_assistant_s_notes(tmp_path: Path, server: ScriptedServer) -> None:
    """The answers come with reasoning, and the last one is revised after a critique: neither is the user's to know."""
    judged = {"first": True}

    def criticise(request: Request, case: Case) -> Any:
        judged["first"], first = False, judged["first"]
        return {"reason": "SECRET CRITIQUE", "score": 1} if first else None

    server.script = Cast(reasoner=_thinking_aloud, critic=criticise)
    end = await talk(tmp_path, server, {"turns": 3, "depth": "cot"})
    assert end["state"] == "accepted"
    shown = asked_of(server, "simulated-user")
    assert len(shown) == 2
    assert "SECRET" not in "".join(shown)
    assert "Look up the number a-0 first" in shown[0]
    assert LATER[0][1] in shown[1]
    assert "SECRET CRITIQUE" in asked_of(server, "reasoner")[-1], "the assistant is told of it"
    assert end["row"]["reasoning"].startswith("SECRET THOUGHT")


async def test_the_assistant_and_the_judges_never_see_goal_and_persona(tmp_path: Path, server: ScriptedServer) -> None:
    end = await talk(tmp_path, server)
    wish = end["lineage"]["made"][0]
    assert wish["part"] == "wish"
    assert wish["persona"]
    assert wish["goal"]
    for one in asked_of(server, "simulated-user"):
        assert wish["persona"] in one
        assert wish["goal"] in one
    others = "".join(one for role in ("answerer", "critic", "annotator-clarity") for one in asked_of(server, role))
    assert wish["persona"] not in others
    assert wish["goal"] not in others


async def test_the_assistant_and_every_judge_are_shown_the_conversation(tmp_path: Path, server: ScriptedServer) -> None:
    await talk(tmp_path, server)
    fourth = asked_of(server, "answerer")[3]
    assert fourth.count("<user>") == fourth.count("<assistant>") == 3
    assert fourth.index("Explain to a new colleague") < fourth.index(LATER[1][1]) < fourth.index("\n<instruction>\n")
    for role in ("annotator-clarity", "annotator-correctness", "annotator-helpfulness", "critic"):
        (shown,) = asked_of(server, role)
        assert shown.count("<assistant>\n") == 3
        assert "Judge every <assistant> message too" in shown


async def test_the_panel_votes_once_on_the_whole_conversation(tmp_path: Path, server: ScriptedServer) -> None:
    await talk(tmp_path, server)
    assert [server.count(role) for role in ("answerer", "annotator-clarity", "critic")] == [4, 1, 1]


async def test_the_goal_follows_from_the_brief_and_differs_between_briefs(tmp_path: Path, server: ScriptedServer) -> None:
    wishes = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        settings = {"target": 6, "limits": {"candidates_per_leaf": 6}}
        await talk(tmp_path / run, server, {"turns": 2}, **settings)
        wishes.append([one["lineage"]["made"][0] for one in told(tmp_path / run).candidates])
    assert wishes[0] == wishes[1]
    assert len({(one["persona"], one["goal"]) for one in wishes[0]}) >= 4


async def test_a_leaf_s_own_axis_of_personas_says_who_the_user_is(tmp_path: Path, server: ScriptedServer) -> None:
    path = taxonomy(tmp_path, "a", {"a": {"mode": {"turns": 2}}})
    tree = yaml.safe_load(path.read_text())
    labels = {"en": "a retired sailor", "zh": "退休的水手"}
    tree["axes"]["persona"] = {"title": {"en": "persona", "zh": "身份"}, "values": {"x": labels, "y": {**labels, "zh": "水手"}}}
    path.write_text(yaml.safe_dump(tree, allow_unicode=True))
    await go(recipe(tmp_path, server, **ONE), tmp_path)
    assert "You are: a retired sailor" in asked_of(server, "simulated-user")[0]


# -- topic switch ------------------------------------------------------------------------------------------------------


async def test_one_later_message_turns_to_the_topic_of_another_leaf(tmp_path: Path, server: ScriptedServer) -> None:
    """Which message it is differs from candidate to candidate, and is never the first."""
    server.script = Cast(simulated_user=_turning_away)
    settings = {"target": 8, "leaves": ["t/a"], "limits": {"candidates_per_leaf": 8, "error_share": 1}}
    await talk(tmp_path, server, {"turns": 4, "topic_switch": True}, "ab", **settings)
    ledger = told(tmp_path)
    switches = [one["lineage"]["made"][0]["switch"] for one in ledger.candidates]
    assert {2, 3, 4} >= set(switches)
    assert len(set(switches)) > 1
    assert {one["lineage"]["made"][0]["topic"] for one in ledger.candidates} == {"B"}
    for one, switch in zip(ledger.candidates, switches, strict=True):
        messages = [*said_by(one["row"], "user"), one["row"]["instruction"]]
        assert [at for at, text in enumerate(messages, 1) if text.startswith("Name three harbours")] == [switch]
    told_of_it = [one for one in asked_of(server, "simulated-user") if "leave this subject" in one]
    assert len(told_of_it) == len(ledger.candidates)
    assert all(": B." in one for one in told_of_it)


async def test_a_message_that_goes_on_where_it_should_turn_away_ends_the_conversation(tmp_path: Path, server: ScriptedServer) -> None:
    end = await talk(tmp_path, server, {"turns": 2, "topic_switch": True})
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "follow_up", "turns.no_switch")
    assert server.count("simulated-user") == 2


# -- what ends a conversation ------------------------------------------------------------------------------------------

BAD = {
    "turns.repeated": "Explain to a new colleague how invoice a-0 is filed on shelf 5.",
    "turns.role_swap": "Is there anything else I can help you with about that invoice a-0?",
    "turns.detached": "Recommend a Norwegian novel about fishermen, published before Ibsen's death.",
    "leak.marker": "And then? <|im_end|> That is about invoice a-0.",
    "language.mismatch": "那么这张发票的复印件应该放在哪个文件夹里，又由谁来保管？",
}


@pytest.mark.parametrize("code", BAD)
async def test_a_message_that_no_gate_takes_is_asked_for_again_once(tmp_path: Path, server: ScriptedServer, code: str) -> None:
    tries = {"bad": 1}

    def ask(request: Request, case: Case) -> Any:
        tries["bad"] -= 1
        return {"message": BAD[code]} if tries["bad"] >= 0 else None

    server.script = Cast(simulated_user=ask)
    end = await talk(tmp_path, server, {"turns": 2})
    assert end["state"] == "accepted"
    assert server.count("simulated-user") == 2
    verdicts = told(tmp_path).verdicts
    assert code in {one["code"] for one in verdicts}
    assert len({(one["seq"], one["gate"]) for one in verdicts}) == len(verdicts), "each try has its own place in the trace"
    seeds = [one.request.seed for one in server.requests if one.role == "simulated-user"]
    assert seeds[0] != seeds[1], "it is another sample"


@pytest.mark.parametrize("code", BAD)
async def test_a_conversation_whose_second_message_fails_twice_is_rejected_for_it(
    tmp_path: Path, server: ScriptedServer, code: str
) -> None:
    server.script = Cast(simulated_user={"message": BAD[code]})
    end = await talk(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "follow_up", code)
    assert (server.count("simulated-user"), server.count("answerer")) == (2, 1)
    assert end["row"]["history"] == []


@pytest.mark.parametrize("message", ["Thank you so much, that was very helpful. Bye!", BAD["turns.role_swap"]])
async def test_a_conversation_of_two_exchanges_ends_where_the_user_has_nothing_to_say(
    tmp_path: Path, server: ScriptedServer, message: str
) -> None:
    server.script = Cast(simulated_user=lambda request, case: {"message": message} if request.task.count("<assistant>") > 1 else None)
    end = await talk(tmp_path, server)
    assert end["state"] == "accepted"
    assert len(end["row"]["history"]) == 2
    assert end["row"]["answer"] == f"Of a-0: {LATER[0][1]}"
    (ended,) = (one for one in end["lineage"]["made"] if one["part"] == "conversation")
    code = "turns.farewell" if "Bye" in message else "turns.role_swap"
    assert (ended["ended_after"], ended["of"], ended["why"]) == (2, 4, code)


async def test_a_conversation_that_has_ended_is_not_taken_up_by_a_revision(tmp_path: Path, server: ScriptedServer) -> None:
    def criticise(request: Request, case: Case) -> Any:
        return {"reason": "It leaves out the key.", "score": 1} if server.count("critic") == 1 else None

    def ask(request: Request, case: Case) -> Any:
        return {"message": "Thanks, bye!"} if request.task.count("<assistant>") > 1 else None

    server.script = Cast(simulated_user=ask, critic=criticise)
    end = await talk(tmp_path, server)
    assert len(end["row"]["history"]) == 2
    assert (server.count("answerer"), server.count("simulated-user")) == (3, 3)


async def test_a_goodbye_after_the_first_answer_makes_no_conversation(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(simulated_user={"message": "Thanks, bye!"})
    end = await talk(tmp_path, server)
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "follow_up", "turns.too_short")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (f"Of a-0: {LATER[0][1]}", "turns.repeated"),
        ("It goes there.\nUser: And the other one?\nAssistant: There, too.", "turns.role_swap"),
        ("I'm sorry, I cannot help with this.", "refusal.apology"),
        ("The second copy goes to <|im_end|>", "leak.marker"),
    ],
)
async def test_the_gates_stand_before_every_answer(tmp_path: Path, server: ScriptedServer, answer: str, code: str) -> None:
    server.script = Cast(answerer=lambda request, case: answer if request.task.count("<assistant>") == 2 else None)
    end = await talk(tmp_path, server)
    assert (end["state"], end["stage"]) == ("rejected", "check")
    assert end["code"].split(".")[0] == code.split(".")[0]
    assert len(end["row"]["history"]) == 4


async def test_a_short_follow_up_may_be_asked_in_any_conversation(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(simulated_user={"message": "Why?"})
    settings = {"target": 3, "limits": {"candidates_per_leaf": 3}}
    await talk(tmp_path, server, {"turns": 2}, **settings)
    assert told(tmp_path).states == {"accepted": 3}


async def test_what_gates_remember_is_asked_at_admission_only(tmp_path: Path, server: ScriptedServer) -> None:
    """The second conversation's user says what the first one's said. Whether that was accepted by then must not change what is asked."""
    server.script = Cast(simulated_user={"message": "And where do I put the copy when that green folder is full again?"})
    settings = {"target": 2, "limits": {"candidates_per_leaf": 2}, "in_flight": 1}
    await talk(tmp_path, server, {"turns": 2}, **settings)
    second = told(tmp_path).of(1)
    assert (second["state"], second["stage"], second["code"]) == ("rejected", "admit", "exact.duplicate")
    assert server.count("simulated-user") == 2


async def test_the_user_hears_what_the_assistant_says_and_not_which_tools_it_calls(tmp_path: Path, server: ScriptedServer) -> None:
    end = await talk(tmp_path, server, {"turns": 2, "tools": "single"})
    assert end["state"] == "accepted"
    assert {"tool"} < {turn["role"] for turn in end["row"]["history"]}
    (heard,) = asked_of(server, "simulated-user")
    assert heard.count("<assistant>\n") == 1
    assert "<tool>" not in heard


# -- loops -------------------------------------------------------------------------------------------------------------


async def test_a_revision_concerns_the_last_answer_only(tmp_path: Path, server: ScriptedServer) -> None:
    def criticise(request: Request, case: Case) -> Any:
        return None if "mended" in request.task else {"reason": "It leaves out the key.", "score": 1}

    def answer(request: Request, case: Case) -> Any:
        return "Of a-0: the mended answer names the key that hangs beside it." if "leaves out the key" in request.task else None

    server.script = Cast(critic=criticise, answerer=answer)
    end = await talk(tmp_path, server, {"turns": 3})
    assert end["state"] == "accepted"
    assert "mended" in end["row"]["answer"]
    assert said_by(end["row"], "assistant")[1] == f"Of a-0: {LATER[0][1]}"
    assert (server.count("simulated-user"), server.count("answerer")) == (2, 4)
    parts = [one["part"] for one in end["lineage"]["made"]]
    assert parts == ["wish", "instruction 1", "answer 1", "instruction 2", "answer 2", "instruction", "answer"]


async def test_a_conversation_that_is_too_easy_is_not_evolved(tmp_path: Path, server: ScriptedServer) -> None:
    """Its last message stands where it does because of those before it, so nobody can make it harder alone."""

    def during(run: Any) -> None:
        for job in run.jobs:
            job.context = replace(job.context, gates={**job.context.gates, "score": [TooEasy()]})
            job.graph = candidate.build()

    for turns, evolved in ((1, 1), (2, 0)):
        folder, before = tmp_path / str(turns), server.count("evolver")
        folder.mkdir()
        taxonomy(folder, "a", {"a": {"mode": {"turns": turns}}})
        await go(recipe(folder, server, **ONE), folder, during)
        assert told(folder).of(0)["code"] == "ifd.too_easy"
        assert server.count("evolver") - before == evolved


async def test_only_the_first_message_is_evolved(tmp_path: Path, server: ScriptedServer) -> None:
    end = await talk(tmp_path, server, {"turns": 3}, flow={"evolve_rounds": 1})
    assert end["state"] == "accepted"
    assert server.count("evolver") == 1
    assert [one["part"] for one in end["lineage"]["made"] if "operator" in one] == ["instruction 1"]
    ledger = told(tmp_path)
    (asked, *_) = (call["seq"] for call in ledger.calls if call["role"] == "simulated-user")
    measured = {one["seq"] > asked for one in ledger.verdicts if one["gate"] == "evolution" and one["value"] is not None}
    assert measured == {False}, "later messages have no parent to be held against"


# -- stops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [700, 1100, 1500, 2300])
async def test_a_conversation_that_was_stopped_in_the_middle_goes_on_and_nothing_is_asked_twice(
    tmp_path: Path, server: ScriptedServer, tokens: int
) -> None:
    """The second message's first try is a bad one, so a step of two calls is gone through again as well."""

    firsts: dict[str, int | None] = {}

    def ask(request: Request, case: Case) -> Any:
        is_first = firsts.setdefault(request.task, request.seed) == request.seed
        return {"message": "Thanks, bye!"} if is_first and request.task.count("<assistant>") == 1 else None

    server.script = Cast(simulated_user=ask)
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = await talk(tmp_path / "whole", server)
    before = len(server.requests)
    await talk(tmp_path / "broken", server, limits={**ONE["limits"], "tokens": tokens})
    assert told(tmp_path / "broken").states == {"open": 1}
    end = await talk(tmp_path / "broken", server)
    assert end["state"] == "accepted"
    assert (end["state"], end["row"], end["lineage"]) == (whole["state"], whole["row"], whole["lineage"])
    asked = [one.request.seed for one in server.requests[before:]]
    assert len(asked) == len(set(asked)) == before


# -- Chinese -----------------------------------------------------------------------------------------------------------

ZH_ASKED = ("那复印件要放在哪个文件夹？", "如果对方对这笔钱有异议，由谁决定？")
ZH_SAID = (
    "先查编号，再走到对应的架子，把单据放在最后一张后面。",
    "复印件夹在窗边的绿色文件夹里。",
    "月底结账之前问会计，结账后就不能改了。",
)


async def test_a_chinese_conversation_runs_the_same_way(tmp_path: Path, server: ScriptedServer) -> None:
    def answer(request: Request, case: Case) -> Any:
        return ZH_SAID[request.task.count("<assistant>")]

    server.script = Cast(
        writer={"instruction": "请向新同事说明，第 12 号发票应该怎样归档到架子上。", "input": ""},
        simulated_user=lambda request, case: {"message": ZH_ASKED[request.task.count("<assistant>") - 1]},
        answerer=answer,
    )
    end = await talk(tmp_path, server, {"turns": 3}, languages=["zh"])
    assert end["state"] == "accepted"
    assert [*said_by(end["row"], "user")[1:], end["row"]["instruction"]] == list(ZH_ASKED)
    assert re.search("你是：.+\n你想要：", asked_of(server, "simulated-user")[0])
    assert "前后不能矛盾" in asked_of(server, "critic")[0]


def _thinking_aloud(request: Request, case: Case) -> Any:
    thought = f"SECRET THOUGHT {len(request.task)}: look for the number, then for the shelf."
    return {"reasoning": thought, "answer": usual("answerer", request, case)}


def _turning_away(request: Request, case: Case) -> Any:
    if "leave this subject" not in request.task:
        return None
    return {"message": f"Name three harbours whose cranes date from {1900 + case.number}, please: invoice {case.leaf}-{case.number}."}


# -- what it costs -----------------------------------------------------------------------------------------------------


def planned(folder: Path, mode: dict[str, Any]) -> Estimate:
    folder.mkdir()
    taxonomy(folder, "a", {"a": {"mode": mode}})
    settings = {**ONE, "target": 10, "flow": {"evolve_rounds": 0, "revise_rounds": 0}, "limits": {"candidates_per_leaf": 20}}
    return estimate(prepare(recipe(folder, "http://127.0.0.1:9/v1", **settings)), RunFolder(folder / "run"), acceptance=1.0)


def test_the_plan_of_costs_counts_every_exchange_and_the_growing_prompts(tmp_path: Path) -> None:
    one, four = planned(tmp_path / "one", {}), planned(tmp_path / "four", {"turns": 4})
    calls = {role.role: role for role in four.roles}
    assert "simulated-user" not in {role.role for role in one.roles}
    assert (calls["answerer"].calls, calls["simulated-user"].calls, calls["critic"].calls) == (41, 31, 10)
    single = {role.role: role for role in one.roles}
    assert calls["answerer"].prompt / calls["answerer"].calls > 2 * single["answerer"].prompt / single["answerer"].calls
    assert calls["critic"].prompt > single["critic"].prompt
    assert four.total["most"].calls > 2 * four.total["least"].calls


async def test_the_plan_s_bounds_hold_for_a_run_of_conversations(tmp_path: Path, server: ScriptedServer) -> None:
    found = planned(tmp_path / "run", {"turns": 3, "depth": "cot"})
    settings = {"target": 10, "flow": {"evolve_rounds": 0, "revise_rounds": 0}, "limits": {"candidates_per_leaf": 20}}
    await go(recipe(tmp_path / "run", server, **settings), tmp_path / "run")
    asked = server.count()
    assert found.total["least"].calls <= asked <= found.total["most"].calls
    assert asked == pytest.approx(found.total["expected"].calls, rel=0.1)
    tokens = sum(one["prompt_tokens"] + one["completion_tokens"] for one in told(tmp_path / "run").calls)
    assert tokens <= found.total["most"].tokens


async def test_two_conversations_that_begin_alike_are_one(tmp_path: Path, server: ScriptedServer) -> None:
    """Their first messages are compared, not only the last: the second is found before it is answered."""
    server.script = Cast(writer={"instruction": "Explain to a new colleague how invoice a-7 gets filed on the shelf.", "input": ""})
    settings = {"target": 2, "limits": {"candidates_per_leaf": 2}, "in_flight": 1}
    await talk(tmp_path, server, {"turns": 3}, **settings)
    second = told(tmp_path).of(1)
    assert (second["state"], second["stage"], second["code"]) == ("rejected", "screen", "exact.duplicate")
    (found,) = (one for one in told(tmp_path).verdicts if one["code"] == "exact.duplicate")
    assert found["evidence"]["view"] == "opening"
    assert server.count("simulated-user") == 2
