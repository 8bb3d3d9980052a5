"""Who plays what in a recipe: which languages, models and answers a leaf has, by which stages its candidates come."""

from __future__ import annotations

from agents.role import Role, Roles
from agents.stages import ANSWERING, BY_DEPTH, WRITING
from leafmill.recipe import Answers, Flow, Recipe
from leafmill.records import Language, Mode, Seat
from taxonomy import Leaf


def languages_of(recipe: Recipe, leaf: Leaf) -> tuple[Language, ...]:
    """The languages of a leaf that the recipe wants."""
    return tuple(language for language in leaf.languages if language in recipe.languages_of(leaf.path))


def alias_of(recipe: Recipe, role: Role) -> str:
    """The alias of the model that plays a role: the recipe's word, else the role file's."""
    settings = recipe.roles.get(role.name)
    return (settings.model if settings else None) or role.model


def aliases_of(recipe: Recipe, role: Role) -> list[str]:
    """The aliases of all models that play a role: an annotator, juror or grader may be played by several."""
    several = recipe.panel.models_of(role.name) if role.head.stage == "annotate" else []
    several = recipe.answers.jurors if role.head.stage in ("jury", "grade") else several
    return several or [alias_of(recipe, role)]


def players_of(recipe: Recipe, leaf: Leaf, role: Role) -> list[str]:
    """The aliases that play a role for the candidates of a leaf, where several answers are chosen from or several judges choose."""
    chosen = answers_of(recipe, leaf)
    if role.head.stage in ANSWERING and any(mode.chooses for mode in leaf.modes):
        return chosen.models or [alias_of(recipe, role)]
    if role.head.stage in ("jury", "grade"):
        return chosen.jurors or [alias_of(recipe, role)]
    return aliases_of(recipe, role)


def seats_of(recipe: Recipe, roles: Roles) -> tuple[Seat, ...]:
    """The panel: each annotator with each of its models. Where variants of one name models of their own, they stay with them."""
    seats = []
    for name in roles.at("annotate"):
        files = [role for role in roles.files if role.name == name]
        own = {alias_of(recipe, role) for role in files}
        several = recipe.panel.models_of(name) or ([*own] if len(own) == 1 else [""])
        seats += [Seat(name, alias, name if alias in own or not alias else f"{name}@{alias}") for alias in several]
    return tuple(seats)


def unpriced(recipe: Recipe, roles: Roles) -> list[str]:
    """The aliases that play a role and have no price: what their calls cost is unknown."""
    playing = dict.fromkeys(alias for role in roles.files for alias in aliases_of(recipe, role))
    return [alias for alias in playing if alias in recipe.models and recipe.models[alias].price is None]


def flow_of(flow: Flow, leaf: Leaf) -> Flow:
    """How far the candidates of a leaf are carried: the leaf's settings over the recipe's flow."""
    return flow.model_copy(update={name: bound for name, bound in leaf.settings.items() if name in Flow.model_fields})


def answers_of(recipe: Recipe, leaf: Leaf) -> Answers:
    """How one of several answers is chosen for the candidates of a leaf: its settings over the recipe's."""
    return recipe.answers.model_copy(update=leaf.settings.get("answers", {}))


def stages_of(mode: Mode) -> tuple[str, ...]:
    """The stages that only candidates of some modes come to, of this mode."""
    written = () if mode.tools != "none" else (*WRITING[mode.write], *(["localise"] if mode.localised else []))
    thought = [BY_DEPTH[mode.depth]] if mode.tools == "none" and mode.depth != "direct" else []
    return (*written, *(["ground"] if mode.write == "document" else []), *thought, *(["follow_up"] if mode.turns > 1 else []))
