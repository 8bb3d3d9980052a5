"""The shapes in which datasets are written, and how a row of each becomes ours.

    alpaca     {instruction, input, output, system?, history?: [[question, answer], ...]}
    sharegpt   {conversations: [{from, value}, ...], system?, tools?}
    messages   {messages: [{role, content, tool_calls?}, ...], tools?}
    belle      ShareGPT whose model is called `assistant`; or Alpaca with the history packed into the instruction as Human: / Assistant:
    firefly    {conversation: [{human, assistant}, ...], system?, category?}, or the older {kind, input, target}

A row is known by its columns, so a file may mix them. What is said before the last exchange is the row's history, the system prompt
first. Calls of tools, their results and the tools themselves are read as such; what looks like one and cannot be read stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from filters.text import script, without_code
from leafmill import sharegpt
from leafmill.errors import InputError, unknown
from leafmill.records import Language, Row, ToolCall, Turn

Raw = Mapping[str, Any]

SPEAKERS: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""who speaks, by what datasets call him"""

TASK_COLUMNS = ("task", "category", "kind")
PACKED = re.compile(r"\s*Human\s*[:：].*\n\s*Assistant\s*[:：]\s*", re.DOTALL)
PACKED_TURN = re.compile(r"(?:^|\n)\s*(Human|Assistant)\s*[:：]")


class Unfit(Exception):
    """Why a row cannot be read as what it seems to be."""


class Parsed(NamedTuple):
    row: Row
    task: str
    format: str


class Format(NamedTuple):
    columns: str
    """what its rows must have, as a message shows it"""
    fits: Callable[[Raw], bool]
    """whether a row's columns are this format's; what is in them is looked at by `turns`"""
    turns: Callable[[Raw], list[Turn]]
    """the conversation. Raises Unfit."""


def parse(raw: Raw, format: str = "auto") -> Parsed:
    """A row of a file as ours, in the format that its columns show, or in the one that is asked for. Raises Unfit with the reason."""
    name = format if format != "auto" else detect(raw)
    if name is None or not FORMATS[name].fits(raw):
        raise Unfit(misfit(raw, format))
    task = next((raw[column] for column in TASK_COLUMNS if isinstance(raw.get(column), str)), "")
    return Parsed(_row(FORMATS[name].turns(raw), raw, raw if name == "alpaca" else {}), task, name)


def detect(raw: Raw) -> str | None:
    """The format whose columns a row has; None when it has no format's."""
    return next((name for name in DETECTED if FORMATS[name].fits(raw) and (name != "belle" or _is_belle(raw))), None)


def fits(raw: Raw, format: str = "auto") -> bool:
    """Whether a row has the columns of a format: of any, or of the one that is asked for."""
    return detect(raw) is not None if format == "auto" else FORMATS[format].fits(raw)


def misfit(raw: Raw, format: str = "auto") -> str:
    """What the columns are, of a row that is in no format or not in the one that is asked for."""
    return f"the columns are {', '.join(map(str, raw)) or '(none)'}: not those of {'any format' if format == 'auto' else format}"


def expected(format: str = "auto") -> str:
    """What the columns should be."""
    return "; ".join(f"{name} has {known.columns}" for name, known in FORMATS.items() if format in ("auto", name))


def check_format(format: str) -> None:
    """Raises InputError for a name that is none."""
    if format != "auto" and format not in FORMATS:
        raise InputError(unknown("format", format, ["auto", *FORMATS]))


def language_of(text: str) -> Language:
    """Chinese when most of the units outside code are CJK characters, else English: a file does not say, and gates know these two."""
    return "zh" if not text.isascii() and script(without_code(text)) > 0.5 else "en"


# -- a conversation becomes a row --------------------------------------------------------------------------------------


def _row(turns: list[Turn], raw: Raw, apart: Raw) -> Row:
    """The last message of the user and the answer after it; all before is history, what stands between them are steps.

    An `input` that stands `apart` from the instruction, as in Alpaca, stays so.
    """
    if not turns or turns[-1].role != "assistant":
        who = f"the {turns[-1].role}'s" if turns else "missing"
        raise Unfit(f"the last turn is {who}: expected the assistant's answer")
    last = next((place for place in range(len(turns) - 1, -1, -1) if turns[place].role == "user"), None)
    if last is None:
        raise Unfit("nothing is asked: expected a turn of the user before the answer")
    instruction, input = turns[last].content, _text(apart, "input")
    if not instruction.strip() and not input.strip():
        raise Unfit("the instruction is empty")
    return Row(
        language=language_of(instruction if instruction.strip() else input),
        instruction=instruction,
        input=input,
        answer=turns[-1].content,
        history=tuple(turns[:last]),
        steps=tuple(turns[last + 1 : -1]),
        tools=_tools(raw.get("tools")) or (),
    )


def _text(raw: Raw, column: str) -> str:
    """A column that holds text; "" where it is missing or null."""
    value = raw.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unfit(f"`{column}` is {_kind(value)}: expected text")
    return value


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), type(value).__name__)


def _list(raw: Raw, column: str) -> list[Any]:
    value = raw.get(column)
    if not isinstance(value, list):
        raise Unfit(f"`{column}` is {_kind(value)}: expected a list")
    return value


def _before(raw: Raw) -> Iterable[Turn]:
    """What the model was told first: the system prompt, and its tools."""
    if system := _text(raw, "system"):
        yield Turn(role="system", content=system)
    if (tools := raw.get("tools")) and _tools(tools) is None:
        yield Turn(role="system", content=tools if isinstance(tools, str) else _json(tools))


def _tools(given: Any) -> tuple[dict[str, Any], ...] | None:
    """Tools as a list or as JSON of one, each bare or as {type: function, function: ...}; None when they are none of these."""
    found = _loads(given) if isinstance(given, str) else given
    if not isinstance(found, list):
        return None
    bare = [one["function"] if isinstance(one, dict) and isinstance(one.get("function"), dict) else one for one in found]
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in bare):
        return None
    return tuple(bare)


def _calls(listed: Any, made: int) -> tuple[ToolCall, ...]:
    """Calls of tools: a list, or one; bare or as {id, type: function, function: ...}; arguments as an object or as JSON of one. Those
    without an id are numbered on from those `made`. None at all when they are no such thing."""
    calls = []
    for number, one in enumerate(listed if isinstance(listed, list) else [listed], made + 1):
        inner = one.get("function", one) if isinstance(one, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            return ()
        given = inner.get("arguments") or {}
        arguments = _loads(given) if isinstance(given, str) else given
        if not isinstance(arguments, dict):
            return ()
        calls.append(ToolCall(id=str(one.get("id") or f"call_{number}"), name=inner["name"], arguments=arguments))
    return tuple(calls)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


# -- the formats -------------------------------------------------------------------------------------------------------


def _alpaca(raw: Raw) -> list[Turn]:
    turns = list(_before(raw))
    for place, pair in enumerate(_list(raw, "history") if raw.get("history") else [], 1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(said, str) for said in pair)):
            raise Unfit(f"`history` {place} is {_json(pair)[:80]}: expected [question, answer]")
        turns += [Turn(role="user", content=pair[0]), Turn(role="assistant", content=pair[1])]
    return [*turns, Turn(role="user", content=_text(raw, "instruction")), Turn(role="assistant", content=_text(raw, "output"))]


def _belle(raw: Raw) -> list[Turn]:
    """A conversation, or an instruction that packs one, or an instruction like Alpaca's."""
    if "conversations" in raw:
        return _sharegpt(raw)
    packed = _text(raw, "instruction")
    if not _is_packed(packed):
        return _alpaca({**raw, "instruction": "\n\n".join(filter(None, (packed, _text(raw, "input"))))})
    places = list(PACKED_TURN.finditer(packed))
    ends = [place.start() for place in places[1:]]
    said = [(place[1], packed[place.end() : end].strip()) for place, end in zip(places, ends, strict=False)]  # the last is empty
    turns = [Turn(role="user" if who == "Human" else "assistant", content=text) for who, text in said]
    return [*turns, Turn(role="assistant", content=_text(raw, "output"))]


def _is_packed(instruction: str) -> bool:
    """Whether it begins with a turn of Human and ends with an empty one of Assistant: other text that quotes a dialogue is left alone."""
    return PACKED.fullmatch(instruction) is not None


def _is_belle(raw: Raw) -> bool:
    conversations = raw.get("conversations")
    if isinstance(conversations, list):
        return any(isinstance(turn, dict) and turn.get("from") == "assistant" for turn in conversations)
    instruction = raw.get("instruction")
    return isinstance(instruction, str) and _is_packed(instruction)


def _sharegpt(raw: Raw) -> list[Turn]:
    return [*_before(raw), *_turns(_list(raw, "conversations"), "conversations", "from", "value")]


def _messages(raw: Raw) -> list[Turn]:
    return [*_before({"tools": raw.get("tools")}), *_turns(_list(raw, "messages"), "messages", "role", "content")]


def _turns(listed: list[Any], column: str, who: str, what: str) -> Iterator[Turn]:
    """The turns, with calls and results of tools told from plain text."""
    open_: list[str] = []  # the ids of calls that have no result yet
    made = 0
    for place, turn in enumerate(listed, 1):
        if not isinstance(turn, dict):
            raise Unfit(f"`{column}` {place} is {_kind(turn)}: expected {{{who}, {what}}}")
        speaker = turn.get(who)
        if not isinstance(speaker, str) or speaker.lower() not in SPEAKERS:
            raise Unfit(f"`{column}` {place} is said by {speaker!r}: expected one of {', '.join(SPEAKERS)}")
        role, listed_calls = SPEAKERS[speaker.lower()], turn.get("tool_calls") or None
        said = _said(turn.get(what), f"`{what}` of `{column}` {place}", optional=listed_calls is not None)
        if role == "tool":
            several = sharegpt.apart(said, len(open_)) if speaker.lower() == "observation" and open_ else None
            for result in several or [said]:
                yield Turn(role=role, content=result, answers=_answered(turn.get("tool_call_id"), open_))
            continue
        calls = _calls(listed_calls or (_loads(said) if speaker.lower() == "function_call" else None), made)
        if calls:
            made, open_ = made + len(calls), [call.id for call in calls]
            yield Turn(role=role, content=said if listed_calls else "", calls=calls)
        else:
            unread = _json(listed_calls) if listed_calls else ""
            yield Turn(role=role, content="\n".join(filter(None, (said, unread))))


def _answered(named: Any, open_: list[str]) -> str:
    """The call that a result answers: the one that it names, else the first that has none; "" when there is no such call."""
    id_ = str(named) if named else open_[0] if open_ else ""
    if id_ in open_:
        open_.remove(id_)
    return id_


def _said(value: Any, what: str, optional: bool) -> str:
    """The text of a message: plain, or a list of parts that are all text."""
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    if isinstance(value, str):
        return value
    if value is None and optional:
        return ""
    raise Unfit(f"{what} is {_kind(value)}: expected text")


def _firefly(raw: Raw) -> list[Turn]:
    if "conversation" not in raw:
        return [Turn(role="user", content=_text(raw, "input")), Turn(role="assistant", content=_text(raw, "target"))]
    turns = list(_before(raw))
    for place, pair in enumerate(_list(raw, "conversation"), 1):
        if not isinstance(pair, dict) or not {"human", "assistant"} <= set(pair):
            raise Unfit(f"`conversation` {place} is {_json(pair)[:80]}: expected {{human, assistant}}")
        turns += [Turn(role="user", content=_text(pair, "human")), Turn(role="assistant", content=_text(pair, "assistant"))]
    return turns


FORMATS: dict[str, Format] = {
    "alpaca": Format("instruction, output (and input, system, history)", lambda raw: {"instruction", "output"} <= raw.keys(), _alpaca),
    "sharegpt": Format("conversations: [{from, value}] (and system, tools)", lambda raw: "conversations" in raw, _sharegpt),
    "messages": Format("messages: [{role, content}] (and tools)", lambda raw: "messages" in raw, _messages),
    "belle": Format(
        "conversations: [{from: human or assistant, value}], or instruction, output",
        lambda raw: "conversations" in raw or {"instruction", "output"} <= raw.keys(),
        _belle,
    ),
    "firefly": Format(
        "conversation: [{human, assistant}], or kind, input, target",
        lambda raw: "conversation" in raw or {"input", "target"} <= raw.keys(),
        _firefly,
    ),
}
DETECTED = ("belle", "messages", "sharegpt", "firefly", "alpaca")
"""the order in which columns are looked at: a BELLE row has the columns of another format too"""
