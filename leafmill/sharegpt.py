"""ShareGPT as LLaMA-Factory reads it: `conversations` in which who answers and who is answered take turns, `system`, and `tools` as JSON.

    human -> function_call -> observation -> ... -> gpt

LLaMA-Factory leaves out, with a warning only, what is in another order; so such a row is refused here. Calls of one step are one
`function_call`: {"name", "arguments"}, or a list of them where there are several, and then the observation is the list of their results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from leafmill.errors import InputError
from leafmill.records import Row, Turn

ASKS, REPLIES = ("human", "observation"), ("gpt", "function_call")


def written(row: Row, answer: str) -> dict[str, Any]:
    """The row as one of ShareGPT. Raises InputError for what cannot be written so."""
    turns = [*row.asked, Turn(role="assistant", content=answer)]
    system = [turns.pop(0).content] if turns[0].role == "system" else []
    said = list(_said(turns))
    for place, (speaker, _) in enumerate(said):
        if speaker not in (ASKS, REPLIES)[place % 2]:
            raise InputError(
                f"no ShareGPT row: turn {place + 1} is {speaker}, where LLaMA-Factory expects {' or '.join((ASKS, REPLIES)[place % 2])}"
            )
    tools = {"tools": _json(row.tools)} if row.tools else {}
    return {"conversations": [{"from": who, "value": text} for who, text in said], **({"system": system[0]} if system else {}), **tools}


def _said(turns: Sequence[Turn]) -> Iterator[tuple[str, str]]:
    """Who says what; the results of calls that were made together, together."""
    place = 0
    while place < len(turns):
        turn = turns[place]
        place += 1
        if turn.role == "tool" or (turn.calls and turn.content):
            what = "a result without its call" if turn.role == "tool" else f"a turn with a text and calls of tools, {turn.content[:40]!r}"
            raise InputError(f"no ShareGPT row: it has {what}")
        if not turn.calls:
            yield {"user": "human", "assistant": "gpt"}.get(turn.role, turn.role), turn.content
            continue
        calls = [{"name": call.name, "arguments": call.arguments} for call in turn.calls]
        yield "function_call", _json(calls if len(calls) > 1 else calls[0])
        results = [one.content for one in turns[place : place + len(calls)] if one.role == "tool"]
        answered = [one.answers for one in turns[place : place + len(results)]]
        if answered != [call.id for call in turn.calls]:
            raise InputError(f"no ShareGPT row: the results of {len(calls)} calls do not stand behind them, in their order")
        yield "observation", together(results)
        place += len(results)


def together(results: Sequence[str]) -> str:
    """Results of calls that were made together as one text: a JSON list, in which a result that is JSON stands as it is."""
    return results[0] if len(results) == 1 else _json([_plain(result) for result in results])


def apart(text: str, calls: int) -> list[str] | None:
    """The results of so many calls, as `together` wrote them; None when they cannot be told apart."""
    if calls == 1:
        return [text]
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != calls:
        return None
    return [one if isinstance(one, str) else _json(one) for one in found]


def _plain(result: str) -> Any:
    """What a result says, where it is JSON that will be written the same again, and no text; else the text itself."""
    try:
        value = json.loads(result)
    except ValueError:
        return result
    return value if not isinstance(value, str) and _json(value) == result else result


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
