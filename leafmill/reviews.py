"""The queue of those who wait for a person: what of them is shown, who looks at which, and what was decided.

Every call is one short transaction on the ledger's file, beside a run that may be writing there, and beside other reviewers: a candidate is
shown to one at a time (a claim, which runs out), and decided once. A decision is only written down here; a graph goes on by it, in the
running process or in the next one, and until then it can be undone.
"""

from __future__ import annotations

import getpass
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel

from leafmill import case as cases
from leafmill.case import Case
from leafmill.errors import DiskError, InputError, ReviewError, unknown
from leafmill.ledger import DUE, UNDO, Ledger, disk_error
from leafmill.process import Process
from leafmill.records import Judged, Row

CLAIMED = 600.0
"""seconds that a claim holds; who looks longer renews it"""
PATIENCE = 10.0
"""seconds to wait for another who is writing to the ledger"""
REASONS = ("wrong", "unhelpful", "unsafe", "style", "duplicate", "other")
"""why a row is rejected"""
PARTS = ("instruction", "input", "reasoning", "answer")
"""of a row, what a person may edit"""
LONGEST_NAME = 60
"""characters of a reviewer's name"""

Said = Literal[Judged, "skip"]


class Wanted(NamedTuple):
    """Which of those who wait: of one of these leaves (paths or globs), for one of these codes; nothing named: all. `ids`: these only."""

    leaf: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None

    @property
    def values(self) -> dict[str, str]:
        """What `_FITS` is asked with."""
        return {"leaves": json.dumps(self.leaf), "codes": json.dumps(self.code), "ids": json.dumps(self.ids)}


ALL = Wanted()


class Counts(BaseModel):
    """How the queue stands, of the wanted ones."""

    waiting: int
    """for a decision, those that somebody looks at just now included"""
    claimed: int
    """of these, those that another reviewer looks at just now"""
    pending: int
    """decided, and no graph has gone on by it yet"""
    codes: dict[str, int]
    leaves: dict[str, int]
    today: dict[str, int]
    """by reviewer, of all"""


class Refused(BaseModel):
    """A candidate that was asked for and cannot be decided now."""

    id: str
    code: str
    why: str


class Entry(BaseModel):
    """A decision, and what has become of the candidate since."""

    id: int
    candidate: str
    leaf: str
    number: int
    reviewer: str
    decision: Said
    code: str
    note: str
    at: float
    undone_at: float | None
    taken_at: float | None
    became: str
    """pending, undone, skipped, again (it waited once more), or the candidate's state now"""
    stage: str
    ended: str
    """of what was rejected or errored: the code"""


class Going(BaseModel):
    """Who goes on by what is decided: a process that runs just now, or the next `command`."""

    running: bool
    command: str


@dataclass(frozen=True)
class Queue:
    """Of one ledger. Raises RunFolderError for a file that is no ledger, DiskError for one that cannot be read or written just now."""

    path: Path
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        Ledger(self.path, read_only=True).close()  # one of an older version is given what it lacks

    # -- looking -------------------------------------------------------------------------------------------------------

    def next_for(self, reviewer: str, wanted: Wanted = ALL) -> str | None:
        """Claim a candidate for a reviewer: the one that they look at already, else the first that is free, those that they skipped last;
        None when there is none. Whatever else they had claimed is released."""
        with self._writing() as ledger:
            found = self._first(ledger, reviewer, wanted)
            if found is None:
                ledger.execute("DELETE FROM claims WHERE reviewer = ?", (reviewer,))
            else:
                _claim(ledger, found, reviewer)
            return found

    def first_for(self, reviewer: str, wanted: Wanted = ALL) -> str | None:
        """Which one that would be; nothing is claimed."""
        with self._reading() as ledger:
            return self._first(ledger, reviewer, wanted)

    def claim(self, candidate: str, reviewer: str) -> None:
        """Claim this one, or renew the claim. Raises ReviewError when it cannot be decided by them now."""
        with self._writing() as ledger:
            self._check_free(ledger, candidate, reviewer)
            _claim(ledger, candidate, reviewer)

    def release(self, reviewer: str, until: float = math.inf) -> None:
        """A reviewer has left; claims that hold longer than `until` were made since then, and stay."""
        with self._writing() as ledger:
            ledger.execute("DELETE FROM claims WHERE reviewer = ? AND until <= ?", (reviewer, until))

    def case(self, candidate: str) -> Case:
        """Raises ReviewError when there is none of this id, or it has no row yet."""
        with self._reading() as ledger:
            return cases.read(ledger, candidate)

    def counts(self, reviewer: str = "", wanted: Wanted = ALL) -> Counts:
        with self._reading() as ledger:
            now = _now(me=reviewer, **wanted.values)
            waiting = ledger.execute(
                f"SELECT c.leaf, c.code, count(*) n, count({_CLAIMED_BY_ANOTHER}) claimed FROM candidates c "
                f"WHERE {_FREE} AND {_FITS} GROUP BY 1, 2 ORDER BY 1, 2",
                now,
            ).fetchall()
            pending = f"SELECT count(*) FROM reviews r JOIN candidates c ON c.id = r.candidate WHERE {DUE} AND {_FITS}"
            today = ledger.execute(
                "SELECT reviewer, count(*) FROM reviews WHERE at >= ? AND undone_at IS NULL AND decision <> 'skip' GROUP BY 1 ORDER BY 1",
                (_midnight(),),
            )
            return Counts(
                waiting=sum(row["n"] for row in waiting),
                claimed=sum(row["claimed"] for row in waiting),
                pending=ledger.execute(pending, now).fetchone()[0],
                codes=_sums(waiting, "code"),
                leaves=_sums(waiting, "leaf"),
                today=dict(map(tuple, today)),
            )

    def not_decidable(self, reviewer: str, ids: Sequence[str]) -> list[Refused]:
        """Those of these ids that this reviewer cannot decide now, and why."""
        found = []
        with self._reading() as ledger:
            for id_ in ids:
                try:
                    self._check_free(ledger, id_, reviewer)
                except ReviewError as fault:
                    found.append(Refused(id=id_, code=fault.code, why=str(fault)))
        return found

    def history(self, limit: int = 50, before: int | None = None) -> list[Entry]:
        """What was decided, the last first; `before` the entry of this id."""
        with self._reading() as ledger:
            found = ledger.execute(
                f"{_ENTRIES} WHERE r.id < :before ORDER BY r.id DESC LIMIT :limit", {"before": before or 2**62, "limit": limit}
            )
            return [_entry(row) for row in found]

    def entry(self, id_: int) -> Entry | None:
        with self._reading() as ledger:
            found = ledger.execute(f"{_ENTRIES} WHERE r.id = ?", (id_,)).fetchone()
            return _entry(found) if found else None

    def going(self) -> Going:
        """Who goes on by what is decided."""
        with self._reading() as ledger:
            process = _process(ledger)
            return Going(running=_is_running(ledger), command=(process and process.command) or "leafmill run")

    # -- deciding ------------------------------------------------------------------------------------------------------

    def decide(
        self, candidate: str, reviewer: str, decision: str, *, code: str = "", note: str = "", row: Row | Mapping[str, Any] | None = None
    ) -> int:
        """Write down a decision; its id. `code`: why it is rejected. `row`: what an edit makes of it, or the parts that it changes.

        Raises InputError for what is no decision, ReviewError when somebody else was faster.
        """
        if decision not in get_args(Said):
            raise InputError(unknown("decision", decision, get_args(Said)))
        with self._writing() as ledger:
            self._check_free(ledger, candidate, reviewer)
            case = cases.read(ledger, candidate)
            made = {
                "candidate": candidate,
                "reviewer": reviewer,
                "decision": decision,
                "code": _reason(code) if decision == "reject" else "",
                "note": note.strip(),
                "row": _edited(case, row).model_dump_json() if decision == "edit" else None,
                "at": time.time(),
            }
            if decision == "accept" and not case.can_be_accepted:
                raise InputError(
                    f"{candidate} has no answer that could be accepted: edit it (take one of its answers, or write one), or reject it"
                )
            found = ledger.execute(
                "INSERT INTO reviews (candidate, seq, reviewer, decision, code, note, row, at) VALUES "
                f"(:candidate, ({_LAST_STEP}), :reviewer, :decision, :code, :note, :row, :at)",
                made,
            ).lastrowid
            ledger.execute("DELETE FROM claims WHERE candidate = ?", (candidate,))
            assert found is not None
            return found

    def undo(self, reviewer: str) -> Entry:
        """Take back the last that a reviewer decided (or skipped), who then looks at it again if nobody else does.

        Raises ReviewError, with what became of it, when it has gone on.
        """
        with self._writing() as ledger:
            last = ledger.execute(
                f"{_ENTRIES} WHERE r.reviewer = ? AND r.undone_at IS NULL ORDER BY r.id DESC LIMIT 1", (reviewer,)
            ).fetchone()
            if last is None:
                raise ReviewError("nothing", f"{reviewer} has decided nothing that could be undone")
            entry = _entry(last)
            what = f"{_AS_DONE[entry.decision]} {entry.candidate}"
            if entry.taken_at is not None:
                became = entry.became if not entry.ended else f"{entry.became} ({entry.stage}: {entry.ended})"
                raise ReviewError("gone_on", f"what {reviewer} decided last ({what}) has gone on already: it is {became}")
            if entry.decision != "skip" and _may_be_taken(ledger, entry.at):
                until = "it can be taken back only if that ends without it"
                raise ReviewError("gone_on", f"what {reviewer} decided last ({what}) may be going on in the running process: {until}")
            ledger.execute("UPDATE reviews SET undone_at = ? WHERE id = ?", (time.time(), entry.id))
            with suppress(ReviewError):
                self._check_free(ledger, entry.candidate, reviewer)
                _claim(ledger, entry.candidate, reviewer)
            return entry.model_copy(update={"became": "undone", "undone_at": time.time()})

    # -- what these share ----------------------------------------------------------------------------------------------

    def _first(self, ledger: sqlite3.Connection, reviewer: str, wanted: Wanted) -> str | None:
        values = _now(me=reviewer, **wanted.values)
        for sql in (_THEIR_OWN, _NEXT, _SKIPPED):
            if found := ledger.execute(sql, values).fetchone():
                return str(found[0])
        return None

    def _check_free(self, ledger: sqlite3.Connection, candidate: str, reviewer: str) -> None:
        """Raises ReviewError unless this reviewer may decide it now."""
        found = cases.candidate(ledger, candidate)
        decided = ledger.execute(f"SELECT r.* FROM reviews r WHERE r.candidate = ? AND {DUE}", (candidate,)).fetchone()
        if decided:
            raise ReviewError("decided", f"{candidate}: {decided['reviewer']} {_DONE[decided['decision']]} it at {clock(decided['at'])}")
        if found["state"] != "waiting":
            why = f" ({found['code']})" if found["code"] else ""
            raise ReviewError("not_waiting", f"{candidate} does not wait for anybody: it is {found['state']}{why}")
        claim = ledger.execute("SELECT * FROM claims WHERE candidate = :id AND until > :now", _now(id=candidate)).fetchone()
        if claim and claim["reviewer"] != reviewer:
            raise ReviewError(
                "claimed", f"{candidate}: {claim['reviewer']} looks at it just now (until {clock(claim['until'])} at the latest)"
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=self.patience)) as ledger:
                ledger.row_factory = sqlite3.Row
                yield ledger
        except sqlite3.DatabaseError as fault:
            raise disk_error(self.path, fault) from fault

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone from its first line on: all of it is on disk afterwards, or nothing."""
        try:
            with closing(sqlite3.connect(self.path, timeout=self.patience, isolation_level=None)) as ledger:
                ledger.row_factory = sqlite3.Row
                ledger.execute("BEGIN IMMEDIATE")
                with ledger:
                    yield ledger
        except sqlite3.DatabaseError as fault:
            if getattr(fault, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                held = f"{self.path}: another program has been writing to the ledger for {self.patience:g} s"
                raise DiskError(f"{held}: nothing was written down; do it again in a moment") from fault
            raise disk_error(self.path, fault) from fault


def name_of(text: str) -> str:
    """A reviewer's name as it is written down: on one line, without what cannot be seen; "" where nothing is left."""
    return " ".join("".join(letter for letter in text if letter.isprintable()).split())[:LONGEST_NAME].strip()


def this_user() -> str:
    """The system's name of whoever runs this."""
    try:
        return name_of(getpass.getuser()) or "reviewer"
    except (KeyError, OSError):  # a user that the system has no name for
        return "reviewer"


def clock(at: float) -> str:
    """When, as people here say it."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


_FREE = f"c.state = 'waiting' AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.candidate = c.id AND {DUE})"
_FITS = """(:leaves = '[]' OR EXISTS (SELECT 1 FROM json_each(:leaves) WHERE c.leaf GLOB value))
    AND (:codes = '[]' OR c.code IN (SELECT value FROM json_each(:codes)))
    AND (:ids = 'null' OR c.id IN (SELECT value FROM json_each(:ids)))"""
_CLAIMED_BY_ANOTHER = "(SELECT 1 FROM claims k WHERE k.candidate = c.id AND k.until > :now AND k.reviewer <> :me)"
_IS_SKIP = "s.reviewer = :me AND s.decision = 'skip' AND s.undone_at IS NULL AND s.at >= coalesce(c.ended_at, 0)"
"""by this reviewer, since it waits"""
# What is named first before CROSS JOIN is looked through first, for it is short.
_THEIR_OWN = f"""SELECT c.id FROM claims k CROSS JOIN candidates c ON c.id = k.candidate
    WHERE k.reviewer = :me AND k.until > :now AND {_FREE} AND {_FITS}"""
_NEXT = f"""SELECT c.id FROM candidates c WHERE {_FREE} AND NOT EXISTS {_CLAIMED_BY_ANOTHER}
    AND NOT EXISTS (SELECT 1 FROM reviews s WHERE s.candidate = c.id AND {_IS_SKIP}) AND {_FITS} ORDER BY c.leaf, c.number LIMIT 1"""
_SKIPPED = f"""SELECT c.id FROM reviews s CROSS JOIN candidates c ON c.id = s.candidate
    WHERE {_IS_SKIP} AND {_FREE} AND NOT EXISTS {_CLAIMED_BY_ANOTHER} AND {_FITS} GROUP BY c.id ORDER BY max(s.id) LIMIT 1"""
_SEQS = " UNION ALL ".join(f"SELECT max(seq) AS seq FROM {table} WHERE candidate = :candidate" for table in ("calls", "votes", "verdicts"))
_LAST_STEP = f"SELECT coalesce(max(seq), 0) FROM ({_SEQS})"
_ENTRIES = """SELECT r.*, c.leaf, c.number, c.state, c.stage, c.code AS ended,
    EXISTS (SELECT 1 FROM reviews l
        WHERE l.candidate = r.candidate AND l.id > r.id AND l.decision <> 'skip' AND l.undone_at IS NULL) AS later
    FROM reviews r JOIN candidates c ON c.id = r.candidate"""
_DONE: Mapping[str, str] = {"accept": "accepted", "reject": "rejected", "edit": "edited", "skip": "skipped"}
_AS_DONE: Mapping[str, str] = {"accept": "to accept", "reject": "to reject", "edit": "to edit", "skip": "to skip"}


def _now(**values: Any) -> dict[str, Any]:
    return {"now": time.time(), **values}


def _midnight() -> float:
    return datetime.now().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def _sums(rows: Sequence[sqlite3.Row], name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[row[name]] = found.get(row[name], 0) + row["n"]
    return found


def _claim(ledger: sqlite3.Connection, candidate: str, reviewer: str) -> None:
    """A reviewer looks at one at a time; claims that ran out are cleared away."""
    ledger.execute("DELETE FROM claims WHERE reviewer = ? OR until <= ?", (reviewer, time.time()))
    ledger.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (candidate, reviewer, time.time() + CLAIMED))


def _entry(row: sqlite3.Row) -> Entry:
    found = dict(row)
    if found["undone_at"] is not None:
        became = "undone"
    elif found["decision"] == "skip":
        became = "skipped"
    elif found["taken_at"] is None:
        became = "pending"
    else:
        became = "again" if found["later"] or found["state"] == "waiting" else found["state"]
    ended = found["ended"] if became in ("rejected", "errored") else ""
    return Entry.model_validate({**{name: found[name] for name in Entry.model_fields if name in found}, "became": became, "ended": ended})


# -- what is decided ---------------------------------------------------------------------------------------------------


def _reason(code: str) -> str:
    if code not in REASONS:
        raise InputError(unknown("reason", code, REASONS))
    return code


def _edited(case: Case, changed: Row | Mapping[str, Any] | None) -> Row:
    """The row as the person wants it. Raises InputError for one that cannot be."""
    was = case.row.model_dump()
    given = changed.model_dump() if isinstance(changed, Row) else dict(changed or {})
    try:
        row = Row.model_validate({**was, **{name: _as_before(value, was.get(name)) for name, value in given.items()}})
    except ValueError as fault:
        raise InputError(f"{case.id}: what was edited is no row: {fault}") from None
    for name in ("instruction", "answer"):
        if not getattr(row, name).strip():
            raise InputError(f"{case.id}: the {name} of an edited row must not be empty")
    if row.language != case.row.language:
        raise InputError(f"{case.id}: an edited row stays in its language, {case.row.language!r}, got {row.language!r}")
    if row == case.row:
        raise InputError(f"{case.id}: nothing was changed: accept it as it is, or edit it")
    return row


def _as_before(value: Any, was: Any) -> Any:
    """Browsers write line ends in a way of their own: what differs in nothing else is as it was."""
    if not isinstance(value, str) or not isinstance(was, str):
        return value
    lines = value.replace("\r\n", "\n")
    return was if lines == was.replace("\r\n", "\n") else lines


# -- the run beside it -------------------------------------------------------------------------------------------------


def _process(ledger: sqlite3.Connection) -> Process | None:
    """The last that worked on the ledger; of older ones nothing is known."""
    found = ledger.execute("SELECT value FROM meta WHERE key = 'process'").fetchone()
    said = json.loads(found["value"]) if found else None
    return Process.model_validate(said) if said else None


def _is_running(ledger: sqlite3.Connection) -> bool:
    process = _process(ledger)
    return process is not None and process.is_alive


def _may_be_taken(ledger: sqlite3.Connection, decided_at: float) -> bool:
    """Whether a running process may be going on by a decision: it takes those of before at once, and later ones after `UNDO`."""
    process = _process(ledger)
    return process is not None and process.is_alive and (decided_at <= process.began_at or decided_at + UNDO <= time.time())
