"""Choosing rows of a dataset: each way's rule, what is said of rows that lack something, and the same over a file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafmill.dataset.items import Item
from leafmill.dataset.select import EMBEDDED, By, Select, Selecting, Selection, draw, open_select, select
from leafmill.dataset.sweep import Job, sweep
from leafmill.errors import CallError, InputError
from leafmill.records import Row


class ByTopic:
    """An embedder to which a prompt is its topic (`<topic>: ...`) and a little of its own; "?" has no vector."""

    id = "by-topic"
    dimension = 32

    async def encode(self, texts: Sequence[str]) -> np.ndarray:
        if any("?" in text for text in texts):
            raise CallError("an embedder gave a vector that is zero or not finite")
        return np.stack([self.of(text) for text in texts]) if texts else np.empty((0, self.dimension), np.float32)

    def of(self, text: str) -> np.ndarray:
        vector = np.random.default_rng(list(text.encode())).normal(size=self.dimension) * 0.02
        vector[ord(text[0]) % self.dimension] += 1
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def item(line: int, prompt: str, *, answer: str = "An answer.", task: str = "", **fields: Any) -> Item:
    language = "zh" if "的" in prompt else "en"
    return Item(line, Row(language=language, instruction=prompt, answer=answer), {"instruction": prompt, **fields}, task)  # type: ignore[arg-type]


def topics(**sizes: int) -> list[Item]:
    names = [f"{topic}: row {number}" for topic, n in sizes.items() for number in range(n)]
    return [item(line, name) for line, name in enumerate(names, 1)]


def kept(items: Sequence[Item], found: Selection) -> list[Item]:
    return [one for one, verdict in zip(items, found.verdicts, strict=True) if verdict.decision == "accept"]


def codes(found: Selection) -> Counter[str]:
    return Counter(verdict.code for verdict in found.verdicts)


def by_topic(items: Sequence[Item]) -> Counter[str]:
    return Counter(one.row.instruction[0] for one in items)


# -- what holds for every way ------------------------------------------------------------------------------------------

FULL = [
    item(
        line,
        f"{'abcdefgh'[line % 8]}: row {line}{' 的' if line % 3 == 0 else ''}",
        answer="word " * (1 + line % 17),
        task=("qa", "code")[line % 2],
        quality=line % 5,
        complexity=1 + line % 3,
        tags=[f"t{line % 7}", f"t{line % 11}"],
        score={"ifd": 0.2 + (line % 10) / 10, "ifd_parts": {"scorer": "small"}},
    )
    for line in range(1, 161)
]


@pytest.mark.parametrize("by", get_args(By))
@given(budget=st.integers(1, 200))
@settings(max_examples=4, deadline=None)
async def test_a_selection_is_of_the_budgets_size_or_says_why_not_and_every_row_has_a_verdict(by: By, budget: int) -> None:
    found = await select(FULL, Selecting(budget, by, similar=1.0), ByTopic())
    n = len(kept(FULL, found))
    able = sum(one.raw["score"]["ifd"] < 1 for one in FULL) if by == "ifd" else len(FULL)
    assert n == min(budget, able) == found.summary["kept"]
    assert bool(found.summary["short"]) == (n < budget)
    assert codes(found).total() == len(FULL)
    assert found.summary["reasons"] == {code: count for code, count in codes(found).items() if code != "ok"}
    groups = found.summary["groups"]["counts"].values()
    assert (sum(one["rows"] for one in groups), sum(one["kept"] for one in groups)) == (len(FULL), n)


@pytest.mark.parametrize("by", get_args(By))
async def test_the_same_settings_choose_the_same_rows(by: By) -> None:
    first, again = [await select(FULL, Selecting(30, by), ByTopic()) for _ in range(2)]
    assert first == again


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_of_nothing_is_refused(budget: int) -> None:
    with pytest.raises(InputError, match=f"at least 1 row, got {budget}"):
        Selecting(budget, "kmeans")


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'kmeans'"):
        Selecting(1, "kmean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="looks at no score"):
        Selecting(1, "random", score="quality")
    with pytest.raises(InputError, match="alpha"):
        Selecting(1, "random", alpha=2)
    with pytest.raises(InputError, match="clusters"):
        Selecting(1, "kmeans", clusters=0)


@pytest.mark.parametrize("by", EMBEDDED)
async def test_a_way_that_needs_vectors_needs_an_embedder(by: By) -> None:
    with pytest.raises(InputError, match="an embedder is needed"):
        await select(FULL, Selecting(1, by))


@pytest.mark.parametrize("by", EMBEDDED)
async def test_a_row_without_a_vector_waits_and_spoils_no_other(by: By) -> None:
    items = [*FULL[:20], item(90, "?", quality=9, complexity=9), item(91, "  ", quality=9, complexity=9)]
    found = await select(items, Selecting(20, by, similar=1.0), ByTopic())
    assert [(one.decision, one.code) for one in found.verdicts[-2:]] == [("unscorable", "select.no_vector")] * 2
    assert codes(found)["ok"] == 20


@pytest.mark.parametrize("broken", [None, "4", True, float("nan"), [4]])
@pytest.mark.parametrize("by", ["kmeans", "deita", "ifd"])
async def test_a_row_without_a_score_is_never_chosen_by_score_and_says_what_it_has_instead(by: By, broken: Any) -> None:
    items = [item(1, "a: one", score=0.3), item(2, "b: two", score=broken), item(3, "c: three", score=0.2)]
    found = await select(items, Selecting(3, by, score="score"), ByTopic())
    assert [one.decision for one in found.verdicts] == ["accept", "unscorable", "accept"]
    assert found.verdicts[1].code == "select.unscored"
    assert "score" in found.verdicts[1].evidence["lacks"]
    assert found.verdicts[1].value is None


# -- the ways ----------------------------------------------------------------------------------------------------------


async def test_kmeans_gives_each_topic_its_share_or_the_same() -> None:
    items = topics(a=60, b=30, c=10)
    shared = await select(items, Selecting(20, "kmeans", clusters=3), ByTopic())
    assert by_topic(kept(items, shared)) == {"a": 12, "b": 6, "c": 2}
    alike = await select(items, Selecting(36, "kmeans", clusters=3, equal=True), ByTopic())
    assert by_topic(kept(items, alike)) == {"a": 13, "b": 13, "c": 10}


async def test_kmeans_with_a_score_takes_the_best_of_each_topic() -> None:
    items = [one._replace(raw={**one.raw, "quality": one.line}) for one in topics(a=20, b=20)]
    found = await select(items, Selecting(4, "kmeans", score="quality", clusters=2), ByTopic())
    assert [one.line for one in kept(items, found)] == [19, 20, 39, 40]
    assert found.verdicts[19].value == 20


async def test_drawn_rows_are_by_chance_and_by_the_seed() -> None:
    items = [one._replace(raw={**one.raw, "quality": one.line % 2 * 800}) for one in topics(a=40)]
    drawn = [await select(items, Selecting(10, "kmeans", score="quality", draw=True, seed=seed), ByTopic()) for seed in (1, 2)]
    lines = [[one.line for one in kept(items, found)] for found in drawn]
    assert lines[0] != lines[1]
    assert all(line % 2 for some in lines for line in some)


async def test_deita_takes_the_best_and_names_the_better_row_that_is_too_similar() -> None:
    items = [item(1, "a: x", quality=2, complexity=2), item(2, "a: y", quality=3, complexity=2), item(3, "b: z", quality=1, complexity=1)]
    found = await select(items, Selecting(2, "deita"), ByTopic())
    assert [one.line for one in kept(items, found)] == [2, 3]
    (similar,) = (one for one in found.verdicts if one.code == "select.similar")
    assert (similar.value, similar.threshold, similar.evidence["kept"]) == (4.0, 0.9, 2)
    assert similar.evidence["similarity"] > 0.9
    assert (await select(items, Selecting(3, "deita", similar=1.0), ByTopic())).summary["kept"] == 3


async def test_a_score_is_found_deep_in_a_row_and_in_what_commands_have_added() -> None:
    items = [item(1, "a: x", scores={"good": 1}), item(2, "b: y", leafmill={"scores": {"good": 5}})]
    found = await select(items, Selecting(1, "deita", score="scores.good"), ByTopic())
    assert [one.value for one in found.verdicts] == [1.0, 5.0]
    assert kept(items, found) == items[1:]


async def test_T20_a_score_may_be_a_judges_log_probabilities_of_the_digits() -> None:
    logits = dict(zip("123456", (0.0, 1, 2, 3, 2, 1), strict=True))
    total = math.log(sum(math.exp(one) for one in logits.values()))
    items = [
        item(1, "a: x", quality={digit: logit - total for digit, logit in logits.items()}),
        item(2, "b: y", quality={"5": math.log(0.4), "The": math.log(0.6)}),
    ]
    sure, unsure = (await select(items, Selecting(2, "deita", score="quality"), ByTopic())).verdicts
    assert sure.value == pytest.approx(3.927361, abs=1e-6)
    assert (unsure.decision, unsure.value) == ("unscorable", None)
    assert "cover 40%" in unsure.evidence["lacks"]


async def test_ifd_takes_the_highest_below_one_of_each_stratum() -> None:
    ifds = [0.5, 0.9, 1.0, 0.7, 0.2, 0.99, 1.4, 0.1]
    items = [item(line, f"row {line}{' 的' if line > 4 else ''}", score=ifd) for line, ifd in enumerate(ifds, 1)]
    found = await select(items, Selecting(4, "ifd", score="score", bins=1))
    assert [one.line for one in kept(items, found)] == [2, 4, 5, 6]
    assert [found.verdicts[place].code for place in (2, 6)] == ["select.misaligned"] * 2
    assert found.verdicts[2].threshold == 1.0


async def test_ifd_never_takes_a_language_or_a_length_alone_however_high_it_scores() -> None:
    items = [item(line, f"row {line}", answer="w " * line, score=line / 100) for line in range(1, 81)]
    chinese = [item(line, f"第 {line} 的", answer="字" * line, score=(line - 80) / 1000) for line in range(81, 161)]
    found = await select([*items, *chinese], Selecting(40, "ifd", score="score"))
    assert set(Counter(verdict.evidence["stratum"] for verdict in found.verdicts if verdict.decision == "accept").values()) == {5}
    assert len(found.summary["groups"]["counts"]) == 8


async def test_scores_of_two_scorers_are_not_ranked_together() -> None:
    items = [item(line, "row", score={"ifd": 0.5, "ifd_parts": {"scorer": scorer}}) for line, scorer in enumerate(("a", "b"), 1)]
    with pytest.raises(InputError, match="scored by 2 models: a, b"):
        await select(items, Selecting(1, "ifd"))


async def test_k_center_takes_a_row_of_each_topic_before_a_second_of_any() -> None:
    items = topics(a=50, b=3, c=1, d=1)
    found = await select(items, Selecting(4, "k-center"), ByTopic())
    assert by_topic(kept(items, found)) == {"a": 1, "b": 1, "c": 1, "d": 1}


async def test_tags_are_a_list_or_text_with_commas_and_a_row_without_waits() -> None:
    given: list[Any] = [["Math", "code "], "math，code,logic", [], None, ["x"], [1]]
    items = [item(line, f"row {line}", tags=tags) for line, tags in enumerate(given, 1)]
    found = await select(items, Selecting(2, "tags"))
    assert [one.line for one in kept(items, found)] == [2, 5]
    assert [one.decision for one in found.verdicts] == ["reject", "accept", "unscorable", "unscorable", "accept", "unscorable"]
    assert set(found.summary["entropy"]) == {"language", "tags"}


def long_and_short() -> list[Item]:
    short = [item(line, f"short {line}", answer="ok", task="short") for line in range(300)]
    return [*short, *(item(line, f"long {line}", answer="word " * 100, task="long") for line in range(300, 400))]


async def test_T33_random_shares_out_tokens_not_rows_and_alpha_1_leaves_them_as_they_are() -> None:
    items = long_and_short()
    shares = {}
    for alpha in (1.0, 0.0):
        found = await select(items, Selecting(80, "random", alpha=alpha))
        assert len({one.line for one in kept(items, found)}) == 80
        shares[alpha] = Counter(one.task for one in kept(items, found))
    assert shares[1.0] == {"short": 60, "long": 20}
    assert shares[0.0]["long"] * 100 < 1.5 * shares[0.0]["short"] * 5  # as many tokens of either
    assert shares[0.0]["long"] >= 1


@given(st.permutations(range(60)))
@settings(max_examples=10, deadline=None)
async def test_random_takes_the_same_rows_in_whatever_order_they_stand(order: list[int]) -> None:
    items = long_and_short()[270:330]
    chosen = {one.line for one in kept(items, await select(items, Selecting(15, "random")))}
    mixed = [items[place] for place in order]
    assert {one.line for one in kept(mixed, await select(mixed, Selecting(15, "random")))} == chosen
    assert {one.line for one in kept(items, await select(items, Selecting(15, "random", seed=8)))} != chosen


@pytest.mark.parametrize(("n", "percent"), [(9_229, 17.747), (3_111, 5.982)])
async def test_T33_the_share_of_released_sets(n: int, percent: float) -> None:
    items = [item(1, "row")] * 52_002
    summary = (await select(items, Selecting(n, "tags", score="instruction"))).summary
    assert (summary["rows"], summary["kept"]) == (52_002, n)
    assert 100 * summary["share"] == pytest.approx(percent, abs=5e-4)


# -- what is said of it ------------------------------------------------------------------------------------------------


async def test_the_summary_says_how_varied_rows_were_and_are() -> None:
    items = topics(a=90, b=5, c=5)
    spread = (await select(items, Selecting(6, "kmeans", clusters=3, equal=True), ByTopic())).summary["spread"]
    assert spread["gini"]["kept"] == 0 < spread["gini"]["all"]
    assert spread["entropy"]["kept"] == pytest.approx(np.log2(3))
    assert spread["entropy"]["all"] < 1
    assert spread["novelsum"]["kept"] > spread["novelsum"]["all"] > 0
    assert spread["coverage"] > 0.9
    assert spread["embedder"] == "by-topic"


async def test_without_an_embedder_nothing_is_said_of_vectors() -> None:
    assert (await select(FULL, Selecting(5, "random"))).summary["spread"] is None


async def test_the_picture_shows_names_of_any_script_and_signs_as_they_are(tmp_path: Path) -> None:
    items = [item(1, "row", task="数学 $5 与 $6"), item(2, "row", task="x" * 99)]
    draw((await select(items, Selecting(1, "random"))).summary, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">en | 数学 $5 与 $6</text>" in svg
    assert "1 of 2 rows, by random" in svg


async def test_a_selection_of_nothing_has_a_summary_that_says_why() -> None:
    items = [one._replace(raw={"ifd": 1.5}) for one in topics(a=5)]
    found = await select(items, Selecting(2, "ifd", score="ifd"), ByTopic())
    assert codes(found) == {"select.misaligned": 5}
    assert found.summary["short"] == "the budget is 2 rows, but only 0 can be kept (5 select.misaligned)"
    assert found.summary["spread"]["novelsum"]["kept"] is None
    assert found.summary["spread"]["coverage"] is None


# -- over a file -------------------------------------------------------------------------------------------------------


async def test_a_file_becomes_a_folder_of_kept_and_dropped_rows_and_a_selection(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"instruction": f"row {n}", "output": "ok", "quality": n % 4 or None} for n in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = Selecting(3, "deita", score="quality", similar=1.0)
    summary = await sweep(Job("select", data), lambda folder: Opened(folder, how))
    assert (summary.kept, summary.dropped, summary.waiting) == (3, 6, 3)
    there = {path.name: path for path in Path(summary.out).iterdir()}
    written = [json.loads(line) for line in there["kept.jsonl"].read_text().splitlines()]
    assert [(row["instruction"], row["quality"]) for row in written] == [("row 3", 3), ("row 7", 3), ("row 11", 3)]
    assert json.loads(there["selection.json"].read_text())["kept"] == 3
    assert there["selection.svg"].read_text().startswith("<?xml")


class Opened:
    """A judge of a sweep with the embedder of these tests."""

    def __init__(self, folder: Path, how: Selecting) -> None:
        self.judge = Select(folder, how, ByTopic())

    async def __aenter__(self) -> Select:
        return self.judge

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_a_way_without_vectors_opens_no_embedder(tmp_path: Path) -> None:
    async with open_select(tmp_path, Selecting(3, "random")) as judge:
        assert judge.embedder is None
        assert set(judge.rules) == {"select"}
