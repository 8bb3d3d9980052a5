"""Where a run stands: whether it goes on, how far it and its leaves are, what it has cost, and how long it may still take."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, computed_field

from agents import gold
from leafmill.errors import EXIT_INTERRUPTED, EXIT_UNMET
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.process import Process
from leafmill.ui.run import counts
from leafmill.ui.run.counts import Counted

WINDOW = 300.0
"""seconds that the pace is taken over: the past before says little of what is to come"""
State = Literal["running", "finished", "short", "stopped", "failed"]
"""`finished`: every leaf has its rows; `short`: some leaf ended without; `stopped`: it has not come to its end; `failed`: it ended with an
error"""
STATES = ("accepted", "rejected", "waiting", "errored", "open")
"""of candidates, as they are listed"""


class Count(BaseModel):
    count: int
    query: str


class Leaf(BaseModel):
    """One leaf's line."""

    leaf: str
    title: dict[str, str] = {}
    """by language"""
    asked: int | None
    accepted: int
    states: dict[str, Count]
    outcome: str
    """met, starved and so on; "" while it is not decided"""
    why: str
    tokens: int
    tokens_per_accepted: float | None
    spread: float | None
    """mean of the standard deviations of its panels: how far judges are apart"""
    query: str


class Standing(BaseModel):
    state: State
    accepted: int
    asked: int | None
    started: int
    waiting: int
    began_at: float | None
    ended_at: float | None
    seconds: float | None
    per_minute: float | None = None
    """rows of late, while it runs"""
    seconds_left: float | None = None
    """at that pace"""
    calls: int
    tokens: int
    uncounted: int
    money: float | None
    unpriced: int
    currency: str
    command: str
    """that goes on with it"""
    leaves: list[Leaf]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def running(self) -> bool:
        return self.state == "running"


def read(index: Index, rest: float = 0.0) -> Standing:
    """Of a run, as its index and its ledger say now; `rest` as `Index.once` has it."""
    process = process_of(index)
    leaves = _leaves(index, rest)
    running = process is not None and process.is_alive
    states: Counter[str] = Counter()
    for leaf in leaves:
        states.update({state: found.count for state, found in leaf.states.items()})
    asked = [leaf.asked for leaf in leaves if leaf.asked is not None]
    (found,) = index.rows("SELECT (SELECT begun_at FROM candidates ORDER BY n LIMIT 1) AS began, max(ended_at) AS ended FROM candidates")
    (spent,) = index.rows(
        "SELECT total(calls) AS calls, total(prompt_tokens + completion_tokens) AS tokens, total(uncounted) AS uncounted, "
        "total(money) AS money, total(unpriced) AS unpriced FROM spent"
    )
    began, ended = process.began_at if process else found["began"], None if running else (process and process.ended_at) or found["ended"]
    pace = _pace(index, began) if running else None
    met = bool(leaves) and all(leaf.outcome == "met" for leaf in leaves)
    missing = sum(max(0, leaf.asked - leaf.accepted) for leaf in leaves if leaf.asked is not None and not leaf.outcome)
    return Standing(
        state=state_of(process, is_open=bool(states["open"]), is_met=met, has_ended=bool(leaves) and all(leaf.outcome for leaf in leaves)),
        accepted=states["accepted"],
        asked=sum(asked) if asked else None,
        started=sum(states.values()),
        waiting=states["waiting"],
        began_at=began,
        ended_at=ended,
        seconds=None if began is None else max(0.0, (ended or (time.time() if running else began)) - began),
        per_minute=pace,
        seconds_left=60 * missing / pace if pace and missing else None,
        calls=int(spent["calls"]),
        tokens=int(spent["tokens"]),
        uncounted=int(spent["uncounted"]),
        money=None if spent["unpriced"] == spent["calls"] else spent["money"],
        unpriced=int(spent["unpriced"]),
        currency=_currency(index),
        command=(process and process.command) or "leafmill run",
        leaves=leaves,
    )


def meta(index: Index, key: str) -> Any:
    """What the ledger says beside its candidates; None in a ledger that does not say it."""
    found = index.rows("SELECT value FROM ledger.meta WHERE key = ?", [key])
    return json.loads(found[0]["value"]) if found else None


def process_of(index: Index) -> Process | None:
    """The last that worked in the run's folder; None in a ledger that does not say it."""
    found = meta(index, "process")
    return Process.model_validate(found) if found else None


def state_of(process: Process | None, *, is_open: bool, is_met: bool, has_ended: bool) -> State:
    """By the process; of an older run, whose ledger tells nothing of it, by what is left undone."""
    if process is None:
        return "stopped" if is_open or not has_ended else "finished" if is_met else "short"
    if process.is_alive:
        return "running"
    if process.exit_code in (None, EXIT_INTERRUPTED):
        return "stopped"
    return "finished" if process.exit_code == 0 else "short" if process.exit_code == EXIT_UNMET else "failed"


def titles(index: Index) -> dict[str, dict[str, str]]:
    """Of the leaves, by language; none in a ledger that does not have them."""
    return {leaf: one.get("title", {}) for leaf, one in (meta(index, "leaves") or {}).items()}


def _leaves(index: Index, rest: float) -> list[Leaf]:
    planned: dict[str, dict[str, Any]] = meta(index, "leaves") or {}
    outcomes = {row["leaf"]: row for row in index.rows("SELECT * FROM ledger.leaves")}
    found: dict[str, list[Counted]] = defaultdict(list)
    for one in counts.read(index, rest):
        found[one.leaf].append(one)
    tokens = {
        row["leaf"]: row["tokens"]
        for row in index.rows("SELECT leaf, sum(prompt_tokens + completion_tokens) AS tokens FROM spent GROUP BY leaf")
    }
    names = [*planned, *sorted(({*found, *outcomes, *tokens} - {*planned}) - {gold.LEAF})]
    return [_leaf(name, planned.get(name, {}), outcomes.get(name, {}), found[name], tokens.get(name, 0)) for name in names]


def _leaf(name: str, planned: Mapping[str, Any], outcome: Mapping[str, Any], found: Sequence[Counted], tokens: int) -> Leaf:
    states: Counter[str] = Counter()
    for one in found:
        states[one.state] += one.n
    accepted, judged = states["accepted"], sum(one.judged for one in found)
    decided = {} if states["open"] else outcome  # taken up again: what is written of it is of an earlier run
    return Leaf(
        leaf=name,
        title=planned.get("title", {}),
        asked=planned.get("target", outcome.get("asked")),
        accepted=accepted,
        states={state: Count(count=states[state], query=Filter().query(leaf=name, state=state)) for state in STATES},
        outcome=decided.get("state", ""),
        why=decided.get("reason", ""),
        tokens=tokens,
        tokens_per_accepted=tokens / accepted if accepted and tokens else None,
        spread=sum(one.apart for one in found) / judged if judged else None,
        query=Filter().query(leaf=name),
    )


def _pace(index: Index, began: float | None) -> float | None:
    """Rows a minute; None before the first."""
    now = time.time()
    since = max(now - WINDOW, began or 0.0)
    (found,) = index.rows("SELECT count(*) AS n FROM candidates WHERE ended_at > ? AND state = 'accepted'", [since])
    return 60 * found["n"] / max(now - since, 1.0) if found["n"] else None


def _currency(index: Index) -> str:
    """As the run's recipe has it; read as text, for a recipe of another version must not keep a page from being shown."""
    try:
        lines = index.folder.recipe.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("currency:")), "")
