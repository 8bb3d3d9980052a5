"""The commands on role files: `leafmill roles list | check | new | try`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from leafmill.console import console as _console
from leafmill.console import sayer as _sayer

app = typer.Typer(help="The agents' prompt files.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


@app.command("list")
def roles_list(
    prompts: Annotated[Path | None, typer.Option(help="a folder of your own role files")] = None,
    json: Json = False,
) -> None:
    """List the role files: name, variant, stage, language, model, what for. Example: leafmill roles list --prompts my-prompts"""
    from leafmill import screens

    found = [
        {
            "role": role.name,
            "variant": role.variant,
            "stage": role.head.stage or f"after {role.head.after}",
            "language": " ".join(role.head.language),
            "model": role.model,
            "says": role.head.says,
            "prompt": role.hash,
        }
        for role in _roles(prompts).files
    ]
    screens.as_json(found, _console()) if json else screens.table(found, _console())


@app.command("check")
def roles_check(prompts: Annotated[Path | None, typer.Option(help="a folder of your own role files")] = None) -> None:
    """Check every role file: head, contract, variables, Jinja. Example: leafmill roles check --prompts my-prompts"""
    found = _roles(prompts)
    _console().print(f"{len(found.files)} role files of {len(found.names)} roles are sound", highlight=False)


@app.command("new")
def roles_new(
    name: Annotated[str, typer.Argument(help="the role's name, such as fact_checker; or a variant's, such as writer.formal")],
    stage: Annotated[str, typer.Option(help="annotate: joins the panel; gate: may refuse; axis: adds an axis to every leaf")] = "annotate",
    after: Annotated[str, typer.Option(help="instead of a stage: write, evolve or answer, behind which it gets a node")] = "",
    writes: Annotated[str, typer.Option(help="with --after: instruction, input or answer, which its reply replaces")] = "",
    prompts: Annotated[Path, typer.Option(help="the folder for it")] = Path("my-prompts"),
) -> None:
    """Write a role file to begin with. Example: leafmill roles new fact_checker --stage annotate"""
    from leafmill import scaffold

    for written in scaffold.role(prompts, name, stage, after=after, writes=writes):
        _console().print(f"wrote {written}", highlight=False, markup=False, soft_wrap=True)
    _console().print(f"name the folder in the recipe: `prompts: {prompts}`", highlight=False, markup=False, soft_wrap=True)


@app.command("try")
def roles_try(
    name: Annotated[str, typer.Argument(help="the role")],
    leaf: Annotated[str, typer.Option("--leaf", help="a leaf's path")],
    recipe: Annotated[Path, typer.Argument(help="the recipe file")] = Path("recipe.yaml"),
    scripted: Annotated[bool, typer.Option("--scripted", help="use the scripted server instead of the model")] = False,
    json: Json = False,
) -> None:
    """Run one candidate and print what a role saw and said in it.

    Example: leafmill roles try critic --leaf programming/debugging/locate-error
    """
    import tempfile

    from leafmill import screens
    from leafmill.preview import preview
    from leafmill.recipe import Recipe

    wanted = Recipe.read(recipe, dry=scripted, leaves=[leaf], target=1, limits={"candidates_per_leaf": 1}, in_flight=1)
    with tempfile.TemporaryDirectory(prefix="leafmill-try-") as folder:
        found = asyncio.run(preview(wanted, Path(folder), scripted, _sayer(_console(stderr=json)), role=name))
    screens.as_json(found.model_dump(), _console()) if json else screens.trace(found, _console())


def _roles(prompts: Path | None) -> Any:
    from agents.role import BUILT_IN, Roles

    return Roles.load(BUILT_IN, *([prompts] if prompts else []))
