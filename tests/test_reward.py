"""Rewards are compared within a prompt only, and scores read off a judge's logits do without defaults."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from filters.scoring.expected import expected_score, log_softmax
from filters.scoring.reward import Reward, RewardModel, rank, spearman
from leafmill.errors import WeightsError
from leafmill.records import Turn

torch.set_num_threads(1)
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<{{ turn.role }}>{{ turn.content }}{% endfor %}</s>"
)
ANSWERS = ["Yes.", "大海啊，你全是水。", "No, and here is at length why not: " + "because " * 12, "Perhaps 🙂"]


def folder_of(folder: Path, *, labels: int = 1, padding: int | None = 2, template: str | None = TEMPLATE) -> Path:
    """A tiny classifier with random weights, its tokenizer one that puts BOS before every text by itself."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=400, max_position_embeddings=256, num_labels=labels, pad_token_id=padding, initializer_range=0.3, **sizes
    )
    LlamaForSequenceClassification(config).eval().save_pretrained(folder)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["a line"], trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    known = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=template, **known).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("weights") / "tiny-reward")


def reward(value: float | None, tokens: int = 10) -> Reward:
    return Reward(value, tokens, "unscored" if value is None else "scored", "" if value is not None else "reward.not_finite", "toy")


# -- within a prompt ---------------------------------------------------------------------------------------------------


@given(values=st.lists(st.integers(-40, 40), min_size=1, max_size=8), shift=st.integers(-1000, 1000))
def test_T29_adding_a_constant_to_all_rewards_of_a_prompt_changes_nothing(values: list[int], shift: int) -> None:
    before, after = (rank([reward(value / 8 + by, 10 + i) for i, value in enumerate(values)]) for by in (0, shift))
    assert (before.order, before.length_rho) == (after.order, pytest.approx(after.length_rho) if before.length_rho is not None else None)
    assert after.margins == pytest.approx(before.margins)


def test_an_order_and_margins_over_the_mean_of_the_prompts_answers() -> None:
    found = rank([reward(1.0, 30), reward(None), reward(4.0, 10), reward(1.0, 20)])
    assert found.order == (2, 0, 3)
    assert found.margins == (-1.0, None, 2.0, -1.0)
    assert found.margin == 2.0
    assert rank([reward(None)]).order == rank([]).order == ()
    assert rank([reward(None)]).margin is None


@pytest.mark.parametrize(
    ("one", "other", "rho"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 99], 1.0),
        ([4, 3, 2, 1], [10, 20, 30, 99], -1.0),
        ([1, 2, 2, 3], [1, 3, 2, 4], 0.948683),  # ties at their mean rank
        ([1, 2], [1, 2], None),
        ([1, 1, 1], [1, 2, 3], None),
    ],
)
def test_a_reward_that_follows_length_is_seen(one: Sequence[float], other: Sequence[float], rho: float | None) -> None:
    found = spearman(one, other)
    assert found == (rho if rho is None else pytest.approx(rho, abs=1e-6))


# -- the model ---------------------------------------------------------------------------------------------------------


async def test_a_reward_does_not_depend_on_who_is_in_the_batch(folder: Path) -> None:
    async with RewardModel.load(folder, device="cpu") as model:
        together = await asyncio.gather(*(model.score("Well?", answer) for answer in ANSWERS))
        apart = [await model.score("Well?", answer) for answer in ANSWERS]
    values = [one.value for one in apart]
    assert [one.value for one in together] == pytest.approx(values, abs=1e-4)
    assert len({round(value, 3) for value in values if value is not None}) == len(ANSWERS)


async def test_a_reward_is_what_the_model_says_of_the_conversation_in_its_own_template_with_one_bos(folder: Path) -> None:
    turns = [Turn(role="system", content="Be brief."), Turn(role="user", content="Well?")]
    async with RewardModel.load(folder, device="cpu") as model:
        found = await model.score(turns, "Yes.")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer("<s><system>Be brief.<user>Well?<assistant>Yes.</s>", add_special_tokens=False)["input_ids"]
    assert ids.count(0) == 1
    with torch.inference_mode():
        expected = LlamaForSequenceClassification.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0, 0]
    assert found.value == pytest.approx(float(expected), abs=1e-5)
    assert found.tokens == len(tokenizer("Yes.", add_special_tokens=False)["input_ids"])
    assert found.model.startswith("tiny-reward@")


async def test_answers_are_ranked_and_the_best_comes_first(folder: Path) -> None:
    async with RewardModel.load(folder, device="cpu") as model:
        found = await model.rank("Well?", ANSWERS)
    values = [one.value for one in found.rewards if one.value is not None]
    assert found.order[0] == values.index(max(values))
    assert found.margin == pytest.approx(max(values) - sum(values) / len(values))
    assert found.length_rho is not None


async def test_a_model_that_does_not_know_its_padding_is_asked_for_one_at_a_time(tmp_path: Path, folder: Path) -> None:
    async with RewardModel.load(folder_of(tmp_path / "bare", padding=None), device="cpu") as model:
        bare = await asyncio.gather(*(model.score("Well?", answer) for answer in ANSWERS))
    async with RewardModel.load(folder, device="cpu") as model:
        known = await asyncio.gather(*(model.score("Well?", answer) for answer in ANSWERS))
    assert [one.value for one in bare] == pytest.approx([one.value for one in known], abs=1e-4)


async def test_what_cannot_be_scored_is_a_state_and_does_not_spoil_its_neighbours(folder: Path) -> None:
    tool = (Turn(role="user", content="Well?"), Turn(role="tool", content="12"))
    async with RewardModel.load(folder, device="cpu") as model:
        asked = (model.score("Well?", " "), model.score("Well?", "long " * 200), model.score(tool, "Yes."), model.score("Well?", "Yes."))
        found = await asyncio.gather(*asked)
    assert [one.code for one in found] == ["reward.empty_answer", "reward.too_long", "reward.template_refused", ""]
    assert [one.value is None for one in found] == [True, True, True, False]


async def test_a_reward_that_is_no_number_is_a_state(folder: Path) -> None:
    values = iter([[math.nan], [math.inf], [2.0]])
    async with RewardModel("toy", lambda turns: [1, 2], len, lambda sequences: next(values), 99) as model:
        found = [await model.score("Well?", "Yes.") for _ in range(3)]
    assert [(one.state, one.code, one.value) for one in found] == [
        ("unscored", "reward.not_finite", None),
        ("unscored", "reward.not_finite", None),
        ("scored", "", 2.0),
    ]


def test_a_model_of_another_kind_is_explained(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is a classifier of 2 labels; a reward model has one"):
        RewardModel.load(folder_of(tmp_path / "two", labels=2), device="cpu")
    with pytest.raises(WeightsError, match="has no chat template"):
        RewardModel.load(folder_of(tmp_path / "plain", template=None), device="cpu")


# -- scores read off a judge -------------------------------------------------------------------------------------------


def test_T20_the_expected_score_of_six_logits() -> None:
    digits = dict(zip("123456", log_softmax([0, 1, 2, 3, 2, 1]), strict=True))
    assert expected_score(digits).value == pytest.approx(3.927361, abs=1e-6)


def test_T26_the_expected_score_is_renormalised_and_not_given_where_the_digits_cover_too_little() -> None:
    told = {"3": 0.1, "4": 0.6, "5": 0.3}
    assert expected_score({token: math.log(p) for token, p in told.items()}, 1, 5).value == pytest.approx(4.2)
    half = expected_score({"4": math.log(0.3), " 4": math.log(0.1), "５": math.log(0.2), "Good": math.log(0.4)}, 1, 5)
    assert (half.value, half.mass, half.code) == (pytest.approx((4 * 0.4 + 5 * 0.2) / 0.6), pytest.approx(0.6), "")
    little = expected_score({"4": math.log(0.49), "9": math.log(0.5), "4.5": -9.0, "": -9.0}, 1, 5)
    assert (little.value, little.mass, little.code) == (None, pytest.approx(0.49), "expected.uncovered")
    assert expected_score({}).value is None


@pytest.mark.parametrize("logits", [[math.nan, 1.0, 2.0], [math.inf, 1.0, 2.0]])
def test_T26_logits_that_are_no_numbers_give_no_score(logits: list[float]) -> None:
    found = expected_score(dict(zip("123", log_softmax(logits), strict=True)))
    assert (found.value, found.code) == (None, "expected.not_finite")
