"""The ledger: what is awaited is on disk, what is begun again starts anew, and a disk that fails loses nothing that was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from leafmill.errors import DiskError, RunFolderError
from leafmill.ledger import CALLS, CANDIDATES, META, SCHEMA_VERSION, VERDICTS, VOTES, Call, Ending, Ledger, Spent, Step
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
    where = {"endpoint": "http://one.example/v1", "cost": 0.1 + 0.2, "attempts": 3}
    told = call(reasoning="想一想", params={"temperature": 0.1 + 0.2, "seed": 2**31 - 1}, usage=Usage(completion=0), seconds=0.25, **where)
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
        await ledger.record_call(call(reply="better"))
        await ledger.record_call(call(status="timeout", reply=""))
        assert ledger.recorded_call("k").reply == "better"
    with Ledger(path) as ledger:
        assert ledger.recorded_call("k").reply == "better"
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
    said: list[str] = []
    with Ledger(path) as ledger:
        ledger._writer.set_trace_callback(said.append)
        await asyncio.gather(*(ledger.record_call(call(f"k{number}", reply=str(number))) for number in range(300)))
        assert [ledger.recorded_call(f"k{number}").reply for number in range(300)] == [str(number) for number in range(300)]
    assert 1 <= said.count("COMMIT") < 100


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
    (used,) = ledger._writer.execute("PRAGMA page_count").fetchone()
    ledger._writer.execute(f"PRAGMA max_page_count = {used + 250}")


async def test_after_a_fault_every_later_write_is_refused_even_if_it_would_fit(path: Path) -> None:
    with Ledger(path) as ledger:
        fill(ledger)
        with pytest.raises(DiskError):
            await ledger.record_call(call(reply="x" * 2_000_000))
        with pytest.raises(DiskError):
            await ledger.record_call(call("small"))
    assert seen(path, "select count(*) from calls") == [(0,)]


async def test_what_was_queued_behind_a_write_that_fails_is_refused_too(path: Path) -> None:
    with Ledger(path) as ledger:
        fill(ledger)
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")  # the writer waits for it, with the first call in its hands
            first = asyncio.create_task(ledger.record_call(call("first", reply="x" * 2_000_000)))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(ledger.record_call(call("second")))
            await asyncio.sleep(0)
        for task in (first, second):
            with pytest.raises(DiskError, match="full"):
                await asyncio.wait_for(task, 5)
    assert seen(path, "select count(*) from calls") == [(0,)]


async def test_what_cannot_be_written_as_json_is_told_to_its_writer_alone(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(ValueError, match="Unable to serialize"):
            await ledger.record_call(call(params={"seed": object()}))
        await ledger.record_call(call())
        assert ledger.recorded_call("k") == call()


async def test_a_bug_in_what_is_written_reaches_those_who_wait(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(UnicodeEncodeError):
            await asyncio.wait_for(ledger.record_call(call(reply="half a pair: \ud800")), 5)
        with pytest.raises(DiskError, match="writer failed"):
            await ledger.record_call(call())


def test_an_event_loop_that_is_gone_leaves_the_writer_at_work(path: Path) -> None:
    async def leave() -> None:
        task = asyncio.create_task(ledger.record_call(call("left", reply="x" * 5_000_000)))
        await asyncio.sleep(0)
        task.cancel()

    with Ledger(path) as ledger:
        asyncio.run(leave())
        asyncio.run(asyncio.wait_for(ledger.record_call(call("after")), 5))
    assert seen(path, "select key from calls order by id") == [("left",), ("after",)]


WORK = """
import asyncio, sys
from pathlib import Path
from leafmill.ledger import Call, Ending, Ledger, Step
from leafmill.records import Brief, Row, Verdict

async def work(ledger, lane):
    for number in range(lane, 100_000, 20):
        brief = Brief(id=f"c{number}", leaf="t/a", number=number, language="en")
        step = Step(brief.id, brief.leaf, 1, "write")
        await ledger.begin(brief)
        for part in range(2):
            await ledger.record_call(Call(f"{number}.{part}", step, "writer", "d", "h", "g", "m", [], {}, reply="said " * 200))
            print(f"call {number}.{part}", flush=True)
            ledger.note_verdict(step, Verdict(gate="length", decision="accept", code="ok"))
        await ledger.finish(brief, Ending("accepted"), Row(language="en", instruction="Ask."))
        print(f"row c{number}", flush=True)

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    await asyncio.gather(*(work(ledger, lane) for lane in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 300, 1500])
def test_after_a_kill_all_that_was_told_is_there(path: Path, lines: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WORK, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        told = [child.stdout.readline().split() for _ in range(lines)]
        child.kill()
        told += [line.split() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert path.with_name("ledger.db-wal").stat().st_size
    for read_only in (True, False):
        with Ledger(path, read_only=read_only) as ledger:
            assert all(ledger.recorded_call(key) for what, key in told if what == "call")
            assert {key for what, key in told if what == "row"} <= {brief.id for brief, _ in ledger.accepted()}
            verdicts = sa.select(VERDICTS.c.candidate, sa.func.count().label("n")).group_by(VERDICTS.c.candidate)
            noted = {row["candidate"]: row["n"] for row in ledger.rows(verdicts)}
            assert all(noted[brief.id] == 2 for brief, _ in ledger.accepted()), "a decision comes with the verdicts before it"
    assert seen(path, "pragma integrity_check") == [("ok",)]


KINDS = ("begin", "call", "verdict", "vote", "finish")


@settings(max_examples=40, deadline=None)
@given(writes=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("abc"), st.booleans()), max_size=40))
@example([("verdict", "a", False), ("begin", "a", False), ("vote", "a", False)])
def test_whatever_is_batched_how_a_ledger_holds_what_was_written_in_its_order(writes: list[tuple[str, str, bool]]) -> None:
    """Each write is a kind, a candidate, and whether all written so far is awaited before the next."""
    states: dict[str, str] = {}
    calls: list[str] = []
    notes: dict[str, dict[str, list[int]]] = {"verdict": defaultdict(list), "vote": defaultdict(list)}

    async def write(ledger: Ledger) -> None:
        waiting: list[asyncio.Future[None]] = []
        for n, (kind, id_, pause) in enumerate(writes):
            brief, step = BRIEF.model_copy(update={"id": id_, "number": ord(id_)}), STEP._replace(candidate=id_, seq=n)
            if kind == "begin":
                waiting.append(asyncio.ensure_future(ledger.begin(brief)))
                states[id_], notes["verdict"][id_], notes["vote"][id_] = "open", [], []
            elif kind == "call":
                waiting.append(asyncio.ensure_future(ledger.record_call(call(str(n)))))
                calls.append(str(n))
            elif kind == "finish":
                waiting.append(asyncio.ensure_future(ledger.finish(brief, Ending("rejected", detail=str(n)))))
                states.update({id_: str(n)} if id_ in states else {})
            else:
                ledger.note_verdict(step, verdict()) if kind == "verdict" else ledger.note_vote(step, Vote(role="annotator-x", score=3))
                notes[kind][id_].append(n)
            await (asyncio.gather(*waiting) if pause else asyncio.sleep(0))
        await asyncio.gather(*waiting)

    with tempfile.TemporaryDirectory() as folder:
        with Ledger(Path(folder) / "ledger.db") as ledger:
            asyncio.run(write(ledger))
        with Ledger(Path(folder) / "ledger.db") as ledger:
            ended = ledger.rows(sa.select(CANDIDATES.c.id, CANDIDATES.c.state, CANDIDATES.c.detail))
            assert {row["id"]: row["detail"] or row["state"] for row in ended} == states
            assert [row["key"] for row in ledger.rows(sa.select(CALLS.c.key).order_by(CALLS.c.id))] == calls
            assert all(ledger.recorded_call(key) for key in calls)
            for kind, table in (("verdict", VERDICTS), ("vote", VOTES)):
                found = defaultdict(list)
                for row in ledger.rows(sa.select(table.c.candidate, table.c.seq).order_by(table.c.id)):
                    found[row["candidate"]].append(row["seq"])
                assert found == {id_: numbers for id_, numbers in notes[kind].items() if numbers}


async def test_what_was_spent_is_added_up_by_leaf_and_what_is_unknown_is_counted_beside_it(path: Path) -> None:
    half = STEP._replace(leaf="t/half")
    with Ledger(path) as ledger:
        assert ledger.spent() == {}
        await ledger.record_call(call("a", cost=0.5))
        await ledger.record_call(call("b", cost=0.25, status="unreadable_reply"))
        for made in (call("c", cost=1.0, usage=Usage(prompt=7)), call("d", usage=Usage(), status="timeout"), call("e", cost=0.0)):
            await ledger.record_call(replace(made, step=half))
        await ledger.record_call(replace(call("f"), step=STEP._replace(leaf="t/none")))
        assert ledger.spent() == {
            "t/a": Spent(calls=2, tokens=10, uncounted_calls=0, money=0.75, unpriced_calls=0),
            "t/half": Spent(calls=3, tokens=12, uncounted_calls=1, money=1.0, unpriced_calls=1),
            "t/none": Spent(calls=1, tokens=5, uncounted_calls=0, money=None, unpriced_calls=1),
        }


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
@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1])
async def test_a_ledger_of_another_version_is_refused(path: Path, version: int, read_only: bool) -> None:
    with Ledger(path) as ledger:
        await ledger.set_meta("schema", version)
    with pytest.raises(RunFolderError, match=f"schema {version}, expected {SCHEMA_VERSION}"):
        Ledger(path, read_only=read_only)


def test_an_empty_file_is_no_ledger_to_read_and_a_new_one_to_write(path: Path) -> None:
    path.touch()
    with pytest.raises(RunFolderError):
        Ledger(path, read_only=True)
    with Ledger(path) as ledger:
        assert ledger.meta("schema") == SCHEMA_VERSION


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
    assert seen(path, "select value, evidence from verdicts") == [(None, '{"loss":null}')]


async def test_json_is_kept_readable(path: Path) -> None:
    with Ledger(path) as ledger:
        await ledger.set_meta("note", {"语": "中文"})
        assert ledger.rows(sa.select(META.c.value).where(META.c.key == "note")) == [{"value": {"语": "中文"}}]
    ((raw,),) = seen(path, "select value from meta where key = 'note'")
    assert raw == json.dumps({"语": "中文"}, ensure_ascii=False, separators=(",", ":"))
