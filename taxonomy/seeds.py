"""Seeds are hand-written examples: read from JSONL, and cleaned by the filters of Self-Instruct, made right for Chinese.

    {"instruction": "Name the largest planet.", "output": "Jupiter.", "language": "en"}
    {"id": "seed_task_8", "instruction": "给出下面词语的同义词", "instances": [{"input": "高兴", "output": "快乐，开心"}]}

What differs from the original filters: length counts Chinese characters and Latin words, not whitespace; case is never changed; order
is the order of arrival; no rule asks for ASCII; and every seed that is dropped has a code that says why.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from leafmill.errors import Place, TaxonomyError
from leafmill.records import Language, Record, Seed

DropCode = Literal["too_short", "too_long", "empty_output", "output_is_input", "ends_in_colon", "duplicate", "conflicting_outputs"]


class Limits(NamedTuple):
    """The fewest and the most units (Chinese characters, Latin words) that an instruction may have."""

    least: int
    most: int


LIMITS: dict[Language, Limits] = {"en": Limits(4, 150), "zh": Limits(4, 250)}
"""150 English words say about as much as 250 Chinese characters"""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAN_CHARACTER = re.compile(f"[{_HAN}]")
_UNIT = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])\w)(?:(?![{_HAN}])[\w'’-])*")
_COLONS = (":", "\uff1a")


class Fault(NamedTuple):
    """Why a seed may not be shown, and on what evidence."""

    code: DropCode
    evidence: str = ""


class DroppedSeed(Record):
    """A seed that may not be shown, and why. `evidence` is what the decision rests on, such as a length or the seed it repeats."""

    seed: Seed
    code: DropCode
    evidence: str = ""


class CleanSeeds(Record):
    """The seeds in order of arrival, parted into fit and unfit."""

    kept: tuple[Seed, ...]
    dropped: tuple[DroppedSeed, ...]

    @property
    def counts(self) -> dict[DropCode, int]:
        """How many were dropped for each reason."""
        return dict(Counter(drop.code for drop in self.dropped))


def clean(seeds: Iterable[Seed]) -> CleanSeeds:
    """Part the seeds. A task (all seeds of one instruction) that answers one input in two ways is dropped as a whole."""
    arrived = list(seeds)
    reasons = [fault(seed) for seed in arrived]
    conflicts = _conflicts(seed for seed, reason in zip(arrived, reasons, strict=True) if reason is None)
    kept: dict[tuple[str, str, str], Seed] = {}
    dropped: list[DroppedSeed] = []
    for seed, reason in zip(arrived, reasons, strict=True):
        text = _text(seed)
        if reason is None and text[0] in conflicts:
            reason = Fault("conflicting_outputs", conflicts[text[0]])
        if reason is None and text in kept:
            reason = Fault("duplicate", text[0])
        if reason is None:
            kept[text] = seed
        else:
            dropped.append(DroppedSeed(seed=seed, code=reason.code, evidence=reason.evidence))
    return CleanSeeds(kept=tuple(kept.values()), dropped=tuple(dropped))


def fault(seed: Seed) -> Fault | None:
    """What is wrong with a seed taken by itself."""
    instruction, given, output = _text(seed)
    length, limits = units(instruction), LIMITS[seed.language or language_of(instruction)]
    if length < limits.least:
        return Fault("too_short", f"{length} units, at least {limits.least}")
    if length > limits.most:
        return Fault("too_long", f"{length} units, at most {limits.most}")
    # a seed may come without an output; one that was given and is blank is a torn example
    if not output and "output" in seed.model_fields_set:
        return Fault("empty_output")
    if given and given == output:
        return Fault("output_is_input")
    for field, text in (("input", given), ("output", output)):
        if text.endswith(_COLONS):
            return Fault("ends_in_colon", field)
    return None


def read_seeds(path: Path) -> tuple[Seed, ...]:
    """The seeds of a JSONL file. Fields other than instruction, input, output, language and instances are not looked at."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise TaxonomyError(f"not valid UTF-8: byte {fault.object[fault.start]:#04x} at offset {fault.start}", Place(str(path))) from None
    except OSError as fault:
        raise TaxonomyError(f"seeds cannot be read: {fault.strerror}", Place(str(path))) from None
    # not splitlines(): a JSON string may hold U+2028 and its like, and they end no line of JSONL
    lines = enumerate(text.split("\n"), start=1)
    seeds = tuple(seed for number, line in lines if line.strip() for seed in _parse(line, Place(str(path), number)))
    if not seeds:
        raise TaxonomyError("holds no seeds", Place(str(path)))
    return seeds


def language_of(text: str) -> Language:
    """A guess that is good enough for a seed: Chinese when Chinese characters outnumber Latin words."""
    return "zh" if len(_HAN_CHARACTER.findall(text)) * 2 > units(text) else "en"


def units(text: str) -> int:
    """Length in Chinese characters and Latin words.

    >>> units("用Python写一个函数"), units("Write a function.")
    (7, 3)
    """
    return len(_UNIT.findall(text))


def _conflicts(seeds: Iterable[Seed]) -> dict[str, str]:
    """Instructions that answer one non-empty input in several ways, each with that input."""
    answers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for instruction, given, output in map(_text, seeds):
        if given and output:
            answers[instruction, given].add(output)
    return {instruction: given for (instruction, given), outputs in answers.items() if len(outputs) > 1}


def _text(seed: Seed) -> tuple[str, str, str]:
    return seed.instruction.strip(), seed.input.strip(), seed.output.strip()


def _parse(line: str, place: Place) -> Iterator[Seed]:
    """The seeds of one line: one, or one per instance."""
    try:
        row = json.loads(line)
    except ValueError as fault:
        raise TaxonomyError(f"not valid JSON: {fault}", place) from None
    if not isinstance(row, dict):
        raise TaxonomyError(f"a seed should be an object, got {_short(row)}", place)
    instances = row.get("instances", [row])
    if not isinstance(instances, list) or not instances or not all(isinstance(item, dict) for item in instances):
        raise TaxonomyError(f"instances should be a list of objects, got {_short(instances)}", place)
    for item in instances:
        fields = {key: item[key] for key in ("input", "output") if key in item}
        fields |= {key: row[key] for key in ("instruction", "language") if key in row}
        yield make_seed(fields, place)


def make_seed(fields: dict[str, Any], place: Place) -> Seed:
    """A seed of these fields, its language guessed where it is not given."""
    instruction = fields.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        raise TaxonomyError(f"a seed needs an instruction, got {_short(instruction)}", place)
    try:
        return Seed.model_validate({"language": language_of(instruction), **fields})
    except ValidationError as fault:
        first = fault.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise TaxonomyError(f"seed field {field}: {first['msg']}, got {_short(first['input'])}", place) from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
