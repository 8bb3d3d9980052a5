"""Export: the accepted rows, or any that are named, as JSONL for training, each with its lineage (why it is there, and who made which
part of it); in the words of a record template, if wanted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from filters.agreement import ARBITER
from leafmill import sharegpt
from leafmill.errors import InputError
from leafmill.ledger import CANDIDATES, VERDICTS, VOTES, Ledger
from leafmill.records import Row, seat_names
from leafmill.runfolder import write_whole
from leafmill.templates import Templates


def alpaca(row: Row, answer: str) -> dict[str, Any]:
    """Stanford Alpaca: instruction, input, output, and the system prompt where there is one; of a single exchange."""
    if row.tools:
        raise InputError(f"no Alpaca row: {row.opening[:60]!r} is answered with tools at hand; use `messages` or `sharegpt`")
    system = {"system": row.history[0].content} if row.history and row.history[0].role == "system" else {}
    if len(row.history) > len(system) or row.steps:
        said = f"{row.opening[:60]!r} has {len(row.asked)} turns before its answer"
        raise InputError(f"a conversation is no Alpaca row: {said}; use `messages`")
    return {"instruction": row.instruction, "input": row.input, "output": answer, **system}


def messages(row: Row, answer: str) -> dict[str, Any]:
    """Chat messages, as TRL, Axolotl and LLaMA-Factory (formatting openai) read them."""
    return {"messages": row.model_copy(update={"answer": answer}).messages(), **({"tools": row.functions} if row.tools else {})}


FORMATS: Mapping[str, Callable[[Row, str], dict[str, Any]]] = {"alpaca": alpaca, "messages": messages, "sharegpt": sharegpt.written}

BATCH = 500
"""candidates that are read at a time: what is held of them does not grow with the run"""


class Unwritable(NamedTuple):
    """A candidate that cannot be written in a format."""

    id: str
    answered: bool
    """False: it has no answer (yet), whatever the format"""
    why: str


def rows(
    ledger: Ledger,
    format_: str,
    *,
    reasoning: bool = False,
    lineage: bool = True,
    but: Container[str] = (),
    templates: Templates | None = None,
) -> Iterator[dict[str, Any]]:
    """The accepted rows, leaf by leaf, `but` those with these ids; in the words of `templates`, if there are any.

    With `reasoning` a reasoning model's thoughts stand before its answer, in <think> tags. Raises InputError for what cannot be written.
    """
    accepted = sa.select(CANDIDATES.c.id).where(CANDIDATES.c.state == "accepted").order_by(CANDIDATES.c.leaf, CANDIDATES.c.number)
    ids = [found["id"] for found in ledger.rows(accepted) if found["id"] not in but]
    for line in lines(ledger, ids, format_, reasoning=reasoning, lineage=lineage, templates=templates):
        if isinstance(line, Unwritable):
            raise InputError(f"row {line.id}: {line.why}")
        yield line


def lines(
    ledger: Ledger, ids: Sequence[str], format_: str, *, reasoning: bool = False, lineage: bool = True, templates: Templates | None = None
) -> Iterator[dict[str, Any] | Unwritable]:
    """These candidates, in this order, whatever became of them; one that is not accepted says its `state`."""
    for batch in _batches(ids):
        verdicts, votes = (_by_candidate(ledger, table, batch) if lineage else {} for table in (VERDICTS, VOTES))
        for found in _candidates(ledger, batch, [column for column in CANDIDATES.c if column.name != "row"]):
            row = _row(found)
            if isinstance(row, Unwritable):
                yield row
                continue
            told = templates.render(row, found["id"]) if templates else None
            said = _said(found["id"], told.row if told else row, format_, reasoning)
            if isinstance(said, Unwritable):
                yield said
                continue
            state = {} if found["state"] == "accepted" else {"state": found["state"]}
            line = {"id": found["id"], **state, **said}
            if lineage:
                by = {"template": told.template} if told else {}
                line["lineage"] = {**_lineage(found, verdicts.get(found["id"], ()), votes.get(found["id"], ())), **by}
            yield line


def unwritable(ledger: Ledger, ids: Sequence[str]) -> Iterator[tuple[str, Unwritable]]:
    """What of these candidates cannot be written, by the name of the format."""
    for batch in _batches(ids):
        for found in _candidates(ledger, batch, [CANDIDATES.c.id, CANDIDATES.c.state]):
            row = _row(found)
            for format_ in FORMATS:
                said = row if isinstance(row, Unwritable) else _said(found["id"], row, format_)
                if isinstance(said, Unwritable):
                    yield format_, said


def write(
    ledger: Ledger,
    path: Path,
    format_: str,
    *,
    reasoning: bool = False,
    lineage: bool = True,
    but: Container[str] = (),
    templates: Templates | None = None,
) -> int:
    """Write the rows as JSONL (UTF-8, nothing escaped), whole or not at all; how many there were. Raises DiskError."""
    found = rows(ledger, format_, reasoning=reasoning, lineage=lineage, but=but, templates=templates)
    lines = [json.dumps(row, ensure_ascii=False) for row in found]
    write_whole(path, "".join(line + "\n" for line in lines))
    return len(lines)


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + BATCH] for at in range(0, len(ids), BATCH))


def _candidates(ledger: Ledger, ids: Sequence[str], columns: Sequence[sa.Column[Any]]) -> list[dict[str, Any]]:
    """In the order of their ids: these columns, and the row as the JSON that is kept."""
    row = sa.type_coerce(CANDIDATES.c.row, sa.Text).label("row")
    found = {one["id"]: one for one in ledger.rows(sa.select(*columns, row).where(CANDIDATES.c.id.in_(ids)))}
    return [found[id_] for id_ in ids]


def _row(found: Mapping[str, Any]) -> Row | Unwritable:
    row = Row.model_validate_json(found["row"]) if found["row"] else None
    return row if row and row.answer else Unwritable(found["id"], False, f"it has no answer: it is {found['state']}")


def _said(id_: str, row: Row, format_: str, reasoning: bool = False) -> dict[str, Any] | Unwritable:
    answer = f"<think>\n{row.reasoning}\n</think>\n\n{row.answer}" if reasoning and row.reasoning else row.answer
    try:
        return FORMATS[format_](row, answer)
    except InputError as fault:
        return Unwritable(id_, True, str(fault))


def _lineage(found: Mapping[str, Any], verdicts: Sequence[Mapping[str, Any]], votes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    brief = found["brief"]
    panel = [vote for vote in votes if vote["role"] != ARBITER]
    last = max((vote["seq"] for vote in panel), default=0)
    names = seat_names((vote["role"], vote["alias"]) for vote in panel)
    return {
        "leaf": found["leaf"],
        "language": found["language"],
        "axes": brief["axes"],
        "scenario": brief["scenario"],
        **(found["lineage"] or {}),
        "votes": {names[vote["role"], vote["alias"]]: vote["score"] for vote in panel if vote["seq"] == last},
        "scores": {v["gate"]: v["value"] for v in verdicts if v["decision"] == "accept" and v["value"] is not None},
        "gates": {v["gate"]: v["version"] for v in verdicts if v["decision"] == "accept"},
    }


def _by_candidate(ledger: Ledger, table: sa.Table, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ledger.rows(sa.select(table).where(table.c.candidate.in_(ids)).order_by(table.c.seq, table.c.id)):
        grouped[row["candidate"]].append(row)
    return grouped
