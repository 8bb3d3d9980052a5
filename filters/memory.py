"""What the dedup gates share: they remember accepted rows, and compare with those only.

Comparing with kept rows only is what keeps a chain of near-twins from eating itself: with A like B and B like C, dropping B leaves C free
to stay (SemDeDup and SemHash also compare with dropped rows, and so drop C).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from filters.dedup.guard import Difference
from filters.gate import Gate, Subject, refusal
from leafmill.records import Verdict

SHOWN = 10
"""near rows that a verdict names as spared by the guard; a templated leaf may have hundreds"""


@runtime_checkable
class Remembering(Gate, Protocol):
    """A gate whose verdicts depend on what was accepted before. Asking it changes nothing; `add` does, in the serial reducer."""

    async def add(self, subject: Subject) -> None:
        """Record an accepted row. Adding it again changes nothing, so a replay after a crash is harmless."""
        ...


async def admit(gates: Iterable[Remembering], subjects: Iterable[Subject]) -> list[tuple[Verdict, ...]]:
    """Judge subjects one after the other and record each that all gates accept. Of twins the first one wins, always.

    Each subject's verdicts end with the first that is no accept.
    """
    gates, subjects, verdicts = tuple(gates), list(subjects), []
    for gate in gates:
        if isinstance(gate, Preparing):
            await gate.prepare(subjects)
    for subject in subjects:
        given: list[Verdict] = []
        if await refusal(gates, subject, given.append) is None:
            for gate in gates:
                await gate.add(subject)
        verdicts.append(tuple(given))
    return verdicts


@runtime_checkable
class Preparing(Protocol):
    """A gate that is faster on many: told of the subjects that it will be asked about next, it works out for all of them at once what
    does not depend on the verdicts in between. It changes no verdict, and may be left out."""

    async def prepare(self, subjects: Sequence[Subject]) -> None: ...


def spared(differences: Mapping[str, Difference]) -> dict[str, Any]:
    """Evidence of the near rows that are no duplicates: id -> what differs, by kind. Nothing when there are none.

    A gate that accepts a row because of the guard alone says so by the code `<gate>.spared`.
    """
    return {"spared": {id: difference._asdict() for id, difference in islice(differences.items(), SHOWN)}} if differences else {}


async def restore(gate: Remembering, accepted: Sequence[Subject]) -> None:
    """Make a gate remember exactly the accepted rows, as after a restart. One that keeps an index of its own brings it in line."""
    if isinstance(gate, Restoring):
        await gate.restore(accepted)
        return
    for subject in accepted:
        await gate.add(subject)


@runtime_checkable
class Restoring(Protocol):
    """A gate whose memory outlives the process, and may hold too much or too little."""

    async def restore(self, subjects: Sequence[Subject]) -> None: ...
