"""A taxonomy in a person's editor: a copy is edited, and written over the file only when it loads."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from leafmill.errors import InputError, TaxonomyError
from leafmill.runfolder import write_whole
from taxonomy import load
from taxonomy.changes import Changes, changes
from taxonomy.tree import Taxonomy, parse


def edit(file: Path, tell: Callable[[TaxonomyError], None], again: Callable[[], bool], environ: Mapping[str, str] = os.environ) -> Changes:
    """Edit until it loads, or the person has had enough; what changed.

    Where nobody can be asked (no terminal), and when the person gives up, the error is raised and says where the copy is.
    """
    before = load(file)
    old = file.read_bytes()
    copy = Path(tempfile.mkdtemp(prefix="leafmill-edit-")) / file.name
    copy.write_bytes(old)
    while True:
        now = _edited(copy, file, environ)
        if isinstance(now, Taxonomy):
            break
        tell(now)
        if not (sys.stdin.isatty() and again()):
            raise TaxonomyError(f"{file} is as it was; what you wrote is in {copy}")
    if file.read_bytes() != old:
        raise InputError(f"{file} was changed by somebody else meanwhile; what you wrote is in {copy}")
    if copy.read_bytes() != old:
        write_whole(file, copy.read_bytes().decode())
    shutil.rmtree(copy.parent)
    return changes(before, now)


def _edited(copy: Path, file: Path, environ: Mapping[str, str]) -> Taxonomy | TaxonomyError:
    """The taxonomy that the copy holds after the editor has closed, or why it holds none."""
    command = environ.get("VISUAL") or environ.get("EDITOR") or shutil.which("vi")
    if not command:
        raise InputError("there is no editor: set EDITOR, such as EDITOR=nano")
    try:
        done = subprocess.run([*shlex.split(command), str(copy)], check=False)
    except OSError as fault:
        raise InputError(f"the editor {command!r} cannot be started: {fault.strerror} (EDITOR)") from None
    if done.returncode:
        raise InputError(f"the editor {command!r} ended with {done.returncode}: nothing is written; the copy is {copy}")
    try:
        return parse(copy.read_bytes().decode(), file)
    except UnicodeDecodeError as fault:
        return TaxonomyError(f"not valid UTF-8 at byte {fault.start}")
    except TaxonomyError as fault:
        return fault
