"""What the ledger of a run folder says about the candidates to come: how many are accepted, how many calls each takes, how long they are.

The rates are those of candidates that were judged: one that is open, or that was turned away because its leaf was full, says nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import sqlalchemy as sa
import yaml
from pydantic import ValidationError

from agents import gold
from graphs.checks import check_identity
from leafmill.ledger import CALLS, CANDIDATES, Ledger, Spent
from leafmill.recipe import Flow, Recipe
from leafmill.runfolder import RunFolder

ENOUGH = 20
"""judged candidates of a leaf, or calls of a role in it, from which its own rates are taken and not those of all leaves"""
FEW = 5
"""judged candidates of all leaves from which the ledger's rates are taken and not assumed ones"""
JUDGED = sa.and_(CANDIDATES.c.state != "open", CANDIDATES.c.code != "quota_met")
NOTHING = Spent(calls=0, tokens=0, uncounted_calls=0, money=0.0, unpriced_calls=0)


@dataclass
class Past:
    """Of one leaf, or of all."""

    accepted: int = 0
    judged: int = 0
    final: int = 0
    """judged candidates that will not be tried again: they count against `candidates_per_leaf`"""
    drawn: Counter[str] = field(default_factory=Counter)
    """all candidates, by language"""
    asked: Counter[str] = field(default_factory=Counter)
    """calls of judged candidates, by role"""
    counted: Counter[str] = field(default_factory=Counter)
    """calls whose server said how many tokens they took, by role"""
    tokens: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """of the counted calls, by role: prompt, completion, cached"""


@dataclass
class History:
    """A folder without a ledger has an empty one."""

    leaves: dict[str, Past] = field(default_factory=lambda: defaultdict(Past))
    all: Past = field(default_factory=Past)
    spent: dict[str, Spent] = field(default_factory=dict)
    flow: Flow | None = None
    """the recipe's when these candidates were carried"""
    gold: Counter[str] = field(default_factory=Counter)
    """answered calls about gold rows, by judge"""

    @classmethod
    def read(cls, recipe: Recipe, folder: RunFolder) -> History:
        """Raises OtherRecipeError when the folder is another recipe's."""
        history = cls()
        if not folder.ledger.is_file():
            return history
        with Ledger(folder.ledger, read_only=True) as ledger:
            check_identity(recipe, ledger.meta("identity"), folder.path)
            history._count_candidates(ledger)
            history._count_calls(ledger)
            history._count_gold(ledger)
            history.spent = ledger.spent()
        history.flow = _flow(folder)
        return history

    def acceptance(self, leaf: str) -> tuple[float, str] | None:
        """The share of candidates that is accepted and what it was measured on, `leaf` or `run`; None where too few were judged."""
        past, basis = (self.leaves[leaf], "leaf") if self.leaves[leaf].judged >= ENOUGH else (self.all, "run")
        return (past.accepted / past.judged, basis) if past.judged >= FEW else None

    def calls(self, leaf: str, role: str) -> float | None:
        """Calls of a role for each candidate; None where too few were judged, or the role was not there."""
        past = self.leaves[leaf] if self.leaves[leaf].judged >= ENOUGH else self.all
        return past.asked[role] / past.judged if past.judged >= FEW and self.all.asked[role] else None

    def sizes(self, leaf: str, role: str) -> dict[str, float] | None:
        """Mean tokens of a role's call: prompt, completion, cached; None where none was counted."""
        past = self.leaves[leaf] if self.leaves[leaf].counted[role] >= ENOUGH else self.all
        count = past.counted[role]
        return {kind: past.tokens[role][kind] / count for kind in ("prompt", "completion", "cached")} if count else None

    def _count_candidates(self, ledger: Ledger) -> None:
        c, number = CANDIDATES.c, sa.func.count().label("n")
        judged = sa.case((JUDGED, 1), else_=0).label("judged")
        for row in ledger.rows(sa.select(c.leaf, c.state, c.language, judged, number).group_by(c.leaf, c.state, c.language, judged)):
            for past in (self.leaves[row["leaf"]], self.all):
                past.drawn[row["language"]] += row["n"]
                past.accepted += row["n"] * (row["state"] == "accepted")
                past.judged += row["n"] * row["judged"]
                past.final += row["n"] * row["judged"] * (row["state"] != "errored")

    def _count_calls(self, ledger: Ledger) -> None:
        c, total = CALLS.c, sa.func.sum
        counted = sa.and_(c.prompt_tokens.is_not(None), c.completion_tokens.is_not(None))
        sums = {
            "asked": total(sa.case((JUDGED, 1), else_=0)),
            "counted": total(sa.case((counted, 1), else_=0)),
            "prompt": total(sa.case((counted, c.prompt_tokens), else_=0)),
            "completion": total(sa.case((counted, c.completion_tokens), else_=0)),
            "cached": total(sa.case((counted, sa.func.coalesce(c.cached_tokens, 0)), else_=0)),
        }
        joined = CALLS.outerjoin(CANDIDATES, CANDIDATES.c.id == c.candidate)
        named = (column.label(name) for name, column in sums.items())
        for row in ledger.rows(sa.select(c.leaf, c.role, *named).select_from(joined).where(c.leaf != gold.LEAF).group_by(c.leaf, c.role)):
            for past in (self.leaves[row["leaf"]], self.all):
                past.asked[row["role"]] += row["asked"]
                past.counted[row["role"]] += row["counted"]
                past.tokens[row["role"]].update({kind: row[kind] for kind in ("prompt", "completion", "cached")})

    def _count_gold(self, ledger: Ledger) -> None:
        c = CALLS.c
        answered = sa.select(c.step, sa.func.count(c.key.distinct()).label("n")).where(c.leaf == gold.LEAF, c.status == "ok")
        self.gold.update({row["step"]: row["n"] for row in ledger.rows(answered.group_by(c.step))})


def _flow(folder: RunFolder) -> Flow | None:
    """The flow in the folder's copy of its recipe."""
    try:
        return Flow.model_validate(yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))["flow"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, ValidationError):  # made by hand, or by another version
        return None
