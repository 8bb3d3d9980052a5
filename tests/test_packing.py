"""The packed engine: whatever lies beside it, whatever it shares, a sequence gets the losses that its model gives it alone."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from bench import ifd
from filters.scoring import packing
from filters.scoring.linear import Gated, Head, Prepacked
from filters.scoring.packing import PackedNats, Plan, Segment, by_segment, lay, packs, varlen
from filters.scoring.scorer import from_logits
from filters.scoring.spans import Span
from leafmill.errors import WeightsError

torch.set_num_threads(1)
V = 97
SMALL = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # wide enough that predictions differ
}
GPT = {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.3}
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "llama, tied, with biases": lambda: LlamaForCausalLM(
        LlamaConfig(**SMALL, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "mistral, window of 24": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=24)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT)),
    "cohere, scaled logits": lambda: CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25, tie_word_embeddings=True)),
    "gemma2, capped scores and logits": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=0.5, attn_logit_softcapping=0.5)
    ),
    "bloom, no positions": lambda: BloomForCausalLM(BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3)),
}


def made(kind):
    torch.manual_seed(0)
    return KINDS[kind]().eval()


def truth(model, spans):
    """The losses in float64 of the model as it is: one sequence, all logits."""
    model = copy.deepcopy(model).double()

    def logits(batch):
        with torch.inference_mode():
            return [model(torch.tensor([ids])).logits[0].numpy() for ids in batch]

    return from_logits(logits)(spans)


def some(count, seed=0, *, heads=3, longest=70):
    """Spans of unlike lengths, some of which begin alike: heads too short to share and long ones, answers of one id."""
    rng = np.random.default_rng(seed)
    known = [tuple(rng.integers(0, V, rng.integers(1, longest)).tolist()) for _ in range(heads)]
    spans = []
    for _ in range(count):
        answer = tuple(rng.integers(0, V, rng.choice([1, 2, 9, 40])).tolist())
        spans.append(Span(known[rng.integers(heads)] + answer, len(answer)))
    return spans


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_gets_what_its_own_code_gives_it_in_float64(kind):
    model, spans = made(kind), some(12)
    expected = truth(model, spans)
    nats = PackedNats(model, max_tokens=300)
    assert nats(spans) == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected) > 0.05
    assert nats._head is not None  # only scored ids are projected
    packed = not kind.startswith(("gemma2", "bloom"))
    assert nats.info.split("; ")[0] == ("packed" if packed else "padded")
    assert packed or nats.info.startswith("padded; not packed: ")  # and why


@pytest.fixture(scope="module")
def llama():
    return PackedNats(made("llama"))


@pytest.fixture(scope="module")
def rough():
    return PackedNats(made("llama").bfloat16())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 14), max_tokens=st.integers(1, 500))
def test_no_company_changes_a_loss(llama, seed, count, max_tokens):
    spans = some(count, seed)
    llama.max_tokens = max_tokens
    assert llama(spans) == pytest.approx([llama([span])[0] for span in spans], abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), max_tokens=st.integers(1, 500))
def test_no_company_changes_a_loss_in_bfloat16_by_two_hundredths(rough, seed, max_tokens):
    spans = [span for span in some(10, seed) if span.n >= 9]
    rough.max_tokens = max_tokens
    assert rough(spans) == pytest.approx([rough([span])[0] for span in spans], abs=2e-2)


def test_bfloat16_on_a_cpu_is_that_of_the_products_only(rough):
    model, spans = made("llama"), some(12)
    expected = truth(model, spans)
    assert rough.dtype == "bfloat16+float32"
    assert abs(np.subtract(rough(spans), expected)).mean() < 2e-2
    with torch.inference_mode():
        states, _ = rough._states(spans)
    assert states.dtype == torch.float32
    assert sum(isinstance(module, Gated) for module in rough.model.modules()) == 2
    assert not any(type(module) is torch.nn.Linear for module in rough.model.modules())  # none is kept beside its packed copy


@pytest.mark.parametrize("kind", ["gpt2", "cohere, scaled logits", "gemma2, capped scores and logits"])
def test_other_families_run_in_bfloat16_too(kind):
    model, spans = made(kind), some(12)
    expected = truth(model, spans)
    assert abs(np.subtract(PackedNats(model.bfloat16())(spans), expected)).mean() < 3e-2


def test_a_large_bias_is_not_rounded_with_what_it_is_added_to():
    torch.manual_seed(0)
    weight, bias, x = torch.randn(32, 16).bfloat16(), torch.full((32,), 300.0).bfloat16(), torch.randn(8, 16)
    exact = x.bfloat16().float() @ weight.float().T + bias.float()
    assert torch.allclose(Prepacked(weight, bias)(x), exact, rtol=0, atol=0.1)  # one part in 256 of 300 is more than 1


def test_what_begins_alike_is_computed_once():
    head = tuple(range(30))
    answers = [(31, 32, 33), (41,), (51, 52)]
    row = lay([Span(head + answer, len(answer)) for answer in answers] + [Span((1, 7, 7), 2), Span((1, 8, 8), 2)])
    assert row.segments == [Segment(0, 32), Segment(32, 33, 0, 30), Segment(33, 35), Segment(35, 37)]  # a head of one id is not worth it
    assert row.ids.tolist() == [*head, 31, 32, 51, 1, 7, 1, 8]
    assert row.positions.tolist() == [*range(32), 30, 0, 1, 0, 1]
    assert row.reads.tolist() == [29, 30, 31, 29, 29, 32, 33, 34, 35, 36]
    assert row.wanted.tolist() == [31, 32, 33, 41, 51, 52, 7, 7, 8, 8]
    assert len(lay([Span((1, 2, 3), 1)], multiple=16).ids) == 16


def test_a_shared_head_changes_no_loss(llama, monkeypatch):
    spans = some(16, heads=2)
    llama.max_tokens = 10_000
    shared = llama(spans)
    monkeypatch.setattr(packing, "SHARED_FROM", 10_000)
    rows = []
    monkeypatch.setattr(packing, "lay", lambda spans, **options: rows.append(lay(spans, **options | {"share": 10_000})) or rows[-1])
    assert llama(spans) == pytest.approx(shared, abs=1e-5)
    assert sum(len(row.ids) for row in rows) == sum(len(span.ids) - 1 for span in spans) > len(lay(spans).ids) + 200


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), max_tokens=st.integers(1, 300))
def test_every_span_is_in_one_pack_and_no_pack_is_too_long(seed, count, max_tokens):
    spans = some(count, seed)
    found = list(packs(spans, max_tokens))
    assert sorted(i for pack in found for i in pack) == list(range(count))
    for pack in found:
        assert len(pack) == 1 or len(lay([spans[i] for i in pack]).ids) <= max_tokens


def test_the_answers_of_one_prompt_are_not_parted_where_a_pass_holds_them():
    answers = [Span((*range(30), i, i), 2) for i in range(40, 60)]
    others = [Span((1, i, i, i), 3) for i in range(20)]
    found = list(packs(answers + others, 60))
    assert set(range(20)) < set(found[0])
    assert [len(lay([(answers + others)[i] for i in pack]).ids) for pack in found] == [56, 54]  # and the passes are about alike
    assert len(list(packs(answers, 40))) == 2  # where it does not


def test_an_exhausted_device_gets_half_the_pack_and_goes_on():
    model, spans = made("llama"), some(16)
    expected = truth(model, spans)
    nats = PackedNats(model, max_tokens=100_000)
    asked = []

    def refuse(module, args, kwargs):
        asked.append(kwargs["input_ids"].shape[1])
        if asked[-1] > 150:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.model.register_forward_pre_hook(refuse, with_kwargs=True)
    assert nats(spans) == pytest.approx(expected, abs=1e-4)
    assert asked[0] > 150
    del asked[:]
    nats(spans)
    assert len([length for length in asked if length > 150]) < 2  # it has learnt
    with pytest.raises(torch.OutOfMemoryError):
        nats([Span(tuple([3] * 200), 10)])


def test_a_model_that_looks_ahead_when_it_is_padded_is_asked_one_by_one(monkeypatch):
    model, spans = made("bloom, no positions"), some(6)
    expected = truth(model, spans)
    plain = model.transformer.forward

    def spoilt(input_ids, **options):
        found = plain(input_ids, **options)
        found.last_hidden_state = found.last_hidden_state + 0.1 * (input_ids.shape[0] - 1)
        return found

    monkeypatch.setattr(model.transformer, "forward", spoilt)
    nats = PackedNats(model)
    assert nats.info.startswith("one by one; not packed: ")
    assert "not padded: its states are off by" in nats.info
    assert nats(spans) == pytest.approx(expected, abs=1e-4)


def test_a_model_whose_states_cannot_be_told_is_refused():
    model = made("llama")
    model.model.norm.register_forward_hook(lambda module, asked, found: found + torch.randn_like(found))
    with pytest.raises(WeightsError, match="LlamaForCausalLM gives other states whenever it is asked in another way; not packed: "):
        PackedNats(model)


def test_attention_that_was_replaced_does_not_answer_to_others(llama):
    with pytest.raises(RuntimeError, match="ask it through PackedNats"):
        llama.model.model(torch.tensor([[1, 2, 3]]))


def reference_varlen(query, key, value, ends_q, ends_k, longest_q, longest_k, *, scale, window_size, enable_gqa):
    """What torch's flash attention promises for rows of unlike lengths, one at a time; its own kernel runs on CUDA only."""
    found, groups = torch.empty_like(query), query.shape[1] // key.shape[1]
    assert (groups > 1) == enable_gqa
    assert ends_q.dtype == ends_k.dtype == torch.int32
    for a, b, c, d in zip(ends_q, ends_q[1:], ends_k, ends_k[1:], strict=False):
        assert b - a <= longest_q
        assert d - c <= longest_k
        q, k, v = query[a:b], key[c:d].repeat_interleave(groups, 1), value[c:d].repeat_interleave(groups, 1)
        back = torch.arange(d - c - (b - a), d - c)[:, None] - torch.arange(d - c)
        hidden = (back < -window_size[1]) | ((back > window_size[0]) if window_size[0] >= 0 else torch.zeros_like(back, dtype=torch.bool))
        weights = torch.einsum("qhd,khd->hqk", q, k) * scale
        found[a:b] = torch.einsum("hqk,khd->qhd", weights.masked_fill(hidden, -torch.inf).softmax(-1), v)
    return found


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("heads", [1, 4])
def test_both_ways_to_attend_agree(monkeypatch, window, heads):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", reference_varlen)
    torch.manual_seed(0)
    for spans in (some(8), [Span((1, 2, 3), 1), Span(tuple(range(90)), 9)]):
        row = lay(spans, multiple=16)
        plan = Plan(row.segments, torch.device("cpu"), by_segment)
        query = torch.randn(1, 4, len(row.ids), 8)
        key, value = (torch.randn(1, heads, len(row.ids), 8) for _ in range(2))
        found = [way(plan, query, key, value, 0.3, window) for way in (by_segment, varlen)]
        assert torch.allclose(*found, atol=1e-5)


def test_a_shifted_projection_loses_nothing_that_its_inputs_had():
    torch.manual_seed(0)
    weight, states = torch.randn(500, 64).bfloat16(), torch.randn(200, 64).bfloat16()
    logits = states.double() @ weight.double().T
    wanted = torch.multinomial(logits.softmax(-1), 1)[:, 0]
    expected = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    plain = torch.nn.functional.cross_entropy(logits.bfloat16().float(), wanted, reduction="none")
    off = (Head(weight, None, None, rows=7).nats(states.float(), wanted) - expected).abs()
    assert off.mean() < (plain - expected).abs().mean() / 10


def test_few_logits_at_a_time_change_nothing(llama):
    spans = some(8)
    assert PackedNats(made("llama"), rows=3)(spans) == pytest.approx(llama(spans), abs=1e-5)


def test_the_bench_asks_all_ways_about_the_same_rows_and_finds_them_alike(monkeypatch, capsys):
    monkeypatch.setitem(ifd.SHAPES, "135m", (32, 48, 2, 4, 2, V, True))
    monkeypatch.setattr("sys.argv", ["ifd", "--device", "cpu", "--rows", "6", "--json"])
    ifd.main()
    found = json.loads(capsys.readouterr().out)
    exact, rough = (found["ways"][way] for way in ("float32, packed", "bfloat16+float32, packed"))
    assert found["ways"].keys() == {"reference", "float32, packed", "bfloat16+float32, packed"}
    assert exact["loss off float64"] < exact["IFD off reference"] + 1e-4 < 2e-4
    assert 0 < rough["loss off float64"] < 2e-2
    assert found["8 answers of 53 ids to a prompt of 300"]["float32"]["loss off one by one"] < 1e-4
