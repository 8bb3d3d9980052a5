"""Export: the accepted rows as JSONL for training, each with its lineage (why it is there, and who made which part of it); in
the words of a record template, if wanted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

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

    With `reasoning` a reasoning model's thoughts stand before its answer, in <think> tags.
    """
    wanted = sa.select(CANDIDATES).where(CANDIDATES.c.state == "accepted").order_by(CANDIDATES.c.leaf, CANDIDATES.c.number)
    verdicts, votes = (_by_candidate(ledger, table) for table in (VERDICTS, VOTES))
    for found in ledger.rows(wanted):
        if found["id"] in but:
            continue
        row = Row.model_validate(found["row"])
        answer = f"<think>\n{row.reasoning}\n</think>\n\n{row.answer}" if reasoning and row.reasoning else row.answer
        told = templates.render(row, found["id"]) if templates else None
        try:
            line = {"id": found["id"], **FORMATS[format_](told.row if told else row, answer)}
        except InputError as fault:
            raise InputError(f"row {found['id']}: {fault}") from None
        if lineage:
            by = {"template": told.template} if told else {}
            line["lineage"] = {**_lineage(found, verdicts[found["id"]], votes[found["id"]]), **by}
        yield line


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


def _lineage(found: Mapping[str, Any], verdicts: list[dict[str, Any]], votes: list[dict[str, Any]]) -> dict[str, Any]:
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


def _by_candidate(ledger: Ledger, table: sa.Table) -> dict[str, list[dict[str, Any]]]:
    accepted = sa.select(CANDIDATES.c.id).where(CANDIDATES.c.state == "accepted")
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ledger.rows(sa.select(table).where(table.c.candidate.in_(accepted)).order_by(table.c.seq, table.c.id)):
        grouped[row["candidate"]].append(row)
    return grouped
