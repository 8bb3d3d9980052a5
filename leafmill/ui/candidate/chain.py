"""How a row came to be what it is: the evolutions of its instruction, the revisions of its answer, and the answers that one was chosen of.

The lineage says what stands and why the rest does not; the words of what does not stand are in the replies of the calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from leafmill.records import Row, digest
from leafmill.ui.candidate.timeline import Event
from leafmill.ui.diff import Piece, diff

ANSWERS = ("answer", "vote")
"""nodes that answer"""


class Change(BaseModel):
    """A text and what was made of it. `after` is None where no reply could be used."""

    kind: Literal["localisation", "evolution", "revision"]
    what: str
    """the operator; of a revision the code of the gate that refused it"""
    stands: bool
    code: str = ""
    """why it does not stand"""
    before: str
    after: str | None
    diff: list[Piece] = []
    call: int | None = None
    """the call that made it"""
    said: str = ""
    """what was found wrong with the earlier text, or thought of the later one"""
    panel: list[float | None] = []
    """the panel's mean before and after"""
    critic: list[float | None] = []


class Answer(BaseModel):
    """One of several answers. `text` is None where it cannot be told which call it was."""

    sample: int
    won: bool
    alias: str
    model: str
    code: str
    """why it may not win"""
    final: str
    """the result that it came to, as votes are counted"""
    marks: dict[str, Any]
    text: str | None
    reasoning: str
    call: int | None


class Choice(BaseModel):
    """How one of several answers was chosen, or that none was."""

    by: str
    code: str
    told: dict[str, Any]
    answers: list[Answer]


def changes(row: Row | None, lineage: Mapping[str, Any], events: Sequence[Event]) -> list[Change]:
    """All of them, in the order in which they were made."""
    made = [one for one in lineage.get("made") or () if isinstance(one, dict)]
    calls = [event for event in events if event["kind"] == "call"]
    found = [*_localised(made, row), *_evolved(made, lineage.get("evolutions") or [], row, events), *_revised(lineage, calls)]
    return [change.model_copy(update={"diff": diff(change.before, change.after)}) if change.after else change for change in found]


def choice(made: Sequence[Mapping[str, Any]], events: Sequence[Event], seed: int | None, row: Row | None) -> Choice | None:
    """The last choice between answers. `seed`: of the run, by which the calls of the answers are told apart."""
    one = next((one for one in reversed(made) if isinstance(one.get("vote"), dict)), None)
    if one is None:
        return None
    vote, step = one["vote"], str(one.get("step"))
    calls = [event for event in events if event["kind"] == "call" and event["step"] == step and event["status"] in ("ok", "cut_off")]
    known = {"sample", "alias", "family", "model", "variant", "code", "final", "kind", "answer", "reasoning"}
    answers = []
    for told in vote.get("answers") or ():
        sample = told.get("sample", -1)
        call = next((call for call in calls if seed is not None and call["params"].get("seed") == _seed(seed, call, sample)), None)
        won = sample == vote.get("sample")
        said = _said(call) if call else None
        text, reasoning = (row.answer, row.reasoning) if won and row else said or (None, "")
        answers.append(
            Answer(
                sample=sample,
                won=won,
                alias=told.get("alias", ""),
                model=told.get("model", ""),
                code=told.get("code", ""),
                final=str(told.get("final", "")),
                marks={name: value for name, value in told.items() if name not in known},
                text=told.get("answer", text),
                reasoning=told.get("reasoning", reasoning),
                call=call["id"] if call else None,
            )
        )
    about = {name: value for name, value in vote.items() if name not in ("by", "code", "answers", "sample")}
    return Choice(by=vote.get("by", ""), code=vote.get("code", ""), told=about, answers=answers)


def _localised(made: Sequence[Mapping[str, Any]], row: Row | None) -> Iterator[Change]:
    """From the other language: told is what it was; what became of it is what was evolved first, or stands."""
    for at, one in enumerate(made):
        if one.get("from_language"):
            later = next((two["from"] for two in made[at + 1 :] if two.get("operator")), row.first_instruction if row else None)
            yield Change(kind="localisation", what=str(one["from_language"]), stands=True, before=str(one.get("from", "")), after=later)


def _evolved(
    made: Sequence[Mapping[str, Any]], evolutions: Sequence[Mapping[str, Any]], row: Row | None, events: Sequence[Event]
) -> Iterator[Change]:
    """The parent of each is what stood then: of one that stands the lineage has it, and of one that does not it is the next one's too."""
    parents = [str(one["from"]) for one in made if one.get("operator") and "from" in one]
    last = row.first_instruction if row else ""
    stood = 0
    for round_, one in enumerate(evolutions):
        refused = str(one.get("refused") or "")
        call = _last(events, "call", f"evolve.{round_}.")
        before = parents[stood] if stood < len(parents) else last
        if not refused:
            stood += 1
            after: str | None = parents[stood] if stood < len(parents) else last
        else:
            after = _field(call, "instruction") if call and call["status"] == "ok" else None
        compared = _last(events, "verdict", f"compare.{round_ + 1}.")
        said = str((compared or {}).get("evidence", {}).get("rationale") or "")
        by = call["id"] if call else None
        operator = str(one.get("operator", ""))
        yield Change(kind="evolution", what=operator, stands=not refused, code=refused, before=before, after=after, call=by, said=said)


def _revised(lineage: Mapping[str, Any], calls: Sequence[Event]) -> Iterator[Change]:
    """Answers that were to take the place of others. The one that stands is what the next is held against."""
    standing: Event | None = None
    for tried in lineage.get("revisions") or ():
        *_, evolved, answered = ["", "", *str(tried.get("step", "")).removesuffix(".again").split(".")]
        round_ = int(answered) - 1 if answered.isdigit() else -1
        new = _answer(calls, evolved, round_)
        standing = standing or _answer(calls, evolved, round_ - 1)
        if new is None or standing is None or (before := _said(standing)) is None:
            continue
        after, stays = _said(new), bool(tried.get("stays"))
        critic = next((call for call in reversed(calls) if call["role"] == "critic" and call["seq"] < new["seq"]), None)
        yield Change(
            kind="revision",
            what=f"{evolved}.{round_}",
            stands=stays,
            code=str(tried.get("refused") or ("" if stays else "revision.no_better")),
            before=before[0],
            after=after[0] if after else None,
            call=new["id"],
            said=_field(critic, "reason") or "" if critic else "",
            panel=tried.get("panel") or [],
            critic=tried.get("critic") or [],
        )
        standing = new if stays else standing


def _answer(calls: Sequence[Event], evolved: str, round_: int) -> Event | None:
    """The call that gave an answer; None where several did, of which one was chosen."""
    steps = {f"{node}.{evolved}.{round_}{again}" for node in ANSWERS for again in ("", ".again")}
    found = [call for call in calls if call["step"] in steps and call["status"] in ("ok", "cut_off")]
    return found[0] if len(found) == 1 else None


def _last(events: Sequence[Event], kind: str, step: str) -> Event | None:
    return next((event for event in reversed(events) if event["kind"] == kind and event["step"].startswith(step)), None)


def _said(call: Event) -> tuple[str, str] | None:
    """The answer of a reply, and the reasoning that came with it."""
    found = _object(call["reply"])
    if found is None or "answer" not in found:
        return call["reply"].strip(), call["reasoning"]
    return str(found["answer"]), str(found.get("reasoning") or call["reasoning"])


def _field(call: Event, name: str) -> str | None:
    value = (_object(call["reply"]) or {}).get(name)
    return value if isinstance(value, str) else None


def _object(reply: str) -> dict[str, Any] | None:
    """The JSON object that a reply is, perhaps with words around it."""
    try:
        found = json.JSONDecoder(strict=False).raw_decode(reply, reply.index("{"))[0]
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _seed(seed: int, call: Event, sample: int) -> int:
    """What the call of a sample was seeded with."""
    return int(digest(seed, call["candidate"], call["step"], call["role"], sample, length=8), 16) % 2**31
