"""What it costs to hold rows against test sets, and what is found of planted test items.

    python -m bench.decontaminate [--data FILE[:text[:reference]]]... [--clean FILE.jsonl]... [--rows 20000] [--items 3000]

speed    rows a second of one core's own time, of the index in batches and row by row, and of plain Python sets that keep the same
         rule; all three must find the same. There are `--items` items: those of --data, and made ones up to that number.
quality  items of each test set are planted in rows, as they are and edited; a row counts as found when the gate names its item. What is
         found in clean rows is wrong: those of --clean (JSONL with `instruction`, and `input`, `output` or `instances`), the functions
         of Python's standard library, and made instructions. Without --data the test set is made. One with Chinese items is also held
         against other lengths of n-grams.

The tables go to stdout; the exit code is 1 when the three differ, or when a clean row is hit.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bench.instructions import Language, instructions
from filters.contamination.index import CHARACTERS, CODE, LEAST_CODE, SHARE, WORDS, Index
from filters.contamination.reading import Message, code_tokens, messages
from filters.contamination.testsets import Benchmark, BenchmarkItem, load_all
from filters.text import script, tokens
from leafmill.records import Row, Turn

SEED = 7
LANGUAGES: tuple[Language, ...] = ("en", "zh")
BATCH = 1024
LENGTHS = (6, 8, 10, 13, 16)
PLANTED = 400
"""items of a test set that are planted, at most"""
Edit = Callable[[BenchmarkItem, random.Random], "Row | None"]


class Plain:
    """The rule once more, in sets of tuples: what the index must agree with."""

    def __init__(self, sets: Iterable[Benchmark], words: int = WORDS, characters: int = CHARACTERS, code: int = CODE) -> None:
        self._short: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
        self._probes: list[tuple[tuple[str, str], list[str], Callable[[str], list[str]], int]] = []
        for one in sets:
            for item in one.items:
                said, n = tokens(item.text), characters if script(item.text) > 0.5 else words
                if len(said) < n:
                    self._short[tuple(said)].add((one.name, item.id))
                else:
                    self._probes.append(((one.name, item.id), said, tokens, n))
                for solution in map(code_tokens, item.references):
                    if len(solution) >= max(LEAST_CODE, code):
                        self._probes.append(((one.name, item.id), solution, code_tokens, code))
        self._where: dict[Any, dict[tuple[str, ...], set[int]]] = defaultdict(lambda: defaultdict(set))
        for number, (_, said, read, n) in enumerate(self._probes):
            for gram in grams(said, n):
                self._where[read, n][gram].add(number)

    def find(self, row: Sequence[Message]) -> dict[tuple[str, str], float]:
        """The items that a row hits, each with the share of it that is covered."""
        found: dict[tuple[str, str], float] = {}
        for (read, n), where in self._where.items():
            here = {gram for message in row for gram in grams(read(message.text), n) if gram in where}
            for number in set().union(*(where[gram] for gram in here)):
                name, said, _, _ = self._probes[number]
                covered = {i + k for i, gram in enumerate(grams(said, n)) if gram in here for k in range(n)}
                if (share := len(covered) / len(said)) > SHARE:
                    found[name] = max(share, found.get(name, 0.0))
        alone = (name for message in row for text in message.alone for name in self._short.get(tuple(tokens(text)), ()))
        return found | dict.fromkeys(alone, 1.0)


def grams(said: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(said[i : i + n]) for i in range(len(said) - n + 1))


# -- speed -------------------------------------------------------------------------------------------------------------


def speed(sets: Sequence[Benchmark], rows: int, items: int) -> bool:
    """Print the rates; whether all have found the same."""
    known = sum(len(one.items) for one in sets)
    sets = [*sets, made_set(items - known)._replace(name="more")] if items > known else sets
    began = time.process_time()
    index = Index(sets)
    built = time.process_time() - began
    plain = Plain(sets)
    texts = instructions("en", 2 * rows, SEED + 1)
    said = [messages(Row(language="en", instruction=one, answer=other)) for one, other in zip(texts, texts, strict=True)]
    said[:: rows // 100] = [messages(Row(language="en", instruction=item.text)) for item in islice((i for s in sets for i in s.items), 100)]
    mean = sum(len(tokens(message.text)) for row in said[:1000] for message in row) / 1000
    parts = [said[start : start + BATCH] for start in range(0, len(said), BATCH)]
    methods: Mapping[str, Callable[[Sequence[Any]], list[Any]]] = {
        "index, in batches": index.find,
        "index, row by row": lambda part: [index.find([row])[0] for row in part],
        "plain Python sets": lambda part: [plain.find(row) for row in part],
    }
    seconds: dict[str, float] = defaultdict(float)
    found: dict[str, list[Any]] = defaultdict(list)
    for part in parts:  # by turns, so that a busy machine slows all of them
        for name, method in methods.items():
            began = time.process_time()
            found[name] += method(part)
            seconds[name] += time.process_time() - began
    batches, single, sets_ = found.values()
    same = batches == single and [{(hit.set, hit.item): hit.share for hit in one.hits} for one in batches] == sets_
    hit = sum(bool(one.hits) for one in batches)
    total = sum(len(one.items) for one in sets)
    tell(f"{len(said):,} rows of {mean:.0f} words against {total:,} items; the index is made in {built:.1f} s")
    tell(f"{hit} rows hit an item; all three find the same: {'yes' if same else 'NO'}\n")
    tell("| method | rows/s | beside plain sets |\n|---|---|---|")
    for name in methods:
        tell(f"| {name} | {len(said) / seconds[name]:,.0f} | {seconds['plain Python sets'] / seconds[name]:.1f}x |")
    return same


# -- quality -----------------------------------------------------------------------------------------------------------


def quality(sets: Sequence[Benchmark], clean: Sequence[Row]) -> bool:
    """Print how many planted items are found, and how many clean rows are hit; whether there were none of these."""
    index = Index(sets)
    wrong = sum(bool(one.hits) for one in index.find([messages(row) for row in clean]))
    heads = [f"{one.name} ({min(PLANTED, len(one.items))})" for one in sets]
    tell(f"\n| planted | {' | '.join(heads)} |\n|---{'|---' * len(heads)}|")
    right = 0
    for kind, edit in EDITS.items():
        cells = []
        for one in sets:
            rng = random.Random(f"{SEED} {kind} {one.name}")
            planted = [(item, edit(item, rng)) for item in one.items[:PLANTED]]
            rows = [(item, messages(row)) for item, row in planted if row]
            found = index.find([row for _, row in rows])
            named = sum(
                any((hit.set, hit.item) == (one.name, item.id) for hit in got.hits) for (item, _), got in zip(rows, found, strict=True)
            )
            right += named
            cells.append(f"{named / len(rows):.3f}" if rows else "-")
        tell(f"| {kind} | {' | '.join(cells)} |")
    tell(f"\n{wrong} of {len(clean):,} clean rows are hit: precision {right / max(1, right + wrong):.4f}")
    return not wrong


def characters(chinese: Benchmark, clean: Sequence[Row]) -> None:
    """Print what other lengths of a Chinese n-gram would find of the items of at least 16 characters, and hit of clean rows."""
    items = [item for item in chinese.items if len(tokens(item.text)) >= max(LENGTHS)][:PLANTED]
    kinds = [kind for kind in EDITS if "changed" in kind or "as it is, in a longer" in kind]
    said = [messages(row) for row in clean]
    tell(f"\n| n-gram | {' | '.join(kinds)} | clean rows hit | their largest share |\n|---{'|---' * (len(kinds) + 2)}|")
    for n in LENGTHS:
        index, cells = Index([chinese], characters=n), []
        for kind in kinds:
            rng = random.Random(f"{SEED} {kind}")
            planted = [(item.id, row) for item in items if (row := EDITS[kind](item, rng))]
            found = index.find([messages(row) for _, row in planted])
            named = sum(any(hit.item == id_ for hit in one.hits) for (id_, _), one in zip(planted, found, strict=True))
            cells.append(f"{named / len(planted):.3f}")
        hit = index.find(said)
        tell(f"| {n} | {' | '.join(cells)} | {sum(bool(one.hits) for one in hit)} | {max(one.share for one in hit):.2f} |")


def _row(text: str, **fields: Any) -> Row:
    return Row(language="zh" if script(text) > 0.5 else "en", instruction=text, **fields)


def _inside(text: str) -> Row:
    if script(text) > 0.5:
        return _row(f"请仔细阅读下面的题目，一步一步思考，最后给出答案。\n\n{text}\n\n请用中文回答，并说明理由。")
    return _row(f"Read the following task with care and think step by step before you answer.\n\n{text}\n\nExplain how you got there.")


def _dressed(item: BenchmarkItem, rng: random.Random) -> Row:
    """Other case, punctuation, quotes, width and white space."""
    text = re.sub(r"(?<!\d)[.,;:!?，。；：！？]|[;!?，。；：！？](?!\d)", lambda sign: rng.choice([sign[0], " ", " - ", "!"]), item.text)
    text = re.sub(r"(?<=\d) (?=\d)", "  ", text)  # numbers stay what they are
    text = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() and c.isascii() and rng.random() < 0.1 else c for c in text.swapcase())
    return _inside(re.sub(r"\s", lambda space: rng.choice([" ", "  ", "\n"]), text))


def _changed(one_in: int) -> Edit:
    """One word (or character of Chinese) in so many is another one."""

    def edit(item: BenchmarkItem, rng: random.Random) -> Row:
        places = [found.span() for found in re.finditer(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+", item.text)]
        text = item.text
        for start, end in sorted(rng.sample(places, min(len(places), max(1, len(places) // one_in))), reverse=True):
            text = text[:start] + ("某" if "\u4e00" <= text[start] <= "\u9fff" else "certain") + text[end:]
        return _inside(text)

    return edit


def _first(share: float) -> Edit:
    def edit(item: BenchmarkItem, rng: random.Random) -> Row:
        places = [found.end() for found in re.finditer(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", item.text)]
        return _inside(item.text[: places[int(share * len(places)) - 1]])

    return edit


def _other_numbers(item: BenchmarkItem, rng: random.Random) -> Row | None:
    text = re.sub(r"\d+", lambda number: str(int(number[0]) + rng.randint(1, 9)), item.text)
    return _inside(text) if text != item.text else None


def _two_turns(item: BenchmarkItem, rng: random.Random) -> Row:
    half = len(item.text) // 2
    half = item.text.rfind(" ", 0, half) if " " in item.text[:half] else half
    return _row(item.text[half:], history=(Turn(role="user", content=item.text[:half]), Turn(role="assistant", content="Go on.")))


def _solution(item: BenchmarkItem, rng: random.Random) -> Row | None:
    """The reference solution alone, set anew: other white space, other quotes."""
    if not item.references:
        return None
    text = re.sub(r" *([-+*/%<>=]=?) *", rng.choice([r"\1", r" \1 "]), item.references[0].replace("    ", "\t").replace("'", '"'))
    return Row(language="en", instruction="Show me some code that does what I need.", answer=f"Sure:\n```python\n{text}\n```")


EDITS: Mapping[str, Edit] = {
    "as it is, in a longer prompt": lambda item, rng: _inside(item.text),
    "as it is, in an answer": lambda item, rng: _row("Give me a task.", answer=_inside(item.text).instruction),
    "half in one turn, half in the next": _two_turns,
    "case, punctuation, width, white space": _dressed,
    "one word in 20 changed": _changed(20),
    "one word in 10 changed": _changed(10),
    "all numbers changed": _other_numbers,
    "the first 60 %": _first(0.6),
    "the first half": _first(0.5),
    "one word in 4 changed": _changed(4),
    "only the reference solution, set anew": _solution,
}


def made_set(count: int) -> Benchmark:
    """Items that share nothing with what `instructions` makes."""
    rng = random.Random(SEED)
    lexicon = ["".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))) for _ in range(2000)]
    texts = (" ".join(rng.choices(lexicon, k=rng.randint(20, 60))) + f" {rng.randint(2, 99)}?" for _ in range(count))
    return Benchmark("made", tuple(BenchmarkItem(str(i), text) for i, text in enumerate(texts)))


def read_clean(paths: Iterable[Path]) -> Iterator[Row]:
    for path in paths:
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                row = json.loads(line)
                for one in row.get("instances", [row]):
                    yield _row(row["instruction"], input=str(one.get("input", "")), answer=str(one.get("output", "")))


def library() -> Iterator[Row]:
    """The functions of Python's standard library, as answers: code that no test set was made from."""
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                yield Row(language="en", instruction="Show me a function.", answer="\n".join(lines[node.lineno - 1 : node.end_lineno]))


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], help="a test set, as for `leafmill decontaminate --against`")
    parser.add_argument("--clean", action="append", default=[], type=Path, help="rows that hold none of it")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=3000)
    given = parser.parse_args()
    sets = load_all(given.data).sets or (made_set(400),)
    made = (_row(text) for language in LANGUAGES for text in instructions(language, 5000, SEED + 2))
    clean = [*read_clean(given.clean), *library(), *made]
    same = speed(sets, given.rows, given.items)
    precise = quality(sets, clean)
    for one in sets:
        if script(one.items[0].text) > 0.5:
            characters(one, clean)
    sys.exit(0 if precise and same else 1)


if __name__ == "__main__":
    main()
