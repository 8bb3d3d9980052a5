"""What can be wrong with a recipe though all its names are known: said with file and line before a token is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from agents import role_gate
from agents.role import Roles
from agents.stages import ANSWERING, WRITING
from filters import catalogue
from filters.scoring.calibration import Calibration
from graphs.players import alias_of, aliases_of, answers_of, languages_of, stages_of, unpriced
from leafmill.errors import InputError, OtherRecipeError, RecipeError, TaxonomyError, unknown
from leafmill.recipe import FAMILIES, Answers, Recipe
from leafmill.records import OTHER
from taxonomy import Leaf
from taxonomy.tools import unfit

TOOLS, CHOOSING = ("tools", "tool_task", "use_tools"), ("jury", "grade")
"""The stages around answers that take tools, and those that choose one of several."""


def check(recipe: Recipe, leaves: Sequence[Leaf], roles: Roles) -> Roles:
    """The roles, without those that no candidate's mode calls for. Raises RecipeError or TaxonomyError for what cannot work."""
    for name, settings in recipe.gates.items():
        _check_gate(recipe, roles, name, settings)
    for leaf in leaves:
        _check_gates_of(leaf, roles, recipe.path(""))
    _check_bands(recipe, leaves)
    check_aliases(recipe, roles)
    check_prices(recipe, roles)
    _check_kin(recipe, roles)
    _check_stages(recipe, leaves, roles)
    roles = _check_modes(recipe, leaves, roles)
    _check_tools(recipe, leaves, roles)
    _check_answers(recipe, leaves, roles)
    return roles


def check_identity(recipe: Recipe, before: Mapping[str, Any] | None, folder: Path) -> None:
    """A folder is of one recipe: what decides its briefs and scores may not change under it. Raises OtherRecipeError."""
    now = recipe.identity()
    if before is not None and before != now:
        changed = "; ".join(f"{key}: {before.get(key)!r} there, {now[key]!r} now" for key in now if before.get(key) != now[key])
        raise OtherRecipeError(f"{folder}: this folder belongs to another recipe ({changed}). Give this one another `name`")


def _check_gate(recipe: Recipe, roles: Roles, name: str, settings: object) -> None:
    known = [*catalogue.names(), *roles.at("gate")]
    if name not in known:
        raise recipe.fail(unknown("gate", name, known), ("gates", name))
    if isinstance(settings, dict):
        try:
            if name in roles.at("gate"):
                role_gate.threshold(roles, name, settings)
            else:
                catalogue.check(name, settings, recipe.path(""))
        except InputError as fault:
            raise recipe.fail(str(fault), ("gates", name)) from None


def _check_gates_of(leaf: Leaf, roles: Roles, folder: Path) -> None:
    """The gates that the taxonomy sets for a leaf; a path in them is taken from the recipe's folder."""
    gates = leaf.settings.get("gates", {})
    if not isinstance(gates, dict):
        raise TaxonomyError(f"leaf {leaf.path}: settings.gates must be a mapping, got {gates!r}")
    for name, settings in gates.items():
        try:
            if settings is not False and not isinstance(settings, dict):
                raise RecipeError(f"gate {name!r}: give its settings as a mapping, or false, got {settings!r}")
            if name in roles.at("gate"):
                role_gate.threshold(roles, name, settings or {})
            else:
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


def check_aliases(recipe: Recipe, roles: Roles) -> None:
    for name in recipe.panel.roles:
        if name not in roles.at("annotate"):
            raise recipe.fail(unknown("annotator", name, roles.at("annotate")), ("panel", "roles", name))
    for role in roles.files:
        for alias in aliases_of(recipe, role):
            if alias not in recipe.models:
                what = unknown("model alias", alias, recipe.models)
                of_panel = alias in recipe.panel.models_of(role.name)
                by_role = ("panel", "roles", role.name) if role.name in recipe.panel.roles else ("panel", "models")
                own = ("roles", role.name, "model") if role.name in recipe.roles else ("models",)
                said = f"role {role.name!r}: {what} (add it under `models`, or name another one under `{'panel' if of_panel else 'roles'}`)"
                raise recipe.fail(said, by_role if of_panel else own)


def check_prices(recipe: Recipe, roles: Roles) -> None:
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
    answering = [role for role in roles.files if role.head.stage in ANSWERING or role.head.writes == "answer"]
    answerers = {recipe.models[alias_of(recipe, role)].kin for role in answering}
    for role in roles.files:
        for alias in aliases_of(recipe, role) if role.judges else ():
            if recipe.models[alias].kin in answerers:
                raise recipe.fail(
                    f"role {role.name!r} is judged by {alias!r}, of the family {recipe.models[alias].kin!r} that also answers; use a model "
                    "of another family (or set `family`), or allow it with `same_family_judge: true`",
                    ("models", alias),
                )


def _check_tools(recipe: Recipe, leaves: Sequence[Leaf], roles: Roles) -> None:
    """A leaf whose answers take tools has some that allow it, or somebody who writes them."""
    for leaf in leaves:
        kinds = sorted({mode.tools for mode in leaf.modes} - {"none"})
        for language in languages_of(recipe, leaf) if kinds else ():
            tools = leaf.tools(language)
            for stage in ("tool_task", "use_tools", *(() if tools else ("tools",))):
                if not any(roles.speaks(name, language) for name in roles.at(stage)):
                    wanted = "no tools, and no role that writes them" if stage == "tools" else f"tools, and no role of stage {stage!r}"
                    raise recipe.fail(f"leaf {leaf.path} has {wanted} in {language!r}", ("roles",))
            for kind in kinds if tools else ():
                if problem := unfit(kind, tools):
                    raise TaxonomyError(f"leaf {leaf.path}: its tools do not allow `tools: {kind}`: {problem}")


def _check_answers(recipe: Recipe, leaves: Sequence[Leaf], roles: Roles) -> None:
    """Where candidates are answered several times, those who answer and those who choose are there, speak the language, have a price where
    money is limited, and are of different families."""
    for leaf in (leaf for leaf in leaves if any(mode.chooses for mode in leaf.modes)):
        chosen = answers_of(recipe, leaf)
        for key in ("models", "jurors"):
            for alias in getattr(chosen, key):
                if alias not in recipe.models:
                    raise recipe.fail(f"leaf {leaf.path}: {unknown('model alias', alias, recipe.models)}", ("answers", key))
                if (recipe.limits.money or recipe.limits.leaf_money) and recipe.models[alias].price is None:
                    raise recipe.fail(f"limits in money need a price for every model; models.{alias} has none", ("models", alias))
        if chosen.by == "reward" and not chosen.reward:
            raise recipe.fail(f"leaf {leaf.path} chooses by reward, and there is no `reward` model under `answers`", ("answers",))
        jury = chosen.by == "jury" or (chosen.by == "auto" and chosen.verifiable in ("auto", "none"))
        stage = "jury" if jury else "grade" if chosen.by == "grade" else ""
        for language in languages_of(recipe, leaf) if stage else ():
            if not any(roles.speaks(name, language) for name in roles.at(stage)):
                raise recipe.fail(f"no role of stage {stage!r} speaks {language!r}, by which leaf {leaf.path} chooses answers", ("roles",))
        _check_kin_of(recipe, leaf, roles, chosen, stage)


def _check_kin_of(recipe: Recipe, leaf: Leaf, roles: Roles, chosen: Answers, stage: str) -> None:
    """No judge is of a family that answers, nor is a reward model, as far as its name tells."""
    if recipe.same_family_judge:
        return
    answering_too = [alias_of(recipe, role) for role in roles.files if role.head.stage in ANSWERING]
    kin = {recipe.models[alias].kin for alias in chosen.models or answering_too}
    judges = {alias for role in roles.files if role.judges for alias in aliases_of(recipe, role)} | ({*chosen.jurors} if stage else set())
    for alias in sorted(judges):
        if recipe.models[alias].kin in kin:
            raise recipe.fail(
                f"leaf {leaf.path}: {alias!r} judges, and is of the family {recipe.models[alias].kin!r} that also answers; use a model of "
                "another family (or set `family`), or allow it with `same_family_judge: true`",
                ("models", alias),
            )
    of_reward = next((family for family in FAMILIES if chosen.by == "reward" and family in (chosen.reward or "").lower()), None)
    if of_reward in kin:
        raise recipe.fail(
            f"the reward model {chosen.reward!r} is of the family {of_reward!r} that also answers; use another, or allow it with "
            "`same_family_judge: true`",
            ("answers", "reward"),
        )


def _check_modes(recipe: Recipe, leaves: Sequence[Leaf], roles: Roles) -> Roles:
    """The roles, without those that no candidate's mode calls for. Those that are called for must speak the language that it is in."""
    wanted: set[str] = set()
    for leaf in leaves:
        for mode in leaf.modes:  # who of these is there is checked by leaf, for a leaf may do without one or the other
            wanted.update(TOOLS if mode.tools != "none" else (), CHOOSING if mode.chooses else ())
        for mode, language in product(leaf.modes, languages_of(recipe, leaf)):
            for stage in stages_of(mode):
                if stage == "ground" and any(gates.get("grounding") is False for gates in (recipe.gates, leaf.settings.get("gates", {}))):
                    continue
                wanted.add(stage)
                spoken = OTHER[language] if mode.localised and stage in WRITING[mode.write] else language
                if not any(roles.speaks(name, spoken) for name in roles.at(stage)):
                    own = {"follow_up": f"turns: {mode.turns}", "reason": "depth: cot", "think": "depth: deep"}
                    how = own.get(stage, f"write: {mode.write}{', localised' if mode.localised else ''}")
                    raise recipe.fail(f"leaf {leaf.path} ({how}) needs a role of stage {stage!r} that speaks {spoken!r}", ("roles",))
    others = {*(stage for stages in WRITING.values() for stage in stages), "localise", "ground", "reason", "think", "follow_up"}
    others.update(TOOLS, CHOOSING)
    return roles.without(name for stage in others - wanted - {"write"} for name in roles.at(stage))


def _check_stages(recipe: Recipe, leaves: Sequence[Leaf], roles: Roles) -> None:
    returned = recipe.flow.score_returns and recipe.gates.get("ifd") is not False  # what is too easy goes to the evolver
    evolves = recipe.flow.evolve_rounds or returned or any(leaf.settings.get("evolve_rounds") for leaf in leaves)
    judging = [stage for stage in ("criticise", "arbitrate") if roles.at(stage)]
    needed = ["write", "answer", "annotate", *judging, *(["evolve"] if evolves else [])]
    needed += ["compare"] if evolves and roles.at("compare") else []
    for name in roles.at("gate"):
        if name in catalogue.names():
            raise recipe.fail(f"role {name!r}: there is a gate of that name already, give the role another one", ("prompts",))
    for name in roles.at("axis"):
        for leaf in leaves:
            if name in {axis.name for axis in leaf.axes}:
                raise recipe.fail(f"role {name!r}: leaf {leaf.path} has an axis of that name already", ("prompts",))
    own = [name for stage in ("write", "evolve", "answer") for name in roles.after(stage)]
    asked_always = [*(name for stage in ("annotate", "gate", "axis") for name in roles.at(stage)), *own]
    for language in sorted({language for leaf in leaves for language in languages_of(recipe, leaf)}):
        for stage in needed:
            if not any(roles.speaks(name, language) for name in roles.at(stage)):
                raise recipe.fail(
                    f"no role of stage {stage!r} speaks {language!r}: {', '.join(roles.at(stage)) or 'none at all'}", ("roles",)
                )
        for name in asked_always:
            if not roles.speaks(name, language):
                raise recipe.fail(f"role {name!r} has no file for language {language!r}, in which rows are wanted", ("prompts",))
