"""The IFD gate and its calibration: bands by stratum, which variant gates, and a scorer that cannot tell is refused."""

from __future__ import annotations

import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.catalogue import check, make
from filters.gate import Subject, version
from filters.scoring.calibration import FEWEST, Band, Calibration, Sample, Variant, auroc, calibrate, derangement, strata
from filters.scoring.ifd import Ifd
from filters.scoring.scorer import IfdScore
from leafmill.dataset.calibrate import calibrate_ifd, write
from leafmill.dataset.items import Broken, Item
from leafmill.errors import InputError, RecipeError
from leafmill.records import Language, Row, ToolCall, Turn

ID = "toy@1|float64|none|64"


def score(ratio: float | None, n: int = 100, s_uncond: float = 2.0, code: str = "ifd.short_answer") -> IfdScore:
    common: dict[str, Any] = {"n": n, "truncated": False, "model": "toy@1", "dtype": "float64", "template": "none", "max_len": 64}
    if ratio is None:
        return IfdScore(s_cond=None, s_uncond=None, state="unscorable", code=code, **common)
    return IfdScore(s_cond=ratio * s_uncond, s_uncond=s_uncond, state="scored", code="", **common)


@dataclass
class Toy:
    """A scorer that gives what a function says, and remembers what it was asked."""

    says: Callable[[str, str], IfdScore]
    back: IfdScore | None = None
    id: str = ID
    min_tokens: int = 10
    asked: list[Any] = field(default_factory=list)

    async def score(self, prompt: str | Sequence[Turn], answer: str) -> IfdScore:
        self.asked.append(prompt)
        return self.says(prompt if isinstance(prompt, str) else prompt[-1].content, answer)

    async def reverse(self, prompt: str | Sequence[Turn], answer: str, language: str) -> IfdScore:
        assert self.back is not None, "nobody asked for it"
        assert language in ("en", "zh")
        return self.back


def fixed(ratio: float | None, n: int = 100, back: IfdScore | None = None, **known: Any) -> Toy:
    return Toy(lambda prompt, answer: score(ratio, n), back, **known)


def subject(language: Language = "en", task: str = "", **row: Any) -> Subject:
    given = {"language": language, "instruction": "Say it.", "answer": "An answer."} | row
    return Subject("row", Row(**given), facts={"task": task})


def bands_file(folder: Path, **bands: tuple[float, float]) -> Path:
    """A file with such bands, their names written with `_` for `|`."""
    found = Calibration(
        scorer=ID,
        variant="loss_ratio",
        template="none",
        seed=0,
        quantiles=(0.1, 0.9),
        bins=(64, 256, 1024),
        languages={},
        bands={name.replace("_", "|"): Band(low=low, high=high, n=50) for name, (low, high) in bands.items()},
    )
    path = folder / "bands.json"
    path.write_text(found.model_dump_json())
    return path


# -- the gate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "language", "outcome"),
    [
        (0.19, "zh", ("reject", "ifd.too_easy", 0.2)),
        (0.2, "zh", ("accept", "ok", 0.9)),
        (0.9, "zh", ("reject", "ifd.misaligned", 0.9)),
        (0.25, "en", ("reject", "ifd.too_easy", 0.3)),
        (0.99, "en", ("accept", "ok", 1.0)),
        (1.0, "en", ("reject", "ifd.misaligned", 1.0)),
        (1.2, "en", ("reject", "ifd.misaligned", 1.0)),
    ],
)
async def test_the_gate_keeps_what_is_inside_the_band_of_its_language(ratio: float, language: Language, outcome: Any) -> None:
    gate = Ifd(fixed(ratio), low={"en": 0.3, "zh": 0.2}, high={"zh": 0.9})
    verdict = await gate(subject(language))
    assert (verdict.decision, verdict.code, verdict.threshold) == outcome
    assert (verdict.evidence["stratum"], verdict.evidence["band"]) == (language, {"en": [0.3, 1.0], "zh": [0.2, 0.9]}[language])


async def test_the_evidence_holds_both_variants_and_all_that_the_decision_rests_on() -> None:
    verdict = await Ifd(fixed(0.5), variant="ppl_ratio", low=0.1)(subject())
    assert verdict.value == verdict.evidence["ppl_ratio"] == pytest.approx(math.exp(-1))
    assert verdict.evidence["loss_ratio"] == pytest.approx(0.5)
    wanted = "n s_cond s_uncond loss_ratio ppl_ratio delta truncated model dtype template max_len variant scorer stratum band"
    assert set(verdict.evidence) == set(wanted.split())


@pytest.mark.parametrize(
    ("task", "n", "language", "stratum"),
    [
        ("code", 100, "en", "en|code|64-255"),
        ("poetry", 100, "en", "en|64-255"),  # too few rows of that task
        ("code", 64, "en", "en|code|64-255"),
        ("code", 63, "en", "en"),  # too few so short
        ("", 100, "en", "en|64-255"),
        ("code", 5000, "en", "en"),
    ],
)
async def test_a_row_is_held_against_the_narrowest_stratum_that_has_a_band(
    tmp_path: Path, task: str, n: int, language: Language, stratum: str
) -> None:
    bands = {"en|code|64-255": [0.5, 0.8], "en|64-255": [0.3, 0.9], "en": [0.2, 0.95]}
    path = bands_file(tmp_path, **{name.replace("|", "_"): (low, high) for name, (low, high) in bands.items()})
    found = {ratio: await Ifd(fixed(ratio, n), bands=path)(subject(language, task)) for ratio in (0.1, 0.6, 0.98)}
    low, high = bands[stratum]
    assert [(one.code, one.threshold) for one in found.values()] == [("ifd.too_easy", low), ("ok", high), ("ifd.misaligned", high)]
    assert all((one.evidence["stratum"], one.evidence["band"]) == (stratum, bands[stratum]) for one in found.values())


async def test_a_candidates_task_is_its_branch_and_a_lower_high_of_the_recipe_holds_too(tmp_path: Path) -> None:
    from leafmill.records import Brief

    path = bands_file(tmp_path, **{"en_code/debug_64-255": (0.5, 0.9)})
    brief = Brief(id="a", leaf="code/debug/find", number=0, language="en")
    verdict = await Ifd(fixed(0.85), bands=path, high=0.8)(Subject("row", subject().row, brief=brief))
    assert (verdict.code, verdict.threshold, verdict.evidence["stratum"]) == ("ifd.misaligned", 0.8, "en|code/debug|64-255")


async def test_a_language_without_bands_is_unscorable_and_not_accepted(tmp_path: Path) -> None:
    verdict = await Ifd(fixed(0.6), bands=bands_file(tmp_path, en=(0.2, 0.9)))(subject("zh"))
    assert (verdict.decision, verdict.code, verdict.value) == ("unscorable", "ifd.uncalibrated", 0.6)


async def test_what_cannot_be_scored_stays_a_state_with_its_code() -> None:
    verdict = await Ifd(fixed(None), low=0.2)(subject())
    assert (verdict.decision, verdict.code, verdict.value) == ("unscorable", "ifd.short_answer", None)


async def test_of_a_row_with_tools_the_answer_alone_is_scored_given_the_tools_the_calls_and_their_results() -> None:
    from filters.scoring.scorer import _plain

    scorer = fixed(0.5)
    call = ToolCall(id="call_1", name="weather", arguments={"city": "Rom"})
    steps = (Turn(role="assistant", content="", calls=(call,)), Turn(role="tool", content="31", answers="call_1"))
    await Ifd(scorer)(subject(instruction="How warm is it in Rome?", steps=steps, tools=({"name": "weather"},)))
    assert _plain(scorer.asked[0]).split("\n") == [
        'system: [{"name": "weather"}]',
        "user: How warm is it in Rome?",
        'assistant: {"name": "weather", "arguments": {"city": "Rom"}}',
        "tool: 31",
    ]


async def test_of_a_conversation_the_last_answer_is_scored_given_all_turns_before_it() -> None:
    scorer = fixed(0.5)
    history = (
        Turn(role="system", content="Be brief."),
        Turn(role="user", content="Weather?"),
        Turn(role="assistant", content="I look."),
        Turn(role="tool", content="12 degrees"),
    )
    await Ifd(scorer)(subject(instruction="And tomorrow?", input="in Rome", history=history))
    (asked,) = scorer.asked
    assert [turn.role for turn in asked] == ["system", "user", "assistant", "tool", "user"]
    assert asked[-1].content == "And tomorrow?\n\nin Rome"


@pytest.mark.parametrize(
    ("settings", "back", "outcome"),
    [
        ({"reverse": True}, score(1.5, 7), ("accept", "ok")),
        ({"reverse_high": 1.0}, score(1.0, 7), ("reject", "ifd.reverse")),
        ({"reverse_high": 1.0}, score(0.99, 7), ("accept", "ok")),
        ({"reverse": True}, score(None, 3), ("accept", "ok")),
        ({"reverse_high": 1.0}, score(None, 3), ("unscorable", "ifd.reverse_short_answer")),
    ],
)
async def test_the_reverse_score_is_recorded_and_gates_only_with_a_bound(settings: Any, back: IfdScore, outcome: Any) -> None:
    verdict = await Ifd(fixed(0.5, back=back), **settings)(subject())
    assert (verdict.decision, verdict.code) == outcome
    assert verdict.evidence["reverse"] == {"n": back.n, "loss_ratio": back.loss_ratio, "ppl_ratio": back.ppl_ratio, "code": back.code}


def test_the_version_changes_with_the_settings_the_scorer_and_what_stands_in_the_bands_file(tmp_path: Path) -> None:
    path = bands_file(tmp_path, en=(0.2, 0.9))
    gates = [
        Ifd(fixed(1)),
        Ifd(fixed(1), low=0.1),
        Ifd(fixed(1), variant="ppl_ratio"),
        Ifd(fixed(1, id="other")),
        Ifd(fixed(1), bands=path),
    ]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert version(Ifd(fixed(1), bands=path.rename(moved / path.name))) == version(gates[4])
    gates.append(Ifd(fixed(1), bands=bands_file(tmp_path, en=(0.3, 0.9))))
    assert len({version(gate) for gate in gates}) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "loss"},
        {"low": 1.0},
        {"low": {"zh": 1.5}},
        {"low": -0.1},
        {"low": math.nan},
        {"high": math.nan},
        {"high": {"en": 0.2}, "low": 0.2},
        {"reverse_high": 0.0},
    ],
)
def test_impossible_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError):
        Ifd(fixed(None), **wrong)


def test_bands_of_another_scorer_or_variant_are_refused_and_both_are_named(tmp_path: Path) -> None:
    bands_file(tmp_path, en=(0.2, 0.9))
    with pytest.raises(RecipeError, match=re.escape(f"was made with the scorer {ID}, but this one is other@2|float64")):
        make("ifd", {"bands": "bands.json"}, tmp_path, scorer=fixed(1, id="other@2|float64"))
    with pytest.raises(RecipeError, match="holds bands of loss_ratio, but `variant` is ppl_ratio"):
        make("ifd", {"bands": "bands.json", "variant": "ppl_ratio"}, tmp_path, scorer=fixed(1))
    with pytest.raises(RecipeError, match="from `bands` or from `low`, not from both"):
        make("ifd", {"bands": "bands.json", "low": 0.2}, tmp_path, scorer=fixed(1))


def test_a_bands_file_is_looked_for_beside_the_recipe_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere.json: No such file .* `leafmill calibrate ifd data.jsonl` writes a bands file"):
        check("ifd", {"bands": "nowhere.json"}, tmp_path)
    (tmp_path / "odd.json").write_text('{"scorer": 3}')
    with pytest.raises(RecipeError, match=r"odd.json: not a bands file of `leafmill calibrate ifd`: scorer"):
        check("ifd", {"bands": "odd.json"}, tmp_path)
    bands_file(tmp_path, en=(0.2, 0.9))
    assert check("ifd", {"bands": "bands.json"}, tmp_path) == {"bands": tmp_path / "bands.json"}


# -- what calibration rests on -----------------------------------------------------------------------------------------

RATIOS = st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9, 1.0, 1.3]), min_size=1, max_size=12)


@given(true=RATIOS, shuffled=RATIOS)
def test_auroc_is_the_share_of_pairs_in_the_right_order_and_a_tie_is_half_a_pair(true: list[float], shuffled: list[float]) -> None:
    pairs = [(a < b) + (a == b) / 2 for a in true for b in shuffled]
    assert auroc(true, shuffled) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc(true, shuffled) + auroc(shuffled, true) == pytest.approx(1)


@given(count=st.integers(2, 60), seed=st.integers(0, 100))
def test_when_answers_are_dealt_anew_nobody_keeps_his_own(count: int, seed: int) -> None:
    order = derangement(count, seed)
    assert sorted(order) == list(range(count))
    assert all(i != j for i, j in enumerate(order))
    assert order == derangement(count, seed)


def test_strata_go_from_the_narrowest_to_the_language() -> None:
    assert list(strata("zh", "诗", 63)) == ["zh|诗|0-63", "zh|0-63", "zh"]
    assert list(strata("en", "", 1024)) == ["en|1024-", "en"]


def samples(language: str, ratios: Sequence[float], task: str = "", n: int = 100) -> list[Sample]:
    return [Sample(language, task, n, ratio) for ratio in ratios]


def spread(middle: float, count: int = 100, seed: int = 0) -> list[float]:
    return [random.Random(seed * 1000 + i).gauss(middle, 0.08) for i in range(count)]


def calibrated(
    true: Sequence[Sample], shuffled: Sequence[Sample], unscorable: Mapping[str, Counter[str]] | None = None, **more: Any
) -> Any:
    return calibrate(true, shuffled, unscorable or {}, scorer=ID, template="none", **more)


def test_a_scorer_that_tells_true_from_shuffled_gets_bands_for_each_stratum_with_enough_rows() -> None:
    true = [*samples("en", spread(0.6), "code"), *samples("en", spread(0.8, FEWEST - 1), "poem", 300), *samples("en", spread(0.9, 5), n=9)]
    found = calibrated(true, samples("en", spread(1.0, 120)))
    assert found.refusals == []
    assert list(found.bands) == ["en", "en|64-255", "en|code|64-255"]
    band = found.bands["en|code|64-255"]
    assert (band.low, band.high, band.n) == (pytest.approx(0.5, abs=0.03), pytest.approx(0.73, abs=0.03), 100)
    assert 0.9 < found.languages["en"].auroc < 1


@pytest.mark.parametrize(
    ("true", "shuffled", "why"),
    [
        (0.9, 0.91, r"does not tell true answers from shuffled ones \(AUROC 0\.\d+, .*Try another model"),
        (0.9, 0.6, "does not tell"),
        (1.1, 1.6, "the template is strange to this model. Try another `template`"),
    ],
)
def test_a_scorer_that_cannot_tell_a_language_gets_no_bands_for_it_but_for_the_others(true: float, shuffled: float, why: str) -> None:
    pairs = [*samples("zh", spread(true)), *samples("en", spread(0.5))]
    found = calibrated(pairs, [*samples("zh", spread(shuffled, seed=1)), *samples("en", spread(1.0))])
    (refusal,) = found.refusals
    assert re.search(f"^zh: .*{why}", refusal)
    assert {name.split("|")[0] for name in found.bands} == {"en"}


def test_a_median_of_shuffled_answers_below_that_of_true_ones_is_no_separation_whatever_the_auroc() -> None:
    found = calibrated(samples("en", [0.8] * 51 + [0.1] * 49), samples("en", [0.75] * 51 + [1.2] * 49))
    assert found.languages["en"].auroc > 0.7
    assert "median 0.80 against 0.75" in found.refusals[0]


def test_too_few_rows_prove_nothing_and_the_reasons_are_counted() -> None:
    few = samples("en", spread(0.5, FEWEST - 1))
    found = calibrated(few, samples("en", spread(1.0, 40)), {"en": Counter({"ifd.short_answer": 9}), "zh": Counter({"ifd.not_finite": 2})})
    assert found.refusals[0] == (
        "en: 29 rows could be scored (9 ifd.short_answer), 40 beside another answer; 30 of each are needed: give more rows"
    )
    assert found.refusals[1].startswith("zh: 0 rows could be scored")
    assert found.bands == {}


def test_no_band_reaches_beyond_one_or_is_empty() -> None:
    wide = [*spread(0.8), *([1.2] * 20)]
    assert calibrated(samples("en", wide), samples("en", spread(1.5, 120))).bands["en"].high == 1.0
    assert calibrated(samples("en", [0.5] * 50), samples("en", [0.9] * 50)).bands == {}


# -- over a data set ---------------------------------------------------------------------------------------------------


def items(count: int = 40, language: Language = "en") -> list[Item]:
    rows = [Row(language=language, instruction=f"ask {i}", answer=f"say {i}") for i in range(count)]
    return [Item(i + 1, row, {}, "task") for i, row in enumerate(rows)]


def knowing(prompt: str, answer: str) -> IfdScore:
    """An answer with the number of its question is easy."""
    noise = (zlib.crc32((prompt + answer).encode()) % 100) / 1000
    return score((0.5 if prompt.split()[1] == answer.split()[1] else 0.95) + noise)


async def test_a_data_set_is_scored_as_it_stands_and_with_its_answers_dealt_anew(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    data: list[Item | Broken] = [*items(), Broken(41, "no JSON", "x"), *items(40, "zh")]
    found, ratios = await calibrate_ifd(data, Toy(knowing), tell=lambda done, total: told.append((done, total)))
    assert (found.scorer, found.variant, found.template, found.refusals, ratios.broken) == (ID, "loss_ratio", "none", [], 1)
    assert {language: (one.auroc, one.true, one.shuffled) for language, one in found.languages.items()} == dict.fromkeys(
        ("en", "zh"), (1.0, 40, 40)
    )
    assert told[-1] == (160, 160)
    paths = write(tmp_path / "out", found, ratios)
    assert Calibration.read(paths[0]) == found
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    gate = Ifd(fixed(0.4), bands=paths[0])
    assert (await gate(subject(task="task"))).evidence["stratum"] == "en|task|64-255"


@pytest.mark.parametrize("variant", ["loss_ratio", "ppl_ratio"])
async def test_the_bands_are_of_the_variant_that_was_asked_for(variant: Variant) -> None:
    found, _ = await calibrate_ifd(items(), Toy(knowing), variant=variant)
    band = found.bands["en"]
    assert (0.49 < band.low < band.high < 0.61) if variant == "loss_ratio" else (0.36 < band.low < band.high < 0.46)


async def test_answers_that_are_all_the_same_cannot_be_dealt_anew() -> None:
    same = [Item(i, Row(language="en", instruction=f"ask {i}", answer="say 1"), {}) for i in range(50)]
    found, ratios = await calibrate_ifd(same, Toy(knowing))
    assert (len(ratios.true), len(ratios.shuffled)) == (50, 0)
    assert "0 beside another answer" in found.refusals[0]


async def test_of_a_long_file_an_even_sample_is_scored_and_always_the_same() -> None:
    scorers = [Toy(knowing), Toy(knowing)]
    for scorer in scorers:
        await calibrate_ifd(items(400), scorer, most=40)
    asked = [sorted({int(prompt[-1].content.split()[1]) for prompt in scorer.asked}) for scorer in scorers]
    assert asked[0] == asked[1]
    assert len(asked[0]) == 40
    assert asked[0][20] > 100, "not the first rows of the file"


async def test_no_row_at_all_is_an_error_that_counts_the_broken_lines() -> None:
    with pytest.raises(InputError, match="there is no row to calibrate with: 1 lines could not be read"):
        await calibrate_ifd([Broken(1, "no JSON", "x")], Toy(knowing))


def test_a_run_that_wants_a_language_without_bands_is_refused_before_it_starts(tmp_path: Path) -> None:
    from conftest import recipe

    from graphs.prepare import prepare

    bands_file(tmp_path, en=(0.2, 0.9))
    gates = {"semantic": False, "ifd": {"bands": "bands.json"}}
    assert prepare(recipe(tmp_path, "http://unused", gates=gates))
    with pytest.raises(RecipeError, match=r"recipe.yaml:\d+: bands.json has no bands for 'zh'"):
        prepare(recipe(tmp_path, "http://unused", gates=gates, languages=["en", "zh"]))
