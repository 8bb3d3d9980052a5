"""The ledger: the durable record of every call, vote, verdict and state. Trace, cache, bill and dataset are read from it.

One thread writes. It takes whatever is queued, commits it as one transaction (group commit, fsync included) and then tells the
waiters, so a thousand writers share a few commits. Readers have connections of their own (SQLite in WAL mode).

What is awaited is durable: `record_call` returns after the commit, and only then may its reply be used; `finish` decides a candidate
in one transaction and is the only definition of "done". A candidate that is begun again loses its old verdicts and votes, never its
calls: they are found by their key and not paid for twice. Only successful calls are found; failed ones stay for the trace and bill.

`seq` is the step of the candidate's own graph run, so a trace sorted by it reads in the order in which things were asked.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, OperationalError

from leafmill.errors import DiskError, RunFolderError
from leafmill.records import Brief, Row, State, Usage, Verdict, Vote

SCHEMA_VERSION = 1
metadata = sa.MetaData()

META = sa.Table("meta", metadata, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.JSON, nullable=False))

CANDIDATES = sa.Table(
    "candidates",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("leaf", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("language", sa.String, nullable=False),
    sa.Column("brief", sa.JSON, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("stage", sa.String, nullable=False, server_default=""),
    sa.Column("code", sa.String, nullable=False, server_default=""),
    sa.Column("detail", sa.Text, nullable=False, server_default=""),
    sa.Column("row", sa.JSON),
    sa.Column("lineage", sa.JSON),
    sa.Column("begun_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.UniqueConstraint("leaf", "number"),
    sa.Index("candidates_by_state", "state", "leaf", "number"),
)

CALLS = sa.Table(
    "calls",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("candidate", sa.String, nullable=False),
    sa.Column("leaf", sa.String, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("variant", sa.String, nullable=False),
    sa.Column("prompt_hash", sa.String, nullable=False),
    sa.Column("alias", sa.String, nullable=False),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("messages", sa.JSON, nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("reasoning", sa.Text, nullable=False),
    sa.Column("finish_reason", sa.String, nullable=False),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("completion_tokens", sa.Integer),
    sa.Column("cached_tokens", sa.Integer),
    sa.Column("reasoning_tokens", sa.Integer),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Index("calls_by_key", "key"),
    sa.Index("calls_by_candidate", "candidate", "seq"),
)

VERDICTS = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("candidate", sa.String, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("gate", sa.String, nullable=False),
    sa.Column("decision", sa.String, nullable=False),
    sa.Column("code", sa.String, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("threshold", sa.Float),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("verdicts_by_candidate", "candidate", "seq"),
)

VOTES = sa.Table(
    "votes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("candidate", sa.String, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("score", sa.Integer),
    sa.Column("rationale", sa.Text, nullable=False),
    sa.Column("failed", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("votes_by_candidate", "candidate", "seq"),
)

LEAVES = sa.Table(
    "leaves",
    metadata,
    sa.Column("leaf", sa.String, primary_key=True),
    sa.Column("asked", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


class Step(NamedTuple):
    """Where in a candidate's life something happens. `candidate` is "leaf:<path>" for what a leaf itself asks (its scenarios)."""

    candidate: str
    leaf: str
    seq: int
    name: str


@dataclass(frozen=True)
class Call:
    """One model call, as asked and as answered. `status` is "ok" or the code of a CallError; times in seconds since the epoch."""

    key: str
    step: Step
    role: str
    variant: str
    prompt_hash: str
    alias: str
    model: str
    messages: Sequence[Mapping[str, str]]
    params: Mapping[str, Any]
    status: str = "ok"
    reply: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    usage: Usage = field(default_factory=Usage)
    attempts: int = 1
    error: str = ""
    started_at: float = 0.0
    seconds: float = 0.0

    def columns(self) -> dict[str, Any]:
        flat = asdict(self)
        step, _ = flat.pop("step"), flat.pop("usage")
        return {
            **flat,
            **dict(zip(("candidate", "leaf", "seq", "step"), step, strict=True)),
            "prompt_tokens": self.usage.prompt,
            "completion_tokens": self.usage.completion,
            "cached_tokens": self.usage.cached,
            "reasoning_tokens": self.usage.reasoning,
        }

    @classmethod
    def from_columns(cls, row: Mapping[str, Any]) -> Call:
        names = ("key", "role", "variant", "prompt_hash", "alias", "model", "messages", "params", "status", "reply", "reasoning")
        usage = Usage(
            prompt=row["prompt_tokens"], completion=row["completion_tokens"], cached=row["cached_tokens"], reasoning=row["reasoning_tokens"]
        )
        step = Step(row["candidate"], row["leaf"], row["seq"], row["step"])
        rest = {n: row[n] for n in (*names, "finish_reason", "attempts", "error", "started_at", "seconds")}
        return cls(step=step, usage=usage, **rest)


class Ending(NamedTuple):
    """How a candidate ended: the state, the stage at which it ended, the reason's code and a sentence."""

    state: State
    stage: str = ""
    code: str = ""
    detail: str = ""


class Ledger:
    """Open with `Ledger(path)`; close with `close()` or as a context manager. `read_only` opens what another process may be writing."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise RunFolderError(f"{path}: there is no ledger here")
        self._engine = sa.create_engine(f"sqlite:///{path}", json_serializer=_dumps, connect_args={"check_same_thread": False})
        sa.event.listen(self._engine, "connect", _set_pragmas)
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._broken: DiskError | None = None
        self._thread: threading.Thread | None = None
        try:
            if not read_only:
                metadata.create_all(self._engine)
            self._check_schema(read_only)
            if not read_only:
                self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
                self._thread.start()
            with self._engine.connect() as conn:
                found = conn.execute(sa.select(CALLS.c.key, sa.func.max(CALLS.c.id)).where(CALLS.c.status == "ok").group_by(CALLS.c.key))
                self._recorded: dict[str, int] = {key: id_ for key, id_ in found}
        except DatabaseError as fault:
            raise _disk_error(path, fault) from fault

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued, stop the writer, close the file."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._engine.dispose()

    # -- writing -------------------------------------------------------------------------------------------------------

    async def begin(self, brief: Brief) -> None:
        """Open a candidate, or open it again: its verdicts and votes are forgotten, its calls are kept."""
        entry = {"id": brief.id, "leaf": brief.leaf, "number": brief.number, "language": brief.language}
        fresh = {"state": "open", "stage": "", "code": "", "detail": "", "row": None, "lineage": None, "ended_at": None}
        values = {**entry, **fresh, "brief": brief.model_dump(mode="json"), "begun_at": time.time()}
        forget = [(t.delete().where(t.c.candidate == brief.id), None) for t in (VERDICTS, VOTES)]
        upsert = CANDIDATES.insert().prefix_with("OR REPLACE")
        await self._write([*forget, (upsert, values)])

    async def record_call(self, call: Call) -> None:
        """Record one call. When this returns, the call is on disk and its reply may be used."""
        (id_,) = await self._write([(CALLS.insert(), call.columns())])
        if call.status == "ok":
            self._recorded[call.key] = id_

    def recorded_call(self, key: str) -> Call | None:
        """The successful call that was asked under this key, if there is one."""
        if key not in self._recorded:
            return None
        found = self.rows(sa.select(CALLS).where(CALLS.c.id == self._recorded[key]))
        return Call.from_columns(found[0])

    def note_verdict(self, step: Step, verdict: Verdict) -> None:
        """Queue a verdict; it is committed before anything that is queued after it."""
        values = {**verdict.model_dump(mode="json"), "candidate": step.candidate, "seq": step.seq, "step": step.name, "at": time.time()}
        self._enqueue([(VERDICTS.insert(), values)])

    def note_vote(self, step: Step, vote: Vote) -> None:
        """Queue a vote; it is committed before anything that is queued after it."""
        self._enqueue([(VOTES.insert(), {**vote.model_dump(mode="json"), "candidate": step.candidate, "seq": step.seq, "at": time.time()})])

    async def finish(self, brief: Brief, ending: Ending, row: Row | None = None, lineage: Mapping[str, Any] | None = None) -> None:
        """Decide a candidate. One transaction; when it returns, the decision is on disk."""
        values = {**ending._asdict(), "row": row and row.model_dump(mode="json"), "lineage": lineage, "ended_at": time.time()}
        await self._write([(CANDIDATES.update().where(CANDIDATES.c.id == brief.id), values)])

    async def note_leaf(self, leaf: str, asked: int, state: str, reason: str) -> None:
        values = {"leaf": leaf, "asked": asked, "state": state, "reason": reason, "at": time.time()}
        await self._write([(LEAVES.insert().prefix_with("OR REPLACE"), values)])

    async def set_meta(self, key: str, value: Any) -> None:
        await self._write([(META.insert().prefix_with("OR REPLACE"), {"key": key, "value": value})])

    # -- reading -------------------------------------------------------------------------------------------------------

    def rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """The result of a query, each row as a dict by column name."""
        try:
            with self._engine.connect() as conn:
                return [dict(r) for r in conn.execute(query).mappings()]
        except DatabaseError as fault:
            raise _disk_error(self.path, fault) from fault

    def meta(self, key: str) -> Any:
        found = self.rows(sa.select(META.c.value).where(META.c.key == key))
        return found[0]["value"] if found else None

    def accepted(self) -> Iterator[tuple[Brief, Row]]:
        """All accepted rows, leaf by leaf, in the order of their numbers."""
        wanted = sa.select(CANDIDATES.c.brief, CANDIDATES.c.row).where(CANDIDATES.c.state == "accepted")
        for found in self.rows(wanted.order_by(CANDIDATES.c.leaf, CANDIDATES.c.number)):
            yield Brief.model_validate(found["brief"]), Row.model_validate(found["row"])

    # -- the writer thread ---------------------------------------------------------------------------------------------

    def _check_schema(self, read_only: bool) -> None:
        if not sa.inspect(self._engine).has_table(META.name):
            raise RunFolderError(f"{self.path}: there is no ledger in it")
        with self._engine.begin() as conn:
            found = conn.execute(sa.select(META.c.value).where(META.c.key == "schema")).scalar()
            if found is None and not read_only:
                conn.execute(META.insert(), {"key": "schema", "value": SCHEMA_VERSION})
            elif found != SCHEMA_VERSION:
                raise RunFolderError(f"{self.path}: made by another version (schema {found}, expected {SCHEMA_VERSION})")

    async def _write(self, statements: Statements) -> list[int]:
        return await asyncio.wrap_future(self._enqueue(statements))

    def _enqueue(self, statements: Statements) -> Future[list[int]]:
        work = _Work(statements, Future())
        work.done.set_running_or_notify_cancel()  # who is cancelled while waiting stops waiting; what was to be recorded still is
        if self._broken is not None:
            work.done.set_exception(self._broken)
        elif self._thread is None:
            raise RunFolderError(f"{self.path}: the ledger is closed, or open for reading only")
        else:
            self._queue.put(work)
        return work.done

    def _write_forever(self) -> None:
        open_ = True
        while open_:
            batch = [self._queue.get()]
            while len(batch) < 500 and not self._queue.empty():
                batch.append(self._queue.get())
            open_ = None not in batch
            self._commit([work for work in batch if work is not None])

    def _commit(self, batch: Iterable[_Work]) -> None:
        works = list(batch)
        try:
            with self._engine.begin() as conn:
                ids = [[_execute(conn, *statement) for statement in work.statements] for work in works]
        except DatabaseError as fault:
            # Nothing of the batch is on disk. A ledger that cannot record must not let the run go on spending.
            self._broken = _disk_error(self.path, fault)
            for work in works:
                work.done.set_exception(self._broken)
        except Exception as fault:  # a bug: hand it to those who wait, who would hang otherwise
            self._broken = DiskError(f"{self.path}: the ledger's writer failed: {fault!r}")
            for work in works:
                work.done.set_exception(fault)
        else:
            for work, made in zip(works, ids, strict=True):
                work.done.set_result(made)


Statements = Sequence[tuple[sa.Insert | sa.Update | sa.Delete, Mapping[str, Any] | None]]


class _Work(NamedTuple):
    statements: Statements
    done: Future[list[int]]


def _execute(conn: sa.Connection, statement: Any, values: Mapping[str, Any] | None) -> int:
    result = conn.execute(statement, values)
    key = result.inserted_primary_key if statement.is_insert else None
    return key[0] if key and isinstance(key[0], int) else 0


def _set_pragmas(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _disk_error(path: Path, fault: DatabaseError) -> DiskError:
    kind = "cannot be read or written" if isinstance(fault, OperationalError) else "is damaged"
    return DiskError(f"{path}: the ledger {kind}: {fault.orig}. What was recorded before is kept; free space or rights, then run again")


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
