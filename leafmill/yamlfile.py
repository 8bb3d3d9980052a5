"""YAML that remembers where each value stood, so that an error can name file and line.

`read(path)` gives a `Yaml`: plain data, plus `place(keys)` for the position of any value in it, plus `model(cls)` which validates
the data by a pydantic model and turns the first fault into the caller's `InputError`, with the bad value and the nearest known key.
Keys are always text, so that `off:`, `on:` and `no:` are the words they look like; values are what YAML 1.1 makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from leafmill.errors import InputError, Place, unknown

M = TypeVar("M", bound=BaseModel)
Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Yaml:
    """A parsed document. `lines` maps the path of keys to the line (1-based) where its value, or its key, stands, if it is in the file."""

    path: str
    data: Any
    lines: dict[Keys, int | None]
    error: type[InputError]

    def place(self, keys: Sequence[str | int] = ()) -> Place:
        """Where `keys` stands, or the nearest enclosing value that is in the file."""
        known = tuple(keys)
        while known and known not in self.lines:
            known = known[:-1]
        return Place(self.path, self.lines.get(known))

    def fail(self, message: str, keys: Sequence[str | int] = ()) -> InputError:
        return self.error(message, self.place(keys))

    def model(self, cls: type[M], data: Any = None, under: Keys = ()) -> M:
        """Validate the data (or a part of it that stands `under` some keys) as `cls`."""
        try:
            return cls.model_validate(self.data if data is None else data)
        except ValidationError as fault:
            raise self._explain(fault, cls, self.data if data is None else data, under) from None

    def _explain(self, fault: ValidationError, cls: type[BaseModel], data: Any, under: Keys) -> InputError:
        first = _telling(fault)
        loc = _keys_of(first, data)
        dotted = ".".join(str(k) for k in (*under, *loc)) or "(the document)"
        if first["type"] == "extra_forbidden":
            return self.fail(unknown("key", str(loc[-1]), _fields_at(cls, loc[:-1])) + f" (at {dotted})", (*under, *loc))
        others = len({_keys_of(one, data) for one in fault.errors()}) - 1
        more = f" ({others} more)" if others > 0 else ""
        got = "" if first["type"] in ("missing", "value_error") else f", got {_short(first['input'])}"
        return self.fail(f"{dotted}: {first['msg'].removeprefix('Value error, ')}{got}{more}", (*under, *loc))


def read(path: Path, error: type[InputError] = InputError) -> Yaml:
    """Read one YAML file. Raises `error` for a missing file, bad UTF-8, bad syntax, a repeated key, a cycle or an empty document."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as fault:
        raise error(f"not valid UTF-8: byte {fault.object[fault.start]:#04x} at offset {fault.start}", Place(str(path))) from None
    except OSError as fault:
        raise error(f"cannot be read: {fault.strerror}", Place(str(path))) from None
    return parse(text, str(path), error)


def parse(text: str, path: str, error: type[InputError] = InputError, first_line: int = 1) -> Yaml:
    """Parse YAML text that starts at `first_line` of the file `path`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise error("not valid YAML: nested too deeply", Place(path)) from None
    except yaml.YAMLError as fault:
        mark, position = getattr(fault, "problem_mark", None), getattr(fault, "position", None)
        line = mark.line if mark else None if position is None else text.count("\n", 0, position)
        problem = getattr(fault, "problem", None) or getattr(fault, "reason", None) or fault
        raise error(f"not valid YAML: {problem}", Place(path, None if line is None else line + first_line)) from None
    if node is None:
        raise error("is empty", Place(path))
    lines: dict[Keys, int] = {}
    data = _construct(node, (), lines, (), lambda message, line: error(message, Place(path, line + first_line)))
    return Yaml(path, data, {keys: line + first_line for keys, line in lines.items()}, error)


def _construct(node: yaml.Node, keys: Keys, lines: dict[Keys, int], open_nodes: tuple[int, ...], fail: Any) -> Any:
    lines.setdefault(keys, node.start_mark.line)
    if id(node) in open_nodes:
        raise fail(f"a cycle: {'.'.join(map(str, keys))} contains itself", node.start_mark.line)
    inside = (*open_nodes, id(node))
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise fail("a key must be plain text, not a list or a mapping", key_node.start_mark.line)
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise fail("merge keys (<<) are not supported: write the values out", key_node.start_mark.line)
            key = key_node.value
            if key in result:
                raise fail(f"key {key!r} is given twice under {'.'.join(map(str, keys)) or 'the document'}", key_node.start_mark.line)
            lines[(*keys, key)] = key_node.start_mark.line
            result[key] = _construct(value_node, (*keys, key), lines, inside, fail)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*keys, i), lines, inside, fail) for i, item in enumerate(node.value)]
    try:
        return _scalar(node)
    except (yaml.YAMLError, ValueError, AttributeError) as fault:  # a tag of Python's, a date that is none
        what = node.tag.removeprefix("tag:yaml.org,2002:")
        raise fail(
            f"{'.'.join(map(str, keys))}: {node.value!r} cannot be read as {what!r}; put quotes around a text", node.start_mark.line
        ) from fault


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _telling(fault: ValidationError) -> Any:
    """The error that says most: of a value that fits no member of a union, that of the member which it comes nearest to."""
    faults = fault.errors()
    if faults[0]["type"] == "missing":  # perhaps it is there, under a misspelt name
        faults.sort(key=lambda one: one["type"] != "extra_forbidden")
    same = [one for one in faults if one["loc"][:1] == faults[0]["loc"][:1]]
    return max(same, key=lambda one: len(one["loc"])) if isinstance(faults[0]["input"], (dict, list)) else faults[0]


def _keys_of(fault: Any, data: Any) -> Keys:
    """Where in the data an error is: its `loc` without the names of union members that pydantic puts in."""
    keys: list[str | int] = []
    for key in fault["loc"]:
        if (isinstance(data, dict) and key in data) or (isinstance(data, list) and isinstance(key, int)):
            keys.append(key)
            data = data[key]
    missing = [fault["loc"][-1]] if fault["type"] == "missing" else []
    return (*keys, *missing)


def _fields_at(cls: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The field names of the model that stands at `loc` inside `cls`; its own when that cannot be told."""
    schema = cls.model_json_schema()
    here: dict[str, Any] = schema
    for key in loc:
        here = _resolve(here, schema)
        found = here.get("properties", {}).get(key) or here.get("additionalProperties") or here.get("items")
        if not isinstance(found, dict):
            break
        here = found
    return list(_resolve(here, schema).get("properties", {}))


def _resolve(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    options: list[dict[str, Any]] = [part, *part.get("anyOf", [])]
    for option in options:
        if "$ref" in option:
            found: dict[str, Any] = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
            return found
    return next((option for option in options if option.keys() & {"properties", "additionalProperties", "items"}), part)


def _short(value: Any) -> str:
    if isinstance(value, dict):  # its values may hold a secret, and those of a list may
        return f"a mapping with the keys {', '.join(map(str, value)) or '(none)'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
