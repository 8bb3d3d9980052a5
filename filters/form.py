"""The gate `form`: cheap signs that a text is broken.

It repeats what was said, stops in mid-sentence, leaves a bracket open, or mixes two ways of writing Chinese.
There is no reliable open checker of Chinese grammar, so these stand in for one, beside the panel. Each is meant to be sure rather than to
find much: on answers written by people the gate has to be silent (`python -m bench.form` counts).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import HAN, bare, normalise, remembered, script, units, without_code
from leafmill.records import Row, Verdict

PAIRS = {"(": ")", "（": "）", "[": "]", "【": "】", "「": "」", "『": "』", "《": "》", "“": "”"}
QUOTES = "“「『"
ENDS = tuple(".!?。！？…;；:：\"'”’」』)）]】》>*_`|~")
"""what a finished text may end with, besides a word"""

ECHO = 4
"""units from which a text may be called a repetition: the answer to "say yes or no: yes" is yes"""

_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|class|return|import|from|assert|elif|public|private|static|const|let|var|function|#include|@\w+|>>>)\b.*"
    r"|(?:#|//|/\*|\"\"\"|SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE|FROM|(?:LEFT |INNER )?JOIN|WHERE|GROUP BY|ORDER BY)(?!\w).*"
    r"|.*[;{}\\]\s*|(?:for|if|while|with|else|try|except)\b.*:\s*|[\w.\[\]'\"]+\s*[-+*/]?=[^=].*|[\w.]+\([^()]*\)\s*)$"
)
_NOT_PROSE = re.compile(
    r"\$\$[^$]+\$\$|\$(?=\S)[^$\n]*?\S\$(?!\d)|\\[(\[].*?\\[)\]]|https?://\S+|[:;=]-?[()\[\]]|\([*•]"
    r"|[\[(][-\w.,+∞ π]*[,，][-\w.,+∞ π]*[\])]"
)
"""formulas, addresses, emoticons, half-open intervals"""
_HANGING = re.compile(rf"(?:^|[\s,])(?:{'|'.join(words_en.HANGING)})$|(?:{'|'.join(words_zh.HANGING)})$|[,，、]$")
_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？]")
_PLAIN_END = re.compile(rf"[a-z]{{2,}}$|[{HAN}]$")
"""a word in small letters: names, numbers and formulas may stand at the end of an answer without a full stop"""
_NO_SENTENCE = re.compile(r".*(?:https?|www)\S+$|[-*+•·|#>]|\(?(?:\d{1,3}|[a-zA-Z])[.)、）:]|[一二三四五六七八九十]+、")
_HAN = re.compile(rf"[{HAN}]")
_ABOUT_SCRIPT = re.compile(words_zh.ABOUT_SCRIPT)


class Fault(NamedTuple):
    kind: str
    phrase: str


@dataclass(frozen=True)
class Form:
    """* `form.echo`: the input repeats the instruction, or the answer repeats either (Self-Instruct drops what has input and output alike);
    * `form.unfinished`: the answer stops in mid-sentence;
    * `form.bracket`: a bracket or quotation mark is opened and never closed;
    * `form.mixed_han`: a Chinese text mixes simplified and traditional characters.

    Code, formulas and half-open intervals do not count. The answer alone is judged for its end: an instruction may end anywhere.
    """

    name: ClassVar[str] = "form"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "the text says something of its own, stops where it ends, closes its brackets and writes Chinese in one way"

    min_units: int = 12
    """units under which a text is not judged"""
    mixed_han: float = 0.15
    """share of the rarer way of writing, among characters that differ between the two, from which a text is mixed"""

    def __post_init__(self) -> None:
        if not 0 < self.mixed_han <= 0.5 or self.min_units < 1:
            raise ValueError(f"need 0 < mixed_han <= 0.5 and min_units of at least 1, got {self.mixed_han} and {self.min_units}")

    async def __call__(self, subject: Subject) -> Verdict:
        row = subject.row
        if part := echo(row):
            return verdict(self, "reject", "form.echo", part=part)
        for part, text in (("instruction", row.instruction), ("answer", row.answer)):
            if units(text) < self.min_units:
                continue
            fault = (unfinished(text) if part == "answer" else None) or open_bracket(text)
            if fault:
                return verdict(self, "reject", f"form.{fault.kind}", part=part, phrase=fault.phrase)
            share, shown = mixed_han(text)
            if share >= self.mixed_han and not _ABOUT_SCRIPT.search(normalise(row.prompt)):
                return verdict(self, "reject", "form.mixed_han", value=share, threshold=self.mixed_han, part=part, phrase=shown)
        return verdict(self, "accept")


def echo(row: Row) -> str:
    """The part of a row that only repeats what stands before it, up to case and punctuation; "" when there is none."""
    said = [bare(row.instruction)]
    for part, text in (("input", row.input), ("answer", row.answer)):
        if units(text) >= ECHO and bare(text) in said:
            return part
        said += [bare(text), bare(row.prompt)]
    return ""


@remembered
def prose(text: str) -> str:
    """The text without fenced and inline code, and without lines that look like code where nobody fenced them."""
    return "\n".join("" if _CODE_LINE.match(line) else line for line in without_code(text).splitlines())


@remembered
def unfinished(text: str) -> Fault | None:
    """Whether it stops in mid-sentence. Only a text that ends its other sentences is held to it: lists, titles and verses do without.

    It does when it ends on a comma or on a word that another must follow; or when its last line begins a sentence after others.
    """
    said = prose(text).rstrip()
    line = said.rpartition("\n")[2].strip()
    if said != text.rstrip() or line.endswith(ENDS) or _NO_SENTENCE.match(line) or not _SENTENCE_END.search(said):
        return None
    begun = _SENTENCE_END.split(line)
    hangs = units(line) >= 4 and _HANGING.search(line.casefold())
    stops = units(begun[-1]) >= 3 and (len(begun) > 1 or units(line) >= 12) and _PLAIN_END.search(line)
    return Fault("unfinished", line[-20:]) if hangs or stops else None


@remembered
def open_bracket(text: str) -> Fault | None:
    """A bracket that is opened and not closed before the text ends. What is closed and never opened is the mark of a list: a)."""
    plain = _NOT_PROSE.sub(" ", prose(text)).rstrip()
    for first, last in PAIRS.items():
        # Each paragraph of a long quotation opens it anew, and only the last one closes it.
        judged = plain.rpartition("\n")[2] if first in QUOTES else plain
        opened: list[int] = []
        for place in (found.start() for found in re.finditer(f"[{re.escape(first + last)}]", judged)):
            if judged[place] == first:
                opened.append(place)
            elif opened:
                opened.pop()
        if opened:
            return Fault("bracket", judged[opened[-1] :][:20])
    return None


@remembered
def mixed_han(text: str) -> tuple[float, str]:
    """The share of the rarer of the two ways of writing among the characters that tell them apart, and some of those.

    A character that only the standard of the mainland has (GB 2312) is simplified, one that only Taiwan's has (Big5) is traditional. A
    few of one kind are a name or a quotation: under three different ones the share counts as 0.
    """
    if script(text) < 0.5:
        return 0.0, ""
    kinds: dict[str, list[str]] = {"simplified": [], "traditional": []}
    for character in _HAN.findall(prose(text)):
        if kind := _way_of_writing(character):
            kinds[kind].append(character)
    rarer = min(kinds.values(), key=len)
    return (len(rarer) / sum(map(len, kinds.values())), "".join(dict.fromkeys(rarer))[:10]) if len({*rarer}) >= 3 else (0.0, "")


@functools.cache
def _way_of_writing(character: str) -> str:
    """simplified, traditional, or neither where both standards have it, or none."""
    simplified, traditional = (_is_in(character, standard) for standard in ("gb2312", "big5"))
    return "" if simplified == traditional else "simplified" if simplified else "traditional"


def _is_in(character: str, standard: str) -> bool:
    try:
        character.encode(standard)
    except UnicodeEncodeError:
        return False
    return True
