"""Export: the accepted rows as JSONL for training, each with its lineage (why it is there, and who made which part of it)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from leafmill.errors import InputError
from leafmill.ledger import CANDIDATES, VERDICTS, VOTES, Ledger
from leafmill.records import Row
from leafmill.runfolder import write_whole


def alpaca(row: Row, answer: str) -> dict[str, Any]:
    """Stanford Alpaca: instruction, input, output; of a single exchange."""
    if row.history or row.steps:
        said = f"{row.opening[:60]!r} has {len(row.asked)} turns before its answer"
        raise InputError(f"a conversation is no Alpaca row: {said}; use `messages`")
    return {"instruction": row.instruction, "input": row.input, "output": answer}


def messages(row: Row, answer: str) -> dict[str, Any]:
    """Chat messages, as TRL, Axolotl and LLaMA-Factory (formatting openai) read them."""
    return {"messages": row.model_copy(update={"answer": answer}).messages()}


FORMATS: Mapping[str, Callable[[Row, str], dict[str, Any]]] = {"alpaca": alpaca, "messages": messages}


def rows(
    ledger: Ledger, format_: str, *, reasoning: bool = False, lineage: bool = True, but: Container[str] = ()
) -> Iterator[dict[str, Any]]:
    """The accepted rows, leaf by leaf, `but` those with these ids.

    With `reasoning` a reasoning model's thoughts stand before its answer, in <think> tags.
    """
    wanted = sa.select(CANDIDATES).where(CANDIDATES.c.state == "accepted").order_by(CANDIDATES.c.leaf, CANDIDATES.c.number)
    verdicts, votes = (_by_candidate(ledger, table) for table in (VERDICTS, VOTES))
    for found in ledger.rows(wanted):
        if found["id"] in but:
            continue
        row = Row.model_validate(found["row"])
        answer = f"<think>\n{row.reasoning}\n</think>\n\n{row.answer}" if reasoning and row.reasoning else row.answer
        line = {"id": found["id"], **FORMATS[format_](row, answer)}
        yield {**line, "lineage": _lineage(found, verdicts[found["id"]], votes[found["id"]])} if lineage else line


def write(ledger: Ledger, path: Path, format_: str, *, reasoning: bool = False, lineage: bool = True, but: Container[str] = ()) -> int:
    """Write the rows as JSONL (UTF-8, nothing escaped), whole or not at all; how many there were. Raises DiskError."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(ledger, format_, reasoning=reasoning, lineage=lineage, but=but)]
    write_whole(path, "".join(line + "\n" for line in lines))
    return len(lines)


def _lineage(found: Mapping[str, Any], verdicts: list[dict[str, Any]], votes: list[dict[str, Any]]) -> dict[str, Any]:
    brief = found["brief"]
    last = max((vote["seq"] for vote in votes), default=0)
    return {
        "leaf": found["leaf"],
        "language": found["language"],
        "axes": brief["axes"],
        "scenario": brief["scenario"],
        **(found["lineage"] or {}),
        "votes": {vote["role"]: vote["score"] for vote in votes if vote["seq"] == last},
        "scores": {v["gate"]: v["value"] for v in verdicts if v["decision"] == "accept" and v["value"] is not None},
        "gates": {v["gate"]: v["version"] for v in verdicts if v["decision"] == "accept"},
    }


def _by_candidate(ledger: Ledger, table: sa.Table) -> dict[str, list[dict[str, Any]]]:
    accepted = sa.select(CANDIDATES.c.id).where(CANDIDATES.c.state == "accepted")
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ledger.rows(sa.select(table).where(table.c.candidate.in_(accepted)).order_by(table.c.seq, table.c.id)):
        grouped[row["candidate"]].append(row)
    return grouped
