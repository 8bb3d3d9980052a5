"""Safety: word lists that know Scunthorpe, two thresholds, classifiers that are real, and a failure that is no score."""

import pytest
from conftest import Cast, go, recipe, told

from filters.catalogue import make
from filters.gate import Subject, judge
from filters.safety import Safety, named
from filters.toxicity import QUESTIONS, Limits, Model, Piece, Score, Words, judge_of, open_classifier, pieces, sequence_classifier
from filters.weights import load_weights
from leafmill.errors import InputError, RecipeError, WeightsError
from leafmill.records import Row, Turn


def row(answer="", instruction="Tell me about your town", language="en", **fields):
    return Row(language=language, instruction=instruction, answer=answer, **fields)


async def ask(gate, **fields):
    return await judge(gate, Subject("s", row(**fields)))


class Fixed:
    """A classifier with the scores of a table."""

    id, limits = "fixed@1", Limits(review=0.5, reject=0.8)

    def __init__(self, **scores):
        self.scores = scores

    async def score(self, text, language):
        return Score(self.scores.get(text, 0.0), "toxic")

    async def aclose(self):
        pass


def gate(**scores):
    return Safety(classifier="fixed", classifiers={"fixed": Fixed(**scores), "words": Words()})


# -- words


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("I will kill your family, just wait.", "threat"),
        ("Fuck  OFF!", "insult"),
        ("what a filthy Mexican", "slur"),
        ("你這個傻Ｂ", "insult"),
        ("那个黑鬼又来了", "slur"),
        ("你怎么不去死", "threat"),
        ("我真想弄死你全家", "threat"),
    ],
)
def test_abuse_is_found_in_any_width_case_and_script(text, category):
    found = Words().find(text)
    assert (found.value, found.category) == (1.0, category)


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe United beat Penistone, said Dr. Dick Cockburn of Essex.",
        "A snigger ran through the niggardly crowd; the chink in the armour was small.",
        "Heat retards the growth. She needs help, but sb. has to ask.",
        "Faggots and peas are eaten in the Black Country.",
        "The Nazis planned to exterminate the Jews of Europe.",
        "If you think of killing yourself, please call this line.",
        "他妈逼他学习，他只好去上课。",
        "今天生日他妈给他做了面。",
        "体操他妈妈也会，他妈死了以后他一直一个人住。",
        "安东尼哥哥在河南狗肉馆打工，help sb do sth 是固定搭配。",
        "纳粹企图杀光犹太人，这是二十世纪最黑暗的一页。",
        "操场上的草你不要踩，逼近终点的时候要加油。",
    ],
)
def test_ordinary_words_are_not_abuse(text):
    assert Words().find(text) == Score(0.0, "none")


@pytest.mark.parametrize(
    "text",
    [
        'Never say "fuck you" to a colleague.',
        "The word nigger is a slur with a long history.",
        "“黑鬼”这个词带有严重的歧视。",
        "他在网上被人骂傻逼，这就是网络暴力。",
    ],
)
async def test_abuse_that_is_quoted_or_talked_about_is_left_to_a_person(text):
    verdict = await ask(Safety(), answer=text)
    assert (verdict.decision, verdict.code, verdict.value) == ("unscorable", "safety.review", 0.5)


# -- the two thresholds


@pytest.mark.parametrize(
    ("score", "decision", "code", "threshold"),
    [
        (0.49, "accept", "ok", 0.5),
        (0.5, "unscorable", "safety.review", 0.5),
        (0.79, "unscorable", "safety.review", 0.5),
        (0.8, "reject", "safety.toxic", 0.8),
    ],
)
async def test_between_the_thresholds_a_person_decides(score, decision, code, threshold):
    verdict = await ask(gate(said=score), answer="said")
    assert (verdict.decision, verdict.code, verdict.value, verdict.threshold) == (decision, code, score, threshold)
    assert verdict.evidence["classifier"] == "fixed@1"


async def test_the_worst_part_decides_and_is_named():
    fields = {"answer": "fine", "reasoning": "bad", "history": (Turn(role="user", content="poor"),)}
    verdict = await ask(gate(bad=0.9, poor=0.6, fine=0.1), **fields)
    assert (verdict.code, verdict.evidence["part"]) == ("safety.toxic", "reasoning")
    verdict = await ask(gate(bad=0.1, poor=0.6, fine=0.1), **fields)
    assert (verdict.code, verdict.evidence["part"]) == ("safety.review", "history")


async def test_thresholds_are_set_for_both_languages_or_for_each():
    classifiers = {"fixed": Fixed(said=0.6), "words": Words()}
    strict = Safety(classifier="fixed", reject={"zh": 0.55}, classifiers=classifiers)
    assert (await ask(strict, answer="said", language="zh")).code == "safety.toxic"
    assert (await ask(strict, answer="said", language="en")).code == "safety.review"
    assert (await ask(Safety(classifier="fixed", review=0.7, classifiers=classifiers), answer="said")).code == "ok"


async def test_each_language_has_a_classifier_of_its_own_and_the_words_where_none_is_given():
    assert named({"zh": "judge"}, "en") == "words"
    assert named("profanity", "zh") == "words"
    assert named("profanity", "en") == "profanity"
    mixed = Safety(classifier={"en": "fixed"}, classifiers={"fixed": Fixed(said=0.9), "words": Words()})
    assert (await ask(mixed, answer="said")).code == "safety.toxic"
    assert (await ask(mixed, answer="said", language="zh")).evidence["classifier"].startswith("words@")


@pytest.mark.parametrize("value", [float("nan"), 1.5])
async def test_a_score_that_is_none_is_an_error_and_no_verdict(value):
    verdict = await ask(gate(said=value), answer="said")
    assert (verdict.decision, verdict.code) == ("error", "safety_crashed")


async def test_a_classifier_that_fails_makes_an_error_for_those_who_asked():
    def work(batch: list[Piece]) -> list[Score]:
        raise RuntimeError("out of memory")

    model = Model("broken@1", Limits(0.5, 0.8), work)
    verdict = await ask(Safety(classifier="broken", classifiers={"broken": model, "words": Words()}), answer="hello")
    await model.aclose()
    assert (verdict.decision, verdict.evidence["message"]) == ("error", "out of memory")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"classifier": {"zh": "profanity"}}, "knows English only"),
        ({"review": 0.9, "reject": 0.5}, "0 < review <= reject <= 1"),
        ({"review": {"zh": 0.0}}, "0 < review"),
        ({"classifier": {"fr": "words"}}, "classifier must be"),
        ({"labels": "toxic"}, "labels must be"),
    ],
)
def test_a_mistake_in_the_settings_is_told_before_the_run(settings, says):
    with pytest.raises(RecipeError, match=says):
        make("safety", settings)


def test_a_leaf_may_not_name_a_classifier_that_is_not_open():
    with pytest.raises(RecipeError, match="'judge' was not opened"):
        make("safety", {"classifier": "judge"}, classifiers={"words": Words()})


# -- models


def test_a_long_text_is_judged_in_pieces_that_lose_nothing():
    text = "One sentence. Two sentences! " * 30 + "字" * 900 + "。完"
    assert "".join(pieces(text, 100)) == text
    assert max(map(len, pieces(text, 100))) <= 100
    assert list(pieces("")) == list(pieces("  ")) == []


async def test_the_profanity_model_is_real_and_knows_english_only():
    model = open_classifier("profanity")
    scores = [(await model.score(text, "en")).value for text in ("you fucking idiot", "The weather is lovely", "你这个该死的蠢货")]
    await model.aclose()
    assert scores[0] > 0.9
    assert max(scores[1:]) < 0.2


async def test_a_piece_is_scored_once():
    asked = []

    def work(batch: list[Piece]) -> list[Score]:
        asked.extend(batch)
        return [Score(0.0, "toxic") for _ in batch]

    model = Model("counting@1", Limits(0.5, 0.8), work)
    for language in ("en", "en", "zh"):
        await model.score("the same", language)
    await model.aclose()
    assert asked == [Piece("the same", "en"), Piece("the same", "zh")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Random models of both kinds with one tokenizer, saved: the folders of a causal one and of a classifier."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(1)
    letters = ["[PAD]", "[UNK]", *sorted({*"abcdefghijklmnopqrstuvwxyzYN是否？。 ", *QUESTIONS["zh"].ask})]
    split = Tokenizer(models.WordLevel({letter: place for place, letter in enumerate(letters)}, unk_token="[UNK]"))
    split.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=split, pad_token="[PAD]", unk_token="[UNK]")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(letters)}
    folder = tmp_path_factory.mktemp("models")
    # of a kind that counts its positions from the left, so that padding there has to be told of
    GPT2LMHeadModel(GPT2Config(vocab_size=len(letters), n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder / "causal")
    BertForSequenceClassification(BertConfig(**sizes, id2label={0: "non-toxic", 1: "toxic"})).save_pretrained(folder / "classifier")
    for name in ("causal", "classifier"):
        tokenizer.save_pretrained(folder / name)
    return folder


async def test_a_judge_says_what_yes_weighs_against_no_whoever_else_is_in_the_batch(tiny):
    import torch

    weights = load_weights(tiny / "causal", "AutoModelForCausalLM", "cpu", "float32")
    model = judge_of(weights)
    alone = await model.score("a town by the sea", "en")
    await model.aclose()
    ids = weights.tokenizer(QUESTIONS["en"].ask.replace("{text}", "a town by the sea") + "\n", return_tensors="pt")["input_ids"]
    vocabulary = weights.tokenizer.get_vocab()
    logits = weights.model(input_ids=ids).logits[0, -1].detach()[[vocabulary["Y"], vocabulary["N"]]]
    assert alone.value == pytest.approx(float(torch.softmax(logits, -1)[0]), abs=1e-6)
    model = judge_of(weights)
    together = model._batcher._work([Piece("a town by the sea", "en"), Piece("小镇", "zh"), Piece("a much longer text " * 9, "en")])
    await model.aclose()
    assert together[0].value == pytest.approx(alone.value, abs=1e-5)


async def test_a_sequence_classifier_gives_the_share_of_its_toxic_label(tiny):
    import torch

    weights = load_weights(tiny / "classifier", "AutoModelForSequenceClassification", "cpu", "float32")
    model = open_classifier(str(tiny / "classifier"), device="cpu")
    found = await model.score("a town by the sea", "en")
    await model.aclose()
    logits = weights.model(**weights.tokenizer("a town by the sea", return_tensors="pt")).logits[0].detach()
    assert found.value == pytest.approx(float(torch.softmax(logits, -1)[1]), abs=1e-6)
    assert (found.category, model.id) == ("toxic", weights.id)


async def test_labels_are_found_by_their_names_or_given(tiny):
    weights = load_weights(tiny / "classifier", "AutoModelForSequenceClassification", "cpu", "float32")
    config = weights.model.config
    config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    with pytest.raises(InputError, match="has the labels LABEL_0, LABEL_1"):
        sequence_classifier(weights)
    with pytest.raises(InputError, match="got LABEL_7"):
        sequence_classifier(weights, ["LABEL_7"])
    model = sequence_classifier(weights, ["LABEL_0"])
    assert (await model.score("a town", "en")).category == "label_0"
    await model.aclose()
    config.id2label = {0: "threat", 1: "insult"}  # nothing harmless among them: each is a yes or no of its own
    model = sequence_classifier(weights)
    found = await model.score("a town", "en")
    await model.aclose()
    logits = weights.model(**weights.tokenizer("a town", return_tensors="pt")).logits[0].detach()
    assert found.value == pytest.approx(float(logits.sigmoid().max()), abs=1e-6)


def test_a_classifier_that_is_not_there_is_named():
    with pytest.raises(WeightsError, match="/no/such/model"):
        open_classifier("/no/such/model")


# -- in a run


async def test_a_run_rejects_abuse_at_the_door_and_holds_what_is_doubtful_for_a_person(tmp_path, server):
    said = {0: "Look it up yourself, you fucking idiot, and fuck off.", 1: 'They call it "a piece of shit" of a shelf down there.'}
    server.script = Cast(answerer=lambda request, case: said.get(case.number))
    await go(recipe(tmp_path, server, target=1, flow={"evolve_rounds": 0}, in_flight=1), tmp_path)
    ledger = told(tmp_path)
    assert [(ledger.of(n)["state"], ledger.of(n)["stage"], ledger.of(n)["code"]) for n in (0, 1)] == [
        ("rejected", "check", "safety.toxic"),
        ("waiting", "check", "safety.review"),
    ]
    assert ledger.of(2)["state"] == "accepted"


async def test_a_run_opens_the_classifiers_that_its_recipe_names(tmp_path, server, tiny):
    server.script = Cast()
    gates = {"semantic": False, "ifd": False, "safety": {"classifier": {"en": "judge"}, "review": 1.0}}
    settings = {"target": 1, "flow": {"evolve_rounds": 0}, "scorer": {"model": str(tiny / "causal"), "device": "cpu"}}
    await go(recipe(tmp_path, server, **settings, gates=gates), tmp_path)
    (verdict, *_) = (one for one in told(tmp_path).verdicts if one["gate"] == "safety")
    assert verdict["evidence"]["classifier"].startswith("judge causal@")


@pytest.mark.slow
async def test_a_real_judge_ranks_contempt_above_small_talk():
    from agents.models import local

    weights = load_weights(local.as_transformers("qwen2.5-coder-1.5b"), "AutoModelForCausalLM", "cpu", "bfloat16")
    model = judge_of(weights)
    harsh = [
        await model.score("Women are too stupid to drive and should stay in the kitchen.", "en"),
        await model.score("河南人全是骗子，别让他们进来。", "zh"),
    ]
    mild = [
        await model.score("The ferry leaves at nine and takes an hour.", "en"),
        await model.score("今天天气很好，我们去公园散步。", "zh"),
    ]
    await model.aclose()
    assert min(one.value for one in harsh) > max(one.value for one in mild)
