"""`leafmill plan` and `leafmill taxonomy ...`: a command parses, calls one function, prints."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leafmill import errors
from leafmill.console import console as _console
from leafmill.console import sayer as _sayer

if TYPE_CHECKING:
    from leafmill.records import Language

app = typer.Typer(help="What can be covered.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="a built-in name, or the path of a YAML file")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Runs = Annotated[Path, typer.Option("--runs", help="the folder of all runs")]
RecipeOf = Annotated[Path | None, typer.Option("--recipe", help="names the models and limits; default: recipe.yaml, if it is there")]
Scripted = Annotated[bool, typer.Option("--scripted", help="a dry run: a scripted server plays every model")]
PlanName = Annotated[str, typer.Option("--name", help="the plan's folder is runs/plan-NAME; default: made of the topic")]
RUNS = Path("runs")


def plan(
    topic: Annotated[str, typer.Argument(help="what shall be covered; with --from it may be left out")] = "",
    language: Annotated[str, typer.Option(help="en, zh or both; default: the topic's own")] = "",
    depth: Annotated[int, typer.Option(min=1, max=8, help="levels below the root")] = 3,
    breadth: Annotated[int, typer.Option(min=2, max=24, help="children of a node, about")] = 6,
    rounds: Annotated[int, typer.Option(min=0, max=5, help="how often the surveyor looks at the children of a node")] = 2,
    guide: Annotated[Path | None, typer.Option(help="a text file with your notes: what to cover, what not")] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write; default: named as the topic, or FILE of --into")] = None,
    into: Annotated[Path | None, typer.Option(help="grow this taxonomy instead of a new one")] = None,
    under: Annotated[str, typer.Option(help="with --into: the path of the node that gets children")] = "",
    source: Annotated[Path | None, typer.Option("--from", help="begin with a list of labels, or an InstructLab folder")] = None,
    max_calls: Annotated[int | None, typer.Option(min=0, help="calls at most, those of earlier times in the folder included")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="tokens at most, instead of the recipe's limits.tokens")] = None,
    recipe: RecipeOf = None,
    scripted: Scripted = False,
    name: PlanName = "",
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Grow a taxonomy with models: level by level, merged, surveyed for gaps, with axes. What was asked is never asked again.

    Example: leafmill plan "电商客服" --language zh --depth 3 --breadth 6

    Exit code 0: all of it is there; 3: some branches could not be grown (it says which); 130: interrupted.
    """
    from agents.taxonomist import Wish
    from leafmill import screens
    from leafmill.taxonomies import plan as planning
    from leafmill.taxonomies import screens as taxonomy_screens

    if into is not None and source is not None:
        raise errors.InputError("give --into or --from, not both")
    if not (topic or into or source):
        raise errors.InputError('say what shall be covered, such as: leafmill plan "Cooking"')
    if topic and into is not None:
        raise errors.InputError(f"{topic!r}: with --into the topic is the node that --under names; --guide takes your notes")
    if under and into is None:
        raise errors.InputError("--under names a node of the file that --into gives")
    wanted = planning.find_recipe(recipe, scripted, tokens)
    if into is not None:
        spoken = planning.languages_of(language, under) if language else planning.languages_under(into, under)
        wish = Wish(under or into.stem, spoken, depth, breadth, planning.read_guide(guide), rounds)
        planting = planning.into_tree(wish, into, under, out, max_calls)
    else:
        about = topic or (source.resolve().stem if source else "")
        wish = Wish(about, planning.languages_of(language, about), depth, breadth, planning.read_guide(guide), rounds)
        comment = f"Planned by `leafmill plan`: {about}\nEdit it freely: `leafmill taxonomy edit` checks it on save."
        planting = planning.from_scratch(wish, out, source, comment, max_calls)
    console = _console(stderr=json)
    found = asyncio.run(planning.carry_out(planting, wanted, name, runs, scripted, _sayer(console)))
    screens.as_json(found.model_dump(), _console()) if json else taxonomy_screens.growth(found, console)
    raise typer.Exit(found.exit_code)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="a list of labels, or the folder of an InstructLab taxonomy")],
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("taxonomy.yaml"),
    language: Annotated[str, typer.Option(help="en or zh: the language of the labels")] = "en",
    title: Annotated[str, typer.Option(help="of the root; default: the file's or folder's name")] = "",
    recipe: Annotated[Path | None, typer.Option("--recipe", help="models that write the descriptions that are missing")] = None,
    scripted: Scripted = False,
    name: PlanName = "",
    runs: Runs = RUNS,
) -> None:
    """Make a taxonomy of labels or of an InstructLab tree, its examples as seeds. Example: leafmill taxonomy import labels.txt"""
    from agents.taxonomist import Wish
    from leafmill.runfolder import write_whole
    from leafmill.taxonomies import plan as planning
    from leafmill.taxonomies import screens as taxonomy_screens
    from taxonomy.outline import describe_plainly, read_outline
    from taxonomy.writing import written

    spoken = _language(language)
    if recipe or scripted:
        wish = Wish(title or source.resolve().stem, (spoken,), depth=0)
        planting = planning.from_scratch(wish, out, source, f"From {source.name}.", None)
        wanted = planning.find_recipe(recipe, scripted, None)
        found = asyncio.run(planning.carry_out(planting, wanted, name, runs, scripted, _sayer(_console())))
        taxonomy_screens.growth(found, _console())
        raise typer.Exit(found.exit_code)
    if out.exists():
        raise errors.InputError(f"{out} is there already: give another --out")
    root = read_outline(source, spoken, title)
    plainly = describe_plainly(root, spoken)
    write_whole(out, written(root, f"From {source.name}."))
    said = f"wrote {out}: {len(root.leaves)} leaves, {sum(len(leaf.seeds) for leaf in root.leaves)} seeds"
    if plainly:
        said += f"; {len(plainly)} are described by their titles alone: edit them, or give --recipe and a model writes them"
    _console().print(said, highlight=False, markup=False, soft_wrap=True)


@app.command()
def show(
    name: Name,
    language: Annotated[str, typer.Option(help="en or zh: the language of the titles")] = "en",
    json: Json = False,
) -> None:
    """Show a taxonomy as a tree: titles, weights, languages, axes, seeds. Example: leafmill taxonomy show programming"""
    from leafmill import screens
    from leafmill.taxonomies import screens as taxonomy_screens
    from taxonomy import load

    spoken, found = _language(language), load(name)
    if json:
        screens.as_json([leaf.model_dump() for leaf in found.leaves()], _console())
    else:
        taxonomy_screens.tree(found, spoken, _console())


@app.command()
def check(name: Name) -> None:
    """Check a taxonomy: whether it loads, and what to look at. Example: leafmill taxonomy check my-taxonomy.yaml

    Exit code 0 when it loads, warnings or not; 12 when it does not.
    """
    from leafmill.taxonomies.check import warnings
    from taxonomy import load

    found = load(name)
    for line in asyncio.run(warnings(found)):
        typer.echo(line)
    seeds = {seed.model_dump_json() for leaf in found.leaves() for seed in leaf.seeds}
    _console().print(f"{found.path}: {len(found.leaves())} leaves, {len(seeds)} seeds", highlight=False, markup=False, soft_wrap=True)


@app.command()
def axes(language: Annotated[str, typer.Option(help="en or zh")] = "en", json: Json = False) -> None:
    """List the axes that any taxonomy may take by name. Example: leafmill taxonomy axes --language zh"""
    from leafmill import screens
    from taxonomy import library
    from taxonomy.axes import in_language

    spoken = _language(language)
    if json:
        screens.as_json([axis.model_dump() for axis in library().values()], _console())
        return
    shown = [
        {
            "axis": axis.name,
            "title": in_language(axis.title, spoken),
            "values": "; ".join(f"{value.name} ({value.weight:g}): {in_language(value.labels, spoken)}" for value in axis.values),
        }
        for axis in library().values()
    ]
    screens.table(shown, _console())


@app.command()
def diff(old: Name, new: Annotated[str, typer.Argument(help="the newer version")], json: Json = False) -> None:
    """Say what changed between two versions, and what that means for a run. Example: leafmill taxonomy diff old.yaml new.yaml"""
    from leafmill import screens
    from leafmill.taxonomies import screens as taxonomy_screens
    from taxonomy import load
    from taxonomy.changes import changes

    found = changes(load(old), load(new))
    screens.as_json(found.model_dump(), _console()) if json else taxonomy_screens.changes(found, _console())


@app.command()
def edit(file: Annotated[Path, typer.Argument(help="the taxonomy's file")]) -> None:
    """Edit a taxonomy in $EDITOR; what does not load is not written. Example: leafmill taxonomy edit cooking.yaml"""
    from leafmill.taxonomies import screens as taxonomy_screens
    from leafmill.taxonomies.edit import edit as edit_

    found = edit_(file, lambda fault: typer.echo(f"error: {fault}", err=True), lambda: typer.confirm("edit again?", default=True))
    taxonomy_screens.changes(found, _console())


def _language(given: str) -> Language:
    """The language that an option names. Raises InputError."""
    from leafmill.recipe import BOTH

    for language in BOTH:
        if given == language:
            return language
    raise errors.InputError(errors.unknown("language", given, BOTH))
