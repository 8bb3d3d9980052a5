"""The IFD scorer and its gate: T1-T9 with exact numbers, first on toy functions, then on a tiny model that really runs."""

import asyncio
import copy
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from filters.gate import Subject, judge
from filters.scoring.ifd import Ifd
from filters.scoring.packing import PackedNats
from filters.scoring.scorer import REVERSE, IfdScore, Measure, Pair, Scorer, _plain, from_logits
from filters.scoring.spans import Span
from leafmill.errors import InputError, WeightsError
from leafmill.records import Row, Turn

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


def engine(model, **options):
    """The engine on a copy: it takes its model over."""
    return PackedNats(copy.deepcopy(model), **options)


@pytest.mark.parametrize("max_tokens", [1, 64, 200, 100_000])
def test_T7_a_batch_of_mixed_lengths_equals_one_by_one_and_the_plain_reference(model, max_tokens):
    spans = random_spans(24)
    reference = from_logits(full_logits(model))(spans)
    assert engine(model, max_tokens=max_tokens)(spans) == pytest.approx(reference, abs=1e-4)
    assert np.ptp(reference) > 0.1  # a model that predicts everything alike would prove nothing


@pytest.fixture(scope="module")
def packed(model):
    return engine(model)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), max_tokens=st.integers(1, 400))
def test_T7_no_batch_changes_a_loss(packed, seed, count, max_tokens):
    spans = random_spans(count, seed)
    packed.max_tokens = max_tokens
    assert packed(spans) == pytest.approx([packed([span])[0] for span in spans], abs=1e-4)


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
    broken_model = copy.deepcopy(model)
    torch.nn.init.constant_(broken_model.lm_head.weight, math.nan)
    (found,) = Measure(PackedNats(broken_model), BOS, "toy")([Pair([5, 6], list(range(12)))])
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


CALL = [
    Turn(role="system", content="Be brief."),
    Turn(role="user", content="What is 2 + 3?"),
    Turn(role="assistant", content="add(2, 3)"),
    Turn(role="tool", content="5"),
]


@pytest.mark.parametrize(
    ("template", "prompt", "written"),
    [
        ("none", "写一首诗", "写一首诗"),
        ("line", "写一首诗", "写一首诗\n"),
        ("Q: {prompt}\nA: ", [Turn(role="user", content="{prompt}?")], "Q: {prompt}?\nA: "),
        ("line", CALL, "system: Be brief.\nuser: What is 2 + 3?\nassistant: add(2, 3)\ntool: 5\n"),
        ("chat", CALL, "<system>Be brief.<user>What is 2 + 3?<assistant>add(2, 3)<tool>5<assistant>"),
    ],
)
async def test_all_turns_before_the_answer_are_its_prompt(folders, template, prompt, written):
    asked = []
    async with Scorer.load(folders["bos"], device="cpu", template=template, min_tokens=1) as scorer:
        nats = scorer.measure.nats
        scorer.measure = replace(scorer.measure, nats=lambda spans: asked.extend(spans) or nats(spans))
        found = await scorer.score(prompt, "Yes, five.")
    bpe = tokenizer("bos")
    assert asked[0].head == (0, *bpe(written, add_special_tokens=False)["input_ids"])  # the first id once, also where a template writes it
    assert (asked[1].head, found.state) == ((0,), "scored")


async def test_turns_that_a_chat_template_refuses_are_explained_to_their_asker_alone(folders, tmp_path):
    shutil.copytree(folders["bos"], tmp_path / "strict")
    strict = tokenizer("bos")
    strict.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system please') }}{% endif %}" + CHAT
    strict.save_pretrained(tmp_path / "strict")
    async with Scorer.load(tmp_path / "strict", device="cpu", template="chat", min_tokens=1) as scorer:
        fine, refused = await asyncio.gather(scorer.score("Add.", "Yes, five."), scorer.score(CALL, "Five."), return_exceptions=True)
    assert fine.state == "scored"
    assert isinstance(refused, InputError)
    assert re.search(r"refuses turns of system, user, assistant, tool \(no system please\); `template: line`", str(refused))


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_reverse_score_is_that_of_the_two_in_each_others_place(folders, language):
    prompt, answer = "写一首关于大海的诗", "大海啊，你全是水"
    async with Scorer.load(folders["bos"], device="cpu", min_tokens=1) as scorer:
        reverse = await scorer.reverse(prompt, answer, language)
        forward = await scorer.score(prompt, answer)
        swapped = await scorer.score(REVERSE[language].replace("{answer}", answer), prompt)
        assert (await scorer.reverse(CALL, "Five.")).n == len(scorer._ids([_plain(CALL)])[0])
        with pytest.raises(InputError, match="unknown language 'fr'"):
            await scorer.reverse(prompt, answer, "fr")
    assert replace(reverse, template=swapped.template) == swapped
    assert reverse.n != forward.n
    assert reverse.template.startswith(f"{forward.template}|reverse-{language}:")


async def test_the_answers_of_one_prompt_are_scored_in_one_pass_that_holds_it_once(folders):
    prompt, answers = "The answer: yes. " * 6, ["Yes, of course.", "No.", "大海啊，你全是水"]
    lengths = []
    async with Scorer.load(folders["bos"], device="cpu", min_tokens=1) as scorer:
        apart = [await scorer.score(prompt, answer) for answer in answers]
        inner = scorer.measure.nats.model.model
        inner.register_forward_pre_hook(lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True)
        together = await asyncio.gather(*(scorer.score(prompt, answer) for answer in answers))
        head = 1 + len(scorer._ids([prompt + "\n"])[0])
    assert [one.loss_ratio for one in together] == pytest.approx([one.loss_ratio for one in apart], abs=1e-4)
    assert lengths == [head + sum(2 * one.n - 1 for one in together)]


async def test_bfloat16_stays_within_two_hundredths_of_float32(folders):
    found = []
    for dtype in ("float32", "bfloat16"):
        async with Scorer.load(folders["bos"], device="cpu", dtype=dtype, min_tokens=1) as scorer:
            found.append([await scorer.score(prompt, answer) for prompt, answer in TEXTS])
    for exact, rough in zip(*found, strict=True):
        assert rough.loss_ratio == pytest.approx(exact.loss_ratio, abs=2e-2)
        assert (exact.dtype, rough.dtype) == ("float32", "bfloat16+float32")  # what is between the products stays exact


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


async def test_a_scorer_that_breaks_is_an_error_and_not_a_rejection():
    def run_out(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def ids(texts):
        return [list(map(ord, text)) for text in texts]

    async with Scorer(measure(run_out), ids, lambda turns: turns[0].content) as scorer:
        verdict = await judge(Ifd(scorer), subject())
    assert (verdict.decision, verdict.code) == ("error", "ifd_crashed")
