"""The ledger: the durable record of every call, vote, verdict and state. Trace, cache, bill and dataset are read from it.

One thread writes. It takes whatever is queued, commits it as one transaction (group commit, fsync included) and then tells the
waiters, so a thousand writers share a few commits. It speaks to the driver itself, one `executemany` for all of a kind: SQLAlchemy's
statements, good for reading, would cost more than SQLite does. Readers have connections of their own (SQLite in WAL mode).

What is awaited is durable: `record_call` returns after the commit, and only then may its reply be used; `finish` decides a candidate
in one transaction and is the only definition of "done". A candidate that is begun again loses its old verdicts and votes, never its
calls: they are found by their key and not paid for twice. Only successful calls are found; failed ones stay for the trace and bill.

`seq` is the step of the candidate's own graph run, so a trace sorted by it reads in the order in which things were asked.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.exc import DatabaseError

from leafmill.errors import DiskError, OtherVersionError, RunFolderError
from leafmill.records import Brief, Review, Row, State, Usage, Verdict, Vote

SCHEMA_VERSION = 4
MIGRATED = (3,)
"""older versions that only lack tables: they are given them as they are opened"""
UNDO = 5.0
"""seconds in which a person can take a decision back while a run is going; it goes on by it a second later"""
GATHER = 0.04
"""seconds that a commit waits for more while several write at once: a commit costs more than what is in it. One writer waits for nobody"""
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
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("finish_reason", sa.String, nullable=False),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("completion_tokens", sa.Integer),
    sa.Column("cached_tokens", sa.Integer),
    sa.Column("reasoning_tokens", sa.Integer),
    sa.Column("cost", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    # What is long stands last: SQLite then reads the columns before it without following a row's overflow pages.
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("messages", sa.JSON, nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("reasoning", sa.Text, nullable=False),
    sa.Column("score_logprobs", sa.JSON),
    sa.Index("calls_by_key", "key", sqlite_where=sa.text("status = 'ok'")),
    sa.Index("calls_by_candidate", "candidate", "seq"),
)
_SUCCEEDED = CALLS.c.status == sa.literal_column("'ok'")  # spelled as in the index, which is not used for a bound value

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
    sa.Column("alias", sa.String, nullable=False, server_default=""),
    sa.Column("score", sa.Integer),
    sa.Column("expected", sa.Float),
    sa.Column("answer_tokens", sa.Integer),
    sa.Column("rationale", sa.Text, nullable=False),
    sa.Column("failed", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("votes_by_candidate", "candidate", "seq"),
)

DUE = "decision <> 'skip' AND undone_at IS NULL AND taken_at IS NULL"
"""of `reviews`: a decision that no graph has gone on by yet"""
REVIEWS = sa.Table(
    "reviews",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("candidate", sa.String, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("reviewer", sa.String, nullable=False),
    sa.Column("decision", sa.String, nullable=False),
    sa.Column("code", sa.String, nullable=False, server_default=""),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("row", sa.JSON),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("undone_at", sa.Float),
    sa.Column("taken_at", sa.Float),
    sa.Index(
        "one_decision",
        "candidate",
        unique=True,
        sqlite_where=sa.text(DUE),
    ),
    sa.Index("reviews_by_candidate", "candidate"),
)
"""What people decided of candidates that waited for them: accept, reject, edit or skip. `row` is what an edit makes of it; `taken_at` is
when the graph went on by it."""

CLAIMS = sa.Table(
    "claims",
    metadata,
    sa.Column("candidate", sa.String, primary_key=True),
    sa.Column("reviewer", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
"""Who looks at which candidate just now, so that no other is shown it."""

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
    endpoint: str = ""
    """base_url of the server that answered; "" when none did"""
    cost: float | None = None
    """in the recipe's currency; None when it is unknown"""
    score_logprobs: Mapping[str, float] | None = None
    """log-probabilities of what might have stood where a judge wrote its score; None where the server does not say"""

    def columns(self) -> dict[str, Any]:
        candidate, leaf, seq, step = self.step
        usage = self.usage
        return {
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
            "candidate": candidate,
            "leaf": leaf,
            "seq": seq,
            "step": step,
            "messages": _json(self.messages),
            "params": _json(self.params),
            "score_logprobs": None if self.score_logprobs is None else _json(self.score_logprobs),
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "cached_tokens": usage.cached,
            "reasoning_tokens": usage.reasoning,
        }

    @classmethod
    def from_columns(cls, row: Mapping[str, Any]) -> Call:
        usage = Usage(
            prompt=row["prompt_tokens"], completion=row["completion_tokens"], cached=row["cached_tokens"], reasoning=row["reasoning_tokens"]
        )
        step = Step(row["candidate"], row["leaf"], row["seq"], row["step"])
        return cls(step=step, usage=usage, messages=row["messages"], params=row["params"], **{name: row[name] for name in _AS_THEY_ARE})


_AS_THEY_ARE = tuple(f.name for f in fields(Call) if f.name in CALLS.c and f.name not in ("step", "messages", "params"))
"""fields of a call that are columns of the same name and value"""


class Ending(NamedTuple):
    """How a candidate ended: the state, the stage at which it ended, the reason's code and a sentence."""

    state: State
    stage: str = ""
    code: str = ""
    detail: str = ""


class Spent(NamedTuple):
    """What calls have cost. `money` is the sum of the costs that are known, None where none is; `unpriced_calls` are not in it."""

    calls: int
    tokens: int
    uncounted_calls: int
    """calls whose server did not say how many tokens they took"""
    money: float | None
    unpriced_calls: int
    """calls whose cost is unknown"""


class Ledger:
    """Open with `Ledger(path)`; close with `close()` or as a context manager. `read_only` opens what another process may be writing.

    Writes are asked for on an event loop's thread. They are queued when they are called (`record_call`: when it is awaited), and no
    write is on disk without those that were queued before it; to await what they return is to wait for the disk.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise RunFolderError(f"{path}: there is no ledger here")
        self._engine = sa.create_engine(f"sqlite:///{path}", creator=lambda: _connect(path, read_only), json_serializer=_json)
        self._queue: queue.SimpleQueue[list[_Write] | None] = queue.SimpleQueue()
        self._notes: list[_Write] = []
        """what nobody waits for: it is queued together with the next write that is waited for"""
        self._broken: DiskError | None = None
        self._thread: threading.Thread | None = None
        try:
            found = _schema(path)
            if found in MIGRATED or (found is None and not read_only):
                _make_tables(path)
            self._check_schema()
            if not read_only:
                with self._engine.connect() as conn:
                    self._recorded = set(conn.scalars(sa.select(CALLS.c.key).where(_SUCCEEDED)))
                self._writer = _connect(path)
                self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
                self._thread.start()
        except (DatabaseError, sqlite3.DatabaseError) as fault:
            raise disk_error(path, fault) from fault

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued, stop the writer, close the file."""
        if self._thread is not None:
            self._queue.put(self._notes)
            self._queue.put(None)
            self._thread.join()
            self._thread = None
            self._writer.close()
        self._engine.dispose()

    # -- writing -------------------------------------------------------------------------------------------------------

    def begin(self, brief: Brief) -> Awaitable[None]:
        """Open a candidate, or open it again: its verdicts and votes are forgotten, its calls are kept."""
        entry = {"id": brief.id, "leaf": brief.leaf, "number": brief.number, "language": brief.language}
        return self._write("begin", brief.id, {**entry, "brief": brief.model_dump_json(), "state": "open", "begun_at": time.time()})

    async def record_call(self, call: Call) -> None:
        """Record one call. When this returns, the call is on disk and its reply may be used."""
        await self._write("call", "", call.columns())
        if call.status == "ok":
            self._recorded.add(call.key)

    @cached_property
    def _recorded(self) -> set[str]:
        """The keys of all calls that succeeded; whoever only looks at a run asks for none."""
        return {row["key"] for row in self.rows(sa.select(CALLS.c.key).where(_SUCCEEDED))}

    def recorded_call(self, key: str) -> Call | None:
        """The successful call that was asked under this key, if there is one."""
        if key not in self._recorded:
            return None
        same = sa.select(CALLS).where(CALLS.c.key == key, _SUCCEEDED).order_by(CALLS.c.id.desc()).limit(1)
        return Call.from_columns(self.rows(same)[0])

    def note_verdict(self, step: Step, verdict: Verdict) -> None:
        """Queue a verdict; it is committed before, or together with, anything that is queued after it."""
        at = {"candidate": step.candidate, "seq": step.seq, "step": step.name, "at": time.time()}
        self._note("verdict", step.candidate, {**dict(verdict), "evidence": _json(verdict.evidence), **at})

    def note_vote(self, step: Step, vote: Vote) -> None:
        """Queue a vote; it is committed before, or together with, anything that is queued after it."""
        self._note("vote", step.candidate, {**dict(vote), "candidate": step.candidate, "seq": step.seq, "at": time.time()})

    def note_taken(self, candidate: str) -> None:
        """Queue that a graph has gone on by what was decided of a candidate. To finish it as accepted or rejected says so as well."""
        self._note("taken", candidate, {"id": candidate, "at": time.time()})

    def wait_again(self, candidate: str, held: Ending) -> Awaitable[None]:
        """A candidate did not get on from where it waited: it waits there still, and what was decided of it is still to be followed."""
        return self._write("wait", candidate, {"id": candidate, **held._asdict()})

    def forget_from(self, step: Step) -> None:
        """Queue that a candidate's verdicts and votes from this step on count no more: it goes on from there once again."""
        self._note("forget", step.candidate, {"id": step.candidate, "seq": step.seq})

    def finish(self, brief: Brief, ending: Ending, row: Row | None = None, lineage: Mapping[str, Any] | None = None) -> Awaitable[None]:
        """Decide a candidate, in one transaction; when it is done, the decision is on disk."""
        made = {"row": row and row.model_dump_json(), "lineage": None if lineage is None else _json(lineage)}
        return self._write("finish", brief.id, {"id": brief.id, **ending._asdict(), **made, "ended_at": time.time()})

    def note_leaf(self, leaf: str, asked: int, state: str, reason: str) -> Awaitable[None]:
        return self._write("leaf", "", {"leaf": leaf, "asked": asked, "state": state, "reason": reason, "at": time.time()})

    def set_meta(self, key: str, value: Any) -> Awaitable[None]:
        return self._write("meta", "", {"key": key, "value": _json(value)})

    # -- reading -------------------------------------------------------------------------------------------------------

    def rows(self, query: sa.Executable) -> list[dict[str, Any]]:
        """The result of a query, each row as a dict by column name."""
        try:
            with self._engine.connect() as conn:
                return [dict(r) for r in conn.execute(query).mappings()]
        except DatabaseError as fault:
            raise disk_error(self.path, fault) from fault

    def meta(self, key: str) -> Any:
        found = self.rows(sa.select(META.c.value).where(META.c.key == key))
        return found[0]["value"] if found else None

    def accepted(self) -> Iterator[tuple[Brief, Row]]:
        """All accepted rows, leaf by leaf, in the order of their numbers."""
        texts = [sa.type_coerce(column, sa.Text).label(column.name) for column in (CANDIDATES.c.brief, CANDIDATES.c.row)]
        wanted = sa.select(*texts).where(CANDIDATES.c.state == "accepted")
        for found in self.rows(wanted.order_by(CANDIDATES.c.leaf, CANDIDATES.c.number)):
            yield Brief.model_validate_json(found["brief"]), Row.model_validate_json(found["row"])

    def decisions(self, before: float) -> list[Review]:
        """What people have decided until then (seconds since the epoch) of candidates that wait, and what no graph has gone on by yet."""
        r = REVIEWS.c
        due = sa.select(REVIEWS).where(sa.text(DUE), r.at <= before)
        return [Review.of(row) for row in self.rows(due.order_by(r.id))]

    def spent(self) -> dict[str, Spent]:
        """What each leaf's calls have cost so far, those that failed included."""
        c, number, total = CALLS.c, sa.func.count, sa.func.sum
        tokens = total(sa.func.coalesce(c.prompt_tokens, 0) + sa.func.coalesce(c.completion_tokens, 0))
        counted = number(sa.func.coalesce(c.prompt_tokens, c.completion_tokens))
        sums = (number(), tokens, number() - counted, total(c.cost), number() - number(c.cost))
        named = [column.label(name) for name, column in zip(Spent._fields, sums, strict=True)]
        return {row.pop("leaf"): Spent(**row) for row in self.rows(sa.select(c.leaf, *named).group_by(c.leaf))}

    # -- the writer thread ---------------------------------------------------------------------------------------------

    def _check_schema(self) -> None:
        found = _schema(self.path)
        if found is None:
            raise RunFolderError(f"{self.path}: there is no ledger in it")
        if found != SCHEMA_VERSION:
            raise OtherVersionError(f"{self.path}: made by another version (schema {found}, expected {SCHEMA_VERSION})")

    def _write(self, kind: str, candidate: str, values: Mapping[str, Any]) -> Awaitable[None]:
        """Queue a write, now; what is returned is done when it is on disk."""
        self._check_open()
        if self._broken is not None:
            raise self._broken
        done = asyncio.get_running_loop().create_future()
        done.add_done_callback(_seen)
        queued, self._notes = self._notes, []
        queued.append(_Write(kind, candidate, values, done))
        self._queue.put(queued)
        return done  # who is cancelled while waiting stops waiting; what was to be recorded still is

    def _note(self, kind: str, candidate: str, values: Mapping[str, Any]) -> None:
        self._check_open()
        self._notes.append(_Write(kind, candidate, values, None))

    def _check_open(self) -> None:
        if self._thread is None:
            raise RunFolderError(f"{self.path}: the ledger is closed, or open for reading only")

    def _write_forever(self) -> None:
        going_on, crowded = True, False
        while going_on:
            queued = [self._queue.get()]
            if crowded:
                time.sleep(GATHER)
            while not self._queue.empty():
                queued.append(self._queue.get())
            crowded, going_on = len(queued) > 1, None not in queued
            self._commit([write for writes in queued for write in writes or ()])

    def _commit(self, writes: Sequence[_Write]) -> None:
        fault: Exception | None = self._broken
        if fault is None:
            try:
                with self._writer:
                    for sql, values in _grouped(writes):
                        self._writer.executemany(sql, values)
            except sqlite3.DatabaseError as found:
                # Nothing of the batch is on disk. A ledger that cannot record must not let the run go on spending.
                fault = self._broken = disk_error(self.path, found)
            except Exception as found:  # a bug: hand it to those who wait, who would hang otherwise
                fault, self._broken = found, DiskError(f"{self.path}: the ledger's writer failed: {found!r}")
        waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = defaultdict(list)
        for write in writes:
            if write.done is not None:
                waiting[write.done.get_loop()].append(write.done)
        for loop, done in waiting.items():
            with suppress(RuntimeError):  # a loop that was closed meanwhile: nobody waits there
                loop.call_soon_threadsafe(_tell, done, fault)


class _Write(NamedTuple):
    """One write: of a kind (a key of `_STATEMENTS`), of a candidate ("" where that does not matter), and who waits for it."""

    kind: str
    candidate: str
    values: Mapping[str, Any]
    done: asyncio.Future[None] | None


def _insert(table: sa.Table, *names: str) -> str:
    """The SQL that inserts into these columns (all but a number that SQLite gives itself), or replaces a row of the same key."""
    names = names or tuple(c.name for c in table.columns if not (c.primary_key and isinstance(c.type, sa.Integer)))
    columns, values = ", ".join(f'"{name}"' for name in names), ", ".join(f":{name}" for name in names)
    return f'INSERT OR REPLACE INTO "{table.name}" ({columns}) VALUES ({values})'


_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "begin": (
        "DELETE FROM verdicts WHERE candidate = :id",
        "DELETE FROM votes WHERE candidate = :id",
        _insert(CANDIDATES, "id", "leaf", "number", "language", "brief", "state", "begun_at"),
    ),
    "forget": (
        "DELETE FROM verdicts WHERE candidate = :id AND seq >= :seq",
        "DELETE FROM votes WHERE candidate = :id AND seq >= :seq",
    ),
    "call": (_insert(CALLS),),
    "verdict": (_insert(VERDICTS),),
    "vote": (_insert(VOTES),),
    "finish": (
        "UPDATE candidates SET state = :state, stage = :stage, code = :code, detail = :detail, "
        '"row" = :row, lineage = :lineage, ended_at = :ended_at WHERE id = :id',
        f"UPDATE reviews SET taken_at = :ended_at WHERE candidate = :id AND {DUE} AND :state IN ('accepted', 'rejected')",
    ),
    "wait": ("UPDATE candidates SET state = :state, stage = :stage, code = :code, detail = :detail WHERE id = :id",),
    "taken": (f"UPDATE reviews SET taken_at = :at WHERE candidate = :id AND {DUE}",),
    "leaf": (_insert(LEAVES),),
    "meta": (_insert(META),),
}
"""The SQL of each kind of write. All of a kind in a batch are executed together, the kinds in this order."""


def _grouped(writes: Iterable[_Write]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """What to execute for a batch. The order among kinds matters in one case: what is written of a candidate before it is begun again, or
    goes on once more from where it waited."""
    kinds: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _STATEMENTS}
    touched: set[str] = set()
    for write in writes:
        if write.kind in ("begin", "forget") and write.candidate in touched:
            yield from _statements(kinds)
            kinds, touched = {kind: [] for kind in _STATEMENTS}, set()
        touched.add(write.candidate)
        kinds[write.kind].append(write.values)
    yield from _statements(kinds)


def _statements(kinds: Mapping[str, list[Mapping[str, Any]]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    return ((sql, values) for kind, values in kinds.items() if values for sql in _STATEMENTS[kind])


def _seen(done: asyncio.Future[None]) -> None:
    """A write that failed is told to whoever waits for it; that somebody has stopped waiting is no fault to be printed."""
    if not done.cancelled():
        done.exception()


def _tell(waiting: Iterable[asyncio.Future[None]], fault: Exception | None) -> None:
    for done in waiting:
        if done.done():  # cancelled
            continue
        if fault is None:
            done.set_result(None)
        else:
            done.set_exception(fault)


def _connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    if read_only:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10, check_same_thread=False)
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _schema(path: Path) -> int | None:
    """The version of a ledger; None where there is none."""
    if not path.is_file():
        return None
    with closing(_connect(path, read_only=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return None
        found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return None if found is None else int(found[0])


def _make_tables(path: Path) -> None:
    """Make a ledger, or what one of an older version lacks."""
    engine = sa.create_engine("sqlite://", creator=lambda: _connect(path))
    with engine.begin() as conn:
        metadata.create_all(conn)
        conn.execute(sa.text("INSERT OR REPLACE INTO meta (key, value) VALUES ('schema', :version)"), {"version": str(SCHEMA_VERSION)})
    engine.dispose()


def disk_error(path: Path, fault: DatabaseError | sqlite3.DatabaseError) -> DiskError:
    """What to tell of a ledger that SQLite cannot work with."""
    cause = fault.orig if isinstance(fault, DatabaseError) else fault
    kind = "cannot be read or written" if isinstance(cause, sqlite3.OperationalError) else "is damaged"
    return DiskError(f"{path}: the ledger {kind}: {cause}. What was recorded before is kept; free space or rights, then run again")


def _json(value: Any) -> str:
    """JSON as people read it; a float that is no number becomes null."""
    return to_json(value, inf_nan_mode="null").decode()
