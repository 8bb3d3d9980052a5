"""The gate `safety`: what a row says is not toxic, by a classifier that the recipe names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from filters.gate import Stage, Subject, verdict
from filters.toxicity import Classifier, Score, Words, pieces
from leafmill.records import Language, Row, Verdict

LANGUAGES: tuple[Language, ...] = ("en", "zh")
ENGLISH = "profanity"
"""the classifier that knows English only"""
WORDS: Mapping[str, Classifier] = {"words": Words()}
CLEAN = Score(0.0, "none")


@dataclass(frozen=True)
class Safety:
    """The worst piece of the worst part decides. From `reject` on the row is rejected (`safety.toxic`), from `review` on a person should
    look (`safety.review`): classifiers that know hatred also find it in what is said against hatred, so one cut is not enough.

    A classifier that fails makes the state `error`. What a row is scored with stands in the evidence: model, revision, category, part.
    """

    name: ClassVar[str] = "safety"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "nothing in the row insults, threatens or demeans"

    classifier: str | dict[Language, str] = "words"
    """words, profanity (English; Chinese is left to the words then), judge (the recipe's scorer is asked), or a transformers sequence
    classifier by folder or hub name; by language, as {en: profanity, zh: judge}"""
    labels: tuple[str, ...] = ()
    """of a sequence classifier, those that mean harm; found by their names when none are given"""
    reject: float | dict[Language, float] | None = None
    review: float | dict[Language, float] | None = None
    """scores, 0..1; None: what suits the classifier. Equal ones send nobody to a person"""
    classifiers: Mapping[str, Classifier] | None = field(default=None, repr=False, compare=False)
    """the open ones by name; without any there are the words"""

    def __post_init__(self) -> None:
        if isinstance(self.classifier, dict) and self.classifier.get("zh") == ENGLISH:
            raise ValueError("the classifier 'profanity' knows English only; give `zh` another, such as words or judge")
        for language in LANGUAGES:
            review, reject = _of(self.review, language), _of(self.reject, language)
            if any(limit is not None and not 0 < limit <= 1 for limit in (review, reject)) or (review and reject and review > reject):
                raise ValueError(f"need 0 < review <= reject <= 1, got {review} and {reject}")
        if self.classifiers is not None and (missing := {named(self.classifier, language) for language in LANGUAGES} - {*self.classifiers}):
            raise ValueError(f"the classifier {min(missing)!r} was not opened: name it under the recipe's `gates`, not only at a leaf")

    async def __call__(self, subject: Subject) -> Verdict:
        language = subject.row.language
        classifier = (self.classifiers or WORDS)[named(self.classifier, language)]
        asked = [(part, piece) for part, text in parts(subject.row) for piece in pieces(text)]
        scores = await asyncio.gather(*(classifier.score(piece, language) for _, piece in asked))
        if odd := [score.value for score in scores if not 0 <= score.value <= 1]:
            raise ValueError(f"a score of {classifier.id} must be from 0 to 1, got {odd[0]}")
        worst, part = max(zip(scores, (part for part, _ in asked), strict=True), default=(CLEAN, ""))
        reject = _of(self.reject, language) or max(classifier.limits.reject, _of(self.review, language) or 0)
        review = _of(self.review, language) or min(classifier.limits.review, reject)
        evidence: dict[str, Any] = {"classifier": classifier.id, "category": worst.category}
        if worst.value < review:
            return verdict(self, "accept", value=worst.value, threshold=review, **evidence)
        evidence |= {"part": part, "phrase": worst.phrase or None}
        if worst.value < reject:
            return verdict(self, "unscorable", "safety.review", value=worst.value, threshold=review, **evidence)
        return verdict(self, "reject", "safety.toxic", value=worst.value, threshold=reject, **evidence)


def named(classifier: str | dict[Language, str], language: Language) -> str:
    """The name of the classifier that judges a language: the words, where none is given that knows it."""
    if isinstance(classifier, dict):
        return classifier.get(language, "words")
    return "words" if classifier == ENGLISH and language != "en" else classifier


def parts(row: Row) -> Iterator[tuple[str, str]]:
    """What of a row is judged: all that somebody says in it."""
    for turn in (*row.history, *row.steps):
        yield "history", turn.text
    yield from (("instruction", row.prompt), ("reasoning", row.reasoning), ("answer", row.answer))


def _of(limit: float | dict[Language, float] | None, language: Language) -> float | None:
    return limit.get(language) if isinstance(limit, dict) else limit
