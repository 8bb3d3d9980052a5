"""The judges are tried on gold rows before a run spends anything on candidates, and stop it if they cannot tell good from bad.

    check    every seat of the panel, and the critic, scores the rows that are its question -> how each did
    require  and JudgeError if one gets too few right

The calls are recorded under the rows' names, so that going on with a run reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from agents import annotator, critic
from agents.chat import Chat
from agents.gold import LEAF, Gold
from agents.together import together
from graphs.players import seats_of
from graphs.prepare import Prepared
from leafmill.errors import CallError, JudgeError
from leafmill.ledger import Step
from leafmill.records import Brief, Seat
from taxonomy import Leaf

CRITIC = Seat("critic", "", "critic")
SHELF = Leaf(
    path=LEAF,
    title={"en": "Sample", "zh": "样例"},
    description={"en": "Questions of all kinds.", "zh": "各类问题。"},
    weight=1.0,
    languages=("en", "zh"),
)
"""where these rows stand: a template may show the leaf"""
HEARD = 0.5
"""share of the rows that a judge must be heard on, to be judged itself"""


class Accuracy(BaseModel):
    """How one judge did. A call that failed is neither right nor wrong."""

    judge: str
    good: tuple[int, int]
    """of the good rows: scored as good, and heard"""
    bad: tuple[int, int]
    """of the bad rows: scored as bad, and heard"""
    unheard: int
    passes: bool
    wrong: list[str]
    """the rows that it got wrong, with their fault and its score"""

    @property
    def heard(self) -> int:
        return self.good[1] + self.bad[1]

    @property
    def accuracy(self) -> float | None:
        """None of a judge that was never heard."""
        return (self.good[0] + self.bad[0]) / self.heard if self.heard else None

    @property
    def line(self) -> dict[str, object]:
        """For the ledger and the screens."""
        return {**self.model_dump(), "accuracy": self.accuracy}


def judges_of(prepared: Prepared) -> tuple[Seat, ...]:
    """Those that are tried: every seat, and the critic."""
    roles = prepared.roles
    return (*seats_of(prepared.recipe, roles), *([CRITIC] if roles.at("criticise") else []))


def questions(prepared: Prepared, judge: Seat) -> list[Gold]:
    """The rows that a judge is asked about."""
    return [row for row in prepared.gold if row.concerns(judge.role) and prepared.roles.speaks(judge.role, row.language)]


def brief_of(row: Gold) -> Brief:
    return Brief(id=f"{LEAF}:{row.id}", leaf=LEAF, number=0, language=row.language)


async def check(chat: Chat, prepared: Prepared) -> list[Accuracy]:
    """How each judge does; one that no row concerns is left out."""
    judges = {judge: rows for judge in judges_of(prepared) if (rows := questions(prepared, judge))}
    pairs = [(judge, row) for judge, rows in judges.items() for row in rows]
    scores = await together(_score(chat, judge, row) for judge, row in pairs)
    given = dict(zip(pairs, scores, strict=True))
    return [_accuracy(prepared, judge, {row: given[judge, row] for row in rows}) for judge, rows in judges.items()]


async def require(chat: Chat, prepared: Prepared) -> None:
    """Raises JudgeError for the judges that fail; how all of them did is in the ledger."""
    found = await check(chat, prepared)
    await chat.ledger.set_meta("gold", [one.line for one in found])
    if failed := [one for one in found if not one.passes]:
        raise JudgeError("\n".join([*map(_failure, failed), _TODO.format(least=prepared.recipe.judges.min_accuracy)]))


_TODO = "A judge must get {least:.0%} right (judges.min_accuracy). Try others with `leafmill judges`; `judges.gold: false` tries none"


def _failure(one: Accuracy) -> str:
    if one.accuracy is None or one.heard < HEARD * (one.heard + one.unheard):
        return f"{one.judge} could be heard on {one.heard} of {one.heard + one.unheard} gold rows only"
    return f"{one.judge} gets {one.accuracy:.0%} of the gold rows right; wrong are {', '.join(one.wrong)}"


def _accuracy(prepared: Prepared, judge: Seat, scores: Mapping[Gold, float | None]) -> Accuracy:
    least = _passing(prepared, judge)
    heard = {row: score for row, score in scores.items() if score is not None}
    right = {row for row, score in heard.items() if (score >= least) == row.good}
    wrong = [f"{row.id} ({row.fault or 'good'}: {score:.3g})" for row, score in heard.items() if row not in right]
    good, bad = ((sum(row in right for row in kind), len(kind)) for kind in _kinds(list(heard)))
    enough = len(heard) >= HEARD * len(scores) and len(right) >= prepared.recipe.judges.min_accuracy * len(heard) - 1e-9
    name = f"{judge.role} ({judge.alias})" if judge.alias else judge.role
    return Accuracy(judge=name, good=good, bad=bad, unheard=len(scores) - len(heard), passes=bool(heard) and enough, wrong=wrong)


def _kinds(rows: Sequence[Gold]) -> tuple[list[Gold], list[Gold]]:
    return [row for row in rows if row.good], [row for row in rows if not row.good]


def _passing(prepared: Prepared, judge: Seat) -> float:
    """The score from which the run's own gate would take a row from this judge."""
    gate, setting = ("critic", "min_score") if judge is CRITIC else ("agreement", "min_median")
    settings = prepared.recipe.gates.get(gate) or {}
    return float(settings.get(setting, 3))


async def _score(chat: Chat, judge: Seat, row: Gold) -> float | None:
    """What a judge gives a row; None where it cannot be heard."""
    brief = brief_of(row)
    step = Step(brief.id, LEAF, 0, judge.name)
    if judge is not CRITIC:
        return (await annotator.annotate(chat, judge, SHELF, brief, row.row, step)).value
    try:
        return float((await critic.criticise(chat, SHELF, brief, row.row, step)).score)
    except CallError:  # recorded by the call
        return None
