"""The structured log: one line per event, an event's name and its fields.

    event(CALL, DEBUG, "call answered", role="writer", seconds=1.2)
      `-- standard logging, loggers leafmill.run, .leaf, .candidate, .call, .endpoint
            `-- open_log: rich lines above the live screen | 2026-01-31T10:00:00.000Z debug call answered role=writer seconds=1.2 | JSON

A field is a name, a number or a code, never a text that a person, a model or a server wrote: prompts, replies, headers and keys
are not for the log; what was said is in the ledger. An event whose level is off costs one look at the logger.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from leafmill.errors import InputError, unknown

if TYPE_CHECKING:
    from rich.console import Console

RUN, LEAF, CANDIDATE, CALL, ENDPOINT = (logging.getLogger(f"leafmill.{name}") for name in ("run", "leaf", "candidate", "call", "endpoint"))
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
FORMATS = ("text", "json")
BARE = re.compile(r"[^\s\"'=\\]+")
"""a value that needs no quotes in a line of text"""
TRACES = logging.Formatter()


class Event(NamedTuple):
    """The message of a log record; any handler of standard logging shows it as a line of text."""

    name: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={_quoted(value)}" for key, value in self.fields.items())])


def event(logger: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """Log an event, if the logger is on for its level. Fields that are dear to work out want an `isEnabledFor` of their own."""
    if logger.isEnabledFor(level):
        logger.log(level, Event(name, fields), stacklevel=2)


@contextmanager
def open_log(console: Console, level: str = "", form: str = "text") -> Iterator[None]:
    """Send the log to the console where it is a terminal, else to stderr. Everything else that logs is heard from `warning` on.

    A terminal has the live screen for what goes well, so only warnings are shown there; elsewhere the log is all that is seen: `info`.
    """
    level = level or ("warning" if console.is_terminal else "info")
    for what, got, known in (("log level", level, LEVELS), ("log format", form, FORMATS)):
        if got not in known:
            raise InputError(unknown(what, got, known))
    number = LEVELS[level]
    handler = _handler(console, form)
    root, ours = logging.getLogger(), logging.getLogger("leafmill")
    before = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(max(number, WARNING))
    ours.setLevel(number)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        ours.setLevel(before[1])


class Line(logging.Formatter):
    """A record as one line of text: time in UTC, level, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname.lower()} {_event(record)}"


class JsonLine(logging.Formatter):
    """A record as one line of JSON: at, level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        name, fields = _event(record)
        head = {"at": _time(record), "level": record.levelname.lower(), "logger": record.name, "event": name}
        return json.dumps({**head, **fields, **head}, ensure_ascii=False, default=str)


class Printer(logging.Handler):
    """Hands each line to a function. A log that cannot be written (a closed pipe, a full disk) does not stop who tells."""

    def __init__(self, print_: Callable[[str], object], formatter: logging.Formatter) -> None:
        super().__init__()
        self._print = print_
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._print(self.format(record))
        except (OSError, ValueError):
            self.handleError(record)


def _handler(console: Console, form: str) -> logging.Handler:
    if not console.is_terminal:
        return Printer(lambda line: sys.stderr.write(f"{line}\n"), JsonLine() if form == "json" else Line())
    if form == "json":
        return Printer(lambda line: console.out(line, highlight=False), JsonLine())
    from rich.logging import RichHandler

    return RichHandler(console=console, show_path=False, markup=False, log_time_format="%H:%M:%S")


def _event(record: logging.LogRecord) -> Event:
    """What a record says; the message of somebody else's logger is an event too."""
    said = record.msg if isinstance(record.msg, Event) else Event(record.getMessage(), {"logger": record.name})
    if not record.exc_info:
        return said
    return Event(said.name, {**said.fields, "exception": TRACES.formatException(record.exc_info)})


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _quoted(value: Any) -> str:
    """A value as it stands in a line of text: numbers short, text in quotes where it could be misread, ? for what is not known."""
    if value is None:
        return "?"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
