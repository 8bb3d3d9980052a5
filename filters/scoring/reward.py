"""What a reward model thinks of answers: a sequence classifier with one label, trained on which of two answers people prefer.

Its numbers mean something beside each other only for answers to the same prompt: the model was never asked to compare across prompts, and
some prompts lift all their answers. So there is no gate here and no global cut, but `rank`: the order of a prompt's answers, each one's
margin over their mean, and how far the order merely follows length. Keep its family apart from the generator's and the judges', and take an
answer that was verified over one that is liked.

    async with RewardModel.load("org/reward-model") as model:
        reward = await model.score(row.asked, row.answer)         # a number, or a state with its code
        ranking = await model.rank(row.asked, answers)            # ranking.order[0] is the best; ranking.margins[...] >= m
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

import jinja2
import numpy as np

from filters.batcher import Batcher
from filters.weights import Weights, load_weights
from leafmill.errors import WeightsError
from leafmill.records import Turn, digest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Reward:
    """`value` is None when unscored, and `code` says why: reward.empty_answer, .too_long, .template_refused, .not_finite."""

    value: float | None
    tokens: int
    """of the answer"""
    state: Literal["scored", "unscored"]
    code: str
    model: str


class Rewarding(Protocol):
    """A reward model, here or behind a server."""

    async def score(self, prompt: str | Sequence[Turn], answer: str) -> Reward: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class Ranking:
    """The answers to one prompt, compared. Adding the same to all their rewards changes nothing of it."""

    rewards: tuple[Reward, ...]
    """in the order in which they were given"""
    order: tuple[int, ...]
    """the places of those that were scored, the best first; of equals the earlier"""
    margins: tuple[float | None, ...]
    """each reward over the mean of all; None where unscored"""
    length_rho: float | None
    """Spearman's correlation of reward and tokens: above 0.3 over many prompts, the model pays for length. None of fewer than three
    answers, or where either is all the same"""

    @property
    def margin(self) -> float | None:
        """By how much the best is better than the mean. None when nothing was scored."""
        return self.margins[self.order[0]] if self.order else None


def rank(rewards: Sequence[Reward]) -> Ranking:
    """Compare rewards of answers to the same prompt, by the same model."""
    values = {i: reward.value for i, reward in enumerate(rewards) if reward.value is not None}
    mean = math.fsum(values.values()) / len(values) if values else 0.0
    return Ranking(
        rewards=tuple(rewards),
        order=tuple(sorted(values, key=lambda i: (-values[i], i))),
        margins=tuple(values[i] - mean if i in values else None for i in range(len(rewards))),
        length_rho=spearman(list(values.values()), [rewards[i].tokens for i in values]),
    )


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The correlation of ranks, ties at their mean rank. None of fewer than three pairs, or where either is all the same."""
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


class _Asked(NamedTuple):
    turns: tuple[Turn, ...]
    answer: str


class RewardModel:
    """A reward model that runs here; ask it from as many coroutines as you like. `ids` writes a conversation in the model's own chat
    template, `head` gives one number for each sequence of ids."""

    def __init__(
        self,
        model: str,
        ids: Callable[[Sequence[Turn]], list[int]],
        length: Callable[[str], int],
        head: Callable[[Sequence[Sequence[int]]], Sequence[float]],
        max_len: int,
        *,
        size: int = 16,
        max_cost: float | None = None,
    ) -> None:
        self.id = model
        self._ids, self._length, self._head, self._max_len = ids, length, head, max_len
        self._batcher = Batcher(self._work, size=size, max_cost=max_cost, cost=_characters, name="reward")

    @classmethod
    def load(
        cls, path_or_name: str | Path, device: str = "auto", dtype: str = "auto", max_len: int = 4096, *, threads: int | None = None
    ) -> Self:
        """A folder or hub name of transformers, with one label and a chat template. Raises WeightsError."""
        weights = load_weights(path_or_name, "AutoModelForSequenceClassification", device, dtype, threads)
        config, tokenizer = weights.model.config, weights.tokenizer
        if config.num_labels != 1:
            raise WeightsError(f"{weights.id} is a classifier of {config.num_labels} labels; a reward model has one")
        if not tokenizer.chat_template:
            raise WeightsError(f"the tokenizer of {weights.id} has no chat template, in which a reward model must be told a conversation")
        window = min(max_len, getattr(config, "max_position_embeddings", None) or max_len)
        known = f"{weights.id}|{weights.dtype}|{digest(tokenizer.chat_template, length=8)}|{window}"
        on_cpu = weights.model.device.type == "cpu"
        return cls(
            known,
            lambda turns: _rendered(weights, turns),
            lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
            _Head(weights),
            window,
            max_cost=8_000 if on_cpu else 64_000,
        )

    async def score(self, prompt: str | Sequence[Turn], answer: str) -> Reward:
        """What goes wrong in the model is raised to those whose conversations were in that batch."""
        turns = (Turn(role="user", content=prompt),) if isinstance(prompt, str) else tuple(prompt)
        return await self._batcher.ask(_Asked(turns, answer))

    async def rank(self, prompt: str | Sequence[Turn], answers: Sequence[str]) -> Ranking:
        return rank(await asyncio.gather(*(self.score(prompt, answer) for answer in answers)))

    async def aclose(self) -> None:
        await self._batcher.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _work(self, asked: list[_Asked]) -> list[Reward]:
        told = [self._told(one) for one in asked]
        sequences = [ids for ids, _ in told if ids]
        values = iter(self._head(sequences) if sequences else ())
        return [self._reward(one, next(values) if ids else None, code) for one, (ids, code) in zip(asked, told, strict=True)]

    def _told(self, asked: _Asked) -> tuple[list[int], str]:
        """The ids of a conversation; none, and the code, where it cannot be scored."""
        if not asked.answer.strip():
            return [], "reward.empty_answer"
        try:
            ids = self._ids([*asked.turns, Turn(role="assistant", content=asked.answer)])
        except jinja2.TemplateError:  # a template may know no tools, or no system message
            return [], "reward.template_refused"
        return (ids, "") if len(ids) <= self._max_len else ([], "reward.too_long")

    def _reward(self, asked: _Asked, value: float | None, code: str) -> Reward:
        if value is not None and not math.isfinite(value):
            value, code = None, "reward.not_finite"
        return Reward(value, self._length(asked.answer), "unscored" if code else "scored", code, self.id)


def _characters(asked: _Asked) -> float:
    """About as many as tokens, or more: what padding will cost."""
    return sum(len(turn.text) for turn in asked.turns) + len(asked.answer)


def _rendered(weights: Weights, turns: Sequence[Turn]) -> list[int]:
    """A conversation in the model's own template. That writes what is special, so the tokenizer must not put a second BOS before it."""
    text = weights.tokenizer.apply_chat_template([turn.plain for turn in turns], tokenize=False)
    ids: list[int] = weights.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


class _Head:
    """The model's own number for each sequence. Where the model does not know which ids are padding, each goes alone."""

    def __init__(self, weights: Weights) -> None:
        self._model = weights.model
        self._model.config.use_cache = False  # nothing is generated
        self._padding = weights.model.config.pad_token_id

    def __call__(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        if self._padding is None and len(sequences) > 1:
            return [value for one in sequences for value in self([one])]
        import torch

        width = max(map(len, sequences))
        padding = 0 if self._padding is None else self._padding
        ids = torch.tensor([[*one, *[padding] * (width - len(one))] for one in sequences], device=self._model.device)
        mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in sequences], device=self._model.device)
        with torch.inference_mode():
            values: torch.Tensor = self._model(input_ids=ids, attention_mask=mask).logits[:, 0]
        return [float(value) for value in values.float().cpu()]
