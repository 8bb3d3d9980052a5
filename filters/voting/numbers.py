"""A number as people write it, in English and Chinese: 1,234.50 and ５０% and 1/2, 三分之一 and 百分之五, 3.2万, $18, 12 厘米, 1.5e3.

It is read exactly, as a fraction: 0.50 and 1/2 are one number, 0.33 and 1/3 are two. A unit that is known is told in its base unit, so
2 hours are 120 minutes; currencies and counters say nothing that the question does not.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

LONGEST = 60
"""characters of a number with its unit"""
MAX_EXPONENT = 300


class Quantity(NamedTuple):
    """`unit` is a base unit, or "" where there is none; `scale` is how much of it the unit was that the text had."""

    value: Fraction
    unit: str = ""
    scale: Fraction = Fraction(1)

    @property
    def key(self) -> str:
        """Equal for equal quantities, however they are written."""
        return f"{self.value} {self.unit}".strip()


_BASES: dict[str, dict[str, str]] = {
    "m": {
        "m metre metres meter meters 米": "1",
        "cm centimetre centimetres centimeter centimeters 厘米": "1/100",
        "mm millimetre millimetres millimeter millimeters 毫米": "1/1000",
        "dm 分米": "1/10",
        "km kilometre kilometres kilometer kilometers 千米 公里": "1000",
        "inch inches 英寸": "254/10000",
        "ft foot feet 英尺": "3048/10000",
        "mile miles 英里": "1609344/1000",
    },
    "g": {
        "g gram grams 克": "1",
        "kg kilogram kilograms kilo kilos 千克 公斤": "1000",
        "mg milligram milligrams 毫克": "1/1000",
        "t tonne tonnes 吨": "1000000",
        "斤": "500",
        "lb lbs pound pounds 磅": "45359237/100000",
    },
    "s": {
        "s sec secs second seconds 秒 秒钟": "1",
        "ms millisecond milliseconds 毫秒": "1/1000",
        "min mins minute minutes 分钟": "60",
        "h hr hrs hour hours 小时": "3600",
        "d day days 天": "86400",
        "week weeks 周 星期": "604800",
    },
    "l": {
        "l litre litres liter liters 升": "1",
        "ml millilitre millilitres milliliter milliliters 毫升": "1/1000",
        "m^3 m³ m3 立方米": "1000",
        "cm^3 cm³ cm3 立方厘米": "1/1000",
    },
    "m^2": {"m^2 m² m2 平方米": "1", "cm^2 cm² cm2 平方厘米": "1/10000", "km^2 km² km2 平方千米 平方公里": "1000000", "公顷": "10000"},
    "km/h": {"km/h kmh 千米/时 千米/小时 公里/小时 公里/时": "1", "m/s 米/秒": "18/5"},
    "month": {"month months 个月": "1"},
    "year": {"year years 年": "1"},
    "degree": {"° degree degrees 度": "1"},
    "celsius": {"°c ℃ celsius 摄氏度": "1"},
}
UNITS = {
    name: Quantity(Fraction(factor), base) for base, rows in _BASES.items() for names, factor in rows.items() for name in names.split()
}
"""By name: how much of which base unit it is."""
POWERS = {"百": 100, "千": 1000, "万": 10**4, "亿": 10**8, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_DIGITS = {
    one: value
    for value, ones in enumerate(("零〇", "一壹", "二两贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖"))
    for one in ones
}
_STEPS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_HAN = f"[{''.join(_DIGITS)}{''.join(_STEPS)}万亿点半]"
_ARABIC = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_SCIENCE = re.compile(rf"({_ARABIC})\s*(?:e([+-]?\d+)|(?:×|x|\*|\\times|\\cdot)\s*10\s*(?:\^\s*\{{?|\*\*)\s*([+-]?\d+)\}}?)", re.IGNORECASE)
_MONEY = re.compile(r"^(?:us\$|[$¥€£]|rmb|usd|人民币)\s*|\s*(?:us\$|[$¥€£])$")
_ABOUT = re.compile(r"^(?:大约|约为|约|about|approximately|approx\.?|roughly|[≈~=])\s*")
_PLAIN = re.compile(rf"({_ARABIC}|{_HAN}+)\s*(.*)", re.DOTALL)
_FRACTION = re.compile(rf"(?:(\d+)\s+|(\d+|{_HAN}+)又)?(?:({_ARABIC})\s*/\s*({_ARABIC})|(\d+|{_HAN}+)分之(\d+|{_HAN}+))\s*(.*)", re.DOTALL)
_WORDS = re.compile(r"(?:[a-z][a-z'-]+ ?){1,3}|[\u4e00-\u9fff]{1,4}")
"""what may follow a number without changing it: "eggs left", 个苹果"""


def quantity(text: str) -> Quantity | None:
    """The number that the text is, with its unit; None when it is something else, or more than that. The text is in NFKC, lower case."""
    text = _ABOUT.sub("", text.strip().replace("−", "-"))
    if not text or len(text) > LONGEST:
        return None
    sign = -1 if text[0] in "-负" else 1
    text = _MONEY.sub("", text.lstrip("+-负").strip())
    for read in (_percentage, _scientific, _fractional, _plain):
        if (found := read(text)) is not None:
            return found._replace(value=sign * found.value)
    return None


def chinese(text: str) -> Fraction | None:
    """A number in Chinese numerals: 一百零三, 两万五千, 三点一四, 二〇二四; "半" is a half."""
    if text == "半":
        return Fraction(1, 2)
    whole, point, decimals = text.partition("点")
    if point:
        places = [_DIGITS.get(one) for one in decimals]
        before = chinese(whole)
        if before is None or not places or None in places:
            return None
        return before + Fraction(int("".join(map(str, places))), 10 ** len(places))
    if len(whole) > 1 and all(one in _DIGITS for one in whole):  # digit by digit
        return Fraction(int("".join(str(_DIGITS[one]) for one in whole)))
    total, section, digit = 0, 0, None
    last = 1
    for one in whole:
        if one in _DIGITS:
            if digit:  # two digits beside each other are no numeral
                return None
            digit = _DIGITS[one]
            last = 1 if digit == 0 else last
        elif one in _STEPS:
            section += (1 if digit is None else digit) * _STEPS[one]
            digit, last = None, _STEPS[one]
        elif one in "万亿":
            total = (total + section + (digit or 0)) * POWERS[one] if one == "亿" else total + (section + (digit or 0)) * POWERS[one]
            section, digit, last = 0, None, POWERS[one]
        else:
            return None
    if digit is None and not (section or total):
        return None
    tail = (digit or 0) * (last // 10 if last >= 100 else 1)  # 一百五 is 150, 三万二 is 32,000
    return Fraction(total + section + tail)


def _value(text: str) -> Fraction | None:
    return chinese(text) if re.fullmatch(f"{_HAN}+", text) else Fraction(text.replace(",", ""))


def _percentage(text: str) -> Quantity | None:
    text = re.sub(r"^百分之", "", percent := text)
    if percent == text:
        text = re.sub(r"\s*(?:\\?%|percent|per cent)$", "", text)
    inner = quantity(text) if percent != text else None
    return Quantity(inner.value / 100) if inner and not inner.unit else None


def _scientific(text: str) -> Quantity | None:
    found = _SCIENCE.match(text)
    if not found or abs(exponent := int(found[2] or found[3])) > MAX_EXPONENT:
        return None
    return _with_unit(Fraction(found[1].replace(",", "")) * Fraction(10) ** exponent, text[found.end() :])


def _fractional(text: str) -> Quantity | None:
    found = _FRACTION.match(text)
    if not found:
        return None
    whole, over, under = found[1] or found[2] or "0", found[3] or found[6], found[4] or found[5]
    parts = [_value(part) for part in (whole, over, under)]
    if parts[0] is None or parts[1] is None or not parts[2]:
        return None
    return _with_unit(parts[0] + parts[1] / parts[2], found[7])


def _plain(text: str) -> Quantity | None:
    found = _PLAIN.match(text)
    value = _value(found[1]) if found else None
    if found is None or value is None:
        return None
    rest = found[2]
    power = next((name for name in POWERS if rest.startswith(name) and rest not in UNITS), "")  # 千米 is no thousand
    return _with_unit(value * POWERS.get(power, 1), rest.removeprefix(power))


def _with_unit(value: Fraction, rest: str) -> Quantity | None:
    """The value in the unit that the rest is; None where the rest is neither a unit nor the name of what was counted."""
    name = rest.strip()
    if not name:
        return Quantity(value)
    if name in UNITS:
        return Quantity(value * UNITS[name].value, UNITS[name].unit, UNITS[name].value)
    return Quantity(value) if _WORDS.fullmatch(name) else None
