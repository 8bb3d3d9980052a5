"""The last look before an export: rows that hold items of test sets are not exported, and a report says of each test set what was found.

The test sets are those that the run used, as they lie in its folder, and any others that are named now: so data that was made before a
test set was known of is held against it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from filters import catalogue
from filters.contamination.gate import Contamination
from filters.contamination.report import SetReport, report
from filters.contamination.testsets import Benchmarks, load_all, loaded
from leafmill.ledger import Ledger
from leafmill.recipe import Recipe
from leafmill.records import Verdict
from leafmill.runfolder import RunFolder, write_whole

BATCH = 1024


def open_gate(folder: RunFolder, against: Sequence[str] = ()) -> Contamination | None:
    """The gate with the settings of the run's recipe, over its test sets and those named now; None when there are none."""
    used = Recipe.read(folder.recipe, dry=True).gates.get(Contamination.name) if folder.recipe.is_file() else {}
    own = [loaded(path) for path in sorted(folder.test_sets.glob("*.jsonl"))] if used is not False else []
    tests = Benchmarks((*own, *load_all(against, taken=[one.name for one in own]).sets))
    if not tests.sets:
        return None
    gate = catalogue.make(Contamination.name, used or {}, tests=tests)
    assert isinstance(gate, Contamination)
    return gate


def contaminated(ledger: Ledger, gate: Contamination) -> dict[str, Verdict]:
    """The accepted rows that hold an item of a test set: the candidate's id, and the verdict."""
    accepted = ledger.accepted()
    found: dict[str, Verdict] = {}
    while batch := list(islice(accepted, BATCH)):
        verdicts = gate.read([row for _, row in batch])
        found |= {brief.id: verdict for (brief, _), verdict in zip(batch, verdicts, strict=True) if verdict.decision != "accept"}
    return found


def write_report(path: Path, gate: Contamination, found: Mapping[str, Verdict]) -> list[SetReport]:
    """Write beside an export what was left out of it, and of each test set how much of it was in the rows. Raises DiskError."""
    sets = report(gate.tests.sets, found.values())
    left_out = [{"id": id_, "code": one.code, "share": one.value, "evidence": one.evidence} for id_, one in found.items()]
    told = {"test_sets": [one.told() for one in sets], "left_out": left_out}
    write_whole(path, json.dumps(told, ensure_ascii=False, indent=2) + "\n")
    return sets
