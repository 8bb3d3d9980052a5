"""What `leafmill plan` and `leafmill taxonomy import` were asked for, made into a plan and carried out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.taxonomist import Wish
from filters.dedup.nodes import Named
from graphs.planting import Growth, Planting, plant
from leafmill.errors import InputError, Place, RecipeError
from leafmill.recipe import BOTH, SCRIPTED, Model, Recipe
from leafmill.records import Language
from leafmill.runfolder import RunFolder
from taxonomy import load
from taxonomy.draft import Draft, slug_of
from taxonomy.outline import read_outline
from taxonomy.seeds import language_of
from taxonomy.writing import check_growable, find

LANGUAGES: dict[str, tuple[Language, ...]] = {"en": ("en",), "zh": ("zh",)}


def languages_of(wish: str, topic: str) -> tuple[Language, ...]:
    """The languages that are asked for, that of the topic first; "" asks for the topic's own. Raises InputError."""
    own = language_of(topic)
    if wish == "both":
        return own, *(language for language in BOTH if language != own)
    if wish and wish not in LANGUAGES:
        raise InputError(f"unknown language {wish!r}: expected en, zh or both")
    return LANGUAGES[wish or own]


def read_guide(path: Path | None) -> str:
    """The notes of the person who plans."""
    try:
        return path.read_bytes().decode("utf-8-sig").strip() if path else ""
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"cannot be read: {fault}", Place(str(path))) from None


def from_scratch(wish: Wish, out: Path | None, source: Path | None, comment: str, calls: int | None) -> Planting:
    """A taxonomy of its own, from the topic alone or from what a person has."""
    first = wish.languages[0]
    if source is None:
        root = Draft(slug_of(wish.topic), {first: wish.topic}, languages=wish.languages)
    else:
        root = read_outline(source, first, wish.topic)
        root.languages = wish.languages
    return Planting(wish, root, out or Path(f"{root.slug}.yaml"), calls=calls, comment=comment)


def into_tree(wish: Wish, file: Path, under: str, out: Path | None, calls: int | None) -> Planting:
    """Children for a node of a taxonomy that is there already. Raises TaxonomyError."""
    taxonomy = load(file)
    path, first = find(taxonomy, under), wish.languages[0]
    check_growable(file, path)
    nodes = {node.path: node for node in taxonomy.nodes()}
    above = [path[:at] for at, sign in enumerate(path) if sign == "/"]
    spoken = {language for leaf in nodes[path].leaves() for language in leaf.languages}
    if lacking := [language for language in wish.languages if language not in spoken]:
        raise InputError(f"{path} does not speak {' or '.join(lacking)}, but {' and '.join(sorted(spoken))}: say so by --language")
    if lacking := [language for language in sorted(spoken) if language not in wish.languages]:
        raise InputError(f"{path} speaks {' and '.join(lacking)} too, so its children must: give --language both")
    others = {at: node for at, node in nodes.items() if not f"{at}/".startswith(f"{path}/")}
    known = [Named(at, node.title.get(first, ""), node.description.get(first, "")) for at, node in others.items()]
    trail = [nodes[at].title for at in above]
    return Planting(wish, Draft.of(nodes[path]), out or file, file, path, calls, trail=trail, elsewhere=known)


def languages_under(file: Path, under: str) -> tuple[Language, ...]:
    """The languages of a node of a taxonomy."""
    taxonomy = load(file)
    path = find(taxonomy, under)
    spoken = [language for leaf in taxonomy.leaves() if f"{leaf.path}/".startswith(f"{path}/") for language in leaf.languages]
    return tuple(dict.fromkeys(spoken))


def find_recipe(path: Path | None, scripted: bool, tokens: int | None) -> Recipe:
    """The recipe that names the models. Raises RecipeError."""
    given = path or (Path("recipe.yaml") if Path("recipe.yaml").is_file() else None)
    if given is None and not scripted:
        raise RecipeError("a plan asks models, and there is no recipe.yaml here that names them: give --recipe FILE, write one with "
                          "`leafmill init`, or try it with --scripted")  # fmt: skip
    if given is None:
        nobody = Model(base_url="http://nobody", model="scripted")
        recipe = Recipe(models={"generator": nobody, "judge": nobody})
    else:
        recipe = Recipe.read(given, dry=scripted)
    return recipe if tokens is None else recipe.model_copy(update={"limits": recipe.limits.model_copy(update={"tokens": tokens})})


async def carry_out(planting: Planting, recipe: Recipe, name: str, runs: Path, scripted: bool, say: Callable[[str], None]) -> Growth:
    """Grow the tree in the plan's folder; with `scripted`, on the scripted server and in a folder of that name."""
    folder = runs / f"plan-{name or slug_of(planting.under or planting.root.slug)}"
    if not scripted:
        return await plant(planting, recipe, RunFolder(folder), say)
    from agents.scripted import ScriptedServer

    async with ScriptedServer(seed=recipe.seed) as server:
        return await plant(planting, recipe.at(server.base_url), RunFolder(folder.with_name(folder.name + SCRIPTED)), say)
