"""From the ledger into the index, a chunk at a time.

A chunk is one transaction: what it takes up and the mark of how far that goes are on disk together, or neither is. So one that is
interrupted, or two processes that do it at once, count nothing twice. Within a chunk the ledger is seen as it was at one moment.

The texts of calls are never read. Candidates are taken up before calls: whom a call is of is known when it comes.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import fmean, median
from typing import Any, NamedTuple

from filters.agreement import ARBITER
from leafmill.index import text
from leafmill.index.schema import STEPS
from leafmill.records import Row

CANDIDATES_AT_ONCE = 500
CALLS_AT_ONCE = 20_000
GROWTH = 1.05
"""of one bucket of latencies to the next"""
FIRST_LINE = 200
NEIGHBOURS = ("exact", "minhash", "semantic")
"""gates that hold a row against those that were kept before"""
MEASURING = (*NEIGHBOURS, "ifd", "critic")
OF_CALLS = ("role", "model", "variant")
"""kinds of tags that calls give: they stay when a candidate is begun again"""

ENTERED: Mapping[str, int] = {
    **dict.fromkeys(("write", "screen", "evolve", "compare"), 0),
    **dict.fromkeys(("answer", "vote", "choose", "use_tools", "call_tools", "follow_up", "check"), 1),
    **dict.fromkeys(("annotate", "criticise", "arbitrate", "agree"), 2),
    "score": 3,
    "admit": 4,
}
"""How far a candidate has come when it is at a node, or at a door: the place of the last step that it passed"""


class Marks(NamedTuple):
    """How far the ledger has been taken up: its rowid of candidates, its id of calls; and how many texts are in `search`."""

    candidates: int = 0
    calls: int = 0
    docs: int = 0


def latest(conn: sqlite3.Connection) -> Marks:
    """The marks that an index will have when all is in it."""
    found = conn.execute("SELECT (SELECT max(rowid) FROM ledger.candidates), (SELECT max(id) FROM ledger.calls)").fetchone()
    return Marks(found[0] or 0, found[1] or 0)


def marks(conn: sqlite3.Connection) -> Marks:
    found = dict(conn.execute("SELECT key, value FROM main.meta"))
    return Marks(*(int(found.get(name, 0)) for name in Marks._fields))


def set_marks(conn: sqlite3.Connection, reached: Marks) -> None:
    conn.executemany("INSERT OR REPLACE INTO main.meta VALUES (?, ?)", [(name, str(value)) for name, value in reached._asdict().items()])


# -- calls -------------------------------------------------------------------------------------------------------------


def take_calls(conn: sqlite3.Connection, since: Marks) -> Marks:
    """The next calls, summed up."""
    until = min(since.calls + CALLS_AT_ONCE, latest(conn).calls)
    between = (since.calls, until)
    judges = _judges(conn)
    spent: dict[tuple[str, ...], list[float]] = {}
    for leaf, step, role, variant, prompt, alias, model, status, *sums in conn.execute(_SPENT, between):
        key = (leaf, node_of(step, role, judges), role, variant, prompt, alias, model, status)
        spent[key] = [one + other for one, other in zip(spent.get(key, [0] * len(sums)), sums, strict=True)]
    conn.executemany(_ADD_SPENT, [(*key, *sums) for key, sums in spent.items()])
    slow: dict[tuple[str, str, int], int] = defaultdict(int)
    for role, model, seconds, count in conn.execute(_SECONDS, between):
        slow[role, model, bucket(seconds)] += count
    conn.executemany(_ADD_LATENCY, [(*key, count) for key, count in slow.items()])
    conn.executemany(_ADD_TO_CANDIDATE, conn.execute(_BY_CANDIDATE, between))
    conn.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", _tags_of_calls(conn.execute(_PLAYERS, between)))
    return since._replace(calls=until)


def bucket(seconds: float) -> int:
    """In which a latency is counted."""
    return max(0, math.floor(math.log(max(seconds, 1e-3) * 1000, GROWTH)))


def node_of(step: str, role: str, judges: frozenset[str]) -> str:
    """The node of the graph that a call of this step and role was asked by."""
    name = _step_name(step)
    of_panel = "@" in name or role in judges or role.startswith("annotator")
    return "annotate" if of_panel and name.partition("@")[0] == role else name


@lru_cache(maxsize=4096)
def _step_name(step: str) -> str:
    """Without its rounds and what it is about: "answer" of answer.1.0.again, "plan" of plan.0.en, "axis" of axis.tone."""
    name = re.sub(r"\.\d+\.\w+(\.again|\.reviewed)*$", "", step)
    return re.sub(r"^(axis|tools)\..*", r"\1", name)


def _judges(conn: sqlite3.Connection) -> frozenset[str]:
    """The roles that sit on the panel."""
    return frozenset(role["name"] for role in ledger_meta(conn, "roles") or () if role.get("stage") == "annotate")


def ledger_meta(conn: sqlite3.Connection, key: str) -> Any:
    found = conn.execute("SELECT value FROM ledger.meta WHERE key = ?", (key,)).fetchone()
    return json.loads(found[0]) if found else None


def _tags_of_calls(players: Iterable[tuple[int, str, str, str]]) -> Iterable[tuple[str, str, int]]:
    for n, role, variant, model in players:
        yield "role", role, n
        yield "variant", f"{role}.{variant}", n
        if model:
            yield "model", model, n


_SPENT = """
SELECT leaf, step, role, variant, prompt_hash, alias, model, status,
       count(*), sum(coalesce(prompt_tokens, 0)), sum(coalesce(completion_tokens, 0)),
       sum(prompt_tokens IS NULL AND completion_tokens IS NULL), total(cost), sum(cost IS NULL), sum(max(attempts - 1, 0)), total(seconds)
FROM ledger.calls WHERE id > ? AND id <= ? GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""
_ADD_SPENT = """
INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens, uncounted = uncounted + excluded.uncounted,
    money = money + excluded.money, unpriced = unpriced + excluded.unpriced, retries = retries + excluded.retries,
    seconds = seconds + excluded.seconds
"""
_SECONDS = "SELECT role, model, round(seconds, 3), count(*) FROM ledger.calls WHERE id > ? AND id <= ? AND status = 'ok' GROUP BY 1, 2, 3"
_ADD_LATENCY = "INSERT INTO latencies VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls"
_BY_CANDIDATE = """
SELECT count(*), sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)), sum(cost), total(seconds), candidate
FROM ledger.calls WHERE id > ? AND id <= ? GROUP BY candidate
"""
_ADD_TO_CANDIDATE = """
UPDATE candidates SET calls = calls + ?1, tokens = tokens + ?2, seconds = seconds + ?4,
    money = CASE WHEN ?3 IS NULL THEN money ELSE coalesce(money, 0) + ?3 END
WHERE id = ?5
"""
_PLAYERS = """
SELECT DISTINCT c.n, k.role, k.variant, k.model FROM ledger.calls AS k JOIN candidates AS c ON c.id = k.candidate
WHERE k.id > ? AND k.id <= ?
"""


# -- candidates --------------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A candidate as the ledger has it."""

    id: str
    leaf: str
    number: int
    language: str
    state: str
    stage: str
    code: str
    begun_at: float
    ended_at: float | None
    brief: dict[str, Any]
    row: Row | None
    lineage: dict[str, Any]


class Judged(NamedTuple):
    """A verdict, of those that say something of a candidate."""

    step: str
    gate: str
    decision: str
    code: str
    value: float | None
    evidence: Mapping[str, Any]


class Cast(NamedTuple):
    """A vote of the last panel."""

    role: str
    alias: str
    value: float | None


class Facts(NamedTuple):
    """The columns of a candidate that do not come from its calls."""

    id: str
    leaf: str
    number: int
    language: str
    state: str
    stage: str
    code: str
    step: int
    begun_at: float
    ended_at: float | None
    instruction: str
    answer: str
    instruction_length: int | None
    answer_length: int | None
    exchanges: int
    ifd: float | None
    panel: float | None
    deviation: float | None
    critic: float | None
    similarity: float | None
    neighbour: str | None
    axes: str


def take_candidates(conn: sqlite3.Connection, since: Marks) -> Marks:
    """The next candidates that were begun, or begun again: that gives them a new rowid, after all others."""
    found = conn.execute(
        "SELECT rowid, id FROM ledger.candidates WHERE rowid > ? ORDER BY rowid LIMIT ?", (since.candidates, CANDIDATES_AT_ONCE)
    ).fetchall()
    reached = take(conn, since, [id_ for _, id_ in found])
    return reached._replace(candidates=found[-1][0])


def changing(conn: sqlite3.Connection) -> list[str]:
    """Candidates that may have changed where they stand: those under way, and those that waited and have ended since."""
    under_way = "SELECT id FROM candidates WHERE state = 'open'"
    reviewed = """
    SELECT c.id FROM candidates AS c JOIN ledger.candidates AS l ON l.id = c.id
    WHERE c.state = 'waiting' AND (l.state <> 'waiting' OR l.ended_at IS NOT c.ended_at)
    """
    return [id_ for (id_,) in conn.execute(f"{under_way} UNION ALL {reviewed}")]


def take(conn: sqlite3.Connection, since: Marks, ids: Sequence[str]) -> Marks:
    """Write down what the ledger says of these candidates now, where that is something else."""
    wanted = json.dumps(ids)
    entries = list(_entries(conn, wanted))
    verdicts, votes = _verdicts(conn, entries), _votes(conn, wanted)
    asked = _asked(conn, [entry.id for entry in entries if entry.state == "open"])
    known = {row[1]: row for row in conn.execute(f"SELECT n, {', '.join(Facts._fields)} FROM candidates WHERE id IN {_AMONG}", (wanted,))}
    last_n, docs = conn.execute("SELECT max(n) FROM candidates").fetchone()[0] or 0, since.docs
    rows: list[tuple[Any, ...]] = []
    tags: list[tuple[str, str, int]] = []
    seats: list[tuple[int, str, str, float | None]] = []
    texts: list[tuple[int, str]] = []
    for entry in entries:
        judged, cast = verdicts.get(entry.id, []), votes.get(entry.id, [])
        facts = facts_of(entry, judged, cast, asked.get(entry.id, ()))
        before = known.get(entry.id)
        if before is not None and before[1:] == facts:
            continue
        last_n += before is None
        n = last_n if before is None else before[0]
        if entry.row is not None:
            docs += 1
            texts.append((docs, text.terms(all_said(entry.id, entry.row))))
        rows.append((n, docs if entry.row is not None else None, *facts))
        tags += [(kind, value, n) for kind, value in tags_of(entry, judged)]
        seats += [(n, *one) for one in cast]
    again = [(row[0],) for row in rows if row[2] in known]
    conn.executemany(f"DELETE FROM tags WHERE n = ? AND kind NOT IN {OF_CALLS!r}", again)
    conn.executemany("DELETE FROM votes WHERE n = ?", again)
    conn.executemany(_PUT, rows)
    conn.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", tags)
    conn.executemany("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?)", seats)
    conn.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", texts)
    return since._replace(docs=docs)


def facts_of(entry: Entry, verdicts: Sequence[Judged], votes: Sequence[Cast], asked: Iterable[str]) -> Facts:
    """What the index says of a candidate; `asked`: the steps of its calls, where they are needed."""
    row, values = entry.row, [one.value for one in votes if one.value is not None]
    near = [one for one in verdicts if one.gate in NEIGHBOURS and one.value is not None]
    return Facts(
        id=entry.id,
        leaf=entry.leaf,
        number=entry.number,
        language=entry.language,
        state=entry.state,
        stage=entry.stage,
        code=entry.code,
        step=_step(entry, verdicts, asked),
        begun_at=entry.begun_at,
        ended_at=entry.ended_at,
        instruction=_first_line(row.opening) if row else "",
        answer=_first_line(row.answer) if row else "",
        instruction_length=len(row.opening) if row else None,
        answer_length=len(row.answer) if row and row.answer else None,
        exchanges=row.exchanges if row else 1,
        ifd=_last(verdicts, "ifd"),
        panel=median(values) if values else None,
        deviation=_deviation(values) if values else None,
        critic=(entry.lineage.get("critic") or {}).get("score") or _last(verdicts, "critic"),
        similarity=near[-1].value if near else None,
        neighbour=near[-1].evidence.get("kept") if near else None,
        axes=json.dumps(entry.brief.get("axes", {}), ensure_ascii=False, sort_keys=True),
    )


def tags_of(entry: Entry, verdicts: Sequence[Judged]) -> Iterable[tuple[str, str]]:
    """What a candidate is found by: kind and value."""
    yield from ((f"axis.{axis}", value) for axis, value in entry.brief.get("axes", {}).items())
    yield from (("concept", concept) for concept in entry.brief.get("concepts", ()))
    yield from (("operator", one["operator"]) for one in entry.lineage.get("evolutions", ()))
    refused = next((one.gate for one in reversed(verdicts) if one.decision != "accept" and one.code == entry.code), None)
    if refused and entry.state != "accepted":
        yield "gate", refused


def all_said(id_: str, row: Row) -> str:
    """What a candidate is found by: all that was said in it, and its id."""
    turns = [turn.content for turn in row.history if turn.role in ("user", "assistant")]
    return "\n".join([id_, *turns, row.instruction, row.input, row.reasoning, row.answer])


def _step(entry: Entry, verdicts: Sequence[Judged], asked: Iterable[str]) -> int:
    if entry.state == "accepted":
        return STEPS.index("admitted")
    been = [entry.stage, *(_step_name(one.step) for one in verdicts), *asked]
    return max(ENTERED.get(name, 0) for name in been)


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation, as the gate `agreement` rounds it."""
    mean = fmean(values)
    return round(math.sqrt(fmean((value - mean) ** 2 for value in values)), 3)


def _first_line(said: str) -> str:
    return " ".join(said[: 2 * FIRST_LINE].split())[:FIRST_LINE]


def _last(verdicts: Sequence[Judged], gate: str) -> float | None:
    return next((one.value for one in reversed(verdicts) if one.gate == gate and one.value is not None), None)


def _entries(conn: sqlite3.Connection, wanted: str) -> Iterable[Entry]:
    columns = ", ".join(Entry._fields)
    for found in conn.execute(f"SELECT {columns} FROM ledger.candidates WHERE id IN {_AMONG} ORDER BY rowid", (wanted,)):
        entry = Entry(*found)
        row = Row.model_validate_json(found[-2]) if found[-2] else None
        yield entry._replace(brief=json.loads(found[-3]), row=row, lineage=json.loads(found[-1]) if found[-1] else {})


def _verdicts(conn: sqlite3.Connection, entries: Sequence[Entry]) -> dict[str, list[Judged]]:
    """In their order; of what was accepted only those that measure something, for it is known how far that came."""
    found: dict[str, list[Judged]] = defaultdict(list)
    all_of = [entry.id for entry in entries if entry.state != "accepted"]
    some_of = [entry.id for entry in entries if entry.state == "accepted"]
    columns = "candidate, step, gate, decision, code, value, iif(decision = 'accept', '', evidence)"
    for condition, ids in (("1", all_of), (f"gate IN {MEASURING!r}", some_of)):
        for candidate, step, gate, decision, code, value, evidence in conn.execute(
            f"SELECT {columns} FROM ledger.verdicts WHERE candidate IN {_AMONG} AND {condition} ORDER BY candidate, seq, id",
            (json.dumps(ids),),
        ):
            found[candidate].append(Judged(step, gate, decision, code, value, json.loads(evidence) if evidence else {}))
    return found


def _votes(conn: sqlite3.Connection, wanted: str) -> dict[str, list[Cast]]:
    found: dict[str, list[Cast]] = defaultdict(list)
    for candidate, role, alias, value in conn.execute(
        f"""
        SELECT candidate, role, alias, coalesce(expected, score) FROM ledger.votes AS v WHERE candidate IN {_AMONG} AND role <> ?
        AND seq = (SELECT max(seq) FROM ledger.votes WHERE candidate = v.candidate AND role <> ?) ORDER BY id
        """,
        (wanted, ARBITER, ARBITER),
    ):
        found[candidate].append(Cast(role, alias, value))
    return found


def _asked(conn: sqlite3.Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """The nodes that calls of candidates under way were asked by."""
    found: dict[str, list[str]] = defaultdict(list)
    judges = _judges(conn)
    of_these = f"SELECT candidate, step, role FROM ledger.calls WHERE candidate IN {_AMONG}"
    for candidate, step, role in conn.execute(of_these, (json.dumps(ids),)):
        found[candidate].append(node_of(step, role, judges))
    return found


_AMONG = "(SELECT value FROM json_each(?))"
_PUT = f"""
INSERT INTO candidates (n, doc, {", ".join(Facts._fields)}) VALUES (?, ?{", ?" * len(Facts._fields)})
ON CONFLICT (n) DO UPDATE SET doc = excluded.doc, {", ".join(f"{name} = excluded.{name}" for name in Facts._fields)}
"""
