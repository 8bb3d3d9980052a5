"""One call of a role: keyed by what was asked, recorded before it is used, read back instead of paid again, repaired once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import alias
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.chat import MAX_REPLY, Chat, extract
from agents.role import Roles
from agents.scripted import Fault, FaultKind, Reply, Request, ScriptedServer
from leafmill import errors
from leafmill.ledger import CALLS, Ledger, Step
from leafmill.recipe import RoleSettings

CRITIC = """---
name: critic
stage: criticise
temperature: 0.0
max_tokens: 160
reply:
  reason: {type: str, max: 60, optional: true}
  score: {type: int, min: 1, max: 5}
---
Judge {{ answer }}
"""
ANSWERER = "---\nname: answerer\nstage: answer\nmax_tokens: 200\n---\nAnswer {{ instruction }}\n"
STEP = Step("c0", "t/a", 3, "criticise.0.1")
ROOMY = {"critic": RoleSettings(max_tokens=200_000)}
"""a limit that lets a reply be as long as the test wants it"""
ROW = {"language": "en", "trail": "t", "description": "d", "axes": {}, "instruction": "Ask.", "input": "", "answer": "Say.", "feedback": ""}
GOOD = '{"reason": "fine", "score": 4}'


class Desk:
    """A chat with its ledger and its model, as often as a test opens it."""

    def __init__(self, folder: Path, server: ScriptedServer) -> None:
        self.path, self.server = folder / "ledger.db", server
        for name, text in (("critic", CRITIC), ("answerer", ANSWERER)):
            (folder / f"{name}.md").write_text(text)
        self.roles = Roles.load(folder)

    @asynccontextmanager
    async def open(self, settings: dict[str, RoleSettings] | None = None, **model: Any) -> AsyncIterator[Chat]:
        given = {"base_url": self.server.base_url, "model": "m", "attempts": 2, "timeout": 5, **model}
        one = alias(given, "judge")
        try:
            with Ledger(self.path) as ledger:
                yield Chat(ledger, self.roles, {"judge": one, "generator": one}, settings or {}, 7)
        finally:
            await one.aclose()

    def calls(self) -> list[dict[str, Any]]:
        with Ledger(self.path, read_only=True) as ledger:
            return ledger.rows(sa.select(CALLS).order_by(CALLS.c.id))

    @property
    def statuses(self) -> list[str]:
        return [row["status"] for row in self.calls()]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with ScriptedServer(script=saying(GOOD)) as server:
        yield Desk(tmp_path, server)


def saying(*replies: Any) -> Any:
    """A script that answers one after the other, the last one for ever."""
    left: Iterator[Any] = iter(replies[:-1])
    return lambda request: next(left, replies[-1])


async def criticise(chat: Chat, step: Step = STEP, **changes: Any) -> Any:
    return await chat.ask("critic", "en", step, {**ROW, **changes})


async def answer(chat: Chat) -> Any:
    return await chat.ask("answerer", "en", STEP, ROW)


async def test_a_call_is_recorded_with_all_that_was_asked_and_said(desk: Desk) -> None:
    desk.server.script = saying(Reply(GOOD, reasoning="Hm."))
    async with desk.open() as chat:
        reply = await criticise(chat)
        assert (reply.get("score"), reply.get("reason"), reply.reasoning) == (4, "fine", "Hm.")
        assert chat.budget.spent.tokens == desk.calls()[0]["prompt_tokens"] + desk.calls()[0]["completion_tokens"] > 0
    (row,) = desk.calls()
    sent = desk.server.requests[0].request
    assert row["messages"] == list(sent.messages)
    assert row["params"] == {key: sent.body[key] for key in ("temperature", "max_tokens", "seed")}
    assert [row[key] for key in ("candidate", "leaf", "seq", "step")] == list(STEP)
    assert [row[key] for key in ("status", "role", "alias", "model", "reasoning", "finish_reason")] == [
        "ok", "critic", "judge", "m", "Hm.", "stop",
    ]  # fmt: skip
    assert row["reasoning_tokens"] > 0
    assert row["prompt_hash"] == reply.origin["prompt"]


async def test_a_recorded_call_is_read_and_not_asked_again(desk: Desk) -> None:
    async with desk.open() as chat:
        first = await criticise(chat)
        again = await criticise(chat)
    async with desk.open() as chat:
        later = await criticise(chat)
        assert (chat.calls, chat.budget.spent.tokens) == (0, 0)
    assert first.text == again.text == later.text
    assert desk.server.count() == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"critic": RoleSettings(temperature=0.5)}}, {"temperature": 0.3}, {"model": "other"},
        {"extra_body": {"top_p": 0.5}},
        {"step": STEP._replace(candidate="c1")}, {"step": STEP._replace(name="criticise.0.2")}, {"answer": "Say more."},
    ],
)  # fmt: skip
async def test_what_changes_the_meaning_asks_anew(desk: Desk, changed: dict[str, Any]) -> None:
    async with desk.open() as chat:
        await criticise(chat)
    opened = {key: changed.pop(key) for key in ("settings", "temperature", "model", "extra_body") if key in changed}
    async with desk.open(**opened) as chat:
        await criticise(chat, **changed)
    assert desk.server.count() == 2


@pytest.mark.parametrize(
    "changed",
    [{"max_tokens": 400}, {"timeout": 9.0}, {"attempts": 5}, {"concurrency": 1}, {"settings": {"critic": RoleSettings(max_tokens=999)}}],
)
async def test_what_is_only_a_limit_keeps_what_succeeded(desk: Desk, changed: dict[str, Any]) -> None:
    async with desk.open() as chat:
        await criticise(chat)
        await criticise(chat, step=STEP._replace(seq=9))
    async with desk.open(**changed) as chat:
        await criticise(chat)
    assert desk.server.count() == 1


async def test_samples_of_one_question_are_asked_apart(desk: Desk) -> None:
    async with desk.open() as chat:
        for sample in (0, 1, 0, 1):
            await chat.ask("critic", "en", STEP, ROW, sample)
    assert desk.server.count() == 2
    assert len({record.request.seed for record in desk.server.requests}) == 2


UNUSABLE = {
    "empty_reply": "",
    "unreadable_reply": "I would rather not say.",
    "reply_too_long": GOOD + "x" * MAX_REPLY,
    "cut_off": Reply('{"reason": "it is', finish="length"),
}


@pytest.mark.parametrize("code", UNUSABLE)
async def test_an_unusable_reply_is_asked_for_again_once_and_the_good_one_is_read_on_resume(desk: Desk, code: str) -> None:
    desk.server.script = saying(UNUSABLE[code], GOOD)
    async with desk.open(ROOMY) as chat:
        assert (await criticise(chat)).get("score") == 4
        assert chat.calls == 2
    async with desk.open(ROOMY) as chat:
        assert (await criticise(chat)).get("score") == 4
    assert desk.server.count() == 2
    assert desk.statuses == [code, "ok"]
    told = desk.server.requests[1].request.prompt
    assert "could not be used" in told
    assert '"score"' in told, "the schema is in the second question"


@pytest.mark.parametrize("code", UNUSABLE)
async def test_a_reply_unusable_twice_is_recorded_under_its_code_and_never_found(desk: Desk, code: str) -> None:
    desk.server.script = saying(UNUSABLE[code])
    async with desk.open(ROOMY) as chat:
        with pytest.raises(errors.ReplyError) as raised:
            await criticise(chat)
        assert raised.value.code == code
    assert desk.statuses == [code, code]
    assert all(row["error"] and row["prompt_tokens"] for row in desk.calls())
    desk.server.script = saying(GOOD)
    async with desk.open(ROOMY) as chat:
        assert (await criticise(chat)).get("score") == 4
    assert desk.server.count() == 3


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("null_content", "empty_reply"),
        ("bad_json", "unreadable_reply"),
        ("huge", "reply_too_long"),
    ],
)
async def test_spoiled_replies_end_under_their_code(desk: Desk, kind: FaultKind, code: str) -> None:
    desk.server.faults = [Fault(kind)]
    async with desk.open() as chat:
        with pytest.raises(errors.ReplyError):
            await criticise(chat)
    assert desk.statuses == [code, code]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ('{"score": 9}', "score"), ('{"score": "good"}', "score"), ('{"score": 3.5}', "score"), ('{"score": NaN}', "score"),
        ('{"score": null}', "score"), ('{"reason": "x"}', "score"), ('{"score": 3, "extra": 1}', "extra"), ("[3]", "no JSON object"),
        ('{"score": 3, "reason": "' + "x" * 61 + '"}', "reason"), ('{"score": 1' + "0" * 5000 + "}", "score"),
        (r'{"score": 3, "reason": "\ud83d"}', "reason"),
    ],
)  # fmt: skip
async def test_what_breaks_the_contract_names_the_field(desk: Desk, reply: str, said: str) -> None:
    desk.server.script = saying(reply)
    async with desk.open(ROOMY) as chat:
        with pytest.raises(errors.ReplyError, match=said) as raised:
            await criticise(chat)
    assert raised.value.code == "unreadable_reply"
    assert desk.statuses == ["unreadable_reply"] * 2


@pytest.mark.parametrize("reply", ['{"reason": ' * 4000, '{"reason": ' + "[" * 40_000, "{" * 49_000, '{"a": {"b": "' * 3000])
async def test_a_model_that_does_not_stop_opening_brackets_is_a_failed_call_and_soon(desk: Desk, reply: str) -> None:
    desk.server.script = saying(reply)
    async with desk.open(ROOMY) as chat:
        with pytest.raises(errors.ReplyError):
            await asyncio.wait_for(criticise(chat), 10)
    assert desk.statuses == ["unreadable_reply"] * 2


@pytest.mark.parametrize(
    "text",
    [
        GOOD, f"```json\n{GOOD}\n```", f"Here it is:\n\n{GOOD}\n\nI hope that helps {{really}}.", f"Set {{x}} aside. {GOOD}",
        f"<think>{{maybe}}</think>{GOOD}", '{"reason": "fine\n", "score": 4}', f"\ufeff{GOOD}", f"{GOOD}{GOOD}",
        json.dumps(json.loads(GOOD), indent=4),
    ],
)  # fmt: skip
async def test_json_is_found_wherever_it_stands(desk: Desk, text: str) -> None:
    desk.server.script = saying(text)
    async with desk.open() as chat:
        reply = await criticise(chat)
    assert (reply.get("score"), reply.get("reason")) == (4, "fine")
    assert desk.server.count() == 1


@given(st.text(max_size=200), st.text(alphabet='{}[]":,\\ a1', max_size=60))
def test_extracting_never_raises_anything_but_value_error(before: str, after: str) -> None:
    for text in (before, after, before + after):
        with suppress(ValueError):
            assert isinstance(extract(text), dict)


async def test_a_cut_off_text_may_be_used_and_is_asked_for_again_later(desk: Desk) -> None:
    desk.server.script = lambda request: "One two three four five six seven eight nine ten."
    async with desk.open({"answerer": RoleSettings(max_tokens=3)}) as chat:
        reply = await answer(chat)
        assert (reply.text, reply.cut_off) == ("One two three", True)
    async with desk.open() as chat:
        reply = await answer(chat)
        assert (reply.text.endswith("ten."), reply.cut_off) == (True, False)
    assert desk.statuses == ["cut_off", "ok"]


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (Fault("500"), errors.ServerFaultError, "server_fault"),
        (Fault("hang"), errors.TimeoutCallError, "timeout"),
        (Fault("bad_utf8"), errors.ReplyError, "undecodable_reply"),
        (Fault("reset"), errors.ServerFaultError, "server_fault"),
    ],
)
async def test_a_call_that_fails_is_recorded_with_its_code_and_asked_again_next_time(
    desk: Desk, fault: Fault, error: type[Exception], status: str
) -> None:
    desk.server.faults = [fault]
    async with desk.open(timeout=0.5) as chat:
        with pytest.raises(error):
            await criticise(chat)
    assert desk.statuses == [status]
    assert "judge" in desk.calls()[0]["error"]
    desk.server.faults = []
    async with desk.open() as chat:
        await criticise(chat)
    assert desk.statuses == [status, "ok"]


async def test_a_prompt_that_does_not_fit_is_recorded_as_that(desk: Desk) -> None:
    desk.server.context_tokens = 5
    async with desk.open() as chat:
        with pytest.raises(errors.ContextOverflowError):
            await criticise(chat)
    assert desk.statuses == ["context_overflow"]


async def test_an_endpoint_error_is_no_call_and_goes_on_up(desk: Desk) -> None:
    desk.server.script = saying(Reply("no such model", status=404, code="model_not_found"))
    async with desk.open() as chat:
        with pytest.raises(errors.UnknownModelError):
            await criticise(chat)
    assert desk.statuses == []


async def test_who_is_cancelled_after_the_reply_came_has_paid_for_something(desk: Desk) -> None:
    async with desk.open() as chat:
        tasks = [asyncio.create_task(criticise(chat, step=STEP._replace(candidate=f"c{number}"))) for number in range(20)]
        while chat.calls < 10:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        counted = chat.calls
    assert len(desk.statuses) == counted >= 10


async def test_the_secret_is_in_no_byte_of_the_ledger(desk: Desk) -> None:
    desk.server.api_key = "sk-very-secret-indeed"
    desk.server.faults = [Fault("500", times=1)]
    async with desk.open(api_key="sk-very-secret-indeed", attempts=1) as chat:
        with pytest.raises(errors.ServerFaultError):
            await criticise(chat)
        await criticise(chat)
    desk.server.api_key = "another"
    async with desk.open(api_key="sk-very-secret-indeed", attempts=1) as chat:
        with pytest.raises(errors.WrongKeyError):
            await criticise(chat, answer="other")
    for path in desk.path.parent.glob("ledger.db*"):
        assert b"very-secret" not in path.read_bytes()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reason=st.text(max_size=30))
async def test_whatever_a_reply_holds_can_be_recorded_and_read_back(tmp_path: Path, reason: str) -> None:
    """Lone surrogates and NULs included: they are cleaned, or the reply is refused, and the ledger stays whole."""

    def script(request: Request) -> str:
        return (
            json.dumps({"reason": reason, "score": 4})
            if request.role == "critic"
            else f"Well: {reason.encode('utf-8', 'replace').decode()}"
        )

    async with ScriptedServer(script=script) as server:
        desk = Desk(tmp_path, server)
        step = STEP._replace(candidate=repr(reason))
        async with desk.open() as chat:
            spoken = (await chat.ask("answerer", "en", step, ROW)).text
            try:
                score = (await criticise(chat, step=step)).get("score")
            except errors.ReplyError:
                score = None
        async with desk.open() as chat:
            assert (await chat.ask("answerer", "en", step, ROW)).text == spoken
            if score is not None:
                assert (await criticise(chat, step=step)).get("score") == score
            assert chat.calls == 0 or score is None


async def test_a_template_that_cannot_be_rendered_fails_the_call_before_it_is_sent(desk: Desk) -> None:
    async with desk.open() as chat:
        with pytest.raises(errors.CallError, match="cannot be rendered"):
            await chat.ask("critic", "en", STEP, {key: value for key, value in ROW.items() if key != "answer"})
    assert desk.server.count() == 0


async def test_a_reply_of_two_runs_is_the_same_reply(desk: Desk) -> None:
    """What is read back is what was said, cut-off mark and reasoning included."""
    desk.server.script = saying(Reply("Said.", reasoning="Thought."))
    async with desk.open() as chat:
        first = await answer(chat)
    async with desk.open() as chat:
        assert await answer(chat) == replace(first)
