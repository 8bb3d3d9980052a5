"""What the filters of Self-Instruct say of instructions that people wrote, ours and those of the original.

    python -m bench.self_instruct self_instruct_seed_tasks.jsonl belle_zh_seed_tasks.jsonl

Files are seeds (`instruction`, `instances`). For each: how many instructions the gate `self_instruct` refuses and for what, how many are
nearly an earlier one by the gate `novelty`, what `taxonomy.clean` drops; and how many the rules of the original would refuse, which count
words between spaces, ask for ASCII and know English keywords.
"""

from __future__ import annotations

import asyncio
import re
import string
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from filters.gate import Subject
from filters.novelty import Novelty
from filters.self_instruct import SelfInstruct
from leafmill.records import Row
from taxonomy.seeds import clean, language_of, read_seeds

BLACKLIST = re.compile(r"\b(image|images|graph|graphs|picture|pictures|file|files|map|maps|draw|plot|go to)\b", re.IGNORECASE)


async def main(paths: list[Path]) -> None:
    for path in paths:
        seeds = read_seeds(path)
        texts = list(dict.fromkeys(seed.instruction.strip() for seed in seeds))
        gate, novelty = SelfInstruct(), Novelty()
        ours = Counter(gate.instruction(text, language_of(text)).code for text in texts)
        near = 0
        for number, text in enumerate(texts):
            subject = Subject(str(number), Row(language=language_of(text), instruction=text))
            near += (await novelty(subject)).decision == "reject"
            await novelty.add(subject)
        _say(f"\n{path.stem}: {len(texts)} instructions, {len(seeds)} seeds")
        _say(f"  self_instruct  {_refused(ours)}")
        _say(f"  novelty        {near} novelty.near")
        _say(f"  clean          {_refused(clean(seeds).counts)}")
        _say(f"  the original   {_refused(Counter(_original(text) for text in texts))}")


def _original(text: str) -> str:
    """The code of what the original's rules refuse, in their order; "ok"."""
    words = len(text.split())
    if words <= 3:
        return "too short"
    if words > 150:
        return "too long"
    if BLACKLIST.search(text):
        return "keyword"
    if text.startswith("Write a program"):
        return "starts with a program"
    if text[0] in string.punctuation:
        return "punctuation"
    return "ok" if text[0].isascii() else "not ASCII"


def _refused(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items()) if code != "ok") or "none"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    asyncio.run(main([Path(given) for given in sys.argv[1:]]))
