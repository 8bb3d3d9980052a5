"""The log: one line per event, in three shapes, silent and cheap below its level, and never a word of what was said."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe, taxonomy, told, write_recipe
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.live import Live

from agents.models.alias import Alias
from agents.models.endpoint import Asked, Endpoint, Transient
from agents.models.governor import Governor
from agents.scripted import Fault, ScriptedServer
from leafmill.errors import WrongKeyError
from leafmill.log import CALL, CANDIDATE, DEBUG, INFO, LEVELS, RUN, WARNING, Event, JsonLine, Line, event, open_log
from leafmill.recipe import Address, Model, Recipe, Timeouts

Said = Callable[[str], list[Mapping[str, Any]]]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
FIELDS = st.dictionaries(st.from_regex(r"f_[a-z]{1,8}", fullmatch=True), TEXTS | st.integers() | st.booleans() | st.none(), max_size=5)


def terminal() -> tuple[Console, StringIO]:
    said = StringIO()
    return Console(file=said, force_terminal=True, width=100, color_system=None), said


def piped() -> Console:
    return Console(file=StringIO(), force_terminal=False)


def record(name: str, **fields: object) -> logging.LogRecord:
    return logging.LogRecord("leafmill.run", INFO, __file__, 1, Event(name, fields), (), None)


@given(FIELDS)
def test_a_json_line_is_one_line_that_gives_every_field_back(fields: dict[str, object]) -> None:
    line = JsonLine().format(record("call answered", **fields))
    found = json.loads(line)
    assert "\n" not in line
    assert {key: found.pop(key) for key in ("level", "logger", "event")} == {
        "level": "info",
        "logger": "leafmill.run",
        "event": "call answered",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("at"))
    assert found == fields


@given(FIELDS)
def test_a_line_of_text_is_one_line_whose_fields_can_be_told_apart(fields: dict[str, object]) -> None:
    line = Line().format(record("call answered", **fields))
    head, _, rest = line.partition(" call answered")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info", head)
    assert len(line.split("\n")) == 1
    found = dict(re.findall(r' (f_[a-z]+)=("(?:[^"\\]|\\.)*"|\S+)', rest))
    assert {key: json.loads(value) if value.startswith('"') else value for key, value in found.items()} == {
        key: "?" if value is None else str(value) for key, value in fields.items()
    }


def test_numbers_are_short_in_a_line_of_text_and_chinese_stays_readable() -> None:
    assert str(Event("call retried", {"wait": 1.23456789, "leaf": "编程/调试", "try": 2})) == "call retried wait=1.235 leaf=编程/调试 try=2"
    assert shlex.split(str(Event("x", {"why": "two words"}))) == ["x", "why=two words"]


def test_elsewhere_than_on_a_terminal_info_is_said_on_stderr_and_debug_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with open_log(piped()):
        event(RUN, INFO, "run started", leaves=3)
        event(CALL, DEBUG, "call answered")
    event(RUN, WARNING, "after the log was closed")
    said = capsys.readouterr()
    assert (said.out, re.sub(r"^\S+", "T", said.err.split("\n")[0])) == ("", "T info run started leaves=3")
    assert "call answered" not in said.err
    assert "Z warning after" not in said.err


def test_on_a_terminal_only_warnings_are_said_unless_asked_for() -> None:
    console, said = terminal()
    with open_log(console):
        event(CANDIDATE, INFO, "candidate ended")
        event(RUN, WARNING, "budget used up", reason="tokens")
    assert "candidate ended" not in said.getvalue()
    assert re.search(r"^\d\d:\d\d:\d\d WARNING +budget used up reason=tokens", said.getvalue(), re.MULTILINE)
    with open_log(console, "info"):
        event(CANDIDATE, INFO, "candidate ended")
    assert "candidate ended" in said.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_stand_above_the_live_screen_and_not_in_it(form: str) -> None:
    console, said = terminal()
    with open_log(console, form=form), Live("the live screen", console=console, auto_refresh=False):
        event(RUN, WARNING, "budget used up", leaf="[bold]no markup[/bold]")
    lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line).strip("\r") for line in said.getvalue().split("\n")]
    (place,) = (i for i, line in enumerate(lines) if "budget used up" in line)
    assert "the live screen" in lines[place + 1]
    assert "[bold]no markup[/bold]" in lines[place]
    if form == "json":
        assert json.loads(lines[place].removeprefix("the live screen"))["event"] == "budget used up"


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_lets_through_itself_and_what_is_worse(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open_log(piped(), level):
        for name, number in LEVELS.items():
            event(CALL, number, f"at {name}")
    said = re.findall(r" at (\w+)", capsys.readouterr().err)
    assert said == list(LEVELS)[list(LEVELS).index(level) :]


def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Broken())
    with open_log(piped()):
        event(RUN, WARNING, "nobody hears it")


def test_an_event_that_is_off_is_never_put_together() -> None:
    class Dear:
        def __str__(self) -> str:
            raise AssertionError("nobody wants to see it")

    with open_log(piped(), "info"):
        event(CALL, DEBUG, "call answered", value=Dear())


def test_what_others_log_is_a_line_of_the_same_shape_with_its_exception(capsys: pytest.CaptureFixture[str]) -> None:
    with open_log(piped(), "debug", "json"):
        logging.getLogger("some.library").info("not heard")
        try:
            raise ValueError("what happened")
        except ValueError:
            logging.getLogger("some.library").exception("it %s", "failed")
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["event"], found["logger"], found["level"]) == ("it failed", "some.library", "error")
    assert found["exception"].endswith("ValueError: what happened")


def test_an_event_is_a_whole_line_for_any_other_handler(caplog: pytest.LogCaptureFixture) -> None:
    event(RUN, WARNING, "run started", leaves=3)
    assert caplog.messages == ["run started leaves=3"]
    assert caplog.records[0].funcName == test_an_event_is_a_whole_line_for_any_other_handler.__name__


# -- what a run tells --------------------------------------------------------------------------------------------------

ONE = {"target": 1, "limits": {"candidates_per_leaf": 1}, "flow": {"evolve_rounds": 0}}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """The fields of all events of a name so far, down to `debug`."""
    caplog.set_level(DEBUG, "leafmill")
    return lambda name: [one.msg.fields for one in caplog.records if isinstance(one.msg, Event) and one.msg.name == name]


async def test_a_run_tells_its_beginning_its_candidates_its_leaves_and_its_end(
    tmp_path: Path, server: ScriptedServer, said: Said, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = Cast(critic=lambda request, case: {"reason": "poor", "score": 1} if case.number == 0 else None)
    await go(recipe(tmp_path, server, target=2, flow={"revise_rounds": 0}), tmp_path)
    ledger = told(tmp_path)
    assert said("run started") == [{"run": "run", "leaves": 1, "asked": 2, "accepted": 0}]
    ended = {one["number"]: (one["candidate"], one["state"], one["code"]) for one in said("candidate ended")}
    assert ended == {one["number"]: (one["id"], one["state"], one["code"]) for one in ledger.candidates}
    assert said("leaf ended") == [{"leaf": "t/a", "outcome": "met", "accepted": 2, "asked": 2}]
    answered = Counter((one["candidate"], one["role"], one["input_tokens"]) for one in said("call answered"))
    assert answered == Counter((call["candidate"], call["role"], call["prompt_tokens"]) for call in ledger.calls)
    (end,) = said("run ended")
    assert (end["exit_code"], end["accepted"], end["calls"], end["money"]) == (0, 2, len(ledger.calls), None)
    events = [one.msg.name for one in caplog.records if isinstance(one.msg, Event)]
    assert (events[0], events[-1]) == ("run started", "run ended")


async def test_a_call_that_is_tried_again_or_fails_says_why(tmp_path: Path, server: ScriptedServer, said: Said) -> None:
    server.faults = [Fault("500", role="writer", times=1), Fault("empty", role="answerer")]
    await go(recipe(tmp_path, server, **ONE), tmp_path)
    (retried,) = said("call retried")
    assert (retried["role"], retried["endpoint"], retried["reason"], retried["tries"]) == ("writer", server.base_url, "500", 1)
    assert retried["wait"] >= 0
    (candidate,) = said("candidate ended")
    assert (candidate["state"], candidate["code"]) == ("errored", "empty_reply")
    server.faults = [Fault("500", role="answerer")]
    await go(recipe(tmp_path, server, **ONE), tmp_path)
    (failed,) = said("call failed")
    assert (failed["role"], failed["code"], failed["attempts"]) == ("answerer", "server_fault", 2)


async def test_no_prompt_no_reply_and_no_key_gets_into_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(DEBUG, "leafmill")
    faults = [Fault("bad_json", role="writer", times=1), Fault("500", role="critic"), Fault("cut", role="annotator-clarity", times=1)]
    async with ScriptedServer(seed=7, script=Cast(), faults=faults, api_key="a-secret-key") as server:
        model = {"base_url": server.base_url, "attempts": 2, "concurrency": 4}
        models = {alias: {**model, "model": f"scripted-{alias}", "api_key": "${KEY}"} for alias in ("generator", "judge")}
        path = write_recipe(tmp_path, server, target=2, limits={"candidates_per_leaf": 2}, models=models)
        await go(Recipe.read(path, {"KEY": "a-secret-key"}), tmp_path)
        with pytest.raises(WrongKeyError):
            await go(Recipe.read(path, {"KEY": "a-wrong-key"}, name="other", seed=8), tmp_path / "other")
    assert "call answered" in caplog.text
    assert "run failed run=run error=WrongKeyError" in caplog.text
    for text in ("secret", "wrong-key", "Bearer", "invoice", "colleague", "Filing", "shelf"):
        assert text not in caplog.text


async def test_a_budget_that_is_used_up_is_told_once(tmp_path: Path, server: ScriptedServer, said: Said) -> None:
    taxonomy(tmp_path, "abc")
    await go(recipe(tmp_path, server, target=5, limits={"tokens": 9000}), tmp_path)
    (used,) = said("budget used up")
    assert used["leaf"] == "*"
    assert "of 9000 tokens used" in used["reason"]
    assert {one["outcome"] for one in said("leaf ended")} == {"budget"}


async def test_a_run_that_is_stopped_says_so_once(tmp_path: Path, server: ScriptedServer, said: Said) -> None:
    def soon(run: Any) -> None:
        asyncio.get_running_loop().call_later(0.05, run.stop)
        asyncio.get_running_loop().call_later(0.06, run.stop)

    server.latency = 0.1
    await go(recipe(tmp_path, server, target=5), tmp_path, during=soon)
    assert said("run stops") == [{"run": "run", "reason": "interrupted"}]


async def test_an_endpoint_that_goes_down_and_comes_back_is_told_once_each(said: Said) -> None:
    asked = Asked([{"role": "user", "content": "?"}], {"max_tokens": 5}, None, "writer", Timeouts(), 50)
    async with ScriptedServer() as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
        end = Endpoint("generator", Model(base_url=server.base_url, model="m"), Address(base_url=server.base_url), Governor(4))
        await end.ask(asked)
    for _ in range(2):
        with pytest.raises(Transient):
            await end.ask(asked)
    async with ScriptedServer(port=port):
        await end.ask(asked)
        await end.ask(asked)
    await end.aclose()
    assert said("endpoint down") == said("endpoint back") == [{"model": "m", "endpoint": end.address.base_url}]


async def test_an_endpoint_that_fails_beside_others_rests_and_works_again(server: ScriptedServer, said: Said, unused_tcp_port: int) -> None:
    asked = Asked([{"role": "user", "content": "?"}], {"max_tokens": 5}, None, "writer", Timeouts(), 50)
    model = Model(endpoints=(Address(base_url=f"http://127.0.0.1:{unused_tcp_port}/v1"), Address(base_url=server.base_url)), model="m")
    alias = Alias("generator", model, [Endpoint("generator", model, one, Governor(4)) for one in model.endpoints])
    await alias.complete(asked)
    assert [one["endpoint"] for one in said("endpoint rests")] == [model.endpoints[0].base_url]
    async with ScriptedServer(port=unused_tcp_port):
        alias._places[0].until = 0.0
        await asyncio.gather(*(alias.complete(asked) for _ in range(4)))
    await alias.aclose()
    assert said("endpoint works again") == [{"endpoint": model.endpoints[0].base_url}]


async def test_a_lane_that_is_slowed_rests_or_recovers_is_told(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    lane = Governor(2, lane="m at http://x/v1")

    async def replies(count: int, refused: bool, headers: Mapping[str, str] | None = None) -> None:
        for _ in range(count):
            lane._rest_until = 0.0
            place = await lane.enter()
            lane.refused(place) if refused else lane.answered(place, headers or {})
            lane.leave(place)

    await replies(16, refused=True)
    (slowed, *again) = said("lane slowed")
    levels = [one.levelname for one in caplog.records if isinstance(one.msg, Event) and one.msg.name == "lane slowed"]
    assert (levels[0], {*levels[1:]}, len(again) > 0) == ("WARNING", {"INFO"}, True)
    assert (slowed["lane"], slowed["limit"], slowed["rests"] > 0) == ("m at http://x/v1", 1, True)
    await replies(16, refused=False)
    assert said("lane recovered") == [{"lane": "m at http://x/v1", "limit": 2}]
    await replies(1, refused=False, headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"})
    assert said("lane rests") == [{"lane": "m at http://x/v1", "seconds": 360.0}]


async def test_an_index_that_is_built_anew_is_told(tmp_path: Path, server: ScriptedServer, said: Said) -> None:
    settings = {**ONE, "gates": {"ifd": False}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "chroma").write_text("a file")
    await go(recipe(tmp_path, server, **settings), tmp_path)
    (rebuilt,) = said("index rebuilt")
    assert rebuilt["path"] == tmp_path / "run" / "chroma"
    assert rebuilt["aside"].startswith("chroma.damaged-")
