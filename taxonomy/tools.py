"""The tools of a leaf, which its answers may call: as a taxonomy gives them, or as a role writes them.

    settings:
      tools:                       # or the name of a YAML file that holds the list, beside the taxonomy
        - name: get_weather
          description: {en: Weather of a city on a day., zh: 查询某城市某天的天气。}
          parameters:              # JSON Schema of an object
            type: object
            properties:
              city: {type: string, description: {en: the city, zh: 城市}}
              day: {type: string, format: date}
            required: [city]
          returns:                 # JSON Schema of what it gives back: a value of it is made up where no rule below fits
            type: object
            properties:
              city: {type: string}
              sky: {enum: {en: [sunny, rainy], zh: [晴, 雨]}}
              high: {type: integer, minimum: -10, maximum: 40}
          mock:                    # the first rule whose arguments fit is what it gives, or how it fails
            - {when: {city: Atlantis}, error: {en: no such city, zh: 没有这个城市}}

A text that differs by language is written {en: ..., zh: ...} wherever it stands; so is a list of texts. A schema stands on its own: it
has no `$ref`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from pydantic import ConfigDict, Field

from leafmill import yamlfile
from leafmill.errors import TaxonomyError, unknown
from leafmill.records import Brief, Language, Record, digest
from leafmill.yamlfile import Keys, Yaml

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SHOWN = 5
"""tools that a candidate is shown at most"""
LANGUAGES: frozenset[str] = frozenset(get_args(Language))
FORMATS = ("date", "date-time", "time", "email", "ipv4", "uuid")
"""formats that are checked; the others say something to the reader only"""


class Rule(Record):
    """What a tool gives, or how it fails, when it is called `when` these arguments are among its own."""

    when: dict[str, Any] = Field(default={})
    gives: Any = None
    error: str = ""


class Tool(Record):
    """A tool in one language."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
    description: str = Field(min_length=1, max_length=1000)
    parameters: dict[str, Any]
    returns: dict[str, Any]
    mock: tuple[Rule, ...] = ()

    @property
    def shown(self) -> dict[str, Any]:
        """As an assistant is shown it, and as it stands in a row."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.parameters.get("required", ()))


class Fault(NamedTuple):
    """What is wrong with a tool, and under which of its keys."""

    problem: str
    keys: tuple[str | int, ...] = ()


class ToolTask(Record):
    """What a candidate's task is about: the tools that it needs, those that its assistant is shown, and what its user leaves out."""

    needed: tuple[Tool, ...]
    shown: tuple[Tool, ...]
    left_out: str = ""
    """a required parameter of the needed tool whose value the user does not give"""


# -- reading ------------------------------------------------------------------------------------------------------------


def read_tools(yaml: Yaml, given: Any, languages: Sequence[Language], at: Keys) -> list[dict[str, Any]]:
    """The tools that stand `at` a place of a taxonomy, or in a YAML file beside it, as they are written. Raises TaxonomyError with file and
    line for the first thing that is wrong with one, in any of the languages."""
    if isinstance(given, str):
        path = Path(yaml.path).parent / given
        if not path.is_file():
            raise yaml.fail(f"tools: there is no file {given!r} beside the taxonomy", at)
        yaml, at = yamlfile.read(path, TaxonomyError), ()
        given = yaml.data
    if not isinstance(given, list):
        raise yaml.fail(f"tools should be a list, or the name of a YAML file with a list, got {given!r}", at)
    for language in languages:
        known: set[str] = set()
        for place, one in enumerate(given):
            tool = _read(yaml, one, language, (*at, place))
            if tool.name in known:
                raise yaml.fail(f"two tools have the name {tool.name!r}", (*at, place))
            known.add(tool.name)
    return given


def _read(yaml: Yaml, given: Any, language: Language, at: Keys) -> Tool:
    try:
        said = in_language(given, language)
    except KeyError:
        raise yaml.fail(f"a tool has a text that is not given in {language}", at) from None
    if not isinstance(said, dict):
        raise yaml.fail(f"a tool should be a mapping with {', '.join(Tool.model_fields)}, got {said!r}", at)
    tool = yaml.model(Tool, said, at)
    if fault := fault_of(tool):
        raise yaml.fail(f"tool {tool.name!r}: {fault.problem}", (*at, *fault.keys))
    return tool


def tools_in(given: Sequence[Mapping[str, Any]], language: Language) -> tuple[Tool, ...]:
    """The tools of a leaf in a language, as `read_tools` found them good."""
    return tuple(Tool.model_validate(in_language(one, language)) for one in given)


def in_language(value: Any, language: Language) -> Any:
    """The value with every {en: ..., zh: ...} in it said in one language. Raises KeyError where that language is missing."""
    if isinstance(value, date):  # YAML reads one where JSON has a text
        return value.isoformat()
    if isinstance(value, dict):
        if value and value.keys() <= LANGUAGES and not any(isinstance(one, dict) for one in value.values()):
            return value[language]
        return {key: in_language(one, language) for key, one in value.items()}
    return [in_language(one, language) for one in value] if isinstance(value, list) else value


def fault_of(tool: Tool) -> Fault | None:
    """The first thing that is wrong with a tool, or None. What it returns must be such that a value can be made up."""
    from taxonomy.mock_tools import unmakable

    for key, schema in (("parameters", tool.parameters), ("returns", tool.returns)):
        if problem := _bad_schema(schema):
            return Fault(f"{key} is no JSON Schema that can be used: {problem}", (key,))
    if tool.parameters.get("type") != "object":
        return Fault("parameters must be a schema of type object", ("parameters",))
    properties = tool.parameters.get("properties", {})
    for name in tool.required:
        if name not in properties:
            return Fault(unknown("parameter in `required`", name, properties), ("parameters", "required"))
    if problem := unmakable(tool):
        return Fault(f"no value can be made up for returns: {problem}", ("returns",))
    for place, rule in enumerate(tool.mock):
        for name in rule.when:
            if name not in properties:
                return Fault(unknown("parameter", name, properties), ("mock", place, "when", name))
        if bool(rule.error) == (rule.gives is not None):
            return Fault("a rule has either `gives` or `error`", ("mock", place))
        if rule.gives is not None and (problem := first_error(tool.returns, rule.gives)):
            return Fault(f"what it gives is not what the tool returns: {problem}", ("mock", place, "gives"))
    return None


def _bad_schema(schema: Mapping[str, Any]) -> str | None:
    refs = [key for key in _keys(schema) if key in ("$ref", "$dynamicRef")]
    return _not_a_schema(json.dumps(schema, sort_keys=True)) or (f"it must stand on its own, got {refs[0]}" if refs else None)


@functools.lru_cache(maxsize=1024)
def _not_a_schema(text: str) -> str | None:
    """Why a JSON text is no JSON Schema; None when it is one."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(json.loads(text))
    except SchemaError as fault:
        return f"{_at(fault.absolute_path)}{fault.message}"[:300]
    return None


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _keys(one)
    elif isinstance(value, list):
        for one in value:
            yield from _keys(one)


# -- checking values ----------------------------------------------------------------------------------------------------


def first_error(schema: Mapping[str, Any], value: Any) -> str | None:
    """Why a value is not of a schema, the first reason by its place; None when it is."""
    from referencing.exceptions import Unresolvable

    try:
        faults = sorted(validator(json.dumps(schema, sort_keys=True)).iter_errors(value), key=lambda fault: _at(fault.absolute_path))
    except Unresolvable as fault:
        return f"its schema has a $ref that leads nowhere: {fault.ref}"
    return f"{_at(faults[0].absolute_path)}{faults[0].message}"[:300] if faults else None


def _at(path: Any) -> str:
    place = ".".join(map(str, path))
    return f"{place}: " if place else ""


@functools.lru_cache(maxsize=1024)
def validator(schema: str) -> Draft202012Validator:
    """The validator of a schema that is written as JSON."""
    from jsonschema import Draft202012Validator, FormatChecker
    from referencing import Registry

    checks = FormatChecker([name for name in FORMATS if name != "date-time"])
    checks.checks("date-time", ValueError)(_is_moment)  # theirs takes another package
    return Draft202012Validator(json.loads(schema), format_checker=checks, registry=Registry())  # which fetches nothing


def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


class Wrong(NamedTuple):
    """What is wrong with a call, and the code of that."""

    code: Literal["unknown", "invalid_call"]
    problem: str


def wrong_call(tools: Sequence[Mapping[str, Any]], name: str, arguments: Mapping[str, Any]) -> Wrong | None:
    """What is wrong with a call of one of the tools (as a row shows them); None when nothing is.

    An argument that the schema does not name is wrong, too, unless the schema says that there may be others.
    """
    tool = next((one for one in tools if one["name"] == name), None)
    if tool is None:
        return Wrong("unknown", unknown("tool", name, (one["name"] for one in tools)))
    schema = tool.get("parameters")
    if schema is None:
        return None
    if problem := _not_a_schema(json.dumps(schema, sort_keys=True)) or first_error(schema, arguments):
        return Wrong("invalid_call", f"{name}: {problem}")
    if "additionalProperties" not in schema and "patternProperties" not in schema:
        known = schema.get("properties", {})
        for given in arguments:
            if given not in known:
                return Wrong("invalid_call", f"{name}: {unknown('argument', given, known)}")
    return None


# -- what a candidate is about ------------------------------------------------------------------------------------------


def task_of(brief: Brief, tools: Sequence[Tool]) -> ToolTask:
    """Which tools a candidate is about, drawn by its brief's id. Raises ValueError where these tools do not allow its mode."""
    kind = brief.mode.tools
    if problem := unfit(kind, tools):
        raise ValueError(problem)
    draw = Random(digest(brief.id, "tools"))
    needed: tuple[Tool, ...]
    if kind == "multi_step":
        needed = draw.choice(chains(tools))
    elif kind == "parallel":
        needed = tuple(draw.sample(list(tools), min(len(tools), draw.choice((1, 2)))))
    elif kind == "missing_parameter":
        needed = (draw.choice([tool for tool in tools if tool.required]),)
    else:
        needed = (draw.choice(list(tools)),)
    names = {tool.name for tool in needed}
    others = [tool for tool in tools if tool.name not in names]
    if kind == "missing_tool":
        shown = draw.sample(others, min(len(others), SHOWN))
    else:
        shown = [*needed, *draw.sample(others, min(len(others), max(0, SHOWN - len(needed))))]
    draw.shuffle(shown)
    return ToolTask(needed=needed, shown=tuple(shown), left_out=draw.choice(needed[0].required) if kind == "missing_parameter" else "")


def unfit(kind: str, tools: Collection[Tool]) -> str | None:
    """Why tools cannot make candidates of a kind (`Mode.tools`); None when they can."""
    if not tools:
        return "there is no tool"
    if kind == "missing_tool" and len(tools) < 2:
        return "missing_tool takes one away, and needs two at least"
    if kind == "missing_parameter" and not any(tool.required for tool in tools):
        return "missing_parameter needs a tool with a required parameter"
    if kind == "multi_step" and not chains(tools):
        return "multi_step needs a tool with a required parameter that another one returns, as a property of the same name"
    return None


def chains(tools: Collection[Tool]) -> list[tuple[Tool, Tool]]:
    """The pairs of tools of which the second takes something that only the first gives: by name, as `order_id` and `order_id`."""
    return [
        (first, second)
        for first in tools
        for second in tools
        if first is not second and (set(_properties(first.returns)) - set(first.parameters.get("properties", {}))) & set(second.required)
    ]


def _properties(schema: Any) -> Iterator[str]:
    """The names of all properties in a schema."""
    if isinstance(schema, dict):
        yield from schema["properties"] if isinstance(schema.get("properties"), dict) else ()
        for one in schema.values():
            yield from _properties(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from _properties(one)
