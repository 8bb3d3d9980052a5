"""A ledger of any size, made out of a small one: the lives of a scripted run's candidates, told again and
again with other words and ends.

A life is a candidate with its calls, verdicts and votes. Each time it is told with another id, other texts of its language, other scores
and times; some are cut short: by a gate that refuses, by a call that fails, or because they are still under way.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from agents.scripted.words import BANKS, Speaker
from leafmill.records import Language, digest

RECIPE = Path(__file__).parent.parent.parent / "docs" / "whole" / "recipe.yaml"
LEAVES = 40
CALLS = 10
"""of a candidate, on the average"""
AT_ONCE = 500
SENTENCES = 6000
"""of each language, to make texts of"""
SAID = 400
"""characters of a call's messages that are kept: nobody searches them"""
ENDS: Mapping[str, tuple[str, float]] = {
    "length": ("length.short", 0.012),
    "refusal": ("refusal.refused", 0.01),
    "language": ("language.other", 0.006),
    "safety": ("safety.words", 0.003),
    "form": ("form.broken", 0.006),
    "exact": ("exact.duplicate", 0.01),
    "minhash": ("minhash.duplicate", 0.02),
    "semantic": ("semantic.duplicate", 0.04),
    "critic": ("critic.low", 0.06),
    "agreement": ("agreement.low", 0.08),
    "ifd": ("ifd.too_easy", 0.07),
}
"""by gate: the code that it refuses with, and how often it does each time it is asked"""
FAILS = 0.003
"""of the calls"""
UNDER_WAY = 0.0005
"""of the candidates"""

Columns = dict[str, Any]


class Life(NamedTuple):
    """A candidate as the ledger has it, and what happened to it, in its order: (table, columns)."""

    candidate: Columns
    events: list[tuple[str, Columns]]


def make(folder: Path, candidates: int, seed: int = 1) -> Path:
    """A run's folder, `folder`, with so many candidates and ten times as many calls; its ledger."""
    _scripted(folder)
    return retell(folder / "ledger.db", candidates, seed)


def retell(path: Path, candidates: int, seed: int = 1) -> Path:
    """Put so many candidates in the place of those that a ledger has, made of them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.row_factory = sqlite3.Row
        conn.execute("PRAGMA journal_mode = DELETE")
        conn.execute("PRAGMA synchronous = OFF")
        lives = _lives(conn)
        leaves = _spread_leaves(conn)
        conn.execute("BEGIN")
        for table in ("candidates", "calls", "verdicts", "votes"):
            conn.execute(f"DELETE FROM {table} WHERE 1")
        tell = Telling(random.Random(seed), leaves)
        for first in range(0, candidates, AT_ONCE):
            rows: dict[str, list[Columns]] = defaultdict(list)
            for number in range(first, min(first + AT_ONCE, candidates)):
                for table, columns in tell(lives[number % len(lives)], number):
                    rows[table].append(columns)
            for table, of_table in rows.items():
                names = of_table[0].keys()
                into = ", ".join(f'"{name}"' for name in names)
                conn.executemany(f'INSERT INTO "{table}" ({into}) VALUES ({", ".join(f":{name}" for name in names)})', of_table)
        conn.execute("COMMIT")
        conn.execute("PRAGMA journal_mode = WAL")
    return path


def _scripted(folder: Path) -> None:
    """A small run of the scripted models: its recipe, its prompts and its ledger."""
    command = ["run", str(RECIPE), "--scripted", "--fresh", "--name", folder.name, "--runs", str(folder.parent)]
    subprocess.run([sys.executable, "-m", "leafmill.cli", *command], check=True, capture_output=True, timeout=300)
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f"{folder.name}-scripted").rename(folder)


def _lives(conn: sqlite3.Connection) -> list[Life]:
    events: dict[str, list[tuple[str, Columns]]] = defaultdict(list)
    for table in ("calls", "verdicts", "votes"):
        for row in map(dict, conn.execute(f"SELECT * FROM {table} ORDER BY id")):
            row.pop("id")
            if table == "calls":
                row["messages"] = json.dumps(
                    [{"role": "user", "content": json.loads(row["messages"])[-1]["content"][:SAID]}], ensure_ascii=False
                )
            events[row["candidate"]].append((table, row))
    ended = [[dict(row) for row in conn.execute("SELECT * FROM candidates WHERE state = ?", (state,))] for state in ("accepted", "waiting")]
    found = [*ended[0], *ended[1][:1]]
    return [Life(one, sorted(events[one["id"]], key=lambda event: event[1]["seq"])) for one in found]


def _spread_leaves(conn: sqlite3.Connection) -> dict[str, list[str]]:
    """More leaves of each of the run's own, with all that the run's notes say of those."""
    meta = {row["key"]: json.loads(str(row["value"])) for row in conn.execute("SELECT * FROM meta")}
    spread = {leaf: [f"{leaf}/{number:02}" for number in range(LEAVES // len(meta["factors"]))] for leaf in meta["factors"]}
    for key, of_leaves in (("factors", meta["factors"]), ("leaves", meta["leaves"]), ("graphs", meta["graphs"]["leaves"])):
        wider = {path: of_leaves[leaf] for leaf, paths in spread.items() for path in paths}
        meta[key] = {**meta[key], "leaves": wider} if key == "graphs" else wider
        conn.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(meta[key], ensure_ascii=False), key))
    ended = [dict(row) for row in conn.execute("SELECT * FROM leaves")]
    conn.execute("DELETE FROM leaves")
    for row in ended:
        conn.executemany("INSERT INTO leaves VALUES (?, ?, ?, ?, ?)", [(path, *[*row.values()][1:]) for path in spread[row["leaf"]]])
    return spread


class Telling:
    """Tells lives, each a little otherwise."""

    def __init__(self, rng: random.Random, leaves: Mapping[str, list[str]]) -> None:
        self._rng, self._leaves = rng, leaves
        self._said = {language: _sentences(language, rng) for language in BANKS}
        self._numbers: dict[str, int] = defaultdict(int)
        self._ids: list[str] = ["0" * 16]
        self._now = 1_790_000_000.0

    def __call__(self, life: Life, number: int) -> Iterator[tuple[str, Columns]]:
        rng, was = self._rng, life.candidate
        id_, leaf = digest("bench", number), rng.choice(self._leaves[was["leaf"]])
        self._now += rng.expovariate(4)
        begun, clock = self._now, self._now
        told: list[tuple[str, Columns]] = []
        ending: Columns = {name: was[name] for name in ("state", "stage", "code", "detail")}
        if rng.random() < UNDER_WAY:
            ending = {"state": "open", "stage": "", "code": "", "detail": ""}
        for table, event in self._events(life, rng.randrange(4, len(life.events)) if ending["state"] == "open" else len(life.events)):
            made = {**event, "candidate": id_}
            told.append((table, made))
            if table == "calls":
                made |= self._call(made, id_, leaf, clock)
                clock += made["seconds"]
                if made["status"] != "ok":
                    ending = {"state": "errored", "stage": made["step"].partition(".")[0], "code": made["status"], "detail": made["error"]}
                    break
            elif table == "votes":
                made |= {"score": rng.choices((1, 2, 3, 4, 5), (3, 8, 17, 42, 30))[0], "at": clock}
            else:
                made |= {"at": clock}
                refused = self._refused(made)
                if refused:
                    made |= refused
                    stage = made["step"].partition(".")[0]
                    ending = {"state": "rejected", "stage": stage, "code": refused["code"], "detail": f"{made['gate']}: {refused['value']}"}
                    break
        yield (
            "candidates",
            {
                **self._candidate(was, id_, leaf, bool(told)),
                **ending,
                "begun_at": begun,
                "ended_at": None if ending["state"] == "open" else clock,
            },
        )
        yield from told
        self._ids.append(id_)

    def _events(self, life: Life, until: int) -> Iterator[tuple[str, Columns]]:
        for table, event in life.events[:until]:
            if table == "verdicts" and event["gate"] == "exact" and event["step"].startswith("admit"):
                yield (
                    table,
                    {
                        **event,
                        "gate": "ifd",
                        "step": event["step"].replace("admit", "score"),
                        "value": self._rng.betavariate(6, 4),
                        "threshold": 0.95,
                    },
                )
            yield table, event

    def _call(self, call: Columns, id_: str, leaf: str, at: float) -> Columns:
        rng = self._rng
        made: Columns = {
            "key": f"{rng.getrandbits(128):032x}",
            "candidate": id_,
            "leaf": leaf,
            "started_at": at,
            "seconds": rng.lognormvariate(0.4, 0.7),
        }
        made |= {"prompt_tokens": rng.randrange(200, 1200), "completion_tokens": rng.randrange(20, 600)}
        made["cost"] = None if call["alias"] == "judge-two" else (made["prompt_tokens"] * 0.2 + made["completion_tokens"] * 0.8) / 1e6
        if rng.random() < FAILS and not call["role"].startswith("annotator"):  # that would be a vote that failed
            status = rng.choice(("timeout", "server_fault", "unreadable_reply", "cut_off"))
            made |= {"status": status, "error": f"{status}: after 3 tries", "attempts": 3, "reply": ""}
        return made

    def _refused(self, verdict: Columns) -> Columns | None:
        code, often = ENDS.get(verdict["gate"], ("", 0.0))
        if self._rng.random() >= often:
            return None
        value = round(self._rng.uniform(0.8, 1.0), 4)
        evidence = {"kept": self._rng.choice(self._ids[-5000:]), "similarity": value} if code.endswith("duplicate") else {}
        return {"decision": "reject", "code": code, "value": value, "evidence": json.dumps(evidence)}

    def _candidate(self, was: Columns, id_: str, leaf: str, has_row: bool) -> Columns:
        number = self._numbers[leaf]
        self._numbers[leaf] += 1
        brief = {**json.loads(was["brief"]), "id": id_, "leaf": leaf, "number": number}
        lineage = json.loads(was["lineage"] or "{}")
        row = json.loads(was["row"])
        said = self._said[row["language"]]
        row["instruction"] = f"{self._rng.choice(said)} {self._rng.choice(said)} {number}"
        row["answer"] = row["answer"] and " ".join(self._rng.choices(said, k=self._rng.randrange(3, 16)))
        return {
            "id": id_,
            "leaf": leaf,
            "number": number,
            "language": was["language"],
            "brief": json.dumps(brief, ensure_ascii=False),
            "row": json.dumps(row, ensure_ascii=False) if has_row else None,
            "lineage": json.dumps(lineage, ensure_ascii=False),
        }


def _sentences(language: Language, rng: random.Random) -> list[str]:
    """Sentences of everyday, each with words of a topic."""
    bank = BANKS[language]
    return [
        Speaker(
            rng,
            f"{rng.choice(bank['topic'])}，{rng.choice(bank['who'])}"
            if language == "zh"
            else f"{rng.choice(bank['topic'])} {rng.choice(bank['who'])}",
        )._say("sentence")
        for _ in range(SENTENCES)
    ]
