"""How toxic a text is, 0..1, and of which kind: the classifiers that the gate `safety` asks.

    words        word lists of both languages (filters.words_abuse): cheap, sure of what it finds, blind to all else
    profanity    alt-profanity-check, a linear model: English only, so Chinese is judged by the words
    judge        a causal language model is asked Yes or No; its answer is read off the first token's logits
    a name       a folder or hub name of a transformers sequence classifier, such as one trained on toxic comments

Texts are judged in pieces of a comment's length, as all of these know comments best; the worst piece counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from filters import words_abuse
from filters.batcher import Batcher
from filters.text import normalise
from filters.weights import Weights, load_weights
from leafmill.errors import InputError, WeightsError
from leafmill.records import Language, digest

if TYPE_CHECKING:
    import torch

PIECE = 400
"""characters that a classifier sees at once"""
REMEMBERED = 4096
"""pieces whose score a model keeps"""
_SENTENCE = re.compile(r".+?(?:[。！？!?\n]+|\.(?=\s)|\Z)\s*", re.DOTALL)

TOXIC = re.compile(
    r"toxic|offens|hat(?:e|red|eful)|abus|insult|threat|obscen|harm|unsafe|profan|identity_attack|harass|attack", re.IGNORECASE
)
NOT_TOXIC = re.compile(
    r"(?:^|[^a-z])(?:non?|not|neutral|safe|clean|normal)(?:[^a-z]|$)|non-?toxic|non-?hate|non-?offens|inoffens|harmless", re.IGNORECASE
)


class Score(NamedTuple):
    value: float
    """0..1, on the classifier's own scale"""
    category: str
    phrase: str = ""
    """what was found, where the classifier can say"""


class Limits(NamedTuple):
    """The scores from which a person should look, and from which a classifier's word is taken, unless the recipe says otherwise."""

    review: float
    reject: float


class Classifier(Protocol):
    """Scores a text. What goes wrong is raised: a failure is no score."""

    @property
    def id(self) -> str:
        """What two scores must share to be comparable: the model and its revision."""
        ...

    @property
    def limits(self) -> Limits: ...

    async def score(self, text: str, language: Language) -> Score: ...

    async def aclose(self) -> None: ...


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """A text in parts of at most `size` characters that end where sentences do; a sentence longer than that is cut."""
    part = ""
    for sentence in _SENTENCE.findall(text):
        if part and len(part) + len(sentence) > size:
            yield part
            part = ""
        part += sentence
        while len(part) > size:
            yield part[:size]
            part = part[size:]
    if part.strip():
        yield part


# -- word lists --------------------------------------------------------------------------------------------------------


class Words:
    """Finds what is abusive in nearly any context. What is quoted or talked about as abuse scores half: a lesson on slurs names them."""

    limits = Limits(review=0.4, reject=0.8)

    def __init__(self) -> None:
        self.id = f"words@{digest(words_abuse.ABUSE, words_abuse.TALK, length=8)}"
        self._patterns = {
            category: re.compile(rf"(?<![a-z0-9])(?:{'|'.join(lists['en'])})(?![a-z0-9])|{'|'.join(lists['zh'])}")
            for category, lists in words_abuse.ABUSE.items()
        }
        self._talk = re.compile(words_abuse.TALK)

    async def score(self, text: str, language: Language) -> Score:
        return self.find(text)

    def find(self, text: str) -> Score:
        folded = normalise(text)
        for category, pattern in self._patterns.items():
            if found := pattern.search(folded):
                mentioned = _is_quoted(folded, found) or self._talk.search(folded)
                return Score(0.5 if mentioned else 1.0, category, found[0])
        return Score(0.0, "none")

    async def aclose(self) -> None:
        pass


def _is_quoted(text: str, found: re.Match[str]) -> bool:
    """Whether it stands within quotation marks: an odd number of plain ones before it, or one of the others left open."""
    before = text[: found.start()]
    return bool(before.count('"') % 2) or any(before.count(first) > before.count(last) for first, last in ("「」", "『』", "《》"))


# -- models ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    text: str
    language: Language


class Model:
    """A classifier that is faster on many texts: whoever asks at the same time shares a batch, in a thread of its own."""

    def __init__(self, id: str, limits: Limits, work: Callable[[list[Piece]], list[Score]], size: int = 32) -> None:
        self.id = id
        self.limits = limits
        self._batcher = Batcher(work, size=size, cost=lambda piece: len(piece.text), name="safety")
        self._known: dict[Piece, Score] = {}  # an instruction is asked about again with its answer

    async def score(self, text: str, language: Language) -> Score:
        piece = Piece(text, language)
        found = self._known.get(piece)
        if found is None:
            found = self._known[piece] = await self._batcher.ask(piece)
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return found

    async def aclose(self) -> None:
        await self._batcher.aclose()


def open_classifier(
    name: str, *, judge: str | Path = "", labels: Sequence[str] = (), device: str = "auto", dtype: str = "auto"
) -> Classifier:
    """The classifier of that name; `judge` is the causal model that plays the judge. InputError or WeightsError says what is missing."""
    if name == "words":
        return Words()
    if name == "profanity":
        return profanity()
    if name == "judge":
        return judge_of(load_weights(judge, "AutoModelForCausalLM", device, dtype))
    return sequence_classifier(load_weights(name, "AutoModelForSequenceClassification", device, dtype), labels)


def profanity() -> Model:
    """alt-profanity-check: a linear SVM over English words. It knows no other language."""
    try:
        from profanity_check import predict_prob
    except ImportError as fault:
        raise InputError("the classifier 'profanity' needs more packages: pip install 'leafmill[safety]'") from fault

    def work(batch: list[Piece]) -> list[Score]:
        return [Score(float(value), "profane") for value in predict_prob([piece.text for piece in batch])]

    return Model(f"alt-profanity-check@{version('alt-profanity-check')}", Limits(review=0.5, reject=0.9), work, size=256)


def judge_of(weights: Weights) -> Model:
    """P(yes) of a causal language model that is asked in the text's language: its share of what Yes and No get as the first token."""
    tokenizer, model = weights.tokenizer, weights.model
    answers = {language: _first_tokens(weights, language) for language in QUESTIONS}

    def work(batch: list[Piece]) -> list[Score]:
        import torch

        ids = [_asked(tokenizer, piece) for piece in batch]
        width = max(map(len, ids))
        # Padded on the left, so that the last position is everybody's first token to be.
        padded = torch.tensor([[tokenizer.pad_token_id or 0] * (width - len(one)) + one for one in ids], device=model.device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids], device=model.device)
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            seen = model(input_ids=padded, attention_mask=mask, position_ids=places, logits_to_keep=1, use_cache=False)
        last = seen.logits[:, -1].float()
        return [Score(_share(row, *answers[piece.language]), "toxic") for row, piece in zip(last, batch, strict=True)]

    return Model(f"judge {weights.id} {digest(QUESTIONS, length=8)}", Limits(review=0.5, reject=0.9), work, size=16)


def _share(logits: torch.Tensor, yes: int, no: int) -> float:
    return float(logits[[yes, no]].softmax(-1)[0])


def _asked(tokenizer: Any, piece: Piece) -> list[int]:
    question = QUESTIONS[piece.language].ask.replace("{text}", piece.text)
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": question}]
        question = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    else:
        question = f"{question}\n"
    ids: list[int] = tokenizer(question, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    return ids


def _first_tokens(weights: Weights, language: Language) -> tuple[int, int]:
    """The tokens with which the two answers begin."""
    question = QUESTIONS[language]
    yes, no = (weights.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (question.yes, question.no))
    if yes == no:
        raise WeightsError(f"{weights.id} cannot be a judge: its tokens for {question.yes!r} and {question.no!r} begin alike")
    return yes, no


def sequence_classifier(weights: Weights, labels: Sequence[str] = ()) -> Model:
    """A sequence classifier of transformers. Which of its labels mean harm is read off their names unless `labels` says so."""
    tokenizer, model, config = weights.tokenizer, weights.model, weights.model.config
    names = {int(place): str(name) for place, name in config.id2label.items()}
    toxic = _toxic_labels(weights.id, names, labels)
    # With several labels and none of them harmless, each is a yes or no of its own.
    apart = config.problem_type == "multi_label_classification" or len(names) == 1 or len(toxic) == len(names)
    window = min(512, getattr(config, "max_position_embeddings", 512) - 2)

    def work(batch: list[Piece]) -> list[Score]:
        import torch

        texts = [piece.text for piece in batch]
        asked = tokenizer(texts, padding=True, truncation=True, max_length=window, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            logits = model(**asked).logits.float()
        found = (logits.sigmoid() if apart else logits.softmax(-1))[:, toxic].cpu()
        worst = found.argmax(-1).tolist()
        values = (found.amax(-1) if apart else found.sum(-1)).tolist()
        return [Score(value, names[toxic[place]].lower()) for value, place in zip(values, worst, strict=True)]

    return Model(weights.id, Limits(review=0.5, reject=0.8), work)


def _toxic_labels(id: str, names: dict[int, str], wanted: Sequence[str]) -> list[int]:
    if wanted:
        found = [place for place, name in names.items() if name in wanted]
        if len(found) != len(set(wanted)):
            raise InputError(f"{id} has the labels {', '.join(names.values())}: got {', '.join(wanted)}")
        return found
    found = [place for place, name in names.items() if TOXIC.search(name) and not NOT_TOXIC.search(name)]
    if not found:
        raise InputError(f"{id} has the labels {', '.join(names.values())}: name those that mean harm, as `labels: [...]`")
    return found


class Question(NamedTuple):
    """How a language model is asked."""

    ask: str
    yes: str
    no: str


QUESTIONS: dict[Language, Question] = {
    "en": Question(
        "Is the following text offensive to a person or a group of people (an insult, a threat, contempt, prejudice, discrimination)? "
        "Answer only Yes or No.\n\nText: {text}",
        "Yes",
        "No",
    ),
    "zh": Question(
        "以下文本是否冒犯了某个人或某个群体（侮辱、威胁、贬低、偏见、歧视）？只回答“是”或“否”。\n\n文本：{text}",
        "是",
        "否",
    ),
}
