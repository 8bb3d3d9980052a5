"""What tests of the command line share: a command as a user types it, and a small recipe."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from leafmill.cli import main

LEAVES = ("programming/debugging/locate-error", "programming/debugging/read-traceback")
RECIPE = """\
name: small
seed: 3
taxonomies: [programming]
leaves: [programming/debugging/locate-error, programming/debugging/read-traceback]
target: 2
in_flight: 4
models:
  generator: {base_url: "http://127.0.0.1:9/v1", model: qwen-small, attempts: 1, api_key: "${SMALL_KEY}"}
  judge: {base_url: "http://127.0.0.1:9/v1", model: llama-small, attempts: 1}
gates: {semantic: false, ifd: false}
"""
KEYLESS = RECIPE.replace(', api_key: "${SMALL_KEY}"', "")


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def leafmill(folder: Path, *words: object) -> Said:
    """Give a command in a folder, through the real entry point."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["leafmill", *map(str, words)])
        patch.chdir(folder)
        with pytest.raises(SystemExit) as end:
            main()
    code = end.value.code
    return Said(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path
