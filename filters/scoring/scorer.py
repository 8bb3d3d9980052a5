"""How much a prompt helps a language model to predict an answer: the two mean losses that instruction-following difficulty (IFD) needs.

    s_cond   = -(1/N) sum_i log p(w_i | prompt, w_<i)    nats per token
    s_uncond = -(1/N) sum_i log p(w_i | w_<i)            nats per token

Cherry_LLM (arXiv 2308.12032) ranks by the ratio s_cond / s_uncond, Superfiltering (arXiv 2402.00530) by the ratio of perplexities
exp(s_cond - s_uncond). Here prompt and answer are tokenised apart and both passes begin with the same token `ctx0`, so both score
the same N ids, the first one included: the reference implementations lose or shift tokens there.

    Scorer    text in, IfdScore out; batches what many ask at once
    Measure   token ids in, IfdScore out; knows the rules and no model
    Nats      spans of token ids in, mean losses out: `TransformerNats` asks a model, `from_logits` a plain function
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from filters.batcher import Batcher
from filters.weights import Weights, load_weights
from leafmill.errors import InputError, WeightsError, unknown
from leafmill.records import digest

if TYPE_CHECKING:
    import torch

TEMPLATES = {"none": "{prompt}", "line": "{prompt}\n"}
"""How a prompt is written before its answer. `none` is the text as given; `line` ends it with a newline, as Superfiltering does."""


@dataclass(frozen=True)
class IfdScore:
    """Two mean losses over the same `n` answer tokens, in nats per token, and all that they depend on.

    `unscorable` says that no ratio may be drawn, and `code` why; a loss that was not computed or is not finite is None.
    """

    n: int
    s_cond: float | None
    s_uncond: float | None
    truncated: bool
    state: Literal["scored", "unscorable"]
    code: str
    model: str
    dtype: str
    template: str
    max_len: int

    @property
    def loss_ratio(self) -> float | None:
        """s_cond / s_uncond, the score of Cherry_LLM. Below 1 the prompt helps. None when unscorable."""
        losses = self._losses
        return losses and losses[0] / losses[1]

    @property
    def delta(self) -> float | None:
        """s_cond - s_uncond in nats per token. None when unscorable."""
        losses = self._losses
        return losses and losses[0] - losses[1]

    @property
    def ppl_ratio(self) -> float | None:
        """exp(delta), the score of Superfiltering. None when unscorable."""
        delta = self.delta
        return None if delta is None else math.exp(min(delta, 700.0))  # the largest exponent that a float holds is 709

    @property
    def _losses(self) -> tuple[float, float] | None:
        if self.state == "unscorable" or self.s_cond is None or self.s_uncond is None:
            return None
        return self.s_cond, self.s_uncond


class Pair(NamedTuple):
    """Token ids of a prompt and of its answer, tokenised apart and without special tokens."""

    prompt: Sequence[int]
    answer: Sequence[int]


class Span(NamedTuple):
    """A sequence of token ids of which the last `n` are scored."""

    ids: tuple[int, ...]
    n: int


Nats = Callable[[Sequence[Span]], Sequence[float]]
"""Mean loss of each span's last `n` ids, in nats per token."""

Logits = Callable[[list[tuple[int, ...]]], Sequence[np.ndarray]]
"""For each sequence of ids an array (length, vocabulary) of logits or log-probabilities; row i predicts id i + 1."""


def from_logits(logits: Logits) -> Nats:
    """The reference of every scorer: log-softmax over plain arrays, in float64, one sequence at a time."""

    def nats(spans: Sequence[Span]) -> list[float]:
        return [_mean_nats(rows, span) for rows, span in zip(logits([span.ids for span in spans]), spans, strict=True)]

    return nats


def _mean_nats(logits: np.ndarray, span: Span) -> float:
    rows = np.asarray(logits, dtype=np.float64)[len(span.ids) - span.n - 1 : -1]
    with np.errstate(invalid="ignore"):  # not finite in, not finite out: the caller looks for it
        rows = rows - rows.max(axis=-1, keepdims=True)
        log_probs = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return float(-log_probs[np.arange(span.n), span.ids[-span.n :]].mean())


class _Cut(NamedTuple):
    """A pair as it fits the window: its two passes, or the code of why it has none."""

    n: int
    truncated: bool
    code: str
    passes: tuple[Span, Span] | None


@dataclass(frozen=True)
class Measure:
    """The rules of the score over token ids.

    `ctx0` stands before both passes. A pair longer than `max_len` ids (ctx0, prompt and answer) loses the end of its answer in
    both passes and is flagged truncated. Unscorable are: an empty answer, a prompt that fills the window, fewer than `min_tokens`
    scored ids, a loss that is not finite, and s_uncond below `min_nats` nats, where the ratio is unstable.
    """

    nats: Nats
    ctx0: int
    model: str
    dtype: str = "float32"
    template: str = "none"
    max_len: int = 2048
    min_tokens: int = 10
    min_nats: float = 0.05

    @property
    def id(self) -> str:
        """What two scores must share to be comparable."""
        return f"{self.model}|{self.dtype}|{self.template}|{self.max_len}"

    def __call__(self, pairs: Sequence[Pair]) -> list[IfdScore]:
        cuts = [self._cut(pair) for pair in pairs]
        # Equal spans are asked once: answers of one row are shared, and without a prompt the ratio is 1 to the last bit.
        spans = list(dict.fromkeys(span for cut in cuts for span in cut.passes or ()))
        losses = dict(zip(spans, self.nats(spans), strict=True)) if spans else {}
        return [self._score(cut, losses) for cut in cuts]

    def _cut(self, pair: Pair) -> _Cut:
        room = self.max_len - 1 - len(pair.prompt)
        n = max(0, min(room, len(pair.answer)))
        truncated = n < len(pair.answer)
        if not pair.answer:
            return _Cut(0, False, "ifd.empty_answer", None)
        if n == 0:
            return _Cut(0, truncated, "ifd.prompt_fills_window", None)
        if n < self.min_tokens:
            return _Cut(n, truncated, "ifd.short_answer", None)
        answer = tuple(pair.answer[:n])
        return _Cut(n, truncated, "", (Span((self.ctx0, *pair.prompt, *answer), n), Span((self.ctx0, *answer), n)))

    def _score(self, cut: _Cut, losses: dict[Span, float]) -> IfdScore:
        s_cond, s_uncond = (losses[span] for span in cut.passes) if cut.passes else (None, None)
        code = cut.code
        if s_cond is not None and s_uncond is not None:
            if not (math.isfinite(s_cond) and math.isfinite(s_uncond)):
                code = "ifd.not_finite"
            elif s_uncond < self.min_nats:
                code = "ifd.predictable_answer"
        return IfdScore(
            n=cut.n,
            s_cond=_finite(s_cond),
            s_uncond=_finite(s_uncond),
            truncated=cut.truncated,
            state="unscorable" if code else "scored",
            code=code,
            model=self.model,
            dtype=self.dtype,
            template=self.template,
            max_len=self.max_len,
        )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


class TransformerNats:
    """`Nats` from a causal language model of transformers.

    Sequences of like length share a forward pass of at most `max_tokens` padded ids; the vocabulary is projected for answer
    positions only, `max_logits` numbers at a time, and reduced in float32. Out of memory halves the pass and lowers
    `max_tokens` for good; a sequence that does not fit alone raises. Not for use from two threads at once.
    """

    def __init__(self, model: Any, *, max_tokens: int = 2048, max_logits: int = 2**25) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self._max_logits = max_logits  # 128 MB of float32
        self._head = self._plain_head()

    def __call__(self, spans: Sequence[Span]) -> list[float]:
        losses = [math.nan] * len(spans)
        for group in self._groups(spans):
            for i, loss in zip(group, self._fitting([spans[i] for i in group]), strict=True):
                losses[i] = loss
        return losses

    def _groups(self, spans: Sequence[Span]) -> Iterator[list[int]]:
        group: list[int] = []
        for i in sorted(range(len(spans)), key=lambda i: len(spans[i].ids)):
            if group and len(spans[i].ids) * (len(group) + 1) > self.max_tokens:
                yield group
                group = []
            group.append(i)
        if group:
            yield group

    def _fitting(self, spans: list[Span]) -> list[float]:
        try:
            return self._forward(spans)
        except RuntimeError as fault:
            if len(spans) == 1 or not _out_of_memory(fault):
                raise
        # Past the except clause, so that the failed pass and its tensors are no longer held by a traceback.
        self.max_tokens = min(self.max_tokens, len(spans) * len(spans[-1].ids) // 2)
        half = len(spans) // 2
        return self._fitting(spans[:half]) + self._fitting(spans[half:])

    def _forward(self, spans: list[Span]) -> list[float]:
        import torch
        from torch.nn.functional import cross_entropy

        with torch.inference_mode():
            lengths = torch.tensor([len(span.ids) for span in spans])
            width = int(lengths.max())
            # Padded on the right with any valid id: what comes later cannot be seen by what is scored.
            ids = torch.tensor([[*span.ids, *[span.ids[0]] * (width - len(span.ids))] for span in spans], device=self.model.device)
            mask = (torch.arange(width) < lengths[:, None]).long().to(self.model.device)
            rows = torch.tensor([row for row, span in enumerate(spans) for _ in range(span.n)], device=self.model.device)
            columns = torch.tensor([c for span in spans for c in range(len(span.ids) - span.n, len(span.ids))], device=self.model.device)
            states, head = self._states(ids, mask)
            states, targets = states[rows, columns - 1], ids[rows, columns]
            step = max(1, self._max_logits // self.model.get_output_embeddings().weight.shape[0])
            losses = torch.cat(
                [
                    cross_entropy(head(some).float(), wanted, reduction="none")
                    for some, wanted in zip(torch.split(states, step), torch.split(targets, step), strict=True)
                ]
            )
            return [float(part.double().mean()) for part in torch.split(losses.cpu(), [span.n for span in spans])]

    def _states(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """(batch, length, features), and what turns features into logits."""
        asked: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if self._head is None:
            return self.model(**asked).logits, lambda logits: logits
        return self.model.base_model(**asked).last_hidden_state, self._head

    def _plain_head(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """The output projection, if it alone makes this model's logits: some models scale or cap them after it. Asked, not looked up."""
        import torch

        head = self.model.get_output_embeddings()
        if self.model.base_model is self.model:
            return None
        with torch.inference_mode():
            ids = torch.arange(8, device=self.model.device)[None] % head.weight.shape[0]
            alike = torch.equal(head(self.model.base_model(input_ids=ids).last_hidden_state), self.model(input_ids=ids).logits)
        return head if alike else None


def _out_of_memory(fault: RuntimeError) -> bool:
    import torch

    return isinstance(fault, torch.OutOfMemoryError) or "can't allocate memory" in str(fault)  # the second is the CPU's


class Scorer:
    """Scores (prompt, answer) texts; ask it from as many coroutines as you like.

    `prompt_ids` and `answer_ids` tokenise without special tokens; the first one applies the template. `await scorer.score(...)`
    gives an `IfdScore`; what goes wrong in the model is raised to those whose rows were in that batch.
    """

    def __init__(
        self, measure: Measure, prompt_ids: Callable[[str], list[int]], answer_ids: Callable[[str], list[int]], *, size: int = 64
    ) -> None:
        self.measure = measure
        self._prompt_ids = prompt_ids
        self._answer_ids = answer_ids
        # Tokenising is the worker's too, so the event loop stays free; before it, characters stand in for tokens.
        self._batcher = Batcher(self._work, size=size, cost=lambda row: len(row.prompt) + 2 * len(row.answer), name="scorer")

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        max_len: int = 2048,
        template: str = "line",
        *,
        min_tokens: int = 10,
        threads: int | None = None,
        max_tokens: int | None = None,
    ) -> Self:
        """A scorer of a transformers model: a folder or a hub name.

        `auto` is bfloat16 on a CUDA device that has it, else float32 on the CPU. `template`: "none", "line", "chat" (the
        tokenizer's own, up to the assistant's header), or a text with `{prompt}` in it. `threads` bounds torch on the CPU, for
        the whole process. `max_tokens` bounds the padded ids of one forward pass. Raises WeightsError, or InputError for a template.
        """
        weights = load_weights(path_or_name, "AutoModelForCausalLM", device, dtype, threads)
        ctx0 = _first_id(weights)
        label, render = _template(template, weights)

        def ids(text: str) -> list[int]:
            found: list[int] = weights.tokenizer(text, add_special_tokens=False)["input_ids"]
            return found

        def prompt_ids(text: str) -> list[int]:
            found = ids(render(text))
            return found[1:] if template == "chat" and found[:1] == [ctx0] else found  # many chat templates write BOS themselves

        limit = getattr(weights.model.config, "max_position_embeddings", None) or max_len
        nats = TransformerNats(weights.model, max_tokens=max_tokens or (2048 if weights.model.device.type == "cpu" else 16_384))
        return cls(Measure(nats, ctx0, weights.id, weights.dtype, label, min(max_len, limit), min_tokens), prompt_ids, ids)

    @property
    def id(self) -> str:
        """Model, dtype, template and window. Scores of scorers with different ids must not be ranked together."""
        return self.measure.id

    @property
    def min_tokens(self) -> int:
        return self.measure.min_tokens

    async def score(self, prompt: str, answer: str) -> IfdScore:
        """The score of `answer` given `prompt`. Of a conversation: the last assistant turn, given all before it as rendered text."""
        return await self._batcher.ask(_Texts(prompt, answer))

    async def aclose(self) -> None:
        await self._batcher.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _work(self, rows: list[_Texts]) -> list[IfdScore]:
        return self.measure([Pair(self._prompt_ids(row.prompt), self._answer_ids(row.answer)) for row in rows])


class _Texts(NamedTuple):
    prompt: str
    answer: str


def _first_id(weights: Weights) -> int:
    """`ctx0`: BOS, else EOS, else <|endoftext|>."""
    tokenizer = weights.tokenizer
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.get_vocab().get("<|endoftext|>")):
        if found is not None:
            return int(found)
    raise WeightsError(f"the tokenizer of {weights.id} has no BOS, no EOS and no <|endoftext|>: there is nothing to begin a text with")


def _template(template: str, weights: Weights) -> tuple[str, Callable[[str], str]]:
    """The label that a score carries (name and hash), and what writes a prompt."""
    tokenizer = weights.tokenizer
    if template == "chat":
        if not tokenizer.chat_template:
            raise WeightsError(f"the tokenizer of {weights.id} has no chat template; set `template: line`, which needs none")

        def chat(prompt: str) -> str:
            turn = [{"role": "user", "content": prompt}]
            return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))

        return f"chat:{digest(tokenizer.chat_template, length=8)}", chat
    text = TEMPLATES.get(template, template)
    if "{prompt}" not in text:
        raise InputError(unknown("template", template, [*TEMPLATES, "chat", "a text with {prompt} in it"]))
    name = template if template in TEMPLATES else "text"
    return f"{name}:{digest(text, length=8)}", lambda prompt: text.replace("{prompt}", prompt)
