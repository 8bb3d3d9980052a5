"""The ledger: what is awaited is on disk, what is begun again starts anew, and a disk that fails loses nothing that was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leafmill.errors import DiskError, RunFolderError
from leafmill.ledger import CALLS, CANDIDATES, META, VERDICTS, VOTES, Call, Ending, Ledger, Step
from leafmill.records import Brief, Row, Usage, Verdict, Vote

BRIEF = Brief(id="c0", leaf="t/a", number=0, language="en", axes={"tone": "dry"}, scenario="在图书馆 📚")
STEP = Step("c0", "t/a", 1, "write.0.0")
ROW = Row(language="en", instruction="Ask.", answer="Say.")


def call(key: str = "k", **changes: Any) -> Call:
    messages = [{"role": "user", "content": "ask 问"}]
    given: dict[str, Any] = {
        "messages": messages,
        "params": {"seed": 1},
        "reply": "said",
        "usage": Usage(prompt=3, completion=2),
        **changes,
    }
    return Call(key, STEP, "writer", "default", "hash", "generator", "m", **given)


def verdict(gate: str = "length", **changes: Any) -> Verdict:
    return Verdict(**{"gate": gate, "decision": "accept", "code": "ok", **changes})


def seen(path: Path, query: str) -> list[Any]:
    """What another connection, and so another process, finds on disk."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as other:
        return other.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_what_is_awaited_is_on_disk_for_another_connection(path: Path) -> None:
    with Ledger(path) as ledger:
        await ledger.begin(BRIEF)
        assert seen(path, "select id, state from candidates") == [("c0", "open")]
        await ledger.record_call(call())
        assert seen(path, "select key, reply, prompt_tokens from calls") == [("k", "said", 3)]
        await ledger.finish(BRIEF, Ending("accepted", "admit"), ROW, {"made": []})
        assert seen(path, "select state, stage from candidates") == [("accepted", "admit")]
        await ledger.note_leaf("t/a", 1, "met", "")
        assert seen(path, "select leaf, asked, state from leaves") == [("t/a", 1, "met")]
        await ledger.set_meta("identity", {"seed": 7})
        assert ledger.meta("identity") == {"seed": 7}


async def test_a_candidate_and_a_call_come_back_as_they_went_in(path: Path) -> None:
    told = call(reasoning="想一想", params={"temperature": 0.1 + 0.2, "seed": 2**31 - 1}, usage=Usage(completion=0), seconds=0.25)
    with Ledger(path) as ledger:
        await ledger.begin(BRIEF)
        await ledger.record_call(told)
        await ledger.finish(BRIEF, Ending("accepted", "admit"), ROW)
    with Ledger(path) as ledger:
        assert ledger.recorded_call("k") == told
        assert list(ledger.accepted()) == [(BRIEF, ROW)]


async def test_beginning_again_forgets_verdicts_and_votes_and_keeps_calls(path: Path) -> None:
    other = BRIEF.model_copy(update={"id": "c1", "number": 1})
    with Ledger(path) as ledger:
        for brief in (BRIEF, other):
            await ledger.begin(brief)
            ledger.note_verdict(STEP._replace(candidate=brief.id), verdict())
            ledger.note_vote(STEP._replace(candidate=brief.id), Vote(role="annotator-x", score=4))
        await ledger.record_call(call())
        await ledger.finish(BRIEF, Ending("errored", "answer", "timeout", "why"), ROW)
        await ledger.begin(BRIEF)
        assert seen(path, "select candidate from verdicts union all select candidate from votes") == [("c1",), ("c1",)]
        assert ledger.recorded_call("k") is not None
    assert seen(path, 'select state, stage, code, detail, "row", ended_at from candidates where id = "c0"')[0][:4] == ("open", "", "", "")


async def test_only_calls_that_succeeded_are_found(path: Path) -> None:
    with Ledger(path) as ledger:
        for status in ("unreadable_reply", "timeout", "cut_off"):
            await ledger.record_call(call(status=status))
        assert ledger.recorded_call("k") is None
        await ledger.record_call(call(reply="good"))
        await ledger.record_call(call(status="timeout", reply=""))
        assert ledger.recorded_call("k").reply == "good"
    with Ledger(path) as ledger:
        assert ledger.recorded_call("k").reply == "good"
        assert ledger.recorded_call("unknown") is None


async def test_what_was_noted_before_a_finish_is_there_after_it(path: Path) -> None:
    with Ledger(path) as ledger:
        await ledger.begin(BRIEF)
        for number in range(1200):  # more than one transaction takes
            ledger.note_verdict(STEP, verdict(value=float(number)))
        ledger.note_vote(STEP, Vote(role="annotator-x", failed="timeout"))
        await ledger.finish(BRIEF, Ending("rejected", "check", "length.cut_off"), ROW)
        assert [value for (value,) in seen(path, "select value from verdicts order by id")] == [float(number) for number in range(1200)]
        assert seen(path, "select score, failed from votes") == [(None, "timeout")]


async def test_many_writers_share_commits_and_each_finds_its_own_call(path: Path) -> None:
    with Ledger(path) as ledger:
        await asyncio.gather(*(ledger.record_call(call(f"k{number}", reply=str(number))) for number in range(300)))
        assert [ledger.recorded_call(f"k{number}").reply for number in range(300)] == [str(number) for number in range(300)]


async def test_closing_commits_what_is_queued(path: Path) -> None:
    ledger = Ledger(path)
    for number in range(50):
        ledger.note_verdict(STEP, verdict(value=float(number)))
    ledger.close()
    assert seen(path, "select count(*) from verdicts") == [(50,)]
    with pytest.raises(RunFolderError, match="closed"):
        await ledger.record_call(call())


async def test_who_is_cancelled_while_waiting_leaves_the_writer_at_work(path: Path) -> None:
    with Ledger(path) as ledger:
        tasks = [asyncio.create_task(ledger.record_call(call(f"k{number}"))) for number in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(ledger.record_call(call("after")), 5)
    paid = {key for (key,) in seen(path, "select key from calls")}
    assert paid == {"after", *(f"k{number}" for number in range(200))}, "a paid call is recorded even if nobody waits for it"


async def test_a_full_disk_is_told_to_all_and_loses_nothing_that_was_told(path: Path) -> None:
    with Ledger(path) as ledger:
        await ledger.begin(BRIEF)
        await ledger.record_call(call("before", reply="kept"))
        fill(ledger)
        big = [ledger.record_call(call(f"k{number}", reply="x" * 400_000)) for number in range(8)]
        faults = await asyncio.wait_for(asyncio.gather(*big, return_exceptions=True), 10)
        refused = [fault for fault in faults if fault is not None]
        assert refused
        assert all(isinstance(fault, DiskError) and fault.exit_code == 23 for fault in refused)
        with pytest.raises(DiskError, match=r"ledger\.db: .*full"):
            await ledger.finish(BRIEF, Ending("accepted", "admit"), ROW)
        ledger.note_verdict(STEP, verdict())  # is dropped, and the finish that follows it would say so
        assert ledger.recorded_call("before").reply == "kept"
        assert {f"k{n}" for n, fault in enumerate(faults) if fault is None} | {"before"} == {
            row["key"] for row in ledger.rows(sa.select(CALLS.c.key))
        }
    with Ledger(path) as ledger:  # space was made
        assert ledger.recorded_call("before").reply == "kept"
        await ledger.finish(BRIEF, Ending("accepted", "admit"), ROW)
    assert seen(path, "select state from candidates") == [("accepted",)]


def fill(ledger: Ledger) -> None:
    """Leave room for about one megabyte: SQLite then answers as it does on a full disk."""

    def limit(connection: Any, _record: Any, _proxy: Any = None) -> None:
        (used,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {used + 250}")

    sa.event.listen(ledger._engine, "checkout", limit)


async def test_after_a_fault_every_later_write_is_refused_even_if_it_would_fit(path: Path) -> None:
    with Ledger(path) as ledger:
        fill(ledger)
        with pytest.raises(DiskError):
            await ledger.record_call(call(reply="x" * 2_000_000))
        with pytest.raises(DiskError):
            await ledger.record_call(call("small"))
    assert seen(path, "select count(*) from calls") == [(0,)]


async def test_a_bug_in_what_is_written_reaches_those_who_wait(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(sa.exc.StatementError, match="not JSON serializable"):
            await asyncio.wait_for(ledger.record_call(call(params={"seed": object()})), 5)
        with pytest.raises(DiskError, match="writer failed"):
            await ledger.record_call(call())


@pytest.mark.parametrize("content", [b"this is no database, it is a letter to you" * 40, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_ledger_is_told_by_name(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(DiskError, match=r"ledger\.db: the ledger is damaged"):
            Ledger(path, read_only=read_only)


async def test_a_page_overwritten_in_the_middle_is_damage_and_not_an_answer(path: Path) -> None:
    with Ledger(path) as ledger:
        for number in range(300):
            await ledger.record_call(call(f"k{number}", reply="x" * 500))
    raw = bytearray(path.read_bytes())
    raw[8192 : len(raw) - 4096] = b"\x5a" * (len(raw) - 4096 - 8192)
    path.write_bytes(raw)
    with pytest.raises(DiskError, match="damaged"), Ledger(path) as ledger:
        ledger.rows(sa.select(CALLS))


async def test_a_reader_refuses_to_write_and_sees_what_the_writer_has_done(path: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no ledger here"):
        Ledger(path, read_only=True)
    with Ledger(path) as writer, Ledger(path, read_only=True) as reader:
        await writer.record_call(call())
        assert [row["key"] for row in reader.rows(sa.select(CALLS.c.key))] == ["k"]
        with pytest.raises(RunFolderError, match="reading only"):
            await reader.record_call(call())
        with pytest.raises(RunFolderError, match="reading only"):
            reader.note_verdict(STEP, verdict())


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_ledger_of_another_version_is_refused(path: Path, read_only: bool) -> None:
    with Ledger(path) as ledger:
        await ledger.set_meta("schema", 99)
    with pytest.raises(RunFolderError, match="schema 99"):
        Ledger(path, read_only=read_only)


def test_an_empty_file_is_no_ledger_to_read_and_a_new_one_to_write(path: Path) -> None:
    path.touch()
    with pytest.raises(RunFolderError):
        Ledger(path, read_only=True)
    with Ledger(path) as ledger:
        assert ledger.meta("schema") == 1


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_any_text_comes_back_as_it_was(path: Path, text: str) -> None:
    brief = BRIEF.model_copy(update={"scenario": text})
    row = Row(language="zh", instruction=text, input=text, answer=text, reasoning=text)

    said = call(text, messages=[{"role": "user", "content": text}], reply=text, reasoning=text, error=text)

    async def write() -> None:
        await ledger.begin(brief)
        await ledger.record_call(said)
        ledger.note_verdict(STEP, verdict(evidence={text: [text]}))
        ledger.note_vote(STEP, Vote(role="annotator-x", score=5, rationale=text))
        await ledger.finish(brief, Ending("accepted", "admit", detail=text), row, {"made": [text]})

    with Ledger(path) as ledger:
        asyncio.run(write())
        assert list(ledger.accepted()) == [(brief, row)]
        assert ledger.recorded_call(text) == said
        assert ledger.rows(sa.select(VERDICTS.c.evidence)) == [{"evidence": {text: [text]}}]
        assert ledger.rows(sa.select(VOTES.c.rationale)) == [{"rationale": text}]
        assert ledger.rows(sa.select(CANDIDATES.c.detail, CANDIDATES.c.lineage)) == [{"detail": text, "lineage": {"made": [text]}}]


async def test_a_value_that_is_no_number_is_null_and_never_zero(path: Path) -> None:
    with Ledger(path) as ledger:
        await ledger.begin(BRIEF)
        ledger.note_verdict(
            STEP, verdict("ifd", decision="unscorable", code="ifd.not_finite", value=float("nan"), evidence={"loss": float("nan")})
        )
        await ledger.finish(BRIEF, Ending("waiting", "score", "ifd.not_finite"))
    assert seen(path, "select value from verdicts") == [(None,)]


def test_json_is_kept_readable(path: Path) -> None:
    with Ledger(path) as ledger:
        asyncio.run(ledger.set_meta("note", {"语": "中文"}))
        assert ledger.rows(sa.select(META.c.value).where(META.c.key == "note")) == [{"value": {"语": "中文"}}]
    ((raw,),) = seen(path, "select value from meta where key = 'note'")
    assert raw == json.dumps({"语": "中文"}, ensure_ascii=False, separators=(",", ":"))
