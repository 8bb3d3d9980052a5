"""A plain list of labels as a taxonomy: one a line, levels by slashes or by indentation, `#` before a comment.

Refunds/Late refunds         # two levels in one line
Refunds/Partial refunds
Delivery                     # or the same by indentation
    Lost parcels
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from leafmill.errors import Place, TaxonomyError
from leafmill.records import Language
from taxonomy.draft import Draft, slug_of

_BULLET = re.compile(r"(?:[-*+•]|\d+[.)、])\s+")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


class _Level(NamedTuple):
    """An open level: how far its labels are indented, and the node that they stand below."""

    indented: str
    node: Draft


def read_labels(path: Path, language: Language, name: str = "") -> Draft:
    """The tree of a list; its root is called `name`, or as the file. Raises TaxonomyError with file and line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise TaxonomyError(f"not valid UTF-8: byte {fault.object[fault.start]:#04x} at offset {fault.start}", Place(str(path))) from None
    except OSError as fault:
        raise TaxonomyError(f"cannot be read: {fault.strerror}", Place(str(path))) from None
    title = name or path.stem
    root = Draft(slug_of(title), {language: title}, languages=(language,))
    levels: list[_Level] = []
    last = root
    for number, line in enumerate(text.splitlines(), start=1):
        label = _BULLET.sub("", _COMMENT.sub("", line).strip(), count=1)
        if not label:
            continue
        place = Place(str(path), number)
        indented = line[: len(line) - len(line.lstrip())]
        _climb(levels, indented, root, last, place)
        last = _add(levels[-1].node, label, language, place)
    if not root.children:
        raise TaxonomyError("holds no labels: expected one a line, such as `Refunds/Late refunds`", Place(str(path)))
    return root


def _climb(levels: list[_Level], indented: str, root: Draft, last: Draft, place: Place) -> None:
    """Open or close levels until the last is that of a line which is indented so far."""
    if not levels:
        levels.append(_Level(indented, root))
    elif indented.startswith(levels[-1].indented) and indented != levels[-1].indented:
        levels.append(_Level(indented, last))
    while levels and levels[-1].indented != indented:
        levels.pop()
    if not levels:
        raise TaxonomyError(f"is indented by {indented!r}, like no line above it on its level", place)


def _add(parent: Draft, label: str, language: Language, place: Place) -> Draft:
    """The node of `a/b/c` below a parent; those of its parts that are there already are used."""
    node = parent
    for part in (part.strip() for part in label.split("/")):
        if not part:
            raise TaxonomyError(f"a label is empty in {label!r}: expected text between slashes", place)
        known = next((child for child in node.children if child.title[language] == part), None)
        if known is None:
            known = Draft(slug_of(part, {child.slug for child in node.children}), {language: part}, place=place)
            node.children.append(known)
        node = known
    if node.place != place:
        raise TaxonomyError(f"{label!r} is given twice: first on line {node.place.line if node.place else '?'}", place)
    return node
