"""A taxonomy in the making: the nodes that a planner or a reader has found, before they are written down."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from leafmill.errors import Place
from leafmill.records import Language, Seed
from taxonomy.tree import Node, Texts

LONGEST_SLUG = 40
"""characters"""


@dataclass
class Draft:
    """One node. The root's slug is the taxonomy's name."""

    slug: str
    title: Texts = field(default_factory=dict)
    description: Texts = field(default_factory=dict)
    weight: float = 1.0
    languages: tuple[Language, ...] = ()
    """for a node that speaks fewer than its parent, or for the root"""
    seeds: Sequence[Seed] = ()
    axes: dict[str, Any] | list[Any] = field(default_factory=dict)
    """as the file holds them"""
    children: list[Draft] = field(default_factory=list)
    place: Place | None = None
    """where a reader found it"""

    def walk(self, above: str = "") -> Iterator[tuple[str, Draft]]:
        """All nodes with their paths, each before its children."""
        path = f"{above}/{self.slug}" if above else self.slug
        yield path, self
        for child in self.children:
            yield from child.walk(path)

    @property
    def leaves(self) -> list[Draft]:
        return [node for _, node in self.walk() if not node.children]

    @classmethod
    def of(cls, node: Node) -> Draft:
        """A node of a taxonomy that is written down, with all below it: what a planner must know of them."""
        slug = node.path.rpartition("/")[2]
        return cls(slug, dict(node.title), dict(node.description), children=[cls.of(child) for child in node.children])


def slug_of(text: str, taken: Collection[str] = ()) -> str:
    """A part of a path: what `text` says, in letters, digits and hyphens, and unlike those taken.

    >>> slug_of("Refunds & returns"), slug_of("退货/退款"), slug_of("Refunds", {"refunds"})
    ('refunds-returns', '退货-退款', 'refunds-2')
    """
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", text).lower()).strip("-")
    slug = words[:LONGEST_SLUG].rstrip("-") or "node"
    if slug not in taken:
        return slug
    number = next(number for number in range(2, len(taken) + 3) if f"{slug}-{number}" not in taken)
    return f"{slug}-{number}"
