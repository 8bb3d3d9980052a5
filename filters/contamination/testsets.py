"""Test sets: what a model will be tested on. The user's files, or data sets of a hub.

    load("gsm8k", BenchmarkSource(path="gsm8k.jsonl", text="question", reference="answer"))
    parse("openai/gsm8k/main:test:question:answer")     # the same in one word, for the command line

An item without a text, or with a value of the wrong kind, is an error that names the file, the line and the value: an item that is
left out in silence would be one that nothing is checked against.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filters.text import tokens
from leafmill.errors import InputError, Place, unknown
from leafmill.recipe import BenchmarkSource
from leafmill.records import digest

TEXTS = ("question", "prompt", "instruction", "problem", "text", "query", "input", "content", "问题", "题目", "题干")
"""fields that an item's text is looked for in, when none is named"""
IDS = ("id", "task_id", "question_id", "problem_id", "idx")


class BenchmarkItem(NamedTuple):
    id: str
    text: str
    references: tuple[str, ...] = ()
    """reference solutions"""


class Benchmark(NamedTuple):
    """A test set."""

    name: str
    items: tuple[BenchmarkItem, ...]


@dataclass(frozen=True)
class Benchmarks:
    """The test sets that rows are held against, and the indexes over them, each made when it is first asked for."""

    sets: tuple[Benchmark, ...] = ()

    @functools.cached_property
    def id(self) -> str:
        """Names what is in them."""
        return digest([[one.name, one.items] for one in self.sets], length=8)

    @functools.cached_property
    def index(self) -> Callable[[int, int, int], Any]:
        """(words, characters, signs) -> the Index with these lengths of n-grams."""
        from filters.contamination.index import Index

        return functools.cache(functools.partial(Index, self.sets))


def parse(spec: str) -> tuple[str, BenchmarkSource]:
    """The name and the source of a test set in one word: `FILE[:text[:reference]]`, or `owner/name[/config][:split[:text[:reference]]]`
    for a data set of a hub."""
    if Path(spec).is_file():
        return Path(spec).stem, BenchmarkSource(path=spec)
    name, *fields = spec.split(":")
    if Path(name).is_file() or Path(name).suffix.lower() in READERS or name.count("/") not in (1, 2):
        text, reference = _padded(fields, 2, spec)
        return Path(name).stem, BenchmarkSource(path=name, text=text, reference=reference)
    split, text, reference = _padded(fields, 3, spec)
    owner, title, *config = name.split("/")
    source = BenchmarkSource(
        hub=f"{owner}/{title}", config=config[0] if config else None, split=split or "test", text=text, reference=reference
    )
    return title, source


def load_all(specs: Sequence[str], taken: Collection[str] = ()) -> Benchmarks:
    """The test sets of a command line, under names that are not `taken`. Raises InputError."""
    found: dict[str, Benchmark] = {}
    for name, source in map(parse, specs):
        if name in found or name in taken:
            raise InputError(f"two test sets are called {name!r}: rename one file")
        found[name] = load(name, source)
    return Benchmarks(tuple(found.values()))


def load(name: str, source: BenchmarkSource, folder: Path = Path()) -> Benchmark:
    """Read a test set; a path is taken from `folder`. Raises InputError."""
    if source.hub is not None:
        where, rows = f"{source.hub}, split {source.split}", _from_hub(name, source)
    else:
        path = folder / str(source.path)
        where, rows = str(path), _from_file(name, path)
    items = _unique(tuple(_items(where, rows, source)))
    if not items:
        raise InputError(f"test set {name!r}: there is no item in it", Place(where))
    return Benchmark(name, items)


def dump(benchmark: Benchmark) -> str:
    """The items as JSONL, which `load` reads again by `DUMPED`."""
    return "".join(
        json.dumps({"id": one.id, "text": one.text, "references": one.references}, ensure_ascii=False) + "\n" for one in benchmark.items
    )


def loaded(path: Path) -> Benchmark:
    """A test set that was dumped."""
    return load(path.stem, BenchmarkSource(path=path.name, text="text", reference="references"), path.parent)


def _padded(fields: Sequence[str], most: int, spec: str) -> list[str | None]:
    if len(fields) > most:
        raise InputError(f"test set {spec!r}: expected FILE[:text[:reference]] or owner/name[/config][:split[:text[:reference]]]")
    return [field or None for field in fields] + [None] * (most - len(fields))


class _Found(NamedTuple):
    line: int
    fields: Mapping[str, Any]


def _items(where: str, rows: Iterable[_Found], source: BenchmarkSource) -> Iterator[BenchmarkItem]:
    text_field = source.text
    for line, fields in rows:
        place = Place(where, line)
        text_field = text_field or _text_field(fields, place)
        for field in filter(None, (text_field, source.reference)):
            if field not in fields:
                raise InputError(f"{unknown('field', field, fields)}: name the one that holds the text as `text`", place)
        text = _text(fields[text_field], text_field, place)
        if not tokens(text):
            raise InputError(f"{text_field} must hold a text with words in it, got {_short(fields[text_field])}", place)
        references = _references(fields[source.reference], source.reference, place) if source.reference else ()
        id_ = next((str(fields[key]) for key in IDS if fields.get(key) is not None), str(line))
        yield BenchmarkItem(id_, text, references)


def _text_field(fields: Mapping[str, Any], place: Place) -> str:
    found = next((name for name in TEXTS if name in fields), None)
    if found is None:
        columns = ", ".join(fields) or "(none)"
        raise InputError(f"which field holds the text of an item? Found {columns}; name it as `text`", place)
    return found


def _text(value: Any, field: str, place: Place) -> str:
    """A text; the user's messages of a conversation are one text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    raise InputError(f"{field} must be a text, got {_short(value)}", place)


def _references(value: Any, field: str, place: Place) -> tuple[str, ...]:
    if value is None:
        return ()
    several = value if isinstance(value, list) else [value]
    for one in several:
        if not isinstance(one, str | int | float):
            raise InputError(f"{field} must be a text, a number, or a list of them, got {_short(one)}", place)
    return tuple(map(str, several))


def _unique(items: tuple[BenchmarkItem, ...]) -> tuple[BenchmarkItem, ...]:
    """The items, each with an id of its own: its number when theirs are not."""
    if len({one.id for one in items}) == len(items):
        return items
    return tuple(one._replace(id=str(number)) for number, one in enumerate(items, start=1))


def _from_file(name: str, path: Path) -> Iterator[_Found]:
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"test set {name!r}: expected a file of {', '.join(READERS)}, got {str(path)!r}")
    try:
        yield from read(path)
    except UnicodeDecodeError as fault:
        raise InputError(
            f"test set {name!r} is not valid UTF-8: byte {fault.object[fault.start]:#04x} at offset {fault.start}", Place(str(path))
        ) from None
    except OSError as fault:
        raise InputError(f"test set {name!r}: {str(path)!r} cannot be read: {fault.strerror or fault}") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, from 1. A JSON string may hold U+2028 and its like: they end no line."""
    text = path.read_bytes().decode("utf-8-sig")
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _read_jsonl(path: Path) -> Iterator[_Found]:
    for number, line in _lines(path):
        try:
            yield _found(json.loads(line), number, path)
        except ValueError as fault:
            raise InputError(f"not valid JSON: {fault}", Place(str(path), number)) from None


def _read_json(path: Path) -> Iterator[_Found]:
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as fault:
        raise InputError(f"not valid JSON: {fault.msg}", Place(str(path), fault.lineno)) from None
    if not isinstance(data, list):
        raise InputError(f"expected a list of items, got {_short(data)}", Place(str(path)))
    for number, row in enumerate(data, start=1):
        yield _found(row, number, path)


def _read_csv(path: Path) -> Iterator[_Found]:
    csv.field_size_limit(2**31 - 1)
    rows = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), dialect=_dialect(path))
    try:
        for row in rows:
            if None in row:
                raise InputError(f"has more fields than the head of the file: {_short(row[None])}", Place(str(path), rows.line_num))
            yield _Found(rows.line_num, row)
    except csv.Error as fault:
        raise InputError(f"not valid CSV: {fault}", Place(str(path), rows.line_num)) from None


def _dialect(path: Path) -> type[csv.Dialect]:
    return csv.excel_tab if path.suffix.lower() == ".tsv" else csv.excel


def _read_parquet(path: Path) -> Iterator[_Found]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as fault:
        raise InputError(f"not a Parquet file that can be read: {fault}", Place(str(path))) from None
    for number, row in enumerate(rows, start=1):
        yield _Found(number, row)


def _read_txt(path: Path) -> Iterator[_Found]:
    return (_Found(number, {"text": line.strip()}) for number, line in _lines(path))


READERS: Mapping[str, Callable[[Path], Iterator[_Found]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}


def _found(row: Any, number: int, path: Path) -> _Found:
    if not isinstance(row, dict):
        raise InputError(f"an item must be an object, got {_short(row)}", Place(str(path), number))
    return _Found(number, row)


def _from_hub(name: str, source: BenchmarkSource) -> Iterator[_Found]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(f"test set {name!r} is one of a hub, which takes: pip install 'leafmill[hub]'") from None
    try:
        rows = load_dataset(source.hub, source.config, split=source.split)
    except Exception as fault:  # the hub, its client and its file formats each raise errors of their own
        raise InputError(f"test set {name!r}: {source.hub!r} cannot be had: {fault}. A file of your own needs no network") from fault
    return (_Found(number, row) for number, row in enumerate(rows, start=1))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
