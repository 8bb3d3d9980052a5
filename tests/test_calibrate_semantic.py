"""The threshold of duplicates by meaning is chosen on one half of labelled pairs and measured on the other."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from filters.dedup.semantic import CALIBRATED
from filters.embedder import Use3
from leafmill.dataset.calibrate_semantic import Pair, calibrate_semantic, read_pairs, write
from leafmill.errors import InputError


class Told:
    """An embedder that was told at which angle each text lies."""

    id, dimension = "told", 2

    def __init__(self, angles):
        self.angles = angles

    async def encode(self, texts):
        angles = [math.radians(self.angles[text]) for text in texts]
        return np.array([(math.cos(angle), math.sin(angle)) for angle in angles], np.float32).reshape(-1, 2)


def pairs(*same_at, two_at):
    """English pairs of one word each, so many degrees apart, that share none; and their embedder."""
    made = [(angle, True) for angle in same_at] + [(angle, False) for angle in two_at]
    some = [Pair(a=f"{chr(97 + i)}a", b=f"{chr(97 + i)}b", same=same) for i, (_, same) in enumerate(made)]
    angles = {pair.a: 0 for pair in some} | {pair.b: angle for pair, (angle, _) in zip(some, made, strict=True)}
    return Told(angles), some


async def test_the_lowest_threshold_that_keeps_two_tasks_apart_is_chosen():
    found = await calibrate_semantic(*pairs(5, 6, 30, 31, two_at=[20, 21, 60, 61]), own_words=0)
    (english,) = found.languages.values()
    assert found.thresholds == {"en": 0.94}  # cos 20 = 0.9397
    assert (english.chosen.recall, english.chosen.false, english.measured.recall, english.measured.false) == (0.5, 0, 0.5, 0)


async def test_a_language_in_which_nothing_keeps_two_tasks_apart_has_no_threshold_and_says_so():
    found = await calibrate_semantic(*pairs(5, 6, two_at=[0, 0]), own_words=0)
    assert found.thresholds == {}
    assert found.refusals == ["en: at every threshold told takes more than 2% of the pairs for one that are two"]


async def test_too_few_pairs_are_refused():
    for embedder, some in ((Told({}), []), pairs(5, two_at=[60])):
        with pytest.raises(InputError, match=r"no pair|too few pairs"):
            await calibrate_semantic(embedder, some)


def test_a_bad_line_of_a_pairs_file_is_named(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"a": "x", "b": "y", "same": true}\n\n{"a": "x", "same": true}\n')
    with pytest.raises(InputError, match=r"pairs.jsonl:3: b: Field required; expected"):
        read_pairs(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(tmp_path / "gone.jsonl")


def test_the_shipped_pairs_are_many_and_of_all_kinds_in_both_languages():
    some = read_pairs()
    kinds = Counter((pair.spoken, pair.kind, pair.same) for pair in some)
    for language in ("en", "zh"):
        of = {kind: (n, same) for (spoken, kind, same), n in kinds.items() if spoken == language}
        assert {kind for kind, (_, same) in of.items() if same} == {"paraphrase", "light"}
        assert {kind for kind, (_, same) in of.items() if not same} == {"hard", "guard", "unrelated"}
        assert sum(n for n, _ in of.values()) >= 200
    assert len({(pair.a, pair.b) for pair in some}) == len(some)


@pytest.mark.slow
async def test_the_shipped_thresholds_are_those_that_the_shipped_pairs_give(tmp_path):
    embedder = Use3()
    found = await calibrate_semantic(embedder, read_pairs())
    await embedder.aclose()
    assert found.thresholds == CALIBRATED["usem3"]
    assert all(one.measured.false <= 0.04 for one in found.languages.values())
    paths = write(tmp_path, found)
    assert json.loads(paths[0].read_text())["languages"]["zh"]["threshold"] == CALIBRATED["usem3"]["zh"]
    assert paths[1].read_text().startswith("<?xml")
