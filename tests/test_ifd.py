"""The IFD scorer and its gate: T1-T9 with exact numbers, first on toy functions, then on a tiny model that really runs."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from filters.gate import Subject, judge, version
from filters.scoring.ifd import Ifd
from filters.scoring.scorer import IfdScore, Measure, Pair, Scorer, Span, TransformerNats, from_logits
from leafmill.errors import InputError, WeightsError
from leafmill.records import Row

torch.set_num_threads(1)
BOS, PROMPT, A, B = 0, 1, 2, 3


def bigram(probabilities, vocabulary=4):
    """Logits of a toy model: p(next | last) as given, the rest spread evenly."""

    def logits(batch):
        return [np.log(np.array([row(last) for last in ids])) for ids in batch]

    def row(last):
        known = {after: p for (before, after), p in probabilities.items() if before == last}
        left = (1 - sum(known.values())) / (vocabulary - len(known))
        return [known.get(i, left) for i in range(vocabulary)]

    return logits


def measure(logits, **options):
    return Measure(from_logits(logits), BOS, "toy", **{"min_tokens": 1, "max_len": 64} | options)


def score(s_cond, s_uncond, **fields):
    known = {
        "n": 10,
        "truncated": False,
        "state": "scored",
        "code": "",
        "model": "toy",
        "dtype": "float64",
        "template": "none",
        "max_len": 64,
    }
    return IfdScore(s_cond=s_cond, s_uncond=s_uncond, **known | fields)


class Fixed:
    """A scorer that has made up its mind."""

    id, min_tokens = "toy|float64|none|64", 10

    def __init__(self, result):
        self.result = result

    async def score(self, prompt, answer):
        return self.result


def subject(language="en", answer="An answer."):
    return Subject("row", Row(language=language, instruction="Say it.", answer=answer))


def test_T1_the_first_answer_token_counts_in_both_passes():
    toy = bigram({(BOS, A): 0.2, (PROMPT, A): 0.8, (A, B): 0.5})
    (found,) = measure(toy)([Pair([PROMPT], [A, B])])
    assert found.s_uncond == pytest.approx(1.151293, abs=1e-6)
    assert found.s_cond == pytest.approx(0.458145, abs=1e-6)
    assert found.loss_ratio == pytest.approx(0.397940, abs=1e-6)
    assert found.ppl_ratio == pytest.approx(0.5, abs=1e-6)
    # what a scorer gives that drops the first token of the pass without prompt
    assert (round(found.s_cond / math.log(2), 6), round(math.exp(found.s_cond - math.log(2)), 6)) == (0.660964, 0.790569)
    assert found.loss_ratio != pytest.approx(0.660964, abs=0.1)
    assert found.ppl_ratio != pytest.approx(0.790569, abs=0.1)


def test_T2_half_the_uncertainty_is_a_ratio_of_one_half():
    helped = bigram({(PROMPT, A): 0.5, (A, A): 0.5})
    uniform = bigram({})
    (found,) = measure(lambda batch: [(helped if PROMPT in ids else uniform)([ids])[0] for ids in batch])([Pair([PROMPT], [A] * 12)])
    assert (found.s_cond, found.s_uncond) == pytest.approx((math.log(2), math.log(4)))
    assert (found.loss_ratio, found.ppl_ratio, found.delta) == pytest.approx((0.5, 0.5, -math.log(2)))


def test_T3_the_two_ratios_rank_two_rows_the_other_way_round():
    x, y = score(3.6, 4.0), score(0.85, 1.0)
    assert (x.loss_ratio, x.ppl_ratio) == pytest.approx((0.9, 0.670320), abs=1e-6)
    assert (y.loss_ratio, y.ppl_ratio) == pytest.approx((0.85, 0.860708), abs=1e-6)


def test_T4_the_worked_example_of_the_paper():
    assert score(0.696, 0.761).loss_ratio == pytest.approx(0.9146, abs=1e-4)


@pytest.mark.parametrize("variant", ["loss_ratio", "ppl_ratio"])
async def test_T5_a_prompt_that_changes_nothing_is_exactly_one_and_rejected(variant):
    (found,) = measure(bigram({(A, B): 0.3}))([Pair([], [A, B] * 6)])
    assert (found.loss_ratio, found.ppl_ratio) == (1.0, 1.0)
    verdict = await Ifd(Fixed(found), variant=variant)(subject())
    assert (verdict.decision, verdict.code, verdict.value) == ("reject", "ifd.misaligned", 1.0)


TEXTS = [
    ("Answer:", "Yes"),
    ("Answer: ", " Yes, of course"),
    ("写一首诗", "大海啊，你全是水"),
    ("Smile", "🙂👩‍👩‍👧 ok"),
    ("naïve", "\n\nsalé"),
]
CHAT = (
    "{{ bos_token }}{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer(kind):
    """A real byte-level BPE trained on a few lines: `bare` writes no BOS, `bos` puts one before every text by itself."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "prefix")
    bpe.decoder = decoders.ByteLevel()
    special = ["<s>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["Answer: Yes, of course. The answer: yes. 大海啊，你全是水。写一首诗"] * 4, trainer)
    if kind == "bare":
        return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="<|endoftext|>", chat_template=CHAT)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,  # wide enough that predictions differ
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    made = {kind: tmp_path_factory.mktemp("weights") / f"tiny-{kind}" for kind in ("bare", "bos", "prefix")}
    for kind, folder in made.items():
        model.save_pretrained(folder)
        tokenizer(kind).save_pretrained(folder)
    return made


@pytest.mark.parametrize("kind", ["bare", "bos", "prefix"])
async def test_T6_both_passes_score_the_same_ids_for_every_kind_of_tokenizer(folders, kind):
    async with Scorer.load(folders[kind], device="cpu", template="none", min_tokens=1) as scorer:
        asked = []
        nats = scorer.measure.nats
        scorer.measure = replace(scorer.measure, nats=lambda spans: asked.extend(spans) or nats(spans))
        found = [await scorer.score(prompt, answer) for prompt, answer in TEXTS]
    bpe = tokenizer(kind)
    for result, (_, answer), cond, uncond in zip(found, TEXTS, asked[::2], asked[1::2], strict=True):
        ids = tuple(bpe(answer, add_special_tokens=False)["input_ids"])
        assert result.n == cond.n == uncond.n == len(ids)
        assert cond.ids[-cond.n :] == uncond.ids[1:] == ids
        assert cond.ids[0] == uncond.ids[0] == (1 if kind == "bare" else 0)
        assert 0 not in cond.ids[1:]


def full_logits(model):
    """The model asked the slow and plain way: one sequence, all logits."""

    def logits(batch):
        with torch.inference_mode():
            return [model(torch.tensor([ids])).logits[0].numpy() for ids in batch]

    return logits


def random_spans(count, seed=0):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 60, size=count)
    return [Span(tuple(generator.integers(0, 400, size=length).tolist()), int(generator.integers(1, length))) for length in lengths]


@pytest.mark.parametrize("max_tokens", [1, 64, 200, 100_000])
def test_T7_a_batch_of_mixed_lengths_equals_one_by_one_and_the_plain_reference(model, max_tokens):
    spans = random_spans(24)
    reference = from_logits(full_logits(model))(spans)
    nats = TransformerNats(model, max_tokens=max_tokens)
    assert nats(spans) == pytest.approx(reference, abs=1e-4)
    assert np.ptp(reference) > 0.1  # a model that predicts everything alike would prove nothing


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), max_tokens=st.integers(1, 400))
def test_T7_no_batch_changes_a_loss(model, seed, count, max_tokens):
    spans = random_spans(count, seed)
    nats = TransformerNats(model, max_tokens=max_tokens)
    assert nats(spans) == pytest.approx([nats([span])[0] for span in spans], abs=1e-4)


def test_T7_projecting_a_few_positions_at_a_time_changes_nothing(model):
    spans = random_spans(8)
    whole = TransformerNats(model)(spans)
    assert TransformerNats(model, max_logits=3 * 400)(spans) == pytest.approx(whole, abs=1e-5)


async def test_T7_scores_do_not_depend_on_who_asks_at_the_same_time(folders):
    async with Scorer.load(folders["bos"], device="cpu", min_tokens=1) as scorer:
        together = await asyncio.gather(*(scorer.score(prompt, answer) for prompt, answer in TEXTS))
        apart = [await scorer.score(prompt, answer) for prompt, answer in TEXTS]
    assert [one.s_cond for one in together] == pytest.approx([one.s_cond for one in apart], abs=1e-4)
    assert [one.loss_ratio for one in together] == pytest.approx([one.loss_ratio for one in apart], abs=1e-4)


def sure(batch):
    """A toy model that is all but certain that A follows."""
    return [np.log(np.tile([0.005, 0.005, 0.985, 0.005], (len(ids), 1))) for ids in batch]


def broken(number):
    return lambda batch: [np.full((len(ids), 4), number) for ids in batch]


@pytest.mark.parametrize(
    ("code", "logits", "pair", "options"),
    [
        ("ifd.empty_answer", sure, Pair([PROMPT], []), {}),
        ("ifd.prompt_fills_window", sure, Pair([PROMPT] * 63, [A] * 12), {}),
        ("ifd.short_answer", bigram({}), Pair([PROMPT], [A] * 9), {"min_tokens": 10}),
        ("ifd.short_answer", bigram({}), Pair([PROMPT] * 54, [A] * 30), {"min_tokens": 10}),
        ("ifd.predictable_answer", sure, Pair([PROMPT], [A] * 12), {}),
        ("ifd.not_finite", broken(np.nan), Pair([PROMPT], [A] * 12), {}),
        ("ifd.not_finite", broken(-np.inf), Pair([PROMPT], [A] * 12), {}),
    ],
)
async def test_T8_what_cannot_be_scored_is_a_state_and_never_a_number(code, logits, pair, options):
    (found,) = measure(logits, **options)([pair])
    assert (found.state, found.code) == ("unscorable", code)
    assert (found.loss_ratio, found.ppl_ratio, found.delta) == (None, None, None)
    verdict = await Ifd(Fixed(found))(subject())
    assert (verdict.decision, verdict.code, verdict.value) == ("unscorable", code, None)


def test_T8_ten_tokens_are_enough_and_a_bad_row_does_not_spoil_its_neighbours():
    good = Pair([PROMPT], [A] * 10)
    found = measure(bigram({(PROMPT, A): 0.9}), min_tokens=10)([Pair([PROMPT], []), good, Pair([PROMPT], [A] * 9)])
    assert [one.state for one in found] == ["unscorable", "scored", "unscorable"]
    assert found[1].loss_ratio < 1


def test_T8_a_model_that_gives_nan_is_unscorable_too(model):
    broken_model = LlamaForCausalLM(model.config).eval()
    torch.nn.init.constant_(broken_model.lm_head.weight, math.nan)
    (found,) = Measure(TransformerNats(broken_model), BOS, "toy")([Pair([5, 6], list(range(12)))])
    assert (found.state, found.code, found.s_cond) == ("unscorable", "ifd.not_finite", None)


def test_T9_one_over_the_window_scores_the_same_shorter_answer_in_both_passes():
    asked = []
    rules = Measure(lambda spans: asked.extend(spans) or [1.0] * len(spans), BOS, "toy", max_len=32)
    answer = list(range(100, 112))
    fits, over = rules([Pair([PROMPT] * 19, answer), Pair([PROMPT] * 20, answer)])  # 1 + 19 + 12 = 32
    assert (fits.n, fits.truncated, over.n, over.truncated) == (12, False, 11, True)
    cond, uncond = asked[2:]
    assert len(cond.ids) == 32
    assert cond.ids[-11:] == uncond.ids[1:] == tuple(answer[:11])


def test_an_exhausted_device_gets_half_the_batch_and_goes_on(model):
    spans = random_spans(16)
    expected = TransformerNats(model)(spans)
    nats = TransformerNats(model, max_tokens=100_000)

    def refuse(module, args, kwargs):
        if kwargs["input_ids"].shape[0] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        assert nats(spans) == pytest.approx(expected, abs=1e-4)
    finally:
        hook.remove()
    assert nats.max_tokens < 1000


def test_a_model_that_caps_its_logits_after_the_head_is_scored_with_the_cap():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    small = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    gemma = Gemma2ForCausalLM(Gemma2Config(**small, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5)).eval()
    torch.nn.init.normal_(gemma.lm_head.weight, std=1.0)
    spans = random_spans(5)
    assert TransformerNats(gemma)(spans) == pytest.approx(from_logits(full_logits(gemma))(spans), abs=1e-3)


async def test_a_loaded_scorer_agrees_with_the_reference_and_says_what_it_is(folders, model):
    async with Scorer.load(folders["bos"], device="cpu", template="chat", min_tokens=1) as scorer:
        found = await scorer.score("写一首诗", "大海啊，你全是水")
    bpe = tokenizer("bos")
    prompt = bpe("<s><user>写一首诗<assistant>", add_special_tokens=False)["input_ids"]
    reference = Measure(from_logits(full_logits(model)), 0, "reference", min_tokens=1)
    (expected,) = reference([Pair(prompt[1:], bpe("大海啊，你全是水", add_special_tokens=False)["input_ids"])])
    assert (found.n, found.max_len, found.dtype) == (expected.n, 128, "float32")  # the model's own window is shorter than 2048
    assert (found.s_cond, found.s_uncond) == pytest.approx((expected.s_cond, expected.s_uncond), abs=1e-3)
    assert found.template.startswith("chat:")
    assert scorer.id == f"{found.model}|float32|{found.template}|128"


async def test_bfloat16_stays_within_two_hundredths_of_float32(folders):
    found = []
    for dtype in ("float32", "bfloat16"):
        async with Scorer.load(folders["bos"], device="cpu", dtype=dtype, min_tokens=1) as scorer:
            found.append([await scorer.score(prompt, answer) for prompt, answer in TEXTS])
    for exact, rough in zip(*found, strict=True):
        assert rough.loss_ratio == pytest.approx(exact.loss_ratio, abs=2e-2)
        assert (exact.dtype, rough.dtype) == ("float32", "bfloat16")


async def test_another_template_or_another_model_is_another_scorer(folders):
    ids = {Scorer.load(folders["bos"], device="cpu", template=name).id for name in ("none", "line", "chat", "Q: {prompt}\nA: ")}
    assert len(ids | {Scorer.load(folders["bare"], device="cpu").id}) == 5


def test_weights_that_are_not_there_or_are_of_something_else_are_explained(folders, tmp_path):
    with pytest.raises(WeightsError, match=r"looked for a folder with config.json"):
        Scorer.load(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"no chat template; set `template: line`"):
        Scorer.load(folders["bare"], device="cpu", template="chat")
    with pytest.raises(InputError, match=r"unknown template 'chta': did you mean 'chat'"):
        Scorer.load(folders["bare"], device="cpu", template="chta")
    (folders["prefix"] / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"no usable model at"):
        Scorer.load(folders["prefix"], device="cpu")


@pytest.mark.parametrize(
    ("ratio", "language", "outcome"),
    [
        (0.19, "zh", ("reject", "ifd.too_easy", 0.2)),
        (0.2, "zh", ("accept", "ok", 1.0)),
        (0.25, "en", ("reject", "ifd.too_easy", 0.3)),
        (0.99, "en", ("accept", "ok", 1.0)),
        (1.2, "en", ("reject", "ifd.misaligned", 1.0)),
    ],
)
async def test_the_gate_keeps_what_is_inside_the_band_of_its_language(ratio, language, outcome):
    gate = Ifd(Fixed(score(2 * ratio, 2.0)), low={"en": 0.3, "zh": 0.2})
    verdict = await gate(subject(language))
    assert (verdict.decision, verdict.code, verdict.threshold) == outcome


async def test_the_evidence_holds_all_that_the_decision_rests_on():
    verdict = await Ifd(Fixed(score(1.0, 2.0, truncated=True)), variant="ppl_ratio", low=0.1)(subject())
    assert verdict.value == verdict.evidence["ppl_ratio"] == pytest.approx(math.exp(-1))
    wanted = "n s_cond s_uncond loss_ratio ppl_ratio delta truncated model dtype template max_len variant scorer"
    assert set(verdict.evidence) == set(wanted.split())
    assert verdict.evidence["truncated"] is True


def test_the_version_changes_with_the_settings_and_with_the_scorer():
    other = Fixed(score(1.0, 2.0))
    other.id = "another|float64|none|64"
    gates = [Ifd(Fixed(None)), Ifd(Fixed(None), low=0.1), Ifd(Fixed(None), variant="ppl_ratio"), Ifd(other)]
    assert len({version(gate) for gate in gates}) == 4
    assert version(Ifd(Fixed(None))) == version(gates[0])


async def test_a_scorer_that_breaks_is_an_error_and_not_a_rejection():
    def run_out(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def ids(text):
        return list(map(ord, text))

    async with Scorer(measure(run_out), ids, ids) as scorer:
        verdict = await judge(Ifd(scorer), subject())
    assert (verdict.decision, verdict.code) == ("error", "ifd_crashed")


@pytest.mark.parametrize("wrong", [{"variant": "loss"}, {"low": 1.0}, {"low": {"zh": 1.5}}, {"low": -0.1}, {"high": math.nan}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError):
        Ifd(Fixed(None), **wrong)
