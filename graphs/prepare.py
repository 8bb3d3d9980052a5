"""What a recipe's names mean: leaves, roles, models and gates are looked up, and whatever is wrong with them is said with file and
line before a token is spent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from agents.role import BUILT_IN, Role, Roles
from filters import catalogue
from filters.contamination import testsets
from filters.contamination.testsets import Benchmarks
from filters.scoring.calibration import Calibration
from leafmill.errors import InputError, OtherRecipeError, RecipeError, TaxonomyError, unknown
from leafmill.recipe import Flow, Recipe
from leafmill.records import Language
from taxonomy import Leaf, Taxonomy, load


@dataclass(frozen=True)
class Prepared:
    """A recipe whose names are known to exist."""

    recipe: Recipe
    leaves: tuple[Leaf, ...]
    roles: Roles
    tests: Benchmarks = field(default_factory=Benchmarks)
    """the test sets that must not get into the data"""

    def languages(self, leaf: Leaf) -> tuple[Language, ...]:
        return languages_of(self.recipe, leaf)


def languages_of(recipe: Recipe, leaf: Leaf) -> tuple[Language, ...]:
    """The languages of a leaf that the recipe wants."""
    return tuple(language for language in leaf.languages if language in recipe.languages_of(leaf.path))


def prepare(recipe: Recipe) -> Prepared:
    """Look up everything that a recipe names. Raises RecipeError, TaxonomyError or RoleFileError."""
    leaves = find_leaves(recipe)
    roles = find_roles(recipe)
    for name, settings in recipe.gates.items():
        _check_gate(recipe, name, settings)
    for leaf in leaves:
        _check_gates_of(leaf, recipe.path(""))
    _check_bands(recipe, leaves)
    _check_aliases(recipe, roles)
    _check_prices(recipe, roles)
    _check_kin(recipe, roles)
    _check_stages(recipe, leaves, roles)
    return Prepared(recipe, leaves, roles, find_tests(recipe))


def find_taxonomies(recipe: Recipe) -> list[Taxonomy]:
    """The recipe's taxonomies: a file beside the recipe, or a built-in one."""
    found = []
    for i, name in enumerate(recipe.taxonomies):
        beside = recipe.path(name)
        try:
            found.append(load(beside if beside.is_file() else name))
        except InputError as fault:
            if fault.place is None:
                raise recipe.fail(str(fault), ("taxonomies", i)) from None
            raise
    if isinstance(recipe.languages, dict):
        names = [taxonomy.name for taxonomy in found]
        for name in recipe.languages:
            if name not in names:
                raise recipe.fail(unknown("taxonomy of this recipe", name, names), ("languages", name))
    return found


def find_leaves(recipe: Recipe) -> tuple[Leaf, ...]:
    """The leaves that a glob of the recipe matches and that have one of its languages, in the order of the taxonomies."""
    everything = [leaf for taxonomy in find_taxonomies(recipe) for leaf in taxonomy.leaves()]
    if twice := [path for path, count in Counter(leaf.path for leaf in everything).items() if count > 1]:
        raise recipe.fail(f"two taxonomies have the leaf {twice[0]!r}: give one another `name`, or name it once", ("taxonomies",))
    for i, glob in enumerate(recipe.leaves):
        if not any(fnmatchcase(leaf.path, glob) for leaf in everything):
            raise recipe.fail(unknown("leaf", glob, (leaf.path for leaf in everything)), ("leaves", i))
    wanted = [leaf for leaf in everything if any(fnmatchcase(leaf.path, glob) for glob in recipe.leaves)]
    speaking = tuple(leaf for leaf in wanted if languages_of(recipe, leaf))
    if not speaking:
        raise recipe.fail(f"none of the {len(wanted)} leaves is in the languages {recipe.languages}", ("languages",))
    return speaking


def find_roles(recipe: Recipe) -> Roles:
    """The built-in roles and those of the recipe's own folder, without the ones that are switched off."""
    own = [recipe.path(recipe.prompts)] if recipe.prompts else []
    if own and not own[0].is_dir():
        raise recipe.fail(f"{recipe.prompts!r} is not a folder of role files", ("prompts",))
    roles = Roles.load(BUILT_IN, *own)
    for name in recipe.roles:
        if name not in roles.names:
            raise recipe.fail(unknown("role", name, roles.names), ("roles", name))
    return roles.without(name for name, settings in recipe.roles.items() if settings.off)


def find_tests(recipe: Recipe) -> Benchmarks:
    """The recipe's test sets; none when nothing is held against them."""
    found = []
    for name, source in recipe.test_sets.items() if recipe.gates.get("contamination") is not False else ():
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise recipe.fail(f"{name!r} is no name for a test set: use letters, digits, hyphens and points", ("test_sets", name))
        try:
            found.append(testsets.load(name, source, recipe.path("")))
        except InputError as fault:
            if fault.place is None:
                raise recipe.fail(str(fault), ("test_sets", name)) from fault
            raise
    return Benchmarks(tuple(found))


def alias_of(recipe: Recipe, role: Role) -> str:
    """The alias of the model that plays a role: the recipe's word, else the role file's."""
    settings = recipe.roles.get(role.name)
    return (settings.model if settings else None) or role.model


def unpriced(recipe: Recipe, roles: Roles) -> list[str]:
    """The aliases that play a role and have no price: what their calls cost is unknown."""
    playing = dict.fromkeys(alias_of(recipe, role) for role in roles.files)
    return [alias for alias in playing if alias in recipe.models and recipe.models[alias].price is None]


def flow_of(flow: Flow, leaf: Leaf) -> Flow:
    """How far the candidates of a leaf are carried: the leaf's settings over the recipe's flow."""
    return flow.model_copy(update={name: bound for name, bound in leaf.settings.items() if name in Flow.model_fields})


def check_identity(recipe: Recipe, before: Mapping[str, Any] | None, folder: Path) -> None:
    """A folder is of one recipe: what decides its briefs and scores may not change under it. Raises OtherRecipeError."""
    now = recipe.identity()
    if before is not None and before != now:
        changed = "; ".join(f"{key}: {before.get(key)!r} there, {now[key]!r} now" for key in now if before.get(key) != now[key])
        raise OtherRecipeError(f"{folder}: this folder belongs to another recipe ({changed}). Give this one another `name`")


def _check_gate(recipe: Recipe, name: str, settings: object) -> None:
    if name not in catalogue.GATES:
        raise recipe.fail(unknown("gate", name, catalogue.GATES), ("gates", name))
    if isinstance(settings, dict):
        try:
            catalogue.check(name, settings, recipe.path(""))
        except InputError as fault:
            raise recipe.fail(str(fault), ("gates", name)) from None


def _check_gates_of(leaf: Leaf, folder: Path) -> None:
    """The gates that the taxonomy sets for a leaf; a path in them is taken from the recipe's folder."""
    gates = leaf.settings.get("gates", {})
    if not isinstance(gates, dict):
        raise TaxonomyError(f"leaf {leaf.path}: settings.gates must be a mapping, got {gates!r}")
    for name, settings in gates.items():
        try:
            if settings is not False and not isinstance(settings, dict):
                raise RecipeError(f"gate {name!r}: give its settings as a mapping, or false, got {settings!r}")
            catalogue.check(name, settings or {}, folder)
        except InputError as fault:
            raise TaxonomyError(f"leaf {leaf.path}: settings.gates: {fault}") from None


def _check_bands(recipe: Recipe, leaves: Sequence[Leaf]) -> None:
    """A bands file must know every language in which rows are wanted: without a band, none of them could be judged."""
    bands = (recipe.gates.get("ifd") or {}).get("bands")
    known = Calibration.read(recipe.path(bands)).bands if bands else {}
    for language in sorted({language for leaf in leaves for language in languages_of(recipe, leaf)}) if bands else ():
        if language not in known:
            raise recipe.fail(f"{bands} has no bands for {language!r}: calibrate on rows of that language too", ("gates", "ifd", "bands"))


def _check_aliases(recipe: Recipe, roles: Roles) -> None:
    for role in roles.files:
        alias = alias_of(recipe, role)
        if alias not in recipe.models:
            what = unknown("model alias", alias, recipe.models)
            keys: Sequence[str] = ("roles", role.name, "model") if role.name in recipe.roles else ("models",)
            raise recipe.fail(f"role {role.name!r}: {what} (add it under `models`, or name another one under `roles`)", tuple(keys))


def _check_prices(recipe: Recipe, roles: Roles) -> None:
    """A limit in money can be kept only where every call has a price."""
    for limit in ("money", "leaf_money"):
        if getattr(recipe.limits, limit) is not None and (missing := unpriced(recipe, roles)):
            raise recipe.fail(
                f"limits.{limit} needs a price for every model that plays a role; models.{missing[0]} has none (give it one, per million "
                "tokens, such as `price: {input: 0.5, output: 1.5}`; 0 and 0 where its calls cost nothing)",
                ("limits", limit),
            )


def _check_kin(recipe: Recipe, roles: Roles) -> None:
    """Nobody judges its own kind: judges favour text of their own model family."""
    if recipe.same_family_judge:
        return
    answering = [role for role in roles.files if role.head.stage == "answer" or role.head.writes == "answer"]
    answerers = {recipe.models[alias_of(recipe, role)].kin for role in answering}
    for role in roles.files:
        alias = alias_of(recipe, role)
        if role.judges and recipe.models[alias].kin in answerers:
            raise recipe.fail(
                f"role {role.name!r} is judged by {alias!r}, of the family {recipe.models[alias].kin!r} that also answers; use a model of "
                "another family (or set `family`), or allow it with `same_family_judge: true`",
                ("models", alias),
            )


def _check_stages(recipe: Recipe, leaves: Sequence[Leaf], roles: Roles) -> None:
    returned = recipe.flow.score_returns and recipe.gates.get("ifd") is not False  # what is too easy goes to the evolver
    evolves = recipe.flow.evolve_rounds or returned or any(leaf.settings.get("evolve_rounds") for leaf in leaves)
    needed = ["write", "answer", "annotate", *(["criticise"] if roles.at("criticise") else []), *(["evolve"] if evolves else [])]
    asked_always = [*roles.at("annotate"), *(name for stage in ("write", "evolve", "answer") for name in roles.after(stage))]
    for language in sorted({language for leaf in leaves for language in languages_of(recipe, leaf)}):
        for stage in needed:
            if not any(roles.speaks(name, language) for name in roles.at(stage)):
                raise recipe.fail(
                    f"no role of stage {stage!r} speaks {language!r}: {', '.join(roles.at(stage)) or 'none at all'}", ("roles",)
                )
        for name in asked_always:
            if not roles.speaks(name, language):
                raise recipe.fail(f"role {name!r} has no file for language {language!r}, in which rows are wanted", ("prompts",))
