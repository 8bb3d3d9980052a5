"""Reads a dataset file row by row: JSONL (plain or gzipped), a JSON array, or Parquet, whatever its name ends with.

    for found in read(path):            # Item | Broken, in the file's order
        ...

Nothing is dropped in silence: a line that cannot be read comes as `Broken` with its number and what is wrong. A file of any size is read
in little memory: one row is held at a time, of Parquet one batch. A file that breaks off in the middle is an error.
"""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from itertools import chain, count
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from leafmill.dataset.formats import Unfit, check_format, expected, fits, misfit, parse
from leafmill.dataset.items import Broken, Item
from leafmill.errors import InputError, Place

Raw = dict[str, Any]

OWN = "leafmill"
"""the key of a row under which the commands write what they found"""
LOOK = 100
"""rows that are looked at before anything is done: when none of them is of a known format, the file is no dataset"""
BATCH = 256
"""rows of Parquet that are held at a time"""
CHUNK = 1 << 20
"""characters of a JSON array that are read at a time, at first"""
NEAR = 16
"""characters before the end of what is read, in which a fault may be due to what is not read yet"""
BOM, UTF16, GZIP, PARQUET = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff"), b"\x1f\x8b", b"PAR1"


def read(path: Path, format: str = "auto", start: int = 0) -> Iterator[Item | Broken]:
    """The rows of a dataset file. Raises InputError: no such file, an empty one, one that is damaged, or no row in a known format."""
    with Reader(path, format, start) as reader:
        yield from reader


class Reader:
    """Reads a file once, from after line `start`, and knows how far it is."""

    def __init__(self, path: Path, format: str = "auto", start: int = 0) -> None:
        check_format(format)
        self.path = path
        self.format = format
        self.line = start
        """the last line that was given; blank ones count"""
        self.share = 0.0
        """how much of the file was given, 0..1"""
        self._source = _open(path)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.file.close()

    def __iter__(self) -> Iterator[Item | Broken]:
        records = self._source.records(self.line)
        if self.line == 0:
            records = chain(self._looked_at(records), records)
        for line, content, share in records:
            self.line, self.share = line, share
            if isinstance(content, Broken):
                yield content
            elif content is not None:
                yield self._parsed(line, content)

    def _looked_at(self, records: Iterator[_Record]) -> list[_Record]:
        """The first records, when there is a row of a format among them. Raises InputError."""
        first: list[_Record] = []
        there = 0
        while there < LOOK and (record := next(records, None)):
            first.append(record)
            there += record.content is not None
        if not there:
            raise InputError("the file is empty: expected rows", Place(str(self.path)))
        rows = [(line, raw) for line, raw, _ in first if isinstance(raw, dict)]
        if not rows:
            line, fault = next((line, broken.fault) for line, broken, _ in first if isinstance(broken, Broken))
            raise InputError(f"{fault}; none of the first {there} lines holds a row", Place(str(self.path), line))
        if not any(fits(raw, self.format) for _, raw in rows):
            what = f"{misfit(rows[0][1], self.format)}; expected: {expected(self.format)}"
            raise InputError(what, Place(str(self.path), rows[0][0]))
        return first

    def _parsed(self, line: int, raw: Raw) -> Item | Broken:
        try:
            if not isinstance(raw.get(OWN, {}), dict):
                raise Unfit(f"`{OWN}`, where results are written, is taken: expected no such column, or an object")
            row, task, format = parse(raw, self.format)
        except Unfit as why:
            return Broken(line, str(why), written(raw))
        return Item(line, row, raw, task, format)


ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def written(raw: Raw) -> str:
    """A row as one line of JSON."""
    return ENCODER.encode(raw)


# -- files -------------------------------------------------------------------------------------------------------------


class _Record(NamedTuple):
    line: int
    content: Raw | Broken | None
    """None: a blank line"""
    share: float
    """how much of the file is read with it"""


class _Source(NamedTuple):
    file: IO[Any]
    records: Callable[[int], Iterator[_Record]]
    """all after a line"""


def _open(path: Path) -> _Source:
    """What kind of file it is, by its first bytes."""
    place = Place(str(path))
    try:
        file = path.open("rb")
        head, size = file.read(4), os.fstat(file.fileno()).st_size
        file.seek(0)
    except OSError as fault:
        raise InputError(f"cannot be read: {fault.strerror}", place) from fault
    if head.startswith(UTF16):
        raise InputError("is UTF-16: expected UTF-8", place)
    if head == PARQUET:
        return _parquet(file, place)
    plain: Any = gzip.GzipFile(fileobj=file) if head.startswith(GZIP) else file
    is_array = _first_byte(plain, place) == b"["
    return _Source(file, partial(_elements if is_array else _lines, plain, place, lambda: file.tell() / size))


def _first_byte(file: IO[bytes], place: Place) -> bytes:
    """The first that is no space; the file is left at its beginning."""
    with _undamaged(place):
        found = file.read(len(BOM)).removeprefix(BOM).lstrip()
        while not found and (more := file.read(1)):
            found = more.strip()
        file.seek(0)
    return found[:1]


@contextmanager
def _undamaged(place: Place, *faults: type[Exception]) -> Iterator[None]:
    """Turns what reading a damaged file raises into an InputError with its place."""
    kinds: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, UnicodeDecodeError, *faults)
    try:
        yield
    except kinds as fault:
        raise InputError(f"the file is damaged: {fault}", place) from fault


# -- JSONL -------------------------------------------------------------------------------------------------------------


def _lines(file: IO[bytes], place: Place, share: Callable[[], float], start: int) -> Iterator[_Record]:
    for number in count(1):
        with _undamaged(place._replace(line=number)):
            line = file.readline()
        if not line:
            return
        if number > start:
            yield _Record(number, _line(number, line.removeprefix(BOM) if number == 1 else line), share())


def _line(number: int, line: bytes) -> Raw | Broken | None:
    text = line.strip()
    if not text:
        return None
    if b"\0" in text:
        return Broken(number, f"a NUL byte at character {text.index(0) + 1}", _shown(text))
    try:
        return _object(number, text.decode())
    except UnicodeDecodeError as fault:
        return Broken(number, f"not UTF-8: byte 0x{text[fault.start]:02x} at {fault.start + 1}", _shown(text))


def _shown(text: bytes) -> str:
    """All of it, whatever it is: what is not UTF-8 as \\x.."""
    return text.decode(errors="backslashreplace")


class _Fault(ValueError):
    """What is valid JSON for Python, and for nobody else."""


def _object(number: int, text: str) -> Raw | Broken:
    try:
        return _checked(number, DECODER.decode(text), text)
    except json.JSONDecodeError as fault:
        what = "breaks off" if fault.pos >= len(text) else fault.msg
        return Broken(number, f"no JSON: {what} at character {fault.pos + 1}", text)
    except (_Fault, ValueError) as fault:  # Python refuses to read a number of thousands of digits with a plain ValueError
        return Broken(number, f"no JSON: {fault}", text)
    except RecursionError:
        return Broken(number, "no JSON that can be read: too deeply nested", text)


def _checked(number: int, value: Any, text: str) -> Raw | Broken:
    if not isinstance(value, dict):
        return Broken(number, f"a row must be an object {{...}}, got {type(value).__name__}", text)
    if "\\u" in text:
        try:
            written(value).encode()
        except UnicodeEncodeError:
            return Broken(number, "half a character: \\ud800 to \\udfff stand in pairs only", text)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Raw:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, seen in Counter(key for key, _ in pairs).items() if seen > 1)
        raise _Fault(f"the key {twice!r} stands there twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Fault(f"the number {text[:40]} is too large")
    return number


def _no_constant(name: str) -> None:
    raise _Fault(f"{name} is no number in JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)


# -- a JSON array ------------------------------------------------------------------------------------------------------


def _elements(file: IO[bytes], place: Place, share: Callable[[], float], start: int) -> Iterator[_Record]:
    """The elements of an array, numbered from 1. Past a fault in its JSON nobody can say where the next one begins: InputError."""
    array = _Array(TextIOWrapper(file, encoding="utf-8-sig"), place)
    array.take("[")
    for number in count(1):
        if number == 1 and array.sign() == "]":
            break
        text = array.element(number)
        if number > start:
            yield _Record(number, _object(number, text), share())
        if array.sign() == "]":
            break
        array.take(",")
    array.take("]")
    if array.sign():
        array.fail("something stands behind the end of the array")


class _Array:
    """The text of an array, read as far as is needed."""

    def __init__(self, file: TextIOWrapper, place: Place) -> None:
        self._file, self._place = file, place
        self._text, self._at = "", 0
        self._is_whole = False
        self._number = 0

    def sign(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self._at = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._text) or self._is_whole:
                return self._text[self._at : self._at + 1]
            self._more()

    def take(self, sign: str) -> None:
        if (found := self.sign()) != sign:
            self.fail(f"expected {sign!r}, got {found!r}" if found else f"the array breaks off: expected {sign!r}")
        self._at += 1

    def element(self, number: int) -> str:
        """The text of the next element."""
        self._number = number
        self.sign()
        while True:
            try:
                _, end = SCAN.raw_decode(self._text, self._at)
                if end < len(self._text) or self._is_whole:
                    text, self._at = self._text[self._at : end], end
                    return text
            except json.JSONDecodeError as fault:
                if self._is_whole:
                    self.fail(f"the array breaks off: {fault.msg}")
                if not fault.msg.startswith("Unterminated") and fault.pos < len(self._text) - NEAR:
                    self.fail(f"no JSON: {fault.msg}")
            except RecursionError:
                self.fail("no JSON that can be read: too deeply nested")
            self._more()

    def fail(self, what: str) -> NoReturn:
        raise InputError(f"{what} (an array's element {self._number}; nothing after it can be read)", self._place)

    def _more(self) -> None:
        with _undamaged(self._place):
            new = self._file.read(max(CHUNK, len(self._text) - self._at))  # twice as much of an element that does not end
        self._is_whole = not new
        self._text, self._at = self._text[self._at :] + new, 0


SCAN = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)
"""finds where an element ends"""
SPACE = re.compile(r"[ \t\r\n]*")


# -- Parquet -----------------------------------------------------------------------------------------------------------


def _parquet(file: IO[bytes], place: Place) -> _Source:
    import pyarrow
    import pyarrow.parquet

    with _undamaged(place, pyarrow.ArrowException):
        table = pyarrow.parquet.ParquetFile(file)

    def records(start: int) -> Iterator[_Record]:
        groups, number = list(range(table.num_row_groups)), 0
        while groups and number + table.metadata.row_group(groups[0]).num_rows <= start:
            number += table.metadata.row_group(groups.pop(0)).num_rows
        batches = table.iter_batches(BATCH, row_groups=groups) if groups else iter(())
        while True:
            with _undamaged(place._replace(line=number + 1), pyarrow.ArrowException):
                rows = next((batch.to_pylist() for batch in batches), None)
            if rows is None:
                return
            for raw in rows:
                number += 1
                if number > start:
                    yield _Record(number, _row_of_parquet(number, raw), number / table.metadata.num_rows)

    return _Source(file, records)


def _row_of_parquet(number: int, raw: Raw) -> Raw | Broken:
    try:
        return {str(column): _plain(value, column) for column, value in raw.items()}
    except Unfit as why:
        return Broken(number, str(why), repr(raw))


def _plain(value: Any, column: str) -> Any:
    """A value as JSON can hold it: a time as ISO 8601, an exact decimal as text, what is no number (pandas' missing ones) as null."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(key): _plain(one, column) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one, column) for one in value]
        case datetime.date() | datetime.time():
            return value.isoformat()
        case decimal.Decimal() | datetime.timedelta():
            return str(value)
    raise Unfit(f"`{column}` holds {type(value).__name__}: expected text, numbers, lists or objects")
