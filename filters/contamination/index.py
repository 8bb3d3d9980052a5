"""Which items of test sets are in a row: an index of all their n-grams, exhaustive and in memory.

The rule is that of Tulu 3 (arXiv 2411.15124): a row hits an item when more than half of the item's tokens lie in n-grams that the item
shares with that one row. What several of them cover counts once, wherever in the row they stand. Every n-gram is looked up, where a
search engine's first hundred hits may miss one; the whole conversation is looked at, not only what the user says; and Chinese is read
by characters.

    words        normalised units of `filters.text` (a word, a number, one Chinese character): 8 are an n-gram
    characters   the same, for an item that is mostly Chinese: 10 are an n-gram. The item decides and not the row, which may be mixed
    code         for reference solutions: names, numbers and signs, without white space, quotes and case: 12 are an n-gram

An item shorter than its n-gram is hit only by a message of the user, an instruction or an input that says just that. A reference
solution of fewer than `LEAST_CODE` tokens is not looked for: `return a + b` is everybody's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from filters.contamination.grams import Grams, Ids, Numbers
from filters.contamination.reading import READ, UNKNOWN, Message, NumbersOf, Reading, code_tokens
from filters.contamination.testsets import Benchmark
from filters.text import CJK, normalise, script, tokens

WORDS, CHARACTERS, CODE = 8, 10, 12
"""tokens of an n-gram"""
LEAST_CODE = 24
"""tokens from which on a reference solution can be told from anybody's"""
SHARE = 0.5
"""of an item's tokens, above which, strictly, it is hit"""
PAIRS = 4_000_000
"""places of shared n-grams that are worked on at once; where there are more, the rows are halved"""
_CHUNK = re.compile(rf"[{CJK}]|[^\s{CJK}]+")


class Hit(NamedTuple):
    """An item that is in a row."""

    set: str
    item: str
    share: float
    """of its tokens that the row covers"""
    rule: str
    probe: int
    """which text of the index it is"""


class Found(NamedTuple):
    """What of the test sets is in a row."""

    share: float = 0.0
    """the largest of any item, hit or not"""
    hits: tuple[Hit, ...] = ()
    """one for each item, the largest share first"""


class Span(NamedTuple):
    """A piece of a row that an item has too, and where it stands among the characters of the part."""

    part: str
    start: int
    end: int
    text: str


class Table(NamedTuple):
    """Which n-grams are in one table."""

    reading: Reading
    n: int


class Probe(NamedTuple):
    """A text of a test set, as it is looked for."""

    set: str
    item: str
    ids: Ids
    rule: str
    table: Table | None
    """None: it is short"""


class Index:
    """The texts of test sets. `words`, `characters` and `code` are the lengths of n-grams, `bits` that of their hashes."""

    def __init__(
        self, sets: Sequence[Benchmark], words: int = WORDS, characters: int = CHARACTERS, code: int = CODE, *, bits: int = 64
    ) -> None:
        self._vocabulary: dict[str, int] = {}
        self._probes: list[Probe] = []
        self._short: dict[str, list[int]] = defaultdict(list)
        for one in sets:
            for item in one.items:
                n, unit = (characters, "characters") if script(item.text) > 0.5 else (words, "words")
                said = tokens(item.text)
                if len(said) < n:
                    self._short[" ".join(said)].append(len(self._probes))
                    self._add(one.name, item.id, said, f"the same {unit}", None)
                else:
                    self._add(one.name, item.id, said, f"{n} {unit}", Table("words", n))
                for said in map(code_tokens, item.references):
                    if len(said) >= max(LEAST_CODE, code):
                        self._add(one.name, item.id, said, f"{code} tokens of a reference solution", Table("code", code))
        self._lengths = np.array([len(probe.ids) for probe in self._probes], np.int64)
        by_table: dict[Table, list[int]] = defaultdict(list)
        for number, probe in enumerate(self._probes):
            if probe.table:
                by_table[probe.table].append(number)
        self._numbers = {reading: NumbersOf(READ[reading], self._vocabulary) for reading in {table.reading for table in by_table}}
        self._tables = {
            table: (Grams([self._probes[i].ids for i in which], table.n, len(self._vocabulary), bits=bits), np.array(which))
            for table, which in by_table.items()
        }

    def find(self, rows: Sequence[Sequence[Message]], share: float = SHARE) -> list[Found]:
        """What each row hits: the same, whatever other rows are asked about with it."""
        best = np.zeros(len(rows))
        hits: dict[int, list[Hit]] = defaultdict(list)
        for i, row in enumerate(rows if self._short else ()):
            hits[i] += (self._hit(probe, 1.0) for message in row for text in message.alone for probe in self._said_alone(text))
        read = self._read(rows)
        for table, (grams, which) in self._tables.items():
            shared = grams.shared(*read[table.reading])
            if not len(shared.rows):
                continue
            if len(rows) > 1 and grams.pairs(shared) > PAIRS:
                half = len(rows) // 2
                return self.find(rows[:half], share) + self.find(rows[half:], share)
            covered = grams.covered(shared)
            probes = which[covered.texts]
            shares = covered.tokens / self._lengths[probes]
            np.maximum.at(best, covered.rows, shares)
            for at in np.flatnonzero(shares > share):
                hits[int(covered.rows[at])].append(self._hit(int(probes[at]), float(shares[at])))
        return [_found(float(share), hits.get(i, ())) for i, share in enumerate(best)]

    def is_short(self, hit: Hit) -> bool:
        """Whether the item is shorter than an n-gram."""
        return self._probes[hit.probe].table is None

    def spans(self, row: Sequence[Message], hit: Hit) -> list[Span]:
        """Where an item is in a row, in the row's own words."""
        probe = self._probes[hit.probe]
        if probe.table is None:
            same = ((m, text, m.text.find(text)) for m in row for text in m.alone if hit.probe in self._said_alone(text))
            return [Span(message.part, start, start + len(text), text) for message, text, start in same]
        read = READ[probe.table.reading]
        grams = set(_windows(probe.ids.tolist(), probe.table.n))
        found = []
        for message in row:
            ids = [self._vocabulary.get(token, 0) for token in read(normalise(message.text))]
            places = [place for place, gram in enumerate(_windows(ids, probe.table.n)) if gram in grams]
            found += [_cut(message, read, len(ids), start, end) for start, end in _runs(places, probe.table.n)]
        return found

    def _add(self, set_: str, item: str, said: Sequence[str], rule: str, table: Table | None) -> None:
        ids = [self._vocabulary.setdefault(token, len(self._vocabulary) + 1) for token in said]
        self._probes.append(Probe(set_, item, np.array(ids, np.int32), rule, table))

    def _said_alone(self, text: str) -> Sequence[int]:
        return self._short.get(" ".join(tokens(text)), ())

    def _hit(self, number: int, share: float) -> Hit:
        probe = self._probes[number]
        return Hit(probe.set, probe.item, share, probe.rule, number)

    def _read(self, rows: Sequence[Sequence[Message]]) -> dict[Reading, tuple[Ids, Numbers]]:
        """In each reading: the tokens of all rows as numbers, with a 0 after each message, and where each row begins."""
        numbers = [one.__getitem__ for one in self._numbers.values()]
        said: list[list[bytes]] = [[] for _ in numbers]
        sizes: list[list[int]] = [[] for _ in numbers]
        for row in rows:
            pieces = [normalise(message.text).split(" ") for message in row]
            for of_piece, blobs, lengths in zip(numbers, said, sizes, strict=True):
                blobs.append(b"".join(b"".join(map(of_piece, of_message)) + UNKNOWN for of_message in pieces))
                lengths.append(len(blobs[-1]))
        return {
            reading: (np.frombuffer(b"".join(blobs), np.int32), np.cumsum(np.array([0, *lengths[:-1]], np.int64)) // len(UNKNOWN))
            for reading, blobs, lengths in zip(self._numbers, said, sizes, strict=True)
        }


def _found(best: float, hits: Iterable[Hit]) -> Found:
    """Of what says an item several times over (its text, its solution) the most."""
    most: dict[tuple[str, str], Hit] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.share, hit.probe)):
        most.setdefault((hit.set, hit.item), hit)
    return Found(max([best, *(hit.share for hit in most.values())]), tuple(most.values()))


def _windows(ids: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    return (tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))


def _runs(places: Iterable[int], n: int) -> list[tuple[int, int]]:
    """The stretches that n-grams at these places cover."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place <= runs[-1][1]:
            runs[-1] = (runs[-1][0], place + n)
        else:
            runs.append((place, place + n))
    return runs


def _cut(message: Message, read: Callable[[str], list[str]], count: int, start: int, end: int) -> Span:
    """The characters that the tokens from `start` to `end` of a message came from, to whole words."""
    chunks = [chunk for chunk in _CHUNK.finditer(message.text) for _ in read(normalise(chunk[0]))]
    if len(chunks) != count:  # a character that is nothing by itself: the message is shown whole
        return Span(message.part, 0, len(message.text), message.text)
    first, last = chunks[start].start(), chunks[end - 1].end()
    return Span(message.part, first, last, message.text[first:last])
