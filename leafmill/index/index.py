"""The index of one run: kept up to date from its ledger, asked by pages.

It lies beside the ledger (`index.db`), or in a temporary folder where the run's cannot be written. It is a cache: missing, damaged, of
another version of these tables or of another ledger, it is made anew. The ledger is only read, by connections that cannot write.
"""

from __future__ import annotations

import math
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from leafmill.errors import DiskError, RunFolderError
from leafmill.index import build
from leafmill.index.schema import DDL, VERSION
from leafmill.runfolder import RunFolder

NAME = "index.db"
BUSY = 10.0
"""seconds to wait for another process that writes the index"""
AT_ONCE = 0.2
"""seconds that a page waits for its index at most"""
LEISURE = 10
"""an index is not refreshed again before so many times as long as the last refresh took"""
KEPT = 256
"""answers that are kept"""
IDLE = 8
"""connections that are kept open for readers"""

T = TypeVar("T")


class Progress(NamedTuple):
    """How much of the ledger is in the index: candidates and calls."""

    done: int
    total: int


class Answer(NamedTuple):
    """What was found, of which version, and how long (on the monotonic clock) it may be given for a later one."""

    version: int
    until: float
    answer: Any


class Index:
    """One per run and process; its methods may be called from any thread."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        if not folder.ledger.is_file():
            raise RunFolderError(f"{folder.ledger}: there is no ledger here; `leafmill run recipe.yaml` makes one")
        self._aside: tempfile.TemporaryDirectory[str] | None = None
        self.path = folder.path / NAME
        if not _is_writable(self.path):
            self._aside = tempfile.TemporaryDirectory(prefix="leafmill-")
            self.path = Path(self._aside.name) / NAME
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._writers_files = (0, 0)
        self._has_removed = False
        """since all of the ledger was last taken up"""
        self._seen: tuple[int, Progress] | None = None
        """the ledger's state when all of it had been taken up"""
        self.progress = Progress(0, 0)
        """after the last refresh"""
        self._refreshed_at, self._took = -math.inf, 0.0
        self._builder: threading.Thread | None = None
        self._idle: list[tuple[tuple[int, int], sqlite3.Connection]] = []
        self._pool = threading.Lock()
        self._answers: dict[Hashable, Answer] = {}

    def close(self) -> None:
        with self._writing, self._pool:
            self._forget_writer()
            while self._idle:
                self._idle.pop()[1].close()
            if self._aside is not None:
                self._aside.cleanup()

    @property
    def version(self) -> int:
        """Grows with every change; 0 when nothing is in it yet."""
        with self._reading() as conn:
            found = conn.execute("SELECT value FROM main.meta WHERE key = 'version'").fetchone()
        return int(found[0]) if found else 0

    def refresh(self, seconds: float = 1.0) -> Progress:
        """Take up what the ledger has more than the index, for about so many seconds at most. Raises RunFolderError."""
        with self._writing:
            begun = time.monotonic()
            while True:
                self.progress = self._chunk()
                self._refreshed_at = time.monotonic()
                self._took = self._refreshed_at - begun
                if self.progress.done >= self.progress.total or self._took > seconds:
                    return self.progress

    def fresh(self) -> Progress:
        """Refresh as a page does that shall not wait: a little, not again at once, and not while another thread is at it. What is left is
        taken up in the background."""
        if time.monotonic() - self._refreshed_at < LEISURE * self._took or not self._writing.acquire(blocking=False):
            return self.progress
        self._writing.release()
        progress = self.refresh(AT_ONCE)
        if progress.done < progress.total and (self._builder is None or not self._builder.is_alive()):
            self._builder = threading.Thread(target=self._catch_up, name="index", daemon=True)
            self._builder.start()
        return progress

    def _catch_up(self) -> None:
        with suppress(RunFolderError):  # who asks next is told
            while self.progress.done < self.progress.total:
                self.refresh(AT_ONCE)

    def rows(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[dict[str, Any]]:
        """What a query finds, read-only. The ledger's tables stand beside the index's, as `ledger.calls` and so on."""
        with self._reading() as conn:
            cursor = conn.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def once(self, question: Hashable, answer: Callable[[], T], rest: float = 0.0) -> T:
        """The answer to a question about what the index holds now: found once for each version.

        While a run goes on there is always a newer one. `rest`: for so many times as long as the answer took it may be of an earlier one.
        """
        version, now = self.version, time.monotonic()
        known = self._answers.get(question)
        if known is None or (known.version != version and now >= known.until):
            if len(self._answers) > KEPT:
                self._answers.clear()
            found, done = answer(), time.monotonic()
            known = self._answers[question] = Answer(version, done + rest * (done - now), found)
        return known.answer  # type: ignore[no-any-return]

    # -- writing -------------------------------------------------------------------------------------------------------

    def _chunk(self) -> Progress:
        """Take up one chunk, in a database that is made anew if need be."""
        try:
            return self._take_up(self._opened())
        except sqlite3.DatabaseError as fault:
            self._forget_writer()
            # once: made anew and wrong again, it is the ledger that cannot be read
            if _is_passing(fault) or self._has_removed or not self.folder.ledger.is_file():
                raise self._error(fault) from fault
        self._remove()
        return self._chunk()

    def _take_up(self, conn: sqlite3.Connection) -> Progress:
        ledger = conn.execute("PRAGMA ledger.data_version").fetchone()[0]
        if self._seen is not None and self._seen[0] == ledger:
            return self._seen[1]
        with _transaction(conn):
            since, latest = build.marks(conn), build.latest(conn)
            if not _is_of(conn, since, latest):
                _make_tables(conn)
                since = build.Marks()
            changes, reached = conn.total_changes, since
            if since.candidates < latest.candidates:
                reached = build.take_candidates(conn, since)
            elif since.calls < latest.calls:
                reached = build.take_calls(conn, since)
            if reached[:2] == latest[:2]:
                reached = build.take(conn, reached, build.changing(conn))
            if conn.total_changes > changes or reached != since:
                build.set_marks(conn, reached)
                now = int(time.time() * 1000)
                conn.execute("UPDATE main.meta SET value = max(CAST(value AS INTEGER) + 1, ?) WHERE key = 'version'", (now,))
        progress = Progress(reached.candidates + reached.calls, latest.candidates + latest.calls)
        if progress.done >= progress.total:
            self._seen, self._has_removed = (ledger, progress), False
        return progress

    def _opened(self) -> sqlite3.Connection:
        """The connection that writes; another one, should somebody have made the index or the ledger anew."""
        if self._writer is not None and self._files() == self._writers_files:
            return self._writer
        self._forget_writer()
        conn = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None, check_same_thread=False, uri=True)
        self._writer = conn
        _in_wal(conn)
        conn.execute("PRAGMA synchronous = NORMAL")
        conn.execute("ATTACH ? AS ledger", (_uri(self.folder.ledger),))
        with _transaction(conn):
            if _version_of(conn) != VERSION:
                _make_tables(conn)
        self._writers_files = self._files()
        return conn

    def _forget_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._seen = None, None

    def _remove(self) -> None:
        for suffix in ("-wal", "-shm", ""):  # the file last: who opens it meanwhile finds it damaged, never half made
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").unlink()
        self._has_removed = True

    def _files(self) -> tuple[int, int]:
        """Which files lie there now: the index and the ledger."""
        return _file(self.path), _file(self.folder.ledger)

    # -- reading -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that can only read."""
        if self._writer is None or not _file(self.path):
            self.refresh(0)  # makes the tables
        files = self._files()
        with self._pool:
            while self._idle and self._idle[-1][0] != files:
                self._idle.pop()[1].close()
            conn = self._idle.pop()[1] if self._idle else None
        try:
            if conn is None:
                conn = sqlite3.connect(_uri(self.path), timeout=BUSY, isolation_level=None, check_same_thread=False, uri=True)
                conn.execute("ATTACH ? AS ledger", (_uri(self.folder.ledger),))
            yield conn
        except sqlite3.DatabaseError as fault:
            if conn is not None:
                conn.close()
            raise self._error(fault) from fault
        with self._pool:
            if len(self._idle) < IDLE:
                self._idle.append((files, conn))
            else:
                conn.close()

    def _error(self, fault: sqlite3.DatabaseError) -> RunFolderError:
        if not self.folder.ledger.is_file():
            return RunFolderError(f"{self.folder.ledger}: the run has been removed, or moved, since it was opened")
        if "locked" in str(fault) or "busy" in str(fault):
            return DiskError(f"{self.path}: another process keeps the index locked: {fault}. Try again when it is done")
        if _is_passing(fault):
            return DiskError(f"{self.path}: the index of the run cannot be read or written: {fault}. Free space or rights, then try again")
        return DiskError(f"{self.folder.path}: the run's ledger or its index is damaged: {fault}. {NAME} may be deleted: it is made anew")


_BEGINNING = """
SELECT (SELECT key || ' ' || started_at FROM ledger.calls ORDER BY id LIMIT 1),
       (SELECT id || ' ' || begun_at FROM ledger.candidates ORDER BY rowid LIMIT 1)
"""


@contextmanager
def _transaction(conn: sqlite3.Connection) -> Iterator[None]:
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")


def _in_wal(conn: sqlite3.Connection) -> None:
    """Turn a new database to write-ahead logging. Where two do so at once, SQLite does not make one wait, as it does with all else."""
    last = time.monotonic() + BUSY
    while True:
        try:
            conn.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > last:
                raise
            time.sleep(0.02)


def _is_passing(fault: sqlite3.DatabaseError) -> bool:
    """Whether it is about the moment (locked, disk full, no rights), not about what is in the file."""
    return isinstance(fault, sqlite3.OperationalError) and not any(word in str(fault) for word in ("no such", "has no column", "malformed"))


def _version_of(conn: sqlite3.Connection) -> int | None:
    if not conn.execute("SELECT 1 FROM main.sqlite_master WHERE name = 'meta'").fetchone():
        return None
    found = conn.execute("SELECT value FROM main.meta WHERE key = 'schema'").fetchone()
    return int(found[0]) if found else None


def _is_of(conn: sqlite3.Connection, since: build.Marks, latest: build.Marks) -> bool:
    """Whether what the index holds is of this ledger: it begins with the same call (or candidate, while there was no call), and has not
    become shorter."""
    beginning = conn.execute(_BEGINNING).fetchone()
    of = conn.execute("SELECT value FROM main.meta WHERE key = 'ledger'").fetchone() or (None,)
    if of[0] is None or of[0] in beginning:
        conn.execute("INSERT OR REPLACE INTO main.meta SELECT 'ledger', coalesce(?, ?) AS found WHERE found IS NOT NULL", beginning)
        return since.candidates <= latest.candidates and since.calls <= latest.calls
    return False


def _make_tables(conn: sqlite3.Connection) -> None:
    """Empty ones, in place of what is there."""
    for (name,) in conn.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
        if not name.startswith(("sqlite_", "search_")):
            conn.execute(f'DROP TABLE IF EXISTS main."{name}"')
    for statement in DDL.split(";\n"):
        if statement.strip():
            conn.execute(statement)
    conn.execute("INSERT INTO main.meta VALUES ('schema', ?), ('version', '0')", (str(VERSION),))
    conn.execute(
        "INSERT INTO main.meta SELECT 'ledger', coalesce(?, ?) AS found WHERE found IS NOT NULL", conn.execute(_BEGINNING).fetchone()
    )


def _uri(path: Path) -> str:
    """To open it for reading only. Where nothing can be written beside it, SQLite cannot share it with a writer: nor is there one."""
    still = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if still else "")


def _is_writable(path: Path) -> bool:
    """Whether a database can be kept there: SQLite writes beside it, too."""
    try:
        path.open("ab").close()
    except OSError:
        return False
    return os.access(path.parent, os.W_OK)


def _file(path: Path) -> int:
    """Which file lies there; 0: none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
