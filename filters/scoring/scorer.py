"""How much a prompt helps a language model to predict an answer: the two mean losses that instruction-following difficulty (IFD) needs.

    s_cond   = -(1/N) sum_i log p(w_i | prompt, w_<i)    nats per token
    s_uncond = -(1/N) sum_i log p(w_i | w_<i)            nats per token

Cherry_LLM (arXiv 2308.12032) ranks by the ratio s_cond / s_uncond, Superfiltering (arXiv 2402.00530) by the ratio of perplexities
exp(s_cond - s_uncond). Here prompt and answer are tokenised apart and both passes begin with the same token `ctx0`, so both score
the same N ids, the first one included: the reference implementations lose or shift tokens there.

    Scorer    text in, IfdScore out; batches what many ask at once
    Measure   token ids in, IfdScore out; knows the rules and no model
    Nats      spans of token ids in, mean losses out: `PackedNats` (packing.py) asks a model, `from_logits` a plain function
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np

from filters.batcher import Batcher
from filters.scoring.spans import Nats, Span
from filters.weights import Weights, load_weights
from leafmill.errors import InputError, WeightsError, unknown
from leafmill.records import Turn, digest

TEMPLATES = {"none": "{prompt}", "line": "{prompt}\n"}
"""How a prompt is written before its answer. `none` is the text as given; `line` ends it with a newline, as Superfiltering does."""

REVERSE = {
    "en": "{answer}\n\nThe text above answers this request:",
    "zh": "{answer}\n\n上面的文字回答的是这个请求：",
}
"""How an answer asks for its prompt: the prompt of `Scorer.reverse`, by the language of the row, to be written by the template in turn."""

Prompt = str | Sequence[Turn]
"""What stands before an answer: one message of a user, or all turns of a conversation."""


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


class Asked(NamedTuple):
    """A prompt as it is written before its answer."""

    prompt: str
    answer: str


Ids = Callable[[list[str]], list[list[int]]]
"""Tokenises texts without special tokens."""


class Scorer:
    """Scores (prompt, answer) texts; ask it from as many coroutines as you like.

    `write` writes turns as the text that stands before an answer, `ids` tokenises. Two threads take turns: one tokenises the next rows
    while the other has the model at work. What goes wrong in either is raised to those whose rows were in that batch.
    """

    def __init__(
        self, measure: Measure, ids: Ids, write: Callable[[Sequence[Turn]], str], *, size: int = 256, max_cost: float | None = None
    ) -> None:
        self.measure = measure
        self._ids = ids
        self._write = write
        self._tokenising = Batcher(self._tokenise, size=size, padded=False, name="tokeniser")
        self._scoring: Batcher[Pair, IfdScore] = Batcher(
            lambda pairs: self.measure(pairs),
            size=size,
            max_cost=max_cost,
            cost=lambda pair: len(pair.prompt) + 2 * len(pair.answer),
            padded=False,
            name="scorer",
        )

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

        `auto` is bfloat16 on a CUDA device that has it, else float32. bfloat16 on the CPU is that of the matrix products alone, about
        twice as fast there; what is between them stays float32. `template`: "none", "line", "chat" (the tokenizer's own, up to the
        assistant's header), or a text with `{prompt}` in it. `threads` bounds torch on the CPU, for the whole process. `max_tokens` bounds
        the ids of one forward pass. Raises WeightsError, or InputError for a template.
        """
        weights = load_weights(path_or_name, "AutoModelForCausalLM", device, dtype, threads)
        from filters.scoring.packing import PackedNats

        ctx0 = _first_id(weights)
        label, write = _template(template, weights)
        limit = getattr(weights.model.config, "max_position_embeddings", None) or max_len
        window = min(max_len, limit)
        nats = PackedNats(weights.model, max_tokens=max_tokens, window=window)

        def ids(texts: list[str]) -> list[list[int]]:
            found: list[list[int]] = weights.tokenizer(texts, add_special_tokens=False)["input_ids"]
            return found

        return cls(Measure(nats, ctx0, weights.id, nats.dtype, label, window, min_tokens), ids, write, max_cost=4 * nats.max_tokens)

    @property
    def id(self) -> str:
        """Model, dtype, template and window. Scores of scorers with different ids must not be ranked together."""
        return self.measure.id

    @property
    def min_tokens(self) -> int:
        return self.measure.min_tokens

    @property
    def info(self) -> str:
        """How the model is run, in words: packed, or in some slower way and why."""
        return str(getattr(self.measure.nats, "info", "a plain function"))

    async def score(self, prompt: Prompt, answer: str) -> IfdScore:
        """The score of `answer` given `prompt`: of the last assistant turn, given all turns before it."""
        return await self._ask(Asked(self._write(_turns(prompt)), answer))

    async def reverse(self, prompt: Prompt, answer: str, language: str = "en") -> IfdScore:
        """How well the answer predicts its prompt (the reverse IFD of Reflection-Tuning): the score with the two in each other's place.

        The answer asks for its prompt in the words of `REVERSE`; a conversation is predicted as it is written without a template.
        """
        if language not in REVERSE:
            raise InputError(unknown("language", language, REVERSE))
        asking = REVERSE[language].replace("{answer}", answer)
        found = await self._ask(Asked(self._write(_turns(asking)), _plain(_turns(prompt))))
        return replace(found, template=f"{found.template}|reverse-{language}:{digest(REVERSE[language], length=8)}")

    async def aclose(self) -> None:
        await self._tokenising.aclose()
        await self._scoring.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, asked: Asked) -> IfdScore:
        return await self._scoring.ask(await self._tokenising.ask(asked))

    def _tokenise(self, rows: list[Asked]) -> list[Pair]:
        """Each text once: the answers of one prompt share it."""
        texts = list(dict.fromkeys(text for row in rows for text in row))
        known = dict(zip(texts, self._ids(texts), strict=True))
        return [Pair(known[row.prompt], known[row.answer]) for row in rows]


def _turns(prompt: Prompt) -> Sequence[Turn]:
    return [Turn(role="user", content=prompt)] if isinstance(prompt, str) else prompt


def _plain(turns: Sequence[Turn]) -> str:
    """A conversation as text: the one message of a user as it is, else every turn behind the name of its role, a line break between."""
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.text}" for turn in turns)


def _first_id(weights: Weights) -> int:
    """`ctx0`: BOS, else EOS, else <|endoftext|>."""
    tokenizer = weights.tokenizer
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.get_vocab().get("<|endoftext|>")):
        if found is not None:
            return int(found)
    raise WeightsError(f"the tokenizer of {weights.id} has no BOS, no EOS and no <|endoftext|>: there is nothing to begin a text with")


def _template(template: str, weights: Weights) -> tuple[str, Callable[[Sequence[Turn]], str]]:
    """The label that a score carries (name and hash), and what writes the turns before an answer."""
    tokenizer = weights.tokenizer
    if template == "chat":
        if not tokenizer.chat_template:
            raise WeightsError(f"the tokenizer of {weights.id} has no chat template; set `template: line`, which needs none")

        def chat(turns: Sequence[Turn]) -> str:
            import jinja2

            messages = [turn.plain for turn in turns]
            try:
                text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
            except jinja2.TemplateError as fault:
                roles = ", ".join(turn.role for turn in turns)
                raise InputError(
                    f"the chat template of {weights.id} refuses turns of {roles} ({fault}); `template: line` takes any"
                ) from fault
            return text.removeprefix(tokenizer.bos_token or "")  # many write BOS themselves; the first id is put there anyway

        return f"chat:{digest(tokenizer.chat_template, length=8)}", chat
    text = TEMPLATES.get(template, template)
    if "{prompt}" not in text:
        raise InputError(unknown("template", template, [*TEMPLATES, "chat", "a text with {prompt} in it"]))
    name = template if template in TEMPLATES else "text"
    return f"{name}:{digest(text, length=8)}", lambda turns: text.replace("{prompt}", _plain(turns))
