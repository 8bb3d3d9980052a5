"""Taxonomies as YAML that a person edits and keeps: in blocks, in the order of the tree, Chinese as it is.

`written(root)` is a whole file; `grown(text, path, under, nodes)` is a file with nodes added below one of its own, every other byte as it
was. That is why it is done in the text, by the places of its values, and not by writing the whole tree anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from leafmill.errors import Place, TaxonomyError, unknown
from leafmill.records import Seed
from taxonomy.draft import Draft
from taxonomy.tree import Taxonomy, parse

STEP = "  "


def written(root: Draft, comment: str = "") -> str:
    """The file of a whole taxonomy, with a comment at its head and an empty line before each of its parts."""
    head: dict[str, Any] = {"name": root.slug, "languages": _Flow(root.languages), **_about(root)}
    parts = ["".join(f"# {line}\n" for line in comment.splitlines()) + _dump(head)]
    parts += [_dump({"axes": _axes(root.axes)})] if root.axes else []
    if root.children:
        first, *others = (indent(_block(child), STEP) for child in root.children)
        parts += [f"children:\n{first}", *others]
    return "\n".join(parts)


def grown(text: str, path: Path, under: str, nodes: Sequence[Draft]) -> str:
    """The text of the taxonomy at `path` with nodes added below one of its nodes. Raises TaxonomyError when they cannot be."""
    before = parse(text, path)
    at, column, head = _place(text, path, find(before, under))
    added = indent(head + "".join(indent(_block(node), STEP if head else "") for node in nodes), " " * column)
    if "\r\n" in text:
        added = added.replace("\n", "\r\n")
    gap = "" if text[:at].endswith("\n") else "\n"
    new = text[:at] + gap + added + text[at:]
    _check(before, parse(new, path), find(before, under), nodes)
    return new


def check_growable(file: Path, under: str) -> None:
    """Raises TaxonomyError when a node, by its whole path, cannot be grown in place."""
    _place(file.read_bytes().decode(), file, under)


def find(taxonomy: Taxonomy, path: str) -> str:
    """The whole path of a node, which may be given without the taxonomy's name. Raises TaxonomyError."""
    known = [node.path for node in taxonomy.nodes()]
    given = path.strip("/")
    whole = next((one for one in (given, f"{taxonomy.name}/{given}", given or taxonomy.name) if one in known), None)
    if whole is None:
        raise TaxonomyError(unknown(f"node of {taxonomy.name}", path, known))
    return whole


def _check(before: Taxonomy, after: Taxonomy, under: str, nodes: Sequence[Draft]) -> None:
    """Nothing but the new nodes may have come in: a file with anchors, or written in a way we do not foresee, is left alone."""
    new = {f"{under}/{path}" for node in nodes for path, _ in node.walk()}
    old = {node.path: (node.title, node.description) for node in before.nodes()}
    there = {node.path: (node.title, node.description) for node in after.nodes()}
    if set(there) != set(old) | new or any(there[path] != told for path, told in old.items()):
        raise TaxonomyError(f"{under} cannot be grown in place: add a node there by hand first, in block style", Place(before.path))


def _place(text: str, path: Path, under: str) -> tuple[int, int, str]:
    """Where in the text new children of a node go: the offset, their column, and the key that must come before them."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for slug in under.split("/")[1:]:
        node = _value(_value(node, "children"), slug)
    children = _value(node, "children")
    parent, head = (children, "") if children is not None else (node, "children:\n")
    if parent.flow_style:
        raise TaxonomyError(f"{under} is written in braces: write it as a block first", Place(str(path), parent.start_mark.line + 1))
    last: Any = parent
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    end = len(text[: last.end_mark.index].rstrip()) if last.end_mark.index > last.start_mark.index else last.end_mark.index
    line_end = text.find("\n", end)
    return (len(text) if line_end < 0 else line_end + 1), parent.start_mark.column, head


def _value(node: Any, key: str) -> Any:
    """The value of a key in a mapping; None when it is not there."""
    return next((value for name, value in node.value if name.value == key), None)


# -- blocks


def _block(node: Draft) -> str:
    """A node and all below it."""
    text = _dump({node.slug: _about(node)})
    if node.axes:
        text += indent(_dump({"axes": _axes(node.axes)}), STEP)
    if node.children:
        text += indent("children:\n" + "".join(indent(_block(child), STEP) for child in node.children), STEP)
    return text


def _about(node: Draft) -> dict[str, Any]:
    told: dict[str, Any] = {"title": _Flow(node.title)}
    if node.description:
        told["description"] = dict(node.description)
    if node.languages:
        told["languages"] = _Flow(node.languages)
    if node.weight != 1:
        told["weight"] = int(node.weight) if node.weight == int(node.weight) else node.weight
    if node.seeds:
        told["seeds"] = [_seed(seed) for seed in node.seeds]
    return told


def _seed(seed: Seed) -> dict[str, str]:
    given = {"language": seed.language, "instruction": seed.instruction, "input": seed.input, "output": seed.output}
    return {key: value for key, value in given.items() if value}


def _axes(axes: Any) -> Any:
    """Titles and values in one line each, as the built-in taxonomies have them."""
    if not isinstance(axes, dict):
        return _Flow(axes)
    return {
        name: {
            key: _Flow(value) if key == "title" else {one: _Flow(given) for one, given in value.items()} if key == "values" else value
            for key, value in axis.items()
        }
        if isinstance(axis, dict)
        else axis
        for name, axis in axes.items()
    }


class _Flow:
    """A mapping or list that is written in one line."""

    def __init__(self, value: Any) -> None:
        self.value = dict(value) if isinstance(value, dict) else list(value)


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their key, a text of several lines is a block, nothing is an anchor."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _flow(dumper: yaml.SafeDumper, flow: _Flow) -> yaml.Node:
    if isinstance(flow.value, dict):
        return dumper.represent_mapping("tag:yaml.org,2002:map", flow.value, flow_style=True)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", flow.value, flow_style=True)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    clean = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE) == text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text and clean else None)


_Dumper.add_representer(_Flow, _flow)
_Dumper.add_representer(str, _text)


def _dump(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=2**31, default_flow_style=False)
