"""The planted pairs of the dedup bench: the same each time, edits that are edits and changes that are changes, and what the gates do."""

import random
import re

import pytest

from bench.dedup import Leafmill
from bench.edits import FAR, NEAR, change, edit
from bench.instructions import instructions
from filters.text import script


@pytest.mark.parametrize("language", ["en", "zh"])
def test_instructions_are_distinct_and_the_same_for_a_seed(language):
    texts = list(instructions(language, 300, seed=3))
    assert len(set(texts)) == 300
    assert texts[:50] == list(instructions(language, 50, seed=3))
    assert texts[:50] != list(instructions(language, 50, seed=4))
    assert all((script(text) > 0.5) == (language == "zh") for text in texts)
    assert not [text for text in texts if re.search(r"[{}\\[\]|]", text)]


@pytest.mark.parametrize(("language", "kind"), [(language, kind) for language in NEAR for kind in NEAR[language]])
def test_an_edit_is_the_same_for_a_seed_and_leaves_most_of_the_text(language, kind):
    texts = list(instructions(language, 60))
    edited = [edit(text, language, kind, random.Random(1)) for text in texts]
    assert edited == [edit(text, language, kind, random.Random(1)) for text in texts]
    assert sum(text is not None for text in edited) > 20
    assert all(new is None or new != text for text, new in zip(texts, edited, strict=True))


@pytest.mark.parametrize(
    ("language", "kind", "text", "expected"),
    [
        ("en", "unit", "Run 5 km today", "Run 5 miles today"),
        ("en", "negation", "It should be short", "It should not be short"),
        ("en", "unit", "Leap years and plain words", None),
        ("en", "number", "No count here", None),
        ("zh", "negation", "答案需要例子", "答案不需要例子"),
    ],
)
def test_a_change_changes_one_thing_or_nothing(language, kind, text, expected):
    found = {change(text, language, kind, random.Random(seed)) for seed in range(20)}
    assert expected in found
    assert expected or found == {None}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_gates_find_planted_edits_and_spare_planted_changes(language):
    texts, rng, method = list(instructions(language, 120, seed=8)), random.Random(8), Leafmill()
    method.add(texts, language)
    for kinds, make, found in ((NEAR[language], edit, 0.97), (FAR, change, 0.03)):
        pairs = [(place, new) for kind in kinds for place, text in enumerate(texts) if (new := make(text, language, kind, rng))]
        share = sum(place in those for (place, _), those in zip(pairs, method.ask([new for _, new in pairs], language), strict=True)) / len(
            pairs
        )
        assert share >= found if make is edit else share <= found
