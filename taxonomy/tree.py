"""The taxonomy: a tree of skills read from YAML, whose leaves hold all that they inherit.

    name: programming            # the first part of every path
    languages: [en, zh]
    title: {en: Programming, zh: 编程}
    axes:
      difficulty:
        title: {en: difficulty, zh: 难度}
        values:
          basic: {weight: 3, en: one step, zh: 一步即可}
          hard: {en: several steps, zh: 需要多步}
    settings: {evolve_rounds: 1}
    children:
      debugging:
        title: {en: Debugging, zh: 调试}
        description: {en: Find the fault., zh: 找出错误。}
        seeds: seeds.jsonl       # or a list of {instruction, input, output, language}

What a node says of languages and seeds replaces what it inherits. Axes are inherited one by one: a node adds or replaces an axis by
name and removes one with null. Settings are merged key by key. Weights multiply down the path.

Axes of the library (`taxonomy/library/axes.yaml`, `leafmill taxonomy axes`) are taken by name, as they are or with other weights:

    axes: [difficulty, turns]
    axes: {difficulty: library, turns: {weights: {single: 1, switch: 0}}, mine: {title: ..., values: ...}}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator
from pydantic_core import PydanticCustomError

from leafmill import yamlfile
from leafmill.errors import TaxonomyError, unknown
from leafmill.recipe import Answers
from leafmill.records import Language, Mode, Record, Seed, Source, digest
from leafmill.yamlfile import Keys, Yaml, read
from taxonomy.axes import MAX_VALUES, Axis, AxisValue, in_language
from taxonomy.seeds import make_seed, read_seeds
from taxonomy.sources import by_way
from taxonomy.tools import Tool, read_tools, tools_in

_FOLDER = Path(__file__).parent
BUILT_IN = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))

Texts = dict[Language, str]
BESIDE = 3
"""leaves that a leaf has beside it on either side"""


class Leaf(Record):
    """What one generation graph runs for. `weight` is its own times its ancestors'; `trail` holds the ancestors' titles, root first."""

    path: str
    title: Texts
    description: Texts
    weight: float
    languages: tuple[Language, ...]
    axes: tuple[Axis, ...] = ()
    seeds: tuple[Seed, ...] = ()
    settings: dict[str, Any] = Field(default={})
    trail: tuple[Texts, ...] = ()
    beside: tuple[Texts, ...] = ()
    """titles of leaves nearby: what a conversation may turn to"""
    folder: str = Field(default="", exclude=True)
    """of the taxonomy: what paths in the settings are taken from"""
    sources: dict[str, tuple[Source, ...]] = Field(default={}, exclude=True, repr=False)
    """what candidates are written from, by the way of writing, once it is opened (`graphs.sources`)"""

    def title_in(self, language: Language) -> str:
        return in_language(self.title, language)

    def description_in(self, language: Language) -> str:
        return in_language(self.description, language)

    def trail_in(self, language: Language) -> str:
        """The way from the root, such as "编程 > 调试 > 定位错误"."""
        return " > ".join(in_language(title, language) for title in (*self.trail, self.title))

    def mode(self, brief_axes: Mapping[str, str]) -> Mode:
        """How a candidate with these axis values is made: what the leaf sets, and over it what the values set, in the order of the axes."""
        sets = [axis.value(brief_axes[axis.name]).sets for axis in self.axes if axis.name in brief_axes]
        return Mode.model_validate({key: value for one in (self.settings.get("mode", {}), *sets) for key, value in one.items()})

    def tools(self, language: Language) -> tuple[Tool, ...]:
        """The tools that the taxonomy gives it; none: a role writes them, where its mode asks for some."""
        return tools_in(self.settings.get("tools") or (), language)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """All modes that its candidates may have, and perhaps a few that never come together."""
        found: dict[str, set[Any]] = {key: {value} for key, value in self.mode({}).model_dump().items()}
        for axis in self.axes:
            for value in axis.values:
                for key, setting in value.sets.items():
                    found[key].add(setting)
        return tuple(
            Mode.model_validate(dict(zip(found, one, strict=True))) for one in product(*(sorted(v, key=str) for v in found.values()))
        )

    def describe_axes(self, brief_axes: Mapping[str, str], language: Language) -> dict[str, str]:
        """A brief's axis values as a prompt shows them: title to label, in the order of the axes."""
        for name in brief_axes:
            if name not in {axis.name for axis in self.axes}:
                raise TaxonomyError(unknown(f"axis of leaf {self.path!r}", name, (axis.name for axis in self.axes)))
        return {
            in_language(axis.title, language): in_language(axis.value(brief_axes[axis.name]).labels, language)
            for axis in self.axes
            if axis.name in brief_axes
        }


class Node(Record):
    """A place in the tree. Exactly those without children have a `leaf`."""

    path: str
    title: Texts
    description: Texts
    children: tuple[Node, ...] = ()
    leaf: Leaf | None = None

    def leaves(self) -> tuple[Leaf, ...]:
        own = (self.leaf,) if self.leaf else ()
        return own + tuple(leaf for child in self.children for leaf in child.leaves())

    def walk(self) -> Iterator[Node]:
        """It, and all below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


class Taxonomy(Record):
    """A whole taxonomy. `path` is the file that it was read from."""

    name: str
    path: str
    root: Node

    def nodes(self) -> tuple[Node, ...]:
        """All nodes in file order."""
        return tuple(self.root.walk())

    def leaves(self) -> tuple[Leaf, ...]:
        """All leaves in file order."""
        found = self.root.leaves()
        near = [(*found[max(0, at - BESIDE) : at], *found[at + 1 : at + 1 + BESIDE]) for at in range(len(found))]
        return tuple(leaf.model_copy(update={"beside": tuple(one.title for one in ones)}) for leaf, ones in zip(found, near, strict=True))

    def leaf(self, path: str) -> Leaf:
        for leaf in self.leaves():
            if leaf.path == path:
                return leaf
        raise TaxonomyError(unknown(f"leaf of {self.name}", path, (leaf.path for leaf in self.leaves())))

    def match(self, globs: Iterable[str]) -> tuple[Leaf, ...]:
        """The leaves whose path fits one of the globs, in file order, each once. `*` also crosses "/"."""
        leaves, wanted = self.leaves(), list(globs)
        for glob in wanted:
            if not any(fnmatchcase(leaf.path, glob) for leaf in leaves):
                raise TaxonomyError(unknown(f"leaf of {self.name}", glob, (leaf.path for leaf in leaves)))
        return tuple(leaf for leaf in leaves if any(fnmatchcase(leaf.path, glob) for glob in wanted))

    @property
    def fingerprint(self) -> str:
        """A hash of all that can change a run: the content with its seeds, not the file's name, layout or comments."""
        return digest(self.name, self.root.model_dump(mode="json"))


def load(name_or_path: str | Path) -> Taxonomy:
    """Read a built-in taxonomy by its name, or a YAML file by its path."""
    path = Path(name_or_path)
    if str(name_or_path) in BUILT_IN:
        path = _FOLDER / f"{name_or_path}.yaml"
    elif isinstance(name_or_path, str) and path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise TaxonomyError(unknown("taxonomy", name_or_path, BUILT_IN) + "; or give the path of a YAML file")
    return _taxonomy(read(path, TaxonomyError))


def parse(text: str, path: Path) -> Taxonomy:
    """The taxonomy that a text holds, which stands, or will stand, at `path`."""
    return _taxonomy(yamlfile.parse(text, str(path), TaxonomyError))


def _taxonomy(yaml: Yaml) -> Taxonomy:
    spec = yaml.model(_RootSpec)
    return Taxonomy(name=spec.name, path=yaml.path, root=_grow(yaml, spec, (), spec.name, _Above(languages=tuple(spec.languages or ()))))


Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Weight = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Rounds = Annotated[int, Field(ge=0, strict=True)]


class _Spec(BaseModel):
    """Base of what stands in the file: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, data: Any) -> Any:
        # pydantic's own message would name this private class
        if not isinstance(data, (dict, cls)):
            raise PydanticCustomError("mapping", "should be a mapping")
        return data


def _mode(given: Any) -> Any:
    """Fields of a `Mode`, as many as are given."""
    if not isinstance(given, dict):
        raise PydanticCustomError("mapping", "should be a mapping of fields of a mode")
    for key in given:
        if key not in Mode.model_fields:
            raise PydanticCustomError("mode", "{problem}", {"problem": unknown("field of a mode", str(key), Mode.model_fields)})
    return Mode.model_validate(given).model_dump(include=set(given))


def _answers(given: Any) -> Any:
    """Settings of how an answer is chosen, as many as are given; a reward model is the whole run's."""
    if not isinstance(given, dict):
        raise PydanticCustomError("mapping", "should be a mapping of settings of `answers`")
    known = [name for name in Answers.model_fields if name != "reward"]
    for key in given:
        if key not in known:
            raise PydanticCustomError("answers", "{problem}", {"problem": unknown("setting of `answers`", str(key), known)})
    return Answers.model_validate(given).model_dump(include=set(given))


_Mode = Annotated[dict[str, Any], BeforeValidator(_mode)]
_Answers = Annotated[dict[str, Any], BeforeValidator(_answers)]
_Sources = Annotated[dict[str, Any], BeforeValidator(by_way)]


class _ValueSpec(_Spec):
    weight: Weight = 1.0
    en: Text | None = None
    zh: Text | None = None
    sets: _Mode = {}

    @property
    def labels(self) -> Texts:
        given: dict[Language, str | None] = {"en": self.en, "zh": self.zh}
        return {language: text for language, text in given.items() if text}


class _AxisSpec(_Spec):
    """With `values` an axis of the taxonomy's own; without, that of the library, whose values may come more or less often than there."""

    title: dict[Language, Text] = {}
    values: dict[str, _ValueSpec] = Field(default={}, min_length=2, max_length=MAX_VALUES)
    weights: dict[str, Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]] = {}
    """0 leaves a value out"""

    @model_validator(mode="before")
    @classmethod
    def _from_library(cls, given: Any) -> Any:
        return {} if given == "library" else given

    @model_validator(mode="after")
    def _is_one_of_both(self) -> _AxisSpec:
        if self.values and self.weights:
            raise ValueError("`weights` changes an axis of the library; an axis with `values` gives each its own `weight`")
        if self.title and not self.values:
            raise ValueError("an axis with a title of its own needs `values`")
        return self

    def axis(self, name: str) -> Axis:
        values = (AxisValue(name=key, weight=one.weight, labels=one.labels, sets=one.sets) for key, one in self.values.items())
        return Axis(name=name, title=self.title, values=tuple(values))


class _LibrarySpec(RootModel[dict[str, _AxisSpec]]):
    """The file of the library."""


def _by_name(given: Any) -> Any:
    """A list names axes of the library."""
    if not isinstance(given, list):
        return given
    for one in given:
        if not isinstance(one, str):
            raise PydanticCustomError("axes", "a list of axes holds names of the library; an axis of your own needs the form of a mapping")
    return dict.fromkeys(given, "library")


_Axes = Annotated[dict[str, _AxisSpec | None], BeforeValidator(_by_name)]


class _SettingsSpec(_Spec):
    # the defaults are never used: only what the file sets is kept
    evolve_rounds: Rounds = 0
    revise_rounds: Rounds = 0
    score_returns: Rounds = 0
    breadth_share: Annotated[float, Field(ge=0, le=1)] = 0
    tool_rounds: Rounds = 0
    gates: Any = None
    mode: _Mode = {}
    answers: _Answers = {}
    source: _Sources = {}
    tools: Any = None  # a list or a file name: checked in tools.read_tools, where the place of each is known


class _NodeSpec(_Spec):
    title: dict[Language, Text] = {}
    description: dict[Language, Text] = {}
    languages: Annotated[list[Language], Field(min_length=1)] | None = None
    weight: Weight = 1.0
    axes: _Axes = {}
    seeds: Any = None  # a list or a file name: checked in _seeds, where the place of each seed is known
    settings: _SettingsSpec = _SettingsSpec()
    children: dict[str, _NodeSpec] = Field(default={}, min_length=1)


class _RootSpec(_NodeSpec):
    name: str


@dataclass(frozen=True)
class _Above:
    """What a node inherits."""

    languages: tuple[Language, ...]
    axes: Mapping[str, Axis] = field(default_factory=dict)
    seeds: tuple[Seed, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    trail: tuple[Texts, ...] = ()
    path: str = ""


def _grow(yaml: Yaml, spec: _NodeSpec, keys: Keys, slug: str, above: _Above) -> Node:
    """The node that `spec` describes, with all below it."""
    if not re.fullmatch(r"[^\s/*?\[\]]+", slug):
        raise yaml.fail(f"{slug!r} cannot be part of a path: it must not be empty or hold whitespace or any of / * ? [ ]", keys)
    path = f"{above.path}/{slug}" if above.path else slug
    languages = _languages(yaml, spec, keys, above)
    _need(yaml, spec.title, languages, f"{path} has no title", (*keys, "title"))
    if not spec.children:
        _need(yaml, spec.description, languages, f"leaf {path} has no description", (*keys, "description"))
    axes = _axes(yaml, spec, keys, languages, above.axes)
    seeds = above.seeds if spec.seeds is None else _seeds(yaml, spec.seeds, (*keys, "seeds"))
    settings = _merged(above.settings, spec.settings.model_dump(exclude_unset=True))
    if settings.get("tools") and (spec.settings.tools or spec.languages):  # an inherited tool must speak the languages that are new here
        at = (*keys, "settings", "tools") if spec.settings.tools else (*keys, "languages")
        settings["tools"] = read_tools(yaml, settings["tools"], languages, at)
    weight = above.weight * spec.weight
    here = _Above(languages, axes, seeds, settings, weight, (*above.trail, spec.title), path)
    children = tuple(_grow(yaml, child, (*keys, "children", key), key, here) for key, child in spec.children.items())
    leaf = Leaf(
        path=path,
        title=spec.title,
        description=spec.description,
        weight=weight,
        languages=languages,
        axes=tuple(axes.values()),
        seeds=seeds,
        settings=settings,
        trail=above.trail,
        folder=str(Path(yaml.path).parent),
    )
    return Node(path=path, title=spec.title, description=spec.description, children=children, leaf=None if children else leaf)


def _languages(yaml: Yaml, spec: _NodeSpec, keys: Keys, above: _Above) -> tuple[Language, ...]:
    """The node's languages. Those it names itself must be spoken by the axes that it inherits and keeps."""
    languages = above.languages if spec.languages is None else tuple(spec.languages)
    if not languages:
        raise yaml.fail("no languages: give at least one of en, zh", keys)
    if len(set(languages)) < len(languages):
        raise yaml.fail(f"languages: one is given twice, got {list(languages)}", (*keys, "languages"))
    for name, axis in above.axes.items():
        if name not in spec.axes:
            _need_axis(yaml, axis, languages, (*keys, "languages"), inherited=True)
    return languages


def _axes(yaml: Yaml, spec: _NodeSpec, keys: Keys, languages: Sequence[Language], above: Mapping[str, Axis]) -> dict[str, Axis]:
    axes = dict(above)
    listed = (*keys, "axes", 0) in yaml.lines
    for place, (name, given) in enumerate(spec.axes.items()):
        at = (*keys, "axes", place if listed else name)
        if given is None:
            if name not in axes:
                raise yaml.fail(unknown("axis to remove", name, axes), at)
            del axes[name]
            continue
        axes[name] = given.axis(name) if given.values else _from_library(yaml, name, given, at)
        _need_axis(yaml, axes[name], languages, at)
    for language in languages:
        titles = [axis.title[language] for axis in axes.values()]
        if twice := next((title for title in titles if titles.count(title) > 1), None):
            raise yaml.fail(f"two axes have the title {twice!r}", (*keys, "axes"))
    return axes


@cache
def library() -> Mapping[str, Axis]:
    """The axes that any taxonomy may take by name."""
    return {name: spec.axis(name) for name, spec in read(_FOLDER / "library" / "axes.yaml", TaxonomyError).model(_LibrarySpec).root.items()}


def _from_library(yaml: Yaml, name: str, given: _AxisSpec, at: Keys) -> Axis:
    if name not in library():
        raise yaml.fail(unknown("axis of the library", name, library()), at)
    axis = library()[name]
    for value in given.weights:
        if value not in {one.name for one in axis.values}:
            raise yaml.fail(unknown(f"value of axis {name!r}", value, (one.name for one in axis.values)), (*at, "weights", value))
    weighed = [(one, given.weights.get(one.name, one.weight)) for one in axis.values]
    values = tuple(one.model_copy(update={"weight": weight}) for one, weight in weighed if weight)
    if len(values) < 2:
        raise yaml.fail(f"axis {name!r} needs two values or more, {len(values)} has a weight above 0", (*at, "weights"))
    return axis.model_copy(update={"values": values})


def _need_axis(yaml: Yaml, axis: Axis, languages: Sequence[Language], at: Keys, inherited: bool = False) -> None:
    """An axis needs its title and all its labels in each of the languages."""
    _need(yaml, axis.title, languages, f"axis {axis.name!r} has no title", at if inherited else (*at, "title"))
    for value in axis.values:
        what = f"value {value.name!r} of axis {axis.name!r} has no label"
        _need(yaml, value.labels, languages, what, at if inherited else (*at, "values", value.name))


def _need(yaml: Yaml, texts: Mapping[Language, str], languages: Sequence[Language], what: str, at: Keys) -> None:
    for language in languages:
        if language not in texts:
            raise yaml.fail(f"{what} in {language}", at)


def _seeds(yaml: Yaml, given: Any, at: Keys) -> tuple[Seed, ...]:
    """Seeds written in the taxonomy, or those of a JSONL file beside it."""
    if isinstance(given, str):
        path = Path(yaml.path).parent / given
        if not path.is_file():
            raise yaml.fail(f"seeds: there is no file {given!r} beside the taxonomy", at)
        return read_seeds(path)
    if not isinstance(given, list):
        raise yaml.fail(f"seeds should be a list, or the name of a JSONL file, got {given!r}", at)
    return tuple(_seed(yaml, fields, (*at, number)) for number, fields in enumerate(given))


def _seed(yaml: Yaml, fields: Any, at: Keys) -> Seed:
    if not isinstance(fields, dict):
        raise yaml.fail(f"a seed should be a mapping, got {fields!r}", at)
    for key in fields:
        if key not in Seed.model_fields:
            raise yaml.fail(unknown("key of a seed", str(key), Seed.model_fields), (*at, key))
    return make_seed(fields, yaml.place(at))


def _merged(above: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Key by key, also inside mappings; the own value wins."""
    both = {key: _merged(above[key], own[key]) for key in own if isinstance(own[key], dict) and isinstance(above.get(key), dict)}
    return {**above, **own, **both}
