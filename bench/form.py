"""How often the gates on form refuse answers that people wrote, and how many answers that were cut in the middle they notice.

    python -m bench.form belle_zh_seed_tasks.jsonl self_instruct_seed_tasks.jsonl [gsm8k_test.jsonl ...]

Files are Self-Instruct seeds (`instruction`, `instances`) or `question` and `answer`. For each file and gate: how many rows were refused
and for what; and of answers of at least 40 units, cut at a random place in their second half (seed 7), how many `form` refuses.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from filters.catalogue import make
from filters.gate import Subject
from filters.text import script, units
from leafmill.records import Row

GATES = ("length", "language", "form", "leak", "refusal", "repetition", "pii", "safety")
LONG = 40


def rows(path: Path) -> Iterator[Row]:
    """What a file holds, in the language that its instructions are mostly in."""
    for line in path.read_text(encoding="utf-8").splitlines():
        given = json.loads(line)
        asked = given.get("instruction") or given["question"]
        made = [(one["input"], one["output"]) for one in given["instances"]] if "instances" in given else [("", given["answer"])]
        for material, answer in made:
            yield Row(language="zh" if script(asked) > 0.5 else "en", instruction=asked, input=material, answer=answer)


async def main(paths: list[Path]) -> None:
    gates = [make(name, {"action": "review"} if name == "pii" else {}) for name in GATES]
    for path in paths:
        subjects = [Subject(str(number), row, facts={"stage": "check"}) for number, row in enumerate(rows(path))]
        sys.stdout.write(f"\n{path.stem}: {len(subjects)} rows\n")
        for gate in gates:
            refused = Counter([given.code for subject in subjects if (given := await gate(subject)).decision != "accept"])
            share = refused.total() / len(subjects)
            sys.stdout.write(f"  {gate.name:11} {share:7.2%}  {', '.join(f'{n} {code}' for code, n in refused.most_common())}\n")
        cut = [one.row.model_copy(update={"answer": _cut(one.row.answer)}) for one in subjects if units(one.row.answer) >= LONG]
        noticed = [(await make("form")(Subject("", row))).decision != "accept" for row in cut]
        sys.stdout.write(f"  cut in the middle: {sum(noticed)} of {len(cut)} noticed\n")


def _cut(answer: str) -> str:
    return answer[: random.Random(f"7 {answer}").randint(len(answer) // 2, len(answer) - 5)]


if __name__ == "__main__":
    asyncio.run(main([Path(given) for given in sys.argv[1:]]))
