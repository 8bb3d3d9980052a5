"""All gates by name: what a recipe may ask for, with which settings, and how one is made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from filters.agreement import Agreement
from filters.contamination.gate import Contamination
from filters.critic import Critic
from filters.dedup.exact import Exact
from filters.dedup.minhash import Minhash
from filters.dedup.semantic import Semantic
from filters.demand import Demanded
from filters.evolution import Evolution
from filters.form import Form
from filters.gate import Gate, Stage
from filters.grounding import Grounding
from filters.language import Language
from filters.leak import Leak
from filters.length import Length
from filters.novelty import Novelty
from filters.pii import Pii
from filters.reasoning import Reasoning
from filters.refusal import Refusal
from filters.repetition import Repetition
from filters.rewrite import Rewrite
from filters.safety import Safety
from filters.scoring.ifd import Ifd
from filters.self_instruct import SelfInstruct
from filters.tools import Tools
from filters.turns import Turns
from leafmill import entrypoints
from leafmill.errors import InputError, RecipeError, unknown
from leafmill.records import Mode

GATES: dict[str, type[Any]] = {
    gate.name: gate
    for gate in (
        *(Evolution, Length, SelfInstruct, Rewrite, Language, Form, Leak, Tools, Refusal, Turns, Reasoning, Demanded, Repetition),
        *(Exact, Minhash, Novelty, Contamination, Pii, Semantic, Safety, Grounding),
        *(Agreement, Critic, Ifd),
    )  # cheap before dear
}
ON_REQUEST = frozenset({Pii.name})
"""Gates that a run asks only where its recipe or a leaf names them: what they need is not installed with the rest."""
CONCERNS: Mapping[str, Callable[[Mode], bool]] = {
    Tools.name: lambda mode: mode.tools != "none",
    Turns.name: lambda mode: mode.turns > 1,
    Reasoning.name: lambda mode: mode.depth != "direct",
    SelfInstruct.name: lambda mode: mode.write == "self_instruct",
    Novelty.name: lambda mode: mode.write == "self_instruct",
    Rewrite.name: lambda mode: mode.write == "rewrite",
    Demanded.name: lambda mode: mode.write in ("rewrite", "self_instruct"),
    Grounding.name: lambda mode: mode.write == "document",
}
"""Gates that a run asks only in leaves with candidates of such a mode."""


def names() -> list[str]:
    """All gates that a recipe may name: ours, then those of installed packages."""
    return [*GATES, *(name for name in entrypoints.names(entrypoints.GATES) if name not in GATES)]


def is_on_request(name: str) -> bool:
    """Whether a gate is asked only where a recipe or a leaf names it."""
    return name in ON_REQUEST or name not in GATES


def find(name: str) -> type[Any]:
    """The gate's class. Raises RecipeError for one of an installed package that is no gate."""
    if name in GATES:
        return GATES[name]
    found = entrypoints.load(entrypoints.GATES, name)
    stages = getattr(found, "stage", None)
    if not (
        dataclasses.is_dataclass(found) and isinstance(found, type) and getattr(found, "name", None) == name
        and isinstance(getattr(found, "says", None), str)
        and isinstance(stages, tuple) and stages and set(stages) <= set(get_args(Stage))
    ):  # fmt: skip
        wanted = (
            f"a frozen dataclass with the class variables name = {name!r}, stage = (one or more of {', '.join(get_args(Stage))}) and says"
        )
        raise RecipeError(f"entry point {name!r} of {entrypoints.GATES}: expected {wanted}, got {found!r}")
    return found


class Described(NamedTuple):
    """A row of `leafmill gates`."""

    name: str
    stage: tuple[str, ...]
    says: str
    settings: dict[str, Any]
    """setting -> default"""
    needs: tuple[str, ...]
    """resources without which it cannot be made"""


def make(name: str, settings: Mapping[str, Any] | None = None, folder: Path = Path(), **resources: Any) -> Gate:
    """The gate `name` with the settings that a recipe gives, paths taken from `folder`; `resources` are what it works with (index,
    embedder, scorer, count).

    Raises RecipeError for an unknown gate or setting (with the nearest match), a value of the wrong type, or one out of range.
    """
    return _made(name, check(name, settings or {}, folder), resources)


def check(name: str, settings: Mapping[str, Any], folder: Path = Path()) -> dict[str, Any]:
    """The settings with their right types, paths taken from `folder`. Raises RecipeError for an unknown gate or setting (with the nearest
    match) or type."""
    if name not in names():
        raise RecipeError(unknown("gate", name, names()))
    gate = find(name)
    known = {field.name for field in _settings(gate)}
    hints = get_type_hints(gate)
    for key in settings:
        if key not in known:
            raise RecipeError(unknown(f"setting of gate {name!r}", key, known))
    values = {key: _typed(value, hints[key], f"gate {name!r}: {key}") for key, value in settings.items()}
    values = {key: folder / value if isinstance(value, Path) else value for key, value in values.items()}
    # A gate checks ranges as it is made; what it works with does not matter to that.
    stand_ins = {field.name: SimpleNamespace(id="", min_tokens=0) for field in dataclasses.fields(gate) if _is_resource(field)}
    _made(name, values, stand_ins)
    return values


def _made(name: str, values: Mapping[str, Any], resources: Mapping[str, Any]) -> Gate:
    try:
        made: Gate = find(name)(**values, **resources)
    except (ValueError, InputError) as fault:
        raise RecipeError(f"gate {name!r}: {fault}") from fault
    return made


def describe() -> list[Described]:
    """All gates, in the order in which they are cheapest to ask."""
    return [
        Described(
            name=name,
            stage=gate.stage,
            says=gate.says,
            settings={field.name: field.default for field in _settings(gate)},
            needs=tuple(field.name for field in dataclasses.fields(gate) if _is_resource(field)),
        )
        for name, gate in ((name, find(name)) for name in names())
    ]


def _settings(gate: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(gate) if field.repr and field.init]


def _is_resource(field: dataclasses.Field[Any]) -> bool:
    """Whether a gate cannot be made without being given this, which no recipe can write."""
    optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return field.init and not field.repr and not optional


def _typed(value: Any, hint: Any, what: str) -> Any:
    """The value as its type, strictly: "3" is no int. A list may stand for a tuple, as in any YAML."""
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value, allow_nan=False), strict=True)
    except (ValidationError, TypeError, ValueError) as fault:
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("collections.abc.", "")
        raise RecipeError(f"{what} must be {expected}, got {value!r}") from fault
