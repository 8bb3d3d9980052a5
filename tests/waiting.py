"""What tests of the review share: a ledger in which candidates wait for a person, as a run would have left it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from leafmill.ledger import Call, Ending, Ledger, Step
from leafmill.records import Brief, Row, State, Turn, Verdict, Vote

QUESTION, ANSWER = "Which shelf does sheet {} go on?", "Sheet {} goes on the lowest shelf."


class Held(NamedTuple):
    """A candidate that waits, or has ended otherwise. `answers`: several of which none was chosen."""

    number: int
    code: str = "agreement.disagree"
    stage: str = "agree"
    leaf: str = "t/a"
    votes: Sequence[float | None] = (5, 1)
    value: float | None = 4
    threshold: float | None = 2
    answer: str = ANSWER
    answers: Sequence[str] = ()
    state: State = "waiting"
    history: tuple[Turn, ...] = ()
    reasoning: str = ""

    @property
    def id(self) -> str:
        return f"{self.leaf[-1]}{self.number:015d}"


def several(number: int) -> Held:
    """One whose answers do not agree."""
    answers = (f"Sheet {number}: the first shelf.", f"Sheet {number}: the second shelf.")
    return Held(number, "vote.no_consensus", "vote", votes=(), value=0.5, threshold=0.8, answer="", answers=answers)


def sampled(number: int, *votes: float | None) -> Held:
    """One of the audit sample."""
    return Held(number, "review.sample", "score", votes=votes or (5, 4), value=0.1, threshold=0.5)


def written(folder: Path, *held: Held, recipe: str = "", **meta: Any) -> Path:
    """A run's folder with these candidates in its ledger; the ledger's path."""
    folder.mkdir(parents=True, exist_ok=True)
    if recipe:
        (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    asyncio.run(_write(folder / "ledger.db", held, meta))
    return folder / "ledger.db"


async def _write(path: Path, held: Sequence[Held], meta: dict[str, Any]) -> None:
    with Ledger(path) as ledger:
        for key, value in meta.items():
            await ledger.set_meta(key, value)
        for one in held:
            await _hold(ledger, one)


async def _hold(ledger: Ledger, one: Held) -> None:
    axes, concepts = {"card": f"c{one.number}"}, ("filing",)
    brief = Brief(id=one.id, leaf=one.leaf, number=one.number, language="en", axes=axes, concepts=concepts, scenario="A clerk is new.")
    await ledger.begin(brief)
    step = Step(one.id, one.leaf, 3, "annotate.0.0")
    for place, value in enumerate(one.votes):
        failed = "timeout" if value is None else ""
        score, expected = (None, None) if value is None else (round(value), value)
        why = "" if value is None else f"It is worth {value}."
        ledger.note_vote(step, Vote(role="annotator", alias=f"judge-{place}", score=score, expected=expected, rationale=why, failed=failed))
    critic = Step(one.id, one.leaf, 4, "criticise.0.0")
    said = '```json\n{"score": 4, "reason": "It does not say why.", "where": "the lowest shelf"}\n```'
    call = Call(f"k{one.id}", critic, "critic", "en", "h", "judge", "m", [], {}, reply=said)
    await ledger.record_call(call)
    ledger.note_verdict(step._replace(seq=1, name="screen.0.0"), Verdict(gate="length", decision="accept", code="ok", value=8))
    gate = one.code.split(".")[0]
    held = Verdict(gate=gate, decision="unscorable", code=one.code, value=one.value, threshold=one.threshold, evidence={"why": "so"})
    ledger.note_verdict(step._replace(seq=5, name=f"{one.stage}.0.0"), held)
    row = Row(
        language="en",
        instruction=QUESTION.format(one.number),
        answer=one.answer.format(one.number),
        history=one.history,
        reasoning=one.reasoning,
    )
    answers = [
        {"sample": place, "alias": "a", "family": "f", "model": "m", "answer": text, "final": str(place)}
        for place, text in enumerate(one.answers)
    ]
    made = [{"part": "answer", "step": "vote.0.0", "vote": {"by": "vote", "code": one.code, "answers": answers}}] if answers else []
    await ledger.finish(brief, Ending(one.state, one.stage, one.code, held.sentence), row, {"made": made})
