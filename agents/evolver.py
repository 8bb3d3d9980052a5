"""The evolver makes an instruction harder, or writes another one, by one operator of Evol-Instruct (Xu et al. 2023, arXiv 2304.12244).

Which operator, is drawn: those in depth by what became of their earlier children in the same leaf, breadth by a share of its own. The law:
each operator's rate of success is taken for a number that nobody knows, between 0 and 1, all of them equally likely before the first child
(a Beta distribution after it); `weights` gives half of the draws to whichever operator is best, in proportion to how likely that is
(Thompson's rule), and the other half to all of them evenly, so that none is ever given up and the instructions stay varied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from agents.briefing import about_row
from leafmill.ledger import Step
from leafmill.records import Brief, Row, digest
from taxonomy import Leaf

if TYPE_CHECKING:  # plan-cost reads this module's constants, and does not speak
    from agents.chat import Chat, Reply
    from leafmill.records import Settled

IN_DEPTH = ("constraints", "deepen", "concretise", "reasoning", "complicate_input")
BREADTH = "breadth"
"""another instruction of the same kind, no rewrite"""
OPERATORS = (*IN_DEPTH, BREADTH)
BREADTH_SHARE = 1 / len(OPERATORS)
"""The paper draws all six alike."""
EXPLORED = 0.5
"""share of the draws in depth that all operators have evenly, however they fare"""
GRID = 512
"""points at which the rates are weighed"""


def weights(past: Iterable[Settled], breadth: float = BREADTH_SHARE) -> dict[str, float]:
    """The share of the draws that each operator should have, by the decided candidates of its leaf. They add up to 1.

    A child is a success when nothing refused it and its candidate was accepted. Candidates that wait for a person, or were turned away
    because the leaf was full, say nothing yet.
    """
    tried, good = dict.fromkeys(IN_DEPTH, 0), dict.fromkeys(IN_DEPTH, 0)
    for one in past:
        if one.state not in ("accepted", "rejected") or one.code == "quota_met":
            continue
        for evolution in one.evolutions:
            if evolution.operator in tried:
                tried[evolution.operator] += 1
                good[evolution.operator] += one.state == "accepted" and not evolution.refused
    best = _best({name: (good[name], tried[name] - good[name]) for name in IN_DEPTH})
    shares = {name: (1 - breadth) * (EXPLORED / len(IN_DEPTH) + (1 - EXPLORED) * best[name]) for name in IN_DEPTH}
    return {**shares, BREADTH: breadth}


def operator(brief: Brief, round_: int, in_depth: bool = False) -> str:
    """The operator of an evolution round: no round of a candidate has that of an earlier one, before all have had their turn. `in_depth`:
    the row shall become harder, so another one will not do.

    Where all weigh the same they are dealt in turn, from a start that differs by leaf; else drawn by the weights of the brief.
    """
    names = [name for name in OPERATORS if name != BREADTH or not (in_depth or _is_bound(brief))]
    if brief.mode.write == "document":  # its material is what the document says
        names.remove("complicate_input")
    shares = [brief.operators.get(name, 0.0) for name in names]
    if max(shares) - min(shares) < 1e-9:
        start = int(digest(brief.leaf, length=8), 16)
        return names[(start + brief.number + round_) % len(names)]
    drawn = sorted((_wait(share, brief.id, name), name) for name, share in zip(names, shares, strict=True) if share > 0)
    return drawn[round_ % len(drawn)][1]


async def evolve(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, change: str) -> tuple[Row, Reply]:
    """The child by this operator, without an answer, and the reply it came from. Raises CallError."""
    reply = await chat.ask("evolver", brief.language, step, {**about_row(leaf, brief, row), "operator": change})
    instruction, input_ = reply.get("instruction"), reply.get("input")
    if change == BREADTH:
        return Row(language=row.language, instruction=instruction, input=input_), reply
    # Only one rewrite is about the input; what else comes back as one is a copy with slips in it.
    kept = row.input if change != "complicate_input" else input_ or row.input
    harder = {"instruction": instruction, "input": kept, "answer": "", "reasoning": "", "steps": ()}
    return row.model_copy(update=harder), reply


def _is_bound(brief: Brief) -> bool:
    """Whether its instruction was written for something that another one would not fit: a passage, a row, tools."""
    return brief.source is not None or brief.mode.tools != "none"


def _wait(share: float, *draw: object) -> float:
    """How long an operator lets others go first: sorted by it, names are drawn by their shares, none twice (Efraimidis and Spirakis)."""
    return -math.log((int(digest(*draw, length=12), 16) + 1) / (16**12 + 1)) / share


def _best(seen: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """How likely each is the one with the highest rate, by its successes and failures: the integral over its rate of its own density times
    the chance that all others are lower."""
    density = {name: _density(good, bad) for name, (good, bad) in seen.items()}
    below = {name: [up - here / 2 for up, here in zip(accumulate(of), of, strict=True)] for name, of in density.items()}
    chance = {
        name: math.fsum(here * math.prod(below[other][at] for other in seen if other != name) for at, here in enumerate(of))
        for name, of in density.items()
    }
    whole = math.fsum(chance.values())
    return {name: one / whole for name, one in chance.items()}


def _density(good: int, bad: int) -> list[float]:
    """Of a rate with so many successes and failures, at the middles of equal steps from 0 to 1; adds up to 1."""
    points = [(at + 0.5) / GRID for at in range(GRID)]
    logs = [good * math.log(rate) + bad * math.log(1 - rate) for rate in points]
    top = max(logs)
    raw = [math.exp(one - top) for one in logs]
    whole = math.fsum(raw)
    return [one / whole for one in raw]
