"""`leafmill score`: writes on every row what a language model says of it. Nothing is dropped; what cannot be scored waits, and says why."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

from filters.gate import Gate, Stage, Subject, judge, verdict, version
from filters.scoring.calibration import Variant
from filters.scoring.ifd import Ifd, Scores
from leafmill.dataset.items import Item
from leafmill.dataset.reader import OWN
from leafmill.dataset.sweep import Outcome
from leafmill.errors import InputError, unknown
from leafmill.records import Verdict

if TYPE_CHECKING:
    from filters.scoring.reward import RewardModel
    from filters.scoring.reward_endpoint import RewardEndpoint

By = Literal["ifd", "reverse-ifd", "reward"]
ON_CPU, ON_GPU = 32, 1024
"""rows asked at once: enough to fill the device, few enough that little is lost to a crash"""


@dataclass(frozen=True)
class Scoring:
    """Asks a gate about all rows of a batch at once, and takes its value for a score, whatever it decides."""

    gate: Gate
    batch: int

    @property
    def rules(self) -> Mapping[str, str]:
        return {self.gate.name: version(self.gate)}

    async def remember(self, kept: Iterable[Item]) -> None:
        """No row depends on another."""

    async def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        found = await asyncio.gather(*(judge(self.gate, item.subject) for item in items))
        return [_outcome(item, one) for item, one in zip(items, found, strict=True)]


def _outcome(item: Item, found: Verdict) -> Outcome:
    """Other scores that the row has from before stay on it."""
    before = item.raw.get(OWN, {}).get("score")
    parts = {"code": found.code, **found.evidence}
    adds = {**(before if isinstance(before, dict) else {}), found.gate: found.value, f"{found.gate}_parts": parts}
    decision = "accept" if found.decision == "reject" else found.decision
    return Outcome((found.model_copy(update={"decision": decision}),), adds)


@dataclass(frozen=True)
class ReverseIfd:
    """How much the answer helps to predict the prompt; below 1 it does (Selective Reflection-Tuning)."""

    name: ClassVar[str] = "reverse_ifd"
    stage: ClassVar[tuple[Stage, ...]] = ("score",)
    says: ClassVar[str] = "the loss of the prompt given the answer, over its loss without"

    scorer: Scores = field(repr=False)
    variant: Variant = "loss_ratio"
    measure: str = field(init=False)
    """the scorer's id and `min_tokens`"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "measure", f"{self.scorer.id}|{self.scorer.min_tokens}")

    async def __call__(self, subject: Subject) -> Verdict:
        score = await self.scorer.reverse(subject.row.told, subject.row.answer, subject.row.language)
        evidence: dict[str, Any] = asdict(score) | {"loss_ratio": score.loss_ratio, "ppl_ratio": score.ppl_ratio, "delta": score.delta}
        code = evidence.pop("code")
        ratio = score.loss_ratio if self.variant == "loss_ratio" else score.ppl_ratio
        if ratio is None:
            return verdict(self, "unscorable", code.replace("ifd.", f"{self.name}.", 1), **evidence)
        return verdict(self, "accept", value=ratio, threshold=1.0, **evidence)


@dataclass(frozen=True)
class Rewarded:
    """A reward model's number. It means something only beside those of other answers to the same prompt."""

    name: ClassVar[str] = "reward"
    stage: ClassVar[tuple[Stage, ...]] = ("score",)
    says: ClassVar[str] = "what a reward model thinks of the answer"

    scorer: RewardModel | RewardEndpoint = field(repr=False)
    model: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", self.scorer.id)

    async def __call__(self, subject: Subject) -> Verdict:
        reward = await self.scorer.score(subject.row.told, subject.row.answer)
        evidence: dict[str, Any] = {"tokens": reward.tokens, "model": reward.model}
        if reward.value is None:
            return verdict(self, "unscorable", reward.code, **evidence)
        return verdict(self, "accept", value=reward.value, **evidence)


def check(by: str, variant: str) -> tuple[By, Variant]:
    """Both as they are known. Raises InputError for one that is not, before anything is loaded."""
    if by not in get_args(By):
        raise InputError(unknown("way to score", by, get_args(By)))
    if variant not in get_args(Variant):
        raise InputError(unknown("ifd variant", variant, get_args(Variant)))
    return cast(By, by), cast(Variant, variant)


@asynccontextmanager
async def open_scoring(
    by: By, model: str | Path, *, variant: Variant = "loss_ratio", device: str = "auto", dtype: str = "auto", **settings: Any
) -> AsyncIterator[Scoring]:
    """`settings` are the Scorer's (template, max_len, min_tokens); a reward model has a template of its own."""
    import torch

    batch = ON_GPU if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()) else ON_CPU
    if by == "reward":
        async with await _open_rewards(str(model), device, dtype) as rewards:
            yield Scoring(Rewarded(rewards), batch)
        return
    from filters.scoring.scorer import Scorer

    async with await asyncio.to_thread(Scorer.load, model, device, dtype, **settings) as scorer:
        yield Scoring(Ifd(scorer=scorer, variant=variant) if by == "ifd" else ReverseIfd(scorer=scorer, variant=variant), batch)


async def _open_rewards(model: str, device: str, dtype: str) -> RewardModel | RewardEndpoint:
    if "://" in model:
        from filters.scoring.reward_endpoint import RewardEndpoint

        return RewardEndpoint(model, os.environ.get("LEAFMILL_API_KEY", ""))
    from filters.scoring.reward import RewardModel

    return await asyncio.to_thread(RewardModel.load, model, device, dtype)
