"""Tools that nobody has to run: what a call gives is made up, the same for the same call in every process.

The first of the tool's own rules that fits decides. Where none does, a value of the schema `returns` is drawn by (run seed, tool,
arguments): a property with the name of an argument has its value, numbers lie in their range, dates are dates, and a text is Chinese where
its schema is described in Chinese.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from leafmill.records import digest
from taxonomy.tools import Tool, first_error

CJK = re.compile(r"[\u4e00-\u9fff]")
MADE = frozenset(
    {
        "type",
        "enum",
        "const",
        "examples",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
    }
    | {"exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "format", "anyOf"}
)
"""What of JSON Schema a made-up value heeds. Others may stand beside enum, const or examples, from which a value is taken as it is."""
REMARKS = frozenset({"description", "title", "default", "$schema", "$comment"})
TRIALS = 8
"""values that are made up of a schema when it is read, to see whether they are of it"""
ITEMS = 3
"""of a list without a length, at most"""
FIRST_DAY = date(2025, 1, 1)
DAYS = 700


class Result(NamedTuple):
    """What a call gave. A tool that failed gives {"error": ...}."""

    value: Any
    failed: bool = False

    @property
    def text(self) -> str:
        """As it stands in a tool's message."""
        return json.dumps(self.value, ensure_ascii=False)


def call(tool: Tool, arguments: Mapping[str, Any], seed: int) -> Result:
    """What a tool gives for arguments that are of its schema."""
    for rule in tool.mock:
        if all(name in arguments and canonical(arguments[name]) == canonical(value) for name, value in rule.when.items()):
            return Result({"error": rule.error}, failed=True) if rule.error else Result(rule.gives)
    draw = Random(digest(seed, tool.name, canonical(arguments)))
    return Result(made_up(tool.returns, draw, arguments, chinese=bool(CJK.search(tool.description))))


def made_up(schema: Mapping[str, Any], draw: Random, arguments: Mapping[str, Any] = MappingProxyType({}), *, chinese: bool = False) -> Any:
    """A plausible value of a schema; of one that `unmakable` finds fault with it may be none. `chinese`: its texts, where the schema does
    not say by a description."""
    return _Maker(draw, arguments).value(schema, chinese=chinese)


def canonical(value: Any) -> Any:
    """Equal values alike: 1.0 is 1, as in JSON Schema. The order of keys does not count."""
    if isinstance(value, dict):
        return {key: canonical(one) for key, one in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def unmakable(tool: Tool) -> str | None:
    """Why no value can be made up of what a tool returns; None when values can."""
    if problem := _unheeded(tool.returns):
        return problem
    for trial in range(TRIALS):
        try:
            value = made_up(tool.returns, Random(trial))
        except (ValueError, IndexError, TypeError) as fault:
            return str(fault)
        if problem := first_error(tool.returns, value):
            return f"{json.dumps(value, ensure_ascii=False)[:80]} was tried: {problem}"
    return None


def _unheeded(schema: Any) -> str | None:
    """The first thing in a schema that a made-up value would not heed."""
    if not isinstance(schema, dict):
        return f"a schema must be a mapping, got {schema!r}"
    said = schema.keys() - REMARKS
    if given := [*schema.get("enum", []), *schema.get("examples", []), *([schema["const"]] if "const" in schema else [])]:
        return next(
            (f"{value!r} is among the values to take: {problem}" for value in given if (problem := first_error(schema, value))), None
        )
    together = {"anyOf": said, "format": said & {"format", "minLength", "maxLength"}}
    if odd := next((key for key, keys in together.items() if key in said and len(keys) > 1), None):
        return f"{odd!r} is not heeded beside {', '.join(sorted(together[odd] - {odd}))}: give `examples`, of which one is taken"
    if strange := sorted(said - MADE):
        return f"{strange[0]!r} is not heeded: give `examples` beside it, of which one is taken"
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]
    return next(filter(None, map(_unheeded, below)), None)


class _Maker:
    """Draws values of schemas for one call."""

    def __init__(self, draw: Random, arguments: Mapping[str, Any]) -> None:
        self._draw, self._arguments = draw, arguments

    def value(self, schema: Mapping[str, Any], name: str = "", chinese: bool = False, echo: bool = True) -> Any:
        """A value of the schema. `name` is that of its property; `echo`: whether an argument of that name may be its value."""
        if "description" in schema:
            chinese = bool(CJK.search(schema["description"]))
        if echo and name in self._arguments and first_error(schema, self._arguments[name]) is None:
            return self._arguments[name]
        if "const" in schema:
            return schema["const"]
        if given := schema.get("enum") or schema.get("examples"):
            return self._draw.choice(given)
        if "anyOf" in schema:
            return self.value(self._draw.choice(schema["anyOf"]), name, chinese, echo)
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        match self._draw.choice(kinds) if isinstance(kinds, list) else kinds:
            case "object":
                return {key: self.value(one, key, chinese, echo) for key, one in schema.get("properties", {}).items()}
            case "array":
                low = schema.get("minItems", 1)
                size = self._draw.randint(low, schema.get("maxItems", max(low, ITEMS)))
                return [self.value(schema.get("items", {}), name, chinese, echo=False) for _ in range(size)]
            case "integer":
                return self._integer(schema, name.lower())
            case "number":
                return self._number(schema, name.lower())
            case "boolean":
                return self._draw.random() < 0.5
            case "null":
                return None
        return self._text(schema, name.lower(), chinese)

    def _integer(self, schema: Mapping[str, Any], name: str) -> int:
        low, high = _range(schema, name)
        least = math.floor(low) + 1 if schema.get("exclusiveMinimum") == low else math.ceil(low)
        most = math.ceil(high) - 1 if schema.get("exclusiveMaximum") == high else math.floor(high)
        return self._draw.randint(least, most)

    def _number(self, schema: Mapping[str, Any], name: str) -> float:
        low, high = _range(schema, name)
        drawn = low + self._draw.uniform(0.01, 0.99) * (high - low)
        rounded = round(drawn, 2)
        return rounded if low < rounded < high else drawn

    def _text(self, schema: Mapping[str, Any], name: str, chinese: bool) -> str:
        text = self._formatted(schema.get("format", ""), name) or self._named(name, chinese)
        if "format" in schema:
            return text
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        while len(text) < least:
            text += self._draw.choice(WORDS["zh" if chinese else "en"]["other"])
        return text[:most]

    def _formatted(self, kind: str, name: str) -> str:
        """A text of a format, or of one that the name of its property tells."""
        day = FIRST_DAY + timedelta(days=self._draw.randrange(DAYS))
        hour, minute = self._draw.randint(7, 21), self._draw.choice((0, 15, 30, 45))
        user = self._draw.choice(WORDS["en"]["user"])
        match kind:
            case "date":
                return day.isoformat()
            case "date-time":
                return f"{day.isoformat()}T{hour:02}:{minute:02}:00+08:00"
            case "time":
                return f"{hour:02}:{minute:02}:00+08:00"
            case "email":
                return f"{user}@example.com"
            case "ipv4":
                return f"192.0.2.{self._draw.randint(1, 254)}"
            case "uuid":
                made = f"{self._draw.getrandbits(128):032x}"
                return "-".join((made[:8], made[8:12], "4" + made[13:16], "8" + made[17:20], made[20:]))
            case "uri":
                return f"https://example.com/{user}/{self._draw.randint(100, 999)}"
        parts = re.split(r"[_\W]+", name)
        if "date" in parts or "day" in parts:
            return day.isoformat()
        if "time" in parts:
            return f"{hour:02}:{minute:02}"
        if {"id", "number", "no", "code"} & set(parts):
            return f"{(parts[0][:1] or 'x').upper()}{self._draw.randint(10000, 99999)}"
        if "phone" in parts:
            return f"555-01{self._draw.randint(10, 99)}"
        return ""

    def _named(self, name: str, chinese: bool) -> str:
        """A text of the bank that the name of its property tells."""
        banks = WORDS["zh" if chinese else "en"]
        kind = next((kind for kind, names in NAMES.items() if any(part in name for part in names)), "other")
        return self._draw.choice(banks[kind])


RANGES: Sequence[tuple[tuple[str, ...], float, float]] = (
    (("temp", "high", "low"), -5, 35),
    (("percent", "humidity", "probability"), 0, 100),
    (("rating", "stars"), 1, 5),
    (("price", "amount", "total", "cost", "fee", "balance"), 20, 2000),
    (("year",), 2000, 2026),
)
"""Where a number lies that has no bounds, by its property's name; others from 1 to 100."""


def _range(schema: Mapping[str, Any], name: str) -> tuple[float, float]:
    """The least and the greatest of a number."""
    low, high = next(((low, high) for names, low, high in RANGES if any(part in name for part in names)), (1.0, 100.0))
    lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
    highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
    span = high - low
    if lows and not highs:
        low = max(lows)
        high = max(high, low + span)
    elif highs and not lows:
        high = min(highs)
        low = min(low, high - span)
    elif lows and highs:
        low, high = max(lows), min(highs)
    if low > high:
        raise ValueError(f"there is no number from {low} to {high}")
    return low, high


NAMES: Mapping[str, Sequence[str]] = {
    "place": ("city", "place", "location", "destination", "origin", "region", "address", "station", "airport"),
    "status": ("status", "state"),
    "currency": ("currency",),
    "user": ("user", "login"),
    "person": ("person", "author", "customer", "owner", "courier", "driver", "contact", "recipient", "teacher", "doctor"),
    "company": ("company", "carrier", "brand", "shop", "store", "vendor", "airline"),
}
"""Which bank a text is of, by what its property's name holds."""
WORDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "place": ("Lisbon", "Osaka", "Toronto", "Nairobi", "Leeds", "Austin", "Bergen", "Perth"),
        "status": ("confirmed", "in progress", "on its way", "completed", "on hold", "delayed"),
        "currency": ("USD", "EUR", "GBP"),
        "user": ("mlopez", "j.tanaka", "annak", "o.weber"),
        "person": ("Maria Lopez", "Jun Tanaka", "Anna Kovacs", "Omar Haddad", "Ruth Weber"),
        "company": ("Northway", "Bluefin Post", "Oakline", "Tern & Sons"),
        "other": ("standard edition", "blue linen", "second floor", "morning slot", "spare parts", "window side", "gift wrapped"),
    },
    "zh": {
        "place": ("杭州", "成都", "西安", "厦门", "武汉", "昆明", "青岛", "长沙"),
        "status": ("已确认", "处理中", "运输途中", "已完成", "已暂停", "已延误"),
        "currency": ("人民币", "港元", "美元"),
        "user": ("xiaolin88", "chen_yu", "wangmq", "liyun"),
        "person": ("林晓", "陈雨", "王明强", "李芸", "周正"),
        "company": ("迅达快运", "北辰商行", "青禾超市", "云帆航空"),
        "other": ("标准版", "蓝色亚麻", "二楼", "上午时段", "备用零件", "靠窗", "礼盒装"),
    },
}
