"""A candidate that waits for a person, with all that the person needs to decide it, read from the ledger."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from filters.agreement import ARBITER
from leafmill.errors import ReviewError
from leafmill.records import Brief, Row, Verdict, seat_names

WHY: Mapping[str, str] = {
    "agreement.disagree": "The panel is divided: its votes lie {value} points apart, and at most {threshold} are allowed.",
    "agreement.too_few_votes": "Of the panel, {value} could be heard; at least {threshold} must be.",
    "vote.no_consensus": "Its answers do not agree on a result, so none was chosen.",
    "vote.unverified": "None of its answers gives the result that is known to be right, so none was chosen.",
    "jury.no_winner": "The jury could not choose one of its answers.",
    "jury.unheard": "Of the jury that was to choose one of its answers, nobody could be heard.",
    "review.sample": "It passed everything, and was drawn for the audit sample.",
    "review.leaf": "It passed everything; the recipe wants a person to see every row of this leaf.",
    "review.panel": "It passed everything, but the panel's median is {value}, below the {threshold} of the recipe's review rule.",
    "review.critic": "It passed everything, but the critic's score is {value}, below the {threshold} of the recipe's review rule.",
}
"""by code, why a candidate waits"""
UNMEASURED = "The gate {gate} could not measure it ({code})."


class Why(NamedTuple):
    """Why a candidate waits: a phrase and what fills it in, so that it can be said in any language."""

    phrase: str
    values: dict[str, str]

    @property
    def sentence(self) -> str:
        return self.phrase.format(**self.values)


class Voted(BaseModel):
    """What a seat of the panel, or the arbiter, said of the row."""

    seat: str
    value: float | None
    """None: it was not heard, `failed` says why"""
    rationale: str
    failed: str


class Measured(BaseModel):
    """What a gate found, the last time that it was asked at this door."""

    door: str
    gate: str
    decision: str
    code: str
    value: float | None
    threshold: float | None
    sentence: str


class Several(BaseModel):
    """One of several answers of which none was chosen. `code` says why it could not be."""

    sample: int
    alias: str
    model: str = ""
    answer: str
    reasoning: str = ""
    final: str = ""
    """what it comes to, where answers can be compared by that"""
    code: str = ""


class Remark(BaseModel):
    """What the critic said last."""

    score: float | None
    reason: str
    where: str


class Case(BaseModel):
    """A candidate with all that a person needs to decide it."""

    id: str
    leaf: str
    number: int
    language: str
    state: str
    axes: dict[str, str]
    concepts: list[str]
    scenario: str
    persona: str
    stage: str
    code: str
    detail: str
    since: float
    """seconds since the epoch"""
    row: Row
    answers: list[Several]
    votes: list[Voted]
    gates: list[Measured]
    remark: Remark | None
    phrase: str
    told: dict[str, str]

    @property
    def why(self) -> Why:
        return Why(self.phrase, self.told)

    @property
    def can_be_accepted(self) -> bool:
        """Not what was answered several times, and has no answer."""
        return bool(self.row.answer) or self.stage != "vote"


def read(ledger: sqlite3.Connection, id_: str) -> Case:
    """Raises ReviewError when there is none of this id, or it has no row yet."""
    found = candidate(ledger, id_)
    brief = Brief.model_validate_json(found["brief"])
    if found["row"] is None:
        raise ReviewError("not_waiting", f"{id_} has no row yet: it is {found['state']}")
    verdicts = ledger.execute("SELECT * FROM verdicts WHERE candidate = ? ORDER BY seq, id", (id_,)).fetchall()
    gates = {(door, row["gate"]): row for row in verdicts if (door := row["step"].split(".")[0])}
    phrase, told = _why(found, verdicts)
    return Case(
        id=id_,
        **{name: found[name] for name in ("leaf", "number", "language", "state", "stage", "code", "detail")},
        **{name: getattr(brief, name) for name in ("axes", "scenario", "persona")},
        concepts=list(brief.concepts),
        since=found["ended_at"] or found["begun_at"],
        row=Row.model_validate_json(found["row"]),
        answers=_answers(found),
        votes=_votes(ledger, id_),
        gates=[_measured(door, row) for (door, _), row in gates.items()],
        remark=_remark(ledger, id_),
        phrase=phrase,
        told=told,
    )


def candidate(ledger: sqlite3.Connection, id_: str) -> sqlite3.Row:
    """Its own line of the ledger. Raises ReviewError when there is none."""
    found = ledger.execute("SELECT * FROM candidates WHERE id = ?", (id_,)).fetchone()
    if found is None:
        raise ReviewError("unknown", f"no candidate has the id {id_!r}; `leafmill candidates --state waiting` lists those who wait")
    return found  # type: ignore[no-any-return]


def _why(found: sqlite3.Row, verdicts: Sequence[sqlite3.Row]) -> Why:
    """By the verdict that holds it."""
    holding = next((row for row in reversed(verdicts) if row["code"] == found["code"]), None)
    about = {"code": found["code"], "gate": holding["gate"] if holding else found["code"].split(".")[0]}
    numbers = {name: f"{holding[name]:g}" if holding and holding[name] is not None else "–" for name in ("value", "threshold")}
    return Why(WHY.get(found["code"], UNMEASURED), {**about, **numbers})


def _answers(found: sqlite3.Row) -> list[Several]:
    """Those of which none was chosen; none where one was."""
    made = [one for one in (json.loads(found["lineage"] or "{}").get("made") or ()) if one.get("part") == "answer" and "vote" in one]
    several = made[-1]["vote"] if made else {}
    told = [] if "sample" in several else several.get("answers", [])
    return [Several.model_validate({name: one[name] for name in Several.model_fields if name in one}) for one in told if "answer" in one]


def _votes(ledger: sqlite3.Connection, id_: str) -> list[Voted]:
    """Of the panel's last look at it, and the arbiter's after that."""
    cast = ledger.execute("SELECT * FROM votes WHERE candidate = ? ORDER BY seq, id", (id_,)).fetchall()
    last = max((row["seq"] for row in cast if row["role"] != ARBITER), default=0)
    cast = [row for row in cast if row["seq"] >= last]
    names = seat_names((row["role"], row["alias"]) for row in cast)
    return [
        Voted(
            seat=names[row["role"], row["alias"]],
            value=row["score"] if row["expected"] is None else row["expected"],
            rationale=row["rationale"],
            failed=row["failed"],
        )
        for row in cast
    ]


def _measured(door: str, row: sqlite3.Row) -> Measured:
    named = {name: row[name] for name in ("gate", "decision", "code", "value", "threshold")}
    return Measured(door=door, **named, sentence=Verdict(**named, evidence=json.loads(row["evidence"])).sentence)


def _remark(ledger: sqlite3.Connection, id_: str) -> Remark | None:
    """Of the last reply of the critic; where it cannot be read, the reply itself."""
    asked = "SELECT reply FROM calls WHERE candidate = ? AND role = 'critic' AND status = 'ok' ORDER BY seq DESC, id DESC LIMIT 1"
    if (found := ledger.execute(asked, (id_,)).fetchone()) is None:
        return None
    written = re.search(r"\{.*\}", found["reply"], re.DOTALL)
    try:
        said = json.loads(written[0]) if written else {}
    except json.JSONDecodeError:
        said = {}
    score, told = said.get("score"), {name: str(said.get(name) or "") for name in ("reason", "where")}
    reason = told["reason"] or ("" if said else found["reply"])
    return Remark(score=score if isinstance(score, int | float) else None, reason=reason, where=told["where"])
