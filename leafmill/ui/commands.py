"""The commands of the pages: `leafmill ui` serves them until Ctrl-C, `leafmill report --html` writes them into one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_args

import typer

from leafmill.console import console, sayer

RUNS, PORT, HOST = Path("runs"), 8765, "127.0.0.1"


def ui(
    runs: Annotated[Path, typer.Option("--runs", help="the folder of all runs")] = RUNS,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = PORT,
    host: Annotated[str, typer.Option(help="an address of this machine; other than loopback: visitors need a token")] = HOST,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="open it in the browser")] = False,
) -> None:
    """Serve web pages on which runs are watched, traces read and candidates reviewed, until Ctrl-C.

    The token of visitors from elsewhere is LEAFMILL_UI_TOKEN, or a random one that is printed.

    Example: leafmill ui --runs runs --port 8765
    """
    with _extra():
        from leafmill.ui.server import serve
    serve(runs, host, port, open_, sayer(console()))


def write_report(run: str | None, runs: Path, out: Path | None, language: str) -> None:
    """Write the static report of a run, and say where it is."""
    from leafmill.errors import InputError, unknown
    from leafmill.runfolder import RunFolder, write_whole

    with _extra():
        from leafmill.ui.still.report import render
        from leafmill.ui.words import Spoken
    spoken: Spoken | None = next((one for one in get_args(Spoken) if one == language), None)
    if spoken is None:
        raise InputError(unknown("language", language, get_args(Spoken)))
    folder = RunFolder.find(run, runs)
    path = out or folder.export / "report.html"
    html = render(folder, spoken)
    write_whole(path, html)
    sayer(console())(f"wrote {path} ({len(html.encode()) / 2**20:.1f} MiB)")


@contextmanager
def _extra() -> Iterator[None]:
    """What is imported may be of the extra `ui`. Raises InputError."""
    from leafmill.errors import InputError

    try:
        yield
    except ModuleNotFoundError as fault:
        if (fault.name or "").partition(".")[0] == "leafmill":
            raise
        raise InputError(f"the pages need the extra `ui` ({fault}): pip install 'leafmill[ui]'") from fault
