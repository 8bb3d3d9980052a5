"""How well the classifiers of the gate `safety` tell toxic texts from others, on a labelled set.

    python -m bench.safety --data cold_dev.csv --classifier words --classifier judge [--judge qwen2.5-coder-1.5b] [--sample 300]

Data: a CSV with the columns topic, label and TEXT (COLDataset, Deng 2022: Chinese comments on race, region and gender), or JSONL with
`text`, `label` (0 or 1), `language`, and perhaps `kind: counter` for what speaks against hatred. Without --data the few sentences of
bench/safety.jsonl are asked: ten toxic, ten plain and ten that speak against such things, in each language. They were written for this
bench and are too few to rank classifiers by. A table for docs/safety.md goes to stdout, a line for each classifier and language:

    AUROC            over all texts, with its standard error (Hanley and McNeil 1982); 0.5 is guessing
    reject, review   the classifier's own limits, and precision and recall of what is scored at least so high
    sent to review   share of all texts between the limits
    false alarms     share of harmless texts at `review` or above: of all, and of those that speak against hatred

The development set of COLD does not say which texts speak against bias (its test set does), so there the last is a stand-in: harmless
texts that name discrimination, prejudice or respect. `--errors N` prints the N worst mistakes of each kind.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.models import local
from filters.toxicity import Classifier, Score, open_classifier, pieces

ABOUT_BIAS = re.compile(r"歧视|偏见|刻板印象|地域黑|地图炮|平等|尊重|一概而论|discriminat|prejudice|stereotyp|equal|respect", re.IGNORECASE)
HEADINGS = ("classifier", "language", "texts", "AUROC", "reject: precision / recall", "review: precision / recall", "sent to review",
            "false alarms (of)", "against hatred (of)", "texts/CPU-s")  # fmt: skip


class Text(NamedTuple):
    text: str
    toxic: bool
    language: Any
    counter: bool
    """whether it speaks against hatred, or seems to"""


def read(path: Path) -> list[Text]:
    """The labelled texts of a file."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Text(row["text"], bool(int(row["label"])), row["language"], row.get("kind") == "counter") for row in rows]
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [Text(row["TEXT"], row["label"] == "1", "zh", row["label"] == "0" and bool(ABOUT_BIAS.search(row["TEXT"]))) for row in rows]


async def score(classifier: Classifier, texts: Sequence[Text]) -> list[float]:
    """As the gate does: the worst piece counts."""

    async def one(text: Text) -> float:
        scores: list[Score] = await asyncio.gather(*(classifier.score(piece, text.language) for piece in pieces(text.text)))
        return max((found.value for found in scores), default=0.0)

    return list(await asyncio.gather(*map(one, texts)))


def auroc(scores: np.ndarray[Any, Any], toxic: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The chance that a toxic text scores above a harmless one (ties count half), and its standard error."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    for value in np.unique(scores):
        same = scores == value
        ranks[same] = ranks[same].mean()
    n, m = int(toxic.sum()), int((~toxic).sum())
    area = (ranks[toxic].sum() - n * (n + 1) / 2) / (n * m)
    above, below = area / (2 - area), 2 * area**2 / (1 + area)
    return area, float(np.sqrt((area * (1 - area) + (n - 1) * (above - area**2) + (m - 1) * (below - area**2)) / (n * m)))


def line(name: str, language: str, classifier: Classifier, texts: Sequence[Text], found: Sequence[float], seconds: float) -> str:
    scores, toxic = np.array(found), np.array([text.toxic for text in texts])
    about = np.array([text.counter for text in texts])
    review, reject = classifier.limits

    def at(limit: float) -> str:
        high = scores >= limit
        precision = f"{toxic[high].mean():.2f}" if high.any() else "-"
        return f"{limit:g}: {precision} / {high[toxic].mean():.3f}"

    def share(of: np.ndarray[Any, Any]) -> str:
        return f"{(scores[of] >= review).mean():.3f} ({int(of.sum())})" if of.any() else "-"

    area, error = auroc(scores, toxic)
    waiting = ((scores >= review) & (scores < reject)).mean()
    cells = [name, language, len(texts), f"{area:.3f} ± {error:.3f}", at(reject), at(review), f"{waiting:.3f}", share(~toxic), share(about)]
    return "| " + " | ".join(map(str, [*cells, f"{len(texts) / seconds:,.1f}"])) + " |"


def show_errors(texts: Sequence[Text], found: Sequence[float], n: int) -> None:
    ranked = sorted(zip(found, texts, strict=True), key=lambda pair: pair[0])
    for score_, text in [pair for pair in reversed(ranked) if not pair[1].toxic][:n]:
        sys.stdout.write(f"  harmless {score_:.2f} {text.text[:100]!r}\n")
    for score_, text in [pair for pair in ranked if pair[1].toxic][:n]:
        sys.stdout.write(f"  toxic    {score_:.2f} {text.text[:100]!r}\n")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).with_name("safety.jsonl"))
    parser.add_argument("--classifier", action="append", help="words, profanity, judge, or a folder or hub name; may be given again")
    parser.add_argument("--judge", default="qwen2.5-coder-0.5b", help="the model that plays the judge")
    parser.add_argument("--label", action="append", default=[], help="a label of the classifier that means harm")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--sample", type=int, help="so many texts, drawn with seed 7")
    parser.add_argument("--errors", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    texts = read(args.data)
    if args.sample:
        texts = random.Random(7).sample(texts, args.sample)
    sys.stdout.write(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}\n")
    for name in args.classifier or ["words"]:
        judge = local.as_transformers(args.judge) if name == "judge" else ""
        classifier = open_classifier(name, judge=judge, labels=args.label, dtype=args.dtype)
        for language in sorted({text.language for text in texts}):
            asked = [text for text in texts if text.language == language]
            began = time.process_time()
            found = await score(classifier, asked)
            spent = time.process_time() - began
            shown = f"judge {args.judge} {args.dtype}" if name == "judge" else name
            sys.stdout.write(f"{line(shown, language, classifier, asked, found, spent)}\n")
            show_errors(asked, found, args.errors)
            sys.stdout.flush()
        await classifier.aclose()


if __name__ == "__main__":
    asyncio.run(main())
