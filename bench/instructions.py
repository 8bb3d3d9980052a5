"""Instructions without end, for benches that must run without any data: distinct, of realistic length, in English and Chinese.

    texts = list(instructions("zh", 1000, seed=7))

A text is a request, mostly with a sentence about the occasion and one about the form, each of them a pattern with slots, filled from
lists. Two texts that share all but one slot are very rare among 200,000; two that have one of the patterns in common are not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Language = Literal["en", "zh"]

_SLOT = re.compile(r"\{(\w+)\}")
_EITHER = re.compile(r"\[([^\[\]]*)\]")


def instructions(language: Language, count: int, seed: int = 0) -> Iterator[str]:
    """Distinct instructions; the same seed gives the same ones, whatever the count."""
    words = _words(language)
    rng, seen = random.Random(f"{language} {seed}"), set[str]()
    while len(seen) < count:
        parts = [rng.choice(words["patterns"])]
        if rng.random() < 0.8:
            parts.insert(rng.randrange(2), rng.choice(words["occasions"]))
        if rng.random() < 0.6:
            parts.append(rng.choice(words["forms"]))
        text = _fill((" " if language == "en" else "").join(parts), words["slots"], rng)
        if text not in seen:
            seen.add(text)
            yield text


def _fill(pattern: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    """One of the words in brackets, and what fills the slots, which may have slots of its own."""
    pattern = _EITHER.sub(lambda words: rng.choice(words[1].split("|")), pattern)
    return _SLOT.sub(lambda slot: _fill(rng.choice(slots[slot[1]]), slots, rng), pattern)


@cache
def _words(language: Language) -> Any:
    return yaml.safe_load(Path(__file__).with_suffix(f".{language}.yaml").read_text(encoding="utf-8"))
