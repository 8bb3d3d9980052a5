"""What the lexical gates find, spare and cost, beside the libraries that are used for it.

    python -m bench.dedup quality [--data FILE...] [--n 3000]
    python -m bench.dedup speed [--rows 200000] [--beside 20000]

`quality` indexes distinct instructions and asks for planted edits of them (recall), for changes that make another task of them (those must
not match), and for instructions that are not there (unrelated). They are generated, or read from JSONL files, in both languages. `speed`
sends instructions, a tenth of them near-duplicates, through `exact` and `minhash` in batches of 1,000, the first of them through the others
as well, batch by batch in turns, and takes the memory. rensa is compared where it is installed. Tables go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from bench.edits import FAR, NEAR, change, edit
from bench.instructions import Language, instructions
from filters.dedup.exact import Exact
from filters.dedup.minhash import Minhash
from filters.gate import Subject
from filters.memory import Preparing, admit
from filters.text import script
from leafmill.records import Row

BATCH = 1000
PERMUTATIONS = 128
LANGUAGES: tuple[Language, ...] = ("en", "zh")


class Method(Protocol):
    def add(self, texts: Sequence[str], language: Language) -> None:
        """Remember texts under their numbers, which go on from the last."""
        ...

    def ask(self, texts: Sequence[str], language: Language) -> list[set[int]]:
        """For each text the numbers of those that it holds to be the same."""
        ...

    def admit(self, texts: Sequence[str], language: Language) -> int:
        """Remember those that are not there yet; how many were."""
        ...


class Leafmill:
    name = "leafmill: exact, minhash, guard"

    def __init__(self) -> None:
        self.gates = (Exact(), Minhash())
        self.count = 0

    def add(self, texts: Sequence[str], language: Language) -> None:
        async def all_of(subjects: list[Subject]) -> None:
            for gate in self.gates:
                if isinstance(gate, Preparing):
                    await gate.prepare(subjects)
                for subject in subjects:
                    await gate.add(subject)

        for batch in _batches(iter(texts)):
            asyncio.run(all_of(self._subjects(batch, language)))

    def ask(self, texts: Sequence[str], language: Language) -> list[set[int]]:
        async def kept(subject: Subject) -> set[int]:
            verdicts = [await gate(subject) for gate in self.gates]
            return {int(verdict.evidence["kept"]) for verdict in verdicts if verdict.decision == "reject"}

        async def all_of(subjects: list[Subject]) -> list[set[int]]:
            for gate in self.gates:
                if isinstance(gate, Preparing):
                    await gate.prepare(subjects)
            return [await kept(subject) for subject in subjects]

        return [found for batch in _batches(iter(texts)) for found in asyncio.run(all_of(self._subjects(batch, language)))]

    def admit(self, texts: Sequence[str], language: Language) -> int:
        verdicts = asyncio.run(admit(self.gates, self._subjects(texts, language)))
        return sum(given[-1].decision == "reject" for given in verdicts)

    def _subjects(self, texts: Sequence[str], language: Language) -> list[Subject]:
        subjects = [Subject(str(self.count + i), Row(language=language, instruction=text)) for i, text in enumerate(texts)]
        self.count += len(texts)
        return subjects


class Library:
    """A library as it comes: sign, ask and insert, row by row, and believe what it says."""

    def __init__(self, name: str, lsh: Any, sign: Callable[[set[str]], Any]) -> None:
        self.name, self.lsh = f"{name}, t 0.7", lsh
        self.count = 0
        self._sign = sign

    def add(self, texts: Sequence[str], language: Language) -> None:
        for text in texts:
            self._insert(self._signature(text, language))

    def ask(self, texts: Sequence[str], language: Language) -> list[set[int]]:
        return [set(self.lsh.query(self._signature(text, language))) for text in texts]

    def admit(self, texts: Sequence[str], language: Language) -> int:
        found = 0
        for text in texts:
            signature = self._signature(text, language)
            if self.lsh.query(signature):
                found += 1
            else:
                self._insert(signature)
        return found

    def _insert(self, signature: Any) -> None:
        self.lsh.insert(self.count, signature)
        self.count += 1

    def _signature(self, text: str, language: Language) -> Any:
        return self._sign(plain_shingles(text, language))


def datasketch() -> Library:
    from datasketch import MinHash, MinHashLSH

    def sign(parts: set[str]) -> Any:
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch(part.encode() for part in parts)
        return signature

    return Library("datasketch", MinHashLSH(threshold=0.7, num_perm=PERMUTATIONS), sign)


def rensa() -> Library:
    from rensa import RMinHash, RMinHashLSH

    def sign(parts: set[str]) -> Any:
        signature = RMinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update(list(parts))
        return signature

    return Library("rensa", RMinHashLSH(threshold=0.7, num_perm=PERMUTATIONS, num_bands=16), sign)


def plain_shingles(text: str, language: Language) -> set[str]:
    """Characters by four, Chinese by two, as is usual with these libraries."""
    n, text = 4 if language == "en" else 2, text.lower()
    return {text[i : i + n] for i in range(max(1, len(text) - n + 1))}


def methods() -> list[Callable[[], Any]]:
    found: list[Callable[[], Any]] = [Leafmill, datasketch]
    if importlib.util.find_spec("rensa"):
        found.append(rensa)
    else:
        _progress("rensa is not installed: left out")
    return found


# What is found.


def quality(texts: Sequence[str], language: Language, seed: int) -> None:
    """Print the table of one language: the share of edits found, of changes matched, and the matches per text that is not there."""
    rng = random.Random(seed)
    known, strange = texts[: len(texts) * 2 // 3], texts[len(texts) * 2 // 3 :]
    near = {kind: _planted(known, lambda text, kind=kind: edit(text, language, kind, rng)) for kind in NEAR[language]}
    far = {kind: _planted(known, lambda text, kind=kind: change(text, language, kind, rng)) for kind in FAR}
    _say(f"\n{language}: {len(known)} known, {len(strange)} strange\n")
    _say(f"| | {' | '.join([*near, '**recall**', *far, '**other tasks**'])} | unrelated per query |")
    _say("|---" * (len(near) + len(far) + 4) + "|")
    _say(f"| pairs | {' | '.join(str(len(pairs)) for pairs in [*near.values(), _all(near), *far.values(), _all(far)])} | |")
    for make in methods():
        method = make()
        method.add(known, language)
        cells = [_share(method, pairs, language) for pairs in [*near.values(), _all(near), *far.values(), _all(far)]]
        unrelated = sum(map(len, method.ask(strange, language))) / len(strange)
        _say(f"| {method.name} | {' | '.join(cells)} | {unrelated:.4f} |")


def _planted(texts: Sequence[str], make: Callable[[str], str | None]) -> list[tuple[int, str]]:
    made = ((number, make(text)) for number, text in enumerate(texts))
    return [(number, text) for number, text in made if text is not None]


def _all(kinds: dict[str, list[tuple[int, str]]]) -> list[tuple[int, str]]:
    return [pair for pairs in kinds.values() for pair in pairs]


def _share(method: Method, pairs: Sequence[tuple[int, str]], language: Language) -> str:
    found = method.ask([text for _, text in pairs], language)
    return f"{sum(number in those for (number, _), those in zip(pairs, found, strict=True)) / len(pairs):.3f}" if pairs else "-"


def _read(files: Iterable[Path]) -> dict[Language, list[str]]:
    """The distinct instructions of JSONL files, each with its input, by language: Alpaca's columns, Self-Instruct's, or a question."""
    texts: dict[Language, dict[str, None]] = {"en": {}, "zh": {}}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            given = row.get("input") or (row.get("instances") or [{}])[0].get("input", "")
            text = "\n\n".join(part for part in (row.get("instruction") or row.get("question") or row.get("prompt"), given) if part)
            texts["zh" if script(text) > 0.5 else "en"][text] = None
    return {language: list(found) for language, found in texts.items()}


# What it costs.


def speed(language: Language, rows: int, beside: int, taken: Sequence[float]) -> None:
    """Print rows a second of CPU of one language: side by side over the first rows, then alone up to the end, and the memory taken."""
    made = [make() for make in methods()]
    for method in made:
        method.admit(list(instructions(language, BATCH, 99)), language)  # imports, tables
    spent = [0.0] * len(made)
    alone: list[float] = []
    for number, batch in enumerate(_batches(_stream(language, rows))):
        order = list(enumerate(made))
        for place, method in (order if number % 2 else reversed(order)) if number * BATCH < beside else order[:1]:
            seconds = _timed(method, batch, language)
            spent[place] += seconds if number * BATCH < beside else 0
            if not place:
                alone.append(seconds)
        if number % 20 == 19:
            _progress(f"{language}: {(number + 1) * BATCH} rows")
    _say(f"\n{language}: {beside} instructions, a tenth near-duplicates\n")
    _say("| | rows/s | of datasketch's | MB per 100,000 rows |\n|---|---|---|---|")
    for method, seconds, memory in zip(made, spent, taken, strict=True):
        _say(f"| {method.name} | {beside / seconds:,.0f} | {spent[1] / seconds:.1f} | {memory:.0f} |")
    steps = [count for count in (10, 50, 100, 150, 200) if count <= len(alone)]
    _say(f"\n| rows there | {' | '.join(f'{count * BATCH:,}' for count in steps)} |\n{'|---' * (len(steps) + 1)}|")
    _say(f"| microseconds a row | {' | '.join(f'{sum(alone[count - 10 : count]) * 1e6 / (10 * BATCH):.0f}' for count in steps)} |")


def _memory(make: Callable[[], Method], language: Language, rows: int) -> float:
    """MB that 100,000 rows take, in a process of its own."""

    def fill(end: Connection) -> None:
        method, batches = make(), list(_batches(instructions(language, rows + 4 * BATCH)))
        for batch in batches[:4]:
            method.admit(batch, language)
        gc.collect()
        before = _resident()
        for batch in batches[4:]:
            method.add(batch, language)
        gc.collect()
        end.send(_resident() - before)

    here, there = Pipe()
    process = get_context("fork").Process(target=fill, args=(there,))
    process.start()
    taken = here.recv()
    process.join()
    return float(taken) / rows / 10


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _timed(method: Method, batch: Sequence[str], language: Language) -> float:
    gc.collect()
    start = time.process_time()
    method.admit(batch, language)
    return time.process_time() - start


def _stream(language: Language, rows: int, seed: int = 11) -> Iterator[str]:
    """Instructions of which every tenth is an edit of an earlier one, and every fiftieth another task in the same words."""
    rng, last = random.Random(seed), list[str]()
    fresh = instructions(language, rows, seed)
    for number in range(rows):
        if number % 10 == 9 or number % 50 == 5:
            make, kinds = (edit, NEAR[language]) if number % 10 == 9 else (change, FAR)
            yield make(rng.choice(last), language, rng.choice(kinds), rng) or next(fresh)
        else:
            last.append(next(fresh))
            yield last[-1]


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(texts, BATCH)):
        yield batch


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _progress(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "speed"])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="dataset files; generated instructions otherwise")
    parser.add_argument("--n", type=int, default=3000, help="instructions of each language to plant edits in")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--beside", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    taken = {}
    if asked.what == "speed":  # taken first, while this process has no memory to spare
        taken = {language: [_memory(make, language, min(asked.rows, 30_000)) for make in methods()] for language in LANGUAGES}
    for language in LANGUAGES:
        if asked.what == "speed":
            speed(language, asked.rows, asked.beside, taken[language])
        elif asked.data:
            if texts := _read(asked.data).get(language):
                random.Random(asked.seed).shuffle(texts)
                quality(texts[: asked.n], language, asked.seed)
        else:
            quality(list(instructions(language, asked.n, asked.seed)), language, asked.seed)


if __name__ == "__main__":
    main()
