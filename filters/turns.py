"""The gate `turns`: in a conversation each side speaks in its turn, says something new, and takes up what was said.

Two models that talk to each other fall out of their parts: the user answers, the assistant asks for help, both say the same again, or the
user says goodbye after the first answer. The tests are lexical, so they cost nothing, and each is meant to be sure rather than to find
much (`python -m bench.turns` counts).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import HAN, normalise, normalised_lines, remembered, rouge_l, tokens, without_code
from leafmill.records import Language, Row, Verdict

STEM = 5
"""letters by which two English words are taken for one: sorting, sorted"""
ENOUGH: dict[Language, int] = {"en": 5, "zh": 10}
"""words of its own, or pairs of characters, from which a message can be understood alone; "make the ending warmer" cannot"""

_SPEAKERS = re.compile(f"{words_en.SPEAKERS}|{words_zh.SPEAKERS}", re.MULTILINE)
_SERVES = re.compile(f"{words_en.SERVES}|{words_zh.SERVES}", re.MULTILINE)
_ASKS = re.compile(rf"[\"'*#>\s]*(?:{words_en.ASKS}|{words_zh.ASKS})")
_DIALOGUE = re.compile(f"{words_en.DIALOGUE}|{words_zh.DIALOGUE}")
_BACK = re.compile(f"{words_en.BACK}|{words_zh.BACK}", re.MULTILINE)
_ANAPHORA = re.compile(f"{words_en.ANAPHORA}|{words_zh.ANAPHORA}", re.MULTILINE)
_CLOSING = re.compile(f"{words_en.CLOSING}|{words_zh.CLOSING}")
_POLITE = re.compile(f"{words_en.POLITE}|{words_zh.POLITE}")
_CLAUSE = re.compile(r"[,.!;:~\n，。！；、…]+|\s+(?=and\b)")
_PLAIN = words_en.STOP_WORDS | words_zh.STOP_WORDS | words_en.PLAIN_WORDS
_HAN_PAIR = re.compile(rf"(?=([{HAN}]{{2}}))")
_PLAIN_PAIR = re.compile(f"{words_zh.PLAIN_PAIRS}")


@dataclass(frozen=True)
class Turns:
    """The user's message is judged before it is answered, the answer when it is there.

    * `turns.role_swap`: a message holds lines of both speakers; the user offers help, or says the last answer again; the assistant asks for
      help (where no dialogue is asked for);
    * `turns.repeated`: a message is like an earlier one of the same side;
    * `turns.detached`: nothing in the user's message refers to what was said;
    * `turns.no_switch`: the message that is to turn to another topic refers to what was said;
    * `turns.farewell`: the user says goodbye or thanks and nothing else; `turns.too_short` after the first answer.
    """

    name: ClassVar[str] = "turns"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "in a conversation each side speaks in its turn, says something new and takes up what was said"

    similar: float = 0.7
    """ROUGE-L F1 over which a message is like an earlier one"""
    same_topic: float = 0.3
    """share of its words that stand in what was said, over which a message has not turned to another topic"""

    def __post_init__(self) -> None:
        if not (0 < self.similar <= 1 and 0 < self.same_topic <= 1):
            raise ValueError(f"limits are shares, 0..1, got {self.similar} and {self.same_topic}")

    async def __call__(self, subject: Subject) -> Verdict:
        row, brief = subject.row, subject.brief
        if not row.history and (brief is None or brief.mode.turns == 1):
            return verdict(self, "accept")
        if row.answer:
            return self._assistant(row) or verdict(self, "accept", value=float(row.exchanges))
        if not row.history:
            return verdict(self, "accept")
        is_switch = brief is not None and brief.switch == row.exchanges
        return self._user(row) or self._link(row, is_switch) or verdict(self, "accept", value=float(row.exchanges))

    def _user(self, row: Row) -> Verdict | None:
        message = row.prompt
        if is_farewell(message):
            return verdict(self, "reject", "turns.farewell" if row.exchanges > 2 else "turns.too_short", value=row.exchanges - 1)
        if found := _search(_SPEAKERS, message) or _search(_SERVES, message):
            return verdict(self, "reject", "turns.role_swap", side="user", phrase=found)
        if (like := rouge_l(message, row.history[-1].content)) > self.similar:
            return verdict(self, "reject", "turns.role_swap", value=like, threshold=self.similar, side="user", phrase=message[:40])
        return self._repeated("user", message, row)

    def _link(self, row: Row, is_switch: bool) -> Verdict | None:
        """Whether the user's message takes up what was said, or leaves it, as it should."""
        message, said = row.prompt, "\n".join(turn.content for turn in row.history if turn.role != "system")
        own, before = content(message), content(said)
        share = len(own & before) / len(own) if own else 0.0
        if is_switch:
            back = _search(_BACK, message) or _search(_ANAPHORA, message)
            if back or share > self.same_topic:
                return verdict(self, "reject", "turns.no_switch", value=share, threshold=self.same_topic, phrase=back or None)
        elif len(own) >= ENOUGH[row.language] and not (share or _search(_ANAPHORA, message) or _search(_BACK, message)):
            return verdict(self, "reject", "turns.detached", value=share, phrase=message[:40])
        return None

    def _assistant(self, row: Row) -> Verdict | None:
        answer, asked = row.answer, "\n".join(turn.content for turn in row.asked if turn.role == "user")
        if not _DIALOGUE.search(normalise(asked)):
            helpless = _ASKS.match(normalise(answer)) if normalise(answer).endswith("?") else None
            if found := _search(_SPEAKERS, answer) or (helpless[0].strip() if helpless else ""):
                return verdict(self, "reject", "turns.role_swap", side="assistant", phrase=found)
        return self._repeated("assistant", answer, row)

    def _repeated(self, side: str, message: str, row: Row) -> Verdict | None:
        earlier = [turn.content for turn in row.history if turn.role == side]
        like, which = max(((rouge_l(message, one), one) for one in earlier), default=(0.0, ""))
        if like <= self.similar:
            return None
        return verdict(self, "reject", "turns.repeated", value=like, threshold=self.similar, side=side, phrase=which[:40])


@remembered
def is_farewell(text: str) -> bool:
    """Whether a message says goodbye, or thanks, and nothing else."""
    clauses = [clause.strip() for clause in _CLAUSE.split(normalise(text)) if clause.strip()]
    closing = [bool(_CLOSING.fullmatch(clause)) for clause in clauses]
    return any(closing) and all(ends or _POLITE.fullmatch(clause) for ends, clause in zip(closing, clauses, strict=True))


@remembered
def content(text: str) -> frozenset[str]:
    """What a text is about: its words without those of any text, by their beginnings; of Chinese, pairs of neighbouring characters."""
    folded = normalise(without_code(text))
    words = {word[:STEM] for word in tokens(folded) if word.isascii() and len(word) > 2 and word not in _PLAIN}
    pairs = {pair for pair in _HAN_PAIR.findall(folded) if not _PLAIN_PAIR.search(pair)}
    return frozenset(words | pairs)


def _search(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(normalised_lines(without_code(text)))
    return found[0].strip() if found else ""
