"""A trace as a timeline: what happened in one step of a candidate's graph stands together, with when it was and how long it took."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from filters.agreement import ARBITER

Event = dict[str, Any]
IDLE = 0.1
"""of the time in which somebody worked: the most that a wait between two calls takes on the axis"""


class Bar(NamedTuple):
    """When something was, on an axis from 0 to 100."""

    start: float
    width: float


class Step(BaseModel):
    """What a node of the graph did once: `events` are places in the trace's events."""

    seq: int
    node: str
    round: str
    """how often the instruction had been evolved, and answered: "1.0"; "" where it is not known"""
    events: list[int]
    began_at: float | None
    seconds: float
    """summed over its calls, which may have been under way at once"""
    tokens: int
    money: float | None
    bar: Bar | None


def steps(events: Sequence[Event], nodes: Mapping[str, str]) -> list[Step]:
    """The steps in their order. `nodes`: of roles, the node of the graph that asks each."""
    bar = _axis(events)
    numbered = groupby(enumerate(events), key=lambda pair: int(pair[1]["seq"]))
    return [_step(seq, list(pairs), nodes, bar) for seq, pairs in numbered]


def told(events: Iterable[Event], roles: Iterable[Mapping[str, Any]], replay: Callable[[int], str]) -> list[Event]:
    """The events, each call with what can be said of it beside its columns: the file of its prompt, how it stands on the axis, whether it
    asks again for a reply that could not be used, and the command that asks it again."""
    found = [dict(event) for event in events]
    files = {(role.get("name"), role.get("variant")): Path(str(role.get("file") or "")).name for role in roles}
    bar = _axis(found)
    asked: list[Event] = []
    for call in (event for event in found if event["kind"] == "call"):
        named = call["role"] if call["variant"] == "default" else f"{call['role']}.{call['variant']}"
        call["file"] = files.get((call["role"], call["variant"])) or f"{named}.md"
        call["bar"] = bar(call)
        call["repairs"] = next((one["id"] for one in reversed(asked) if _goes_on(one, call)), None)
        call["replay"] = replay(call["id"])
        asked.append(call)
    return found


def replay_command(run: str, runs: Path, candidate: str, call: int) -> str:
    """What asks a call again, for a terminal in the folder in which the server was started."""
    elsewhere = ["--runs", str(runs)] if runs != Path("runs") else []
    return shlex.join(["leafmill", "replay", candidate, str(call), "--run", run, *elsewhere])


def _goes_on(first: Event, call: Event) -> bool:
    """Whether a call repeats another whose reply could not be used, and says what was wrong with it."""
    before, now = first["messages"], call["messages"]
    return bool(first["status"] != "ok" and first["step"] == call["step"] and before == now[: len(before)] and len(now) > len(before))


def _step(seq: int, pairs: Sequence[tuple[int, Event]], nodes: Mapping[str, str], bar: Callable[[Event], Bar | None]) -> Step:
    events = [event for _, event in pairs]
    calls = [event for event in events if event["kind"] == "call"]
    costs = [call["cost"] for call in calls if call["cost"] is not None]
    bars = [found for call in calls if (found := bar(call))]
    start, end = min((one.start for one in bars), default=0.0), max((one.start + one.width for one in bars), default=0.0)
    name = str(next((event["step"] for event in events if event.get("step")), ""))
    return Step(
        seq=seq,
        node=_node(events, name, nodes),
        round=name.partition(".")[2],
        events=[at for at, _ in pairs],
        began_at=min((call["started_at"] for call in calls), default=next((event["at"] for event in events if "at" in event), None)),
        seconds=sum(call["seconds"] for call in calls),
        tokens=sum((call["prompt_tokens"] or 0) + (call["completion_tokens"] or 0) for call in calls),
        money=sum(costs) if costs else None,
        bar=Bar(start, end - start) if bars else None,
    )


def _node(events: Sequence[Event], name: str, nodes: Mapping[str, str]) -> str:
    """What the step is called: seats of the panel ask in steps of their own names."""
    votes = [event["role"] for event in events if event["kind"] == "vote"]
    if votes:
        return "arbitrate" if set(votes) == {ARBITER} else "annotate"
    if not name:
        return "review"
    first = name.partition(".")[0]
    asked = {event["role"] for event in events if event["kind"] == "call"}
    return nodes.get(first.partition("@")[0], first) if first.partition("@")[0] in asked else first


def _axis(events: Iterable[Event]) -> Callable[[Event], Bar | None]:
    """Where a call stands on an axis of all of them, on which long waits between calls are short."""
    spans = sorted((event["started_at"], event["started_at"] + event["seconds"]) for event in events if event["kind"] == "call")
    worked = sum(end - start for start, end in spans)
    if worked <= 0:
        return lambda call: None
    stops: list[tuple[float, float]] = []
    """(a time, its place on the axis), where work begins and where it ends"""
    place, until = 0.0, spans[0][0]
    for start, end in spans:
        place += min(max(start - until, 0.0), IDLE * worked)
        stops.append((max(start, until), place))
        place += max(end - max(start, until), 0.0)
        until = max(until, end)
        stops.append((until, place))

    def at(when: float) -> float:
        before = [stop for stop in stops if stop[0] <= when]
        time, here = before[-1] if before else stops[0]
        after = next((stop for stop in stops if stop[0] > when), None)
        return here + (min(when - time, after[1] - here) if after else 0.0)

    def bar(call: Event) -> Bar | None:
        start, end = at(call["started_at"]), at(call["started_at"] + call["seconds"])
        return Bar(round(100 * start / place, 2), round(max(100 * (end - start) / place, 0.5), 2))

    return bar
