"""Opens what a taxonomy names as material: data sets, documents, seeds and personas, before a token is spent.

A row that cannot be used (not readable, a follow-up in a conversation) is left out and said to be; material of which nothing is left in a
language that is wanted is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from leafmill.dataset import formats
from leafmill.dataset.items import Broken, Item
from leafmill.dataset.reader import read
from leafmill.errors import InputError, Place, TaxonomyError
from leafmill.log import RUN, WARNING, event
from leafmill.records import Language, Row, Seed, Source
from taxonomy import Leaf
from taxonomy.documents import find
from taxonomy.documents import read as read_document
from taxonomy.material import languages, needed, of_leaf
from taxonomy.seeds import clean, language_of, read_seeds
from taxonomy.sources import SourceSpec, Way

NAMES: dict[Way, str] = {
    "self_instruct": "seeds",
    "rewrite": "rows of a data set",
    "document": "documents",
    "persona": "personas",
}


def opened(leaf: Leaf, wanted: Sequence[Language]) -> Leaf:
    """The leaf with the material that its candidates are written from. Raises TaxonomyError, and InputError with file and line."""
    for way in needed(leaf):
        spec = of_leaf(leaf, way)
        if way == "self_instruct":
            leaf = leaf.model_copy(update={"seeds": (*leaf.seeds, *_seeds(leaf, spec))})
        else:
            leaf = leaf.model_copy(update={"sources": {**leaf.sources, way: tuple(_material(leaf, way, spec)) if spec else ()}})
    require(leaf, wanted)
    return leaf


def require(leaf: Leaf, wanted: Sequence[Language]) -> None:
    """Raises TaxonomyError unless there is material in each language that it is needed in."""
    for way in needed(leaf):
        has = {one.language for one in (leaf.seeds if way == "self_instruct" else leaf.sources[way])}
        missing = sorted(languages(leaf, way, wanted) - has) if None not in has else []
        if missing:
            spec = of_leaf(leaf, way)
            named = "settings.source names none" if spec is None else f"settings.source: {_where(spec)}"
            use = "brief" if way == "persona" else way
            raise TaxonomyError(f"leaf {leaf.path}: {NAMES[way]} in {', '.join(missing)} are needed for write: {use}, {named}")


def _where(spec: SourceSpec) -> str:
    return spec.hub or ", ".join(spec.path) or f"{len(spec.texts)} texts"


def _material(leaf: Leaf, way: Way, spec: SourceSpec) -> Iterator[Source]:
    if way == "rewrite":
        return (_as_source(one) for one in _rows(leaf, spec))
    return _passages(leaf, spec) if way == "document" else _personas(leaf, spec)


class _Placed(NamedTuple):
    name: str
    line: int
    row: Row


def _rows(leaf: Leaf, spec: SourceSpec) -> Iterator[_Placed]:
    """The single exchanges of the data sets."""
    for name, items in _data_sets(leaf, spec):
        left_out: list[str] = []
        for item in items:
            fault = item.fault if isinstance(item, Broken) else "is a follow-up in a conversation" if item.row.history else ""
            if isinstance(item, Item) and not fault and item.row.instruction.strip():
                yield _Placed(name, item.line, item.row)
            else:
                left_out.append(f"{item.line}: {fault or 'asks nothing'}")
        if left_out:
            event(RUN, WARNING, "source rows left out", leaf=leaf.path, source=name, rows=len(left_out), first=left_out[0])


def _data_sets(leaf: Leaf, spec: SourceSpec) -> Iterator[tuple[str, Iterable[Item | Broken]]]:
    if spec.hub:
        yield spec.hub, _from_hub(spec)
    for path in _files(leaf, spec):
        yield _name(leaf, path), read(path)


def _from_hub(spec: SourceSpec) -> Iterator[Item | Broken]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(f"source {spec.hub!r} is a data set of a hub, which takes: pip install 'leafmill[hub]'") from None
    try:
        rows = load_dataset(spec.hub, spec.config, split=spec.split)
    except Exception as fault:  # the hub, its client and its file formats each raise errors of their own
        raise InputError(f"source {spec.hub!r} cannot be had: {fault}. A file of your own needs no network") from fault
    for line, raw in enumerate(rows, start=1):
        try:
            yield Item(line, formats.parse(raw).row, dict(raw))
        except formats.Unfit as why:
            yield Broken(line, str(why), "")


def _files(leaf: Leaf, spec: SourceSpec) -> Iterator[Path]:
    for given in spec.path:
        path = Path(leaf.folder) / given
        if not path.is_file():
            raise TaxonomyError(f"leaf {leaf.path}: settings.source: there is no file {given!r} beside the taxonomy")
        yield path


def _name(leaf: Leaf, path: Path) -> str:
    """A file as the lineage names it: from the taxonomy's folder, where it lies there."""
    return str(path.relative_to(leaf.folder)) if path.is_relative_to(leaf.folder) else str(path)


def _as_source(found: _Placed) -> Source:
    row = found.row
    return Source(
        name=found.name,
        place=f"line {found.line}",
        text=row.instruction,
        input=row.input,
        output=row.answer,
        language=row.language,
    )


def _seeds(leaf: Leaf, spec: SourceSpec | None) -> Iterator[Seed]:
    """The seeds that are fit to be shown, those of Self-Instruct's own files too."""
    if spec is None:
        return
    own = [path for path in _files(leaf, spec) if _holds_seeds(path)]
    others = spec.model_copy(update={"path": tuple(given for given in spec.path if Path(leaf.folder) / given not in own)})
    found = [seed for path in own for seed in read_seeds(path)]
    for _, _, row in _rows(leaf, others):
        found.append(Seed(instruction=row.instruction, input=row.input, output=row.answer, language=row.language))
    kept = clean(found)
    if kept.dropped:
        event(RUN, WARNING, "seeds left out", leaf=leaf.path, source=_where(spec), seeds=len(kept.dropped), **kept.counts)
    yield from kept.kept


def _holds_seeds(path: Path) -> bool:
    """Whether its first line is a seed: of a data set, rows without an answer would be lost, and instances not understood."""
    with path.open("rb") as file:
        line = file.readline()
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and "instruction" in row


def _passages(leaf: Leaf, spec: SourceSpec) -> Iterator[Source]:
    """The passages of the documents; what one says again is left out."""
    if spec.hub:
        raise TaxonomyError(f"leaf {leaf.path}: settings.source: documents are files, got hub: {spec.hub}")
    seen: set[str] = set()
    for path in dict.fromkeys(path for given in spec.path for path in find(Path(leaf.folder), given)):
        for text, heading, place in read_document(path, spec.passage):
            words = "".join(re.findall(r"\w+", text.casefold()))
            if words not in seen:
                seen.add(words)
                yield Source(name=_name(leaf, path), place=place, text=text, language=language_of(text), heading=heading)


def _personas(leaf: Leaf, spec: SourceSpec) -> Iterator[Source]:
    """A person a line."""
    say = partial(Source, name="personas")
    for number, text in enumerate(spec.texts, start=1):
        yield say(place=f"text {number}", text=text, language=language_of(text))
    for path in _files(leaf, spec):
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as fault:
            raise InputError(f"not valid UTF-8 at byte {fault.start}", Place(str(path))) from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield Source(name=_name(leaf, path), place=f"line {number}", text=line.strip(), language=language_of(line))
