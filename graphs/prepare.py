"""What a recipe's names mean: leaves, roles, models and gates are looked up, and whatever is wrong with them is said with file and
line before a token is spent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from agents import gold, python_role
from agents.gold import Gold
from agents.python_role import PythonRole
from agents.role import BUILT_IN, Roles
from agents.stages import PLANNING
from filters.contamination import testsets
from filters.contamination.testsets import Benchmarks
from graphs.checks import check, check_aliases, check_prices
from graphs.players import languages_of
from graphs.sources import opened
from leafmill import entrypoints
from leafmill.errors import InputError, unknown
from leafmill.recipe import Recipe
from leafmill.records import Language
from taxonomy import Leaf, Taxonomy, load


@dataclass(frozen=True)
class Prepared:
    """A recipe whose names are known to exist."""

    recipe: Recipe
    leaves: tuple[Leaf, ...]
    roles: Roles
    python: Mapping[str, PythonRole] = field(default_factory=dict)
    """roles of installed packages that the recipe names"""
    tests: Benchmarks = field(default_factory=Benchmarks)
    """the test sets that must not get into the data"""
    gold: tuple[Gold, ...] = ()
    """the rows that judges must tell apart before a run"""

    def languages(self, leaf: Leaf) -> tuple[Language, ...]:
        return languages_of(self.recipe, leaf)


def prepare(recipe: Recipe) -> Prepared:
    """Look up everything that a recipe names. Raises RecipeError, TaxonomyError or RoleFileError."""
    leaves = find_leaves(recipe)
    roles = find_roles(recipe)
    python = {name: python_role.load(name) for name in recipe.roles if name not in roles.names and not recipe.roles[name].off}
    roles = roles.without(name for stage in PLANNING for name in roles.at(stage))
    roles = check(recipe, leaves, roles)
    return Prepared(recipe, leaves, roles, python, find_tests(recipe), find_gold(recipe, leaves, roles))


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
    return tuple(opened(_in_mode(leaf, recipe.mode), languages_of(recipe, leaf)) for leaf in speaking)


def _in_mode(leaf: Leaf, mode: Mapping[str, Any]) -> Leaf:
    """The leaf, whose candidates are made in the recipe's mode where it does not set another."""
    return leaf.model_copy(update={"settings": {**leaf.settings, "mode": {**mode, **leaf.settings.get("mode", {})}}}) if mode else leaf


def find_roles(recipe: Recipe) -> Roles:
    """The built-in roles and those of the recipe's own folder, without the ones that are switched off."""
    own = [recipe.path(recipe.prompts)] if recipe.prompts else []
    if own and not own[0].is_dir():
        raise recipe.fail(f"{recipe.prompts!r} is not a folder of role files", ("prompts",))
    roles = Roles.load(BUILT_IN, *own)
    for name in recipe.roles:
        known = [*roles.names, *entrypoints.names(entrypoints.ROLES)]
        if name not in known:
            raise recipe.fail(unknown("role", name, known), ("roles", name))
    return roles.without(name for name, settings in recipe.roles.items() if settings.off)


def plan_roles(recipe: Recipe, languages: Sequence[Language]) -> Roles:
    """The roles of a plan, which must be there and speak its languages. Raises RecipeError or RoleFileError."""
    roles = find_roles(recipe)
    wanted = {name for stage in PLANNING for name in roles.at(stage)}
    roles = roles.without(set(roles.names) - wanted)
    check_aliases(recipe, roles)
    check_prices(recipe, roles)
    for stage in PLANNING:
        names, optional = roles.at(stage), stage in ("survey", "axes")
        for language in languages if stage == "describe" else languages[:1]:
            if not any(roles.speaks(name, language) for name in names) and (names or not optional):
                raise recipe.fail(f"no role of stage {stage!r} speaks {language!r}: {', '.join(names) or 'none at all'}", ("roles",))
    return roles


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


def find_gold(recipe: Recipe, leaves: Sequence[Leaf], roles: Roles) -> tuple[Gold, ...]:
    """The gold rows in the languages of the run; none when the recipe wants none. Rows of one's own must ask judges that there are, and
    there must be some in every language, or its judges would go untried."""
    given = recipe.judges.gold
    if given is False:
        return ()
    if given == "built-in":
        rows = gold.read(gold.BUILT_IN)
    else:
        try:
            rows = gold.read(recipe.path(given), [*roles.at("annotate"), *roles.at("criticise")])
        except InputError as fault:
            if not recipe.path(given).is_file():
                raise recipe.fail(str(fault), ("judges", "gold")) from None
            raise
    wanted = {language for leaf in leaves for language in languages_of(recipe, leaf)}
    for language in sorted(wanted):
        if {row.good for row in rows if row.language == language} != {True, False}:
            raise recipe.fail(f"{given}: needs both good and bad rows in {language!r}, in which rows are wanted", ("judges", "gold"))
    return tuple(row for row in rows if row.language in wanted)
