"""Losses of many token sequences in few forward passes of a causal language model of transformers, without padding.

Sequences lie behind one another in one row, each at positions of its own and blind to the others; spans with the same head (the
answers of one prompt) share it, so it is computed once:

    ids        h h h h a a a   b b     h' h' c c c       two answers a and b of the head h, and one of h'
    positions  0 1 2 3 4 5 6   4 5     0  1  2 3 4
    segments   (0, 7)          (7, 9), which sees rows 0-4 before itself     (9, 14)

transformers lets a model's attention be replaced by name, and `_attention` is what is put there: it takes the row apart again. Whether
a model really keeps to it (some have no attention, or more to it than this honours) is not looked up but asked: a few spans are scored
both ways when the engine is made, and a model that gives something else is run on padded rows, or one by one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from filters.scoring.linear import Head, nats, prepack
from filters.scoring.spans import Span
from leafmill.errors import WeightsError

SHARED_FROM = 8
"""a head of fewer ids is computed again rather than shared: looking it up costs more"""
CPU_ROWS = 64
NAME = "leafmill_packed"

Window = int | None
"""how many ids back attention sees, itself included; None is all"""


class Segment(NamedTuple):
    """Rows [start, end), each of which sees the rows [head, head + seen) and those of its own segment up to itself."""

    start: int
    end: int
    head: int = 0
    seen: int = 0


@dataclass
class Plan:
    """How a row of ids is taken apart by attention."""

    segments: list[Segment]
    device: torch.device
    attend: Attend
    masks: dict[tuple[int, int, Window], torch.Tensor | None] = field(default_factory=dict)

    def mask(self, rows: int, seen: int, window: Window) -> torch.Tensor | None:
        """True where each of the last `rows` of `seen` may look; None where it is the plain causal triangle."""
        key = (rows, seen, window)
        if key not in self.masks:
            self.masks[key] = None
            if rows < seen or (window and window < seen):
                back = torch.arange(seen - rows, seen, device=self.device)[:, None] - torch.arange(seen, device=self.device)
                self.masks[key] = (back >= 0) & (back < (window or seen))
        return self.masks[key]

    @cached_property
    def keys(self) -> torch.Tensor | None:
        """Rows whose keys each segment sees, segment after segment; None where they are the rows as they lie."""
        if not any(segment.seen for segment in self.segments):
            return None
        ranges = [np.r_[s.head : s.head + s.seen, s.start : s.end] for s in self.segments]
        return torch.from_numpy(np.concatenate(ranges)).to(self.device)

    @cached_property
    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the queries and the keys of each segment end, from 0 on."""
        rows = [s.end - s.start for s in self.segments]
        seen = [s.end - s.start + s.seen for s in self.segments]
        queries, keys = (torch.tensor([0, *np.cumsum(n)], dtype=torch.int32, device=self.device) for n in (rows, seen))
        return queries, keys

    @cached_property
    def longest(self) -> tuple[int, int]:
        return max(s.end - s.start for s in self.segments), max(s.end - s.start + s.seen for s in self.segments)


Attend = Callable[[Plan, torch.Tensor, torch.Tensor, torch.Tensor, float, Window], torch.Tensor]
"""From queries, keys and values (1, heads, rows, features) to (1, rows, heads, features)."""


def by_segment(plan: Plan, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: Window) -> torch.Tensor:
    """One call of torch's own attention per segment; any device, any dtype.

    On a CPU per few rows of it, since that kernel looks also at what lies above the diagonal.
    """
    found = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    step = CPU_ROWS if query.device.type == "cpu" else query.shape[2]
    for s in plan.segments:
        keys, values = key[:, :, s.start : s.end], value[:, :, s.start : s.end]
        if s.seen:
            keys = torch.cat([key[:, :, s.head : s.head + s.seen], keys], dim=2)
            values = torch.cat([value[:, :, s.head : s.head + s.seen], values], dim=2)
        for start in range(s.start, s.end, step):
            end = min(start + step, s.end)
            seen = s.seen + end - s.start
            mask = plan.mask(end - start, seen, window)
            found[:, start:end] = scaled_dot_product_attention(
                query[:, :, start:end],
                keys[:, :, :seen],
                values[:, :, :seen],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            ).transpose(1, 2)
    return found


def varlen(plan: Plan, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: Window) -> torch.Tensor:
    """One flash-attention kernel for the whole row; CUDA, half precision."""
    from torch.nn.attention.varlen import varlen_attn

    queries, keys, values = (x[0].transpose(0, 1) for x in (query, key, value))
    if plan.keys is not None:
        keys, values = keys[plan.keys], values[plan.keys]
    found = varlen_attn(
        queries,
        keys,
        values,
        *plan.ends,
        *plan.longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    assert isinstance(found, torch.Tensor)
    return found[None]


class _Now(threading.local):
    """The plan of the pass that is under way in this thread: not every model hands keywords down to its attention."""

    plan: Plan | None = None


_now = _Now()


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls instead of its own attention. What it does not honour, it refuses."""
    beyond = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    beyond += ["a mask"] * (attention_mask is not None) + ["sight of what comes later"] * (not getattr(module, "is_causal", True))
    if beyond:
        raise NotImplementedError(f"{type(module).__name__} asks for {', '.join(beyond)}")
    if _now.plan is None:
        raise RuntimeError("this model's attention was replaced: ask it through PackedNats")
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    return _now.plan.attend(_now.plan, query, key, value, scaling, sliding_window), None


AttentionInterface.register(NAME, _attention)


class Row(NamedTuple):
    """Spans laid in one row of ids: the rows that predict what is scored, in the order of the spans, and the ids wanted there."""

    ids: np.ndarray
    positions: np.ndarray
    segments: list[Segment]
    reads: np.ndarray
    wanted: np.ndarray


def lay(spans: Sequence[Span], *, share: int = SHARED_FROM, multiple: int = 1) -> Row:
    """Lays spans behind one another, the last id of each left out, for it predicts nothing. Filled up to a multiple of `multiple`."""
    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    segments: list[Segment] = []
    reads: list[np.ndarray] = []
    heads: dict[tuple[int, ...], int] = {}
    at = 0
    for span in spans:
        head = span.head
        start = heads.get(head) if len(head) >= share else None
        seen = 0 if start is None else len(head)
        new = np.array(span.ids[seen:-1], dtype=np.int64)
        if start is None:
            start = heads[head] = at
            reads.append(np.arange(at + len(head) - 1, at + len(new)))
        else:
            reads.append(np.r_[start + seen - 1, at : at + len(new)])
        if len(new):
            segments.append(Segment(at, at + len(new), start if seen else 0, seen))
        ids.append(new)
        positions.append(np.arange(seen, seen + len(new)))
        at += len(new)
    if rest := -at % multiple:
        segments.append(Segment(at, at + rest))
        ids.append(np.zeros(rest, dtype=np.int64))
        positions.append(np.arange(rest))
    wanted = np.concatenate([np.array(span.ids[-span.n :], dtype=np.int64) for span in spans])
    return Row(np.concatenate(ids), np.concatenate(positions), segments, np.concatenate(reads), wanted)


def packs(spans: Sequence[Span], max_tokens: int, *, share: int = SHARED_FROM) -> Iterator[list[int]]:
    """Indices of the spans that share a forward pass: about equally many ids in each, at most `max_tokens` unless one span has more.

    Spans of one head go together.
    """
    heads: dict[tuple[int, ...], list[int]] = {}
    for i, span in enumerate(spans):
        heads.setdefault(span.head if len(span.head) >= share else (-1, i), []).append(i)
    groups = [group for together in heads.values() for group in _split(spans, together, max_tokens)]
    costs = [_cost(spans, group) for group in groups]
    limit = sum(costs) / max(1, -(-sum(costs) // max_tokens))
    pack: list[int] = []
    total = 0
    for cost, group in sorted(zip(costs, groups, strict=True), reverse=True):
        if pack and (total + cost > max_tokens or total >= limit):
            yield pack
            pack, total = [], 0
        pack, total = pack + group, total + cost
    if pack:
        yield pack


def _split(spans: Sequence[Span], together: list[int], max_tokens: int) -> Iterator[list[int]]:
    """Spans of one head, in parts that fit a pass."""
    group: list[int] = []
    for i in together:
        if group and _cost(spans, [*group, i]) > max_tokens:
            yield group
            group = []
        group.append(i)
    yield group


def _cost(spans: Sequence[Span], group: list[int]) -> int:
    """Ids to compute for spans of one head."""
    return len(spans[group[0]].head) + sum(spans[i].n - 1 for i in group)


class PackedNats:
    """`Nats` from a causal language model of transformers, which it takes over: no one else can use that model any more.

    A pass has at most `max_tokens` ids. Out of memory halves it and lowers `max_tokens` for good; a span that does not fit alone
    raises. Logits exist for `rows` ids at once. `window` is the longest span that will be asked, and `info` says how the model is run.
    Not for use from two threads at once.
    """

    def __init__(self, model: Any, *, max_tokens: int | None = None, rows: int | None = None, window: int = 2048) -> None:
        cuda = model.device.type == "cuda"
        exact = model.dtype == torch.float32
        self.model = model
        self.max_tokens = max_tokens or (16_384 if cuda else 1024)
        self.dtype = str(model.dtype).removeprefix("torch.")
        """of the products, and of what is between them where that is another"""
        self._multiple = 128 if cuda else 1  # shapes repeat, and suit the tensor cores
        self._attend: Attend | None = None
        with torch.inference_mode():
            self._head = _head(model, rows or (256 if cuda else 64))
            probe = _probe(model.config, window)
            truth = [self._padded_states([span])[0].float() for span in probe]
            if self._head is not None:
                model.set_output_embeddings(torch.nn.Identity())  # its weights are the head's now
            if self._head is not None and not cuda:
                prepack(model)
                self.dtype += "" if exact else "+float32"
                came, truth = truth, [self._padded_states([span])[0].float() for span in probe]
                if (off := _distance(truth, came)) > (
                    1e-3 if exact else 0.2
                ):  # in half precision it is the one that came which is less exact
                    raise WeightsError(f"{type(model).__name__} gives other states with its layers prepacked: off by {off:.1g}")
            self.info = self._settle(probe, truth, 1e-3 if exact else 5e-2)

    def compile(self) -> None:
        """Has torch fuse what is small inside the layers; attention stays as it is. For CUDA, and off until asked for: it takes a while."""
        layers = set(self.model._no_split_modules or ())
        for module in self.model.modules():
            if type(module).__name__ in layers:
                module.compile(dynamic=True)

    def __call__(self, spans: Sequence[Span]) -> list[float]:
        if not spans:
            return []
        groups = list(packs(spans, self.max_tokens) if self._attend else _padded(spans, self.max_tokens))
        parts = [part for group in groups for part in self._fitting([spans[i] for i in group])]
        # Fetched at the end, so that a GPU works on one pass while the next is being laid.
        losses = torch.cat(parts).double().cpu().numpy()
        order = [i for group in groups for i in group]
        starts = np.cumsum([0, *(spans[i].n for i in order[:-1])])
        means = dict(zip(order, np.add.reduceat(losses, starts), strict=True))
        return [float(means[i] / span.n) for i, span in enumerate(spans)]

    def _fitting(self, spans: list[Span]) -> list[torch.Tensor]:
        try:
            return [self._losses(spans)]
        except RuntimeError as fault:
            if len(spans) == 1 or not _out_of_memory(fault):
                raise
        # Past the except clause, so that the failed pass and its tensors are no longer held by a traceback.
        half = len(spans) // 2
        self.max_tokens = min(self.max_tokens, max(1, sum(len(span.ids) for span in spans) // 2))
        return self._fitting(spans[:half]) + self._fitting(spans[half:])

    @torch.inference_mode()
    def _losses(self, spans: list[Span]) -> torch.Tensor:
        """Of all scored ids, span after span."""
        states, wanted = self._states(spans)
        if self._head is None:
            return nats(states, wanted)
        return self._head.nats(states, wanted)

    def _states(self, spans: Sequence[Span]) -> tuple[torch.Tensor, torch.Tensor]:
        """What predicts each scored id (the last hidden state, or logits where only the whole model knows them), and that id."""
        return self._padded_states(spans) if self._attend is None else self._packed_states(spans, self._attend)

    def _packed_states(self, spans: Sequence[Span], attend: Attend) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.model.device
        row = lay(spans, multiple=self._multiple)
        ids, positions, reads, wanted = (
            torch.from_numpy(x).to(device, non_blocking=True) for x in (row.ids, row.positions, row.reads, row.wanted)
        )
        _now.plan = Plan(row.segments, device, attend)
        try:
            found = self._features(input_ids=ids[None], position_ids=positions[None])
        finally:
            _now.plan = None
        return found[0, reads], wanted

    def _padded_states(self, spans: Sequence[Span]) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.model.device
        width = max(len(span.ids) for span in spans)
        # Padded on the right with any valid id: what comes later cannot be seen by what is scored.
        ids = torch.tensor([[*span.ids, *[span.ids[0]] * (width - len(span.ids))] for span in spans], device=device)
        mask = torch.tensor([[1] * len(span.ids) + [0] * (width - len(span.ids)) for span in spans], device=device)
        found = self._features(input_ids=ids, attention_mask=mask)
        rows = torch.tensor([row for row, span in enumerate(spans) for _ in range(span.n)], device=device)
        columns = torch.tensor([c for span in spans for c in range(len(span.ids) - span.n, len(span.ids))], device=device)
        return found[rows, columns - 1], ids[rows, columns]

    def _features(self, **asked: Any) -> torch.Tensor:
        found: torch.Tensor = (self.model if self._head is None else self.model.base_model)(**asked, use_cache=False)[0]
        return found

    def _settle(self, probe: list[Span], truth: list[torch.Tensor], tolerance: float) -> str:
        """Takes the first way to run this model that gives what it gives by itself. Says which, and what was wrong with the others."""
        own = self.model.config._attn_implementation
        half_on_cuda = self.model.device.type == "cuda" and self.model.dtype in (torch.bfloat16, torch.float16)
        packed: dict[str, Attend] = {"packed (flash)": varlen} if half_on_cuda else {}
        wrong = ""
        for way, attend in (packed | {"packed": by_segment, "padded": None, "one by one": None}).items():
            self._attend = attend
            if way == "one by one":
                self.max_tokens = 1
            try:
                self.model.set_attn_implementation(NAME if attend else own)
                states = [self._states(group)[0].float() for group in ([[span] for span in probe] if self.max_tokens == 1 else [probe])]
            except (RuntimeError, ValueError, TypeError, ImportError) as fault:
                wrong += f"; not {way}: {' '.join(str(fault).split())[:200]}"
                continue
            off = _distance(torch.split(torch.cat(states), [span.n for span in probe]), truth)
            if off <= tolerance:
                return way + wrong
            wrong += f"; not {way}: its states are off by {off:.1g}"
        raise WeightsError(f"{type(self.model).__name__} gives other states whenever it is asked in another way{wrong}")


def _padded(spans: Sequence[Span], max_tokens: int) -> Iterator[list[int]]:
    """Indices of spans of like length, at most `max_tokens` ids with what fills them up."""
    group: list[int] = []
    for i in sorted(range(len(spans)), key=lambda i: len(spans[i].ids)):
        if group and len(spans[i].ids) * (len(group) + 1) > max_tokens:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _probe(config: Any, longest: int) -> list[Span]:
    """Spans that tell a right way to run a model from a wrong one: unlike lengths, a shared head, one that outgrows a sliding window."""
    windows = [getattr(config, name, None) or 0 for name in ("sliding_window", "attention_chunk_size")]
    far = max([1, *(window for window in windows if window < longest)])
    head = range(3, 3 + 2 * SHARED_FROM)
    parts = [(head, 5), (range(50, 51), 7), (head, 4), (range(7, 20), 3), (range(30, 30 + far), 20)]
    vocabulary = config.get_text_config().vocab_size
    return [Span(tuple(i * i * 7919 % vocabulary for i in [*first, *range(100, 100 + n)]), n) for first, n in parts]


def _distance(found: Sequence[torch.Tensor], truth: Sequence[torch.Tensor]) -> float:
    """Of the span that is worst off, by the median of its states, relative to their length; infinite if other numbers are missing.

    The median, for a single state may turn on a rounding: some models have ids at which a few features are a thousand times the rest.
    """
    return max(map(_off, found, truth))


def _off(found: torch.Tensor, truth: torch.Tensor) -> float:
    if not torch.equal(found.isnan(), truth.isnan()):
        return math.inf
    found, truth = found.nan_to_num(), truth.nan_to_num()
    return float(((found - truth).norm(dim=-1) / truth.norm(dim=-1).clamp(min=1e-9)).median())


def _head(model: Any, rows: int) -> Head | None:
    """The projection onto the vocabulary, and what this model does to its logits after it. None if that is something unknown."""
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return None
    ids = torch.arange(8, device=model.device)[None] % head.weight.shape[0]
    logits = model(input_ids=ids, use_cache=False).logits.float()
    plain = head(model.base_model(input_ids=ids, use_cache=False)[0]).float()
    tolerance = (1e-5 if model.dtype == torch.float32 else 2e-2) * float(logits.nan_to_num().abs().max())
    for shape in (*_shapes(model.config.get_text_config()), None):  # before none at all: small logits are hardly changed by a cap
        if torch.allclose(shape(plain) if shape else plain, logits, rtol=0, atol=tolerance, equal_nan=True):
            return Head(head.weight, head.bias, shape, rows)
    return None


def _shapes(config: Any) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """What some families do to their logits, by the names of their settings."""
    if cap := getattr(config, "final_logit_softcapping", None):
        yield lambda logits: torch.tanh(logits / cap) * cap
    if scale := getattr(config, "logit_scale", None):
        yield lambda logits: logits * scale
    if scaling := getattr(config, "logits_scaling", None):
        yield lambda logits: logits / scaling


def _out_of_memory(fault: RuntimeError) -> bool:
    return isinstance(fault, torch.OutOfMemoryError) or "can't allocate memory" in str(fault)  # the second is the CPU's
