"""The folder in which a command on a dataset writes, and the checkpoint by which it goes on after a crash.

    kept.jsonl       rows as they stood in the file, and under `leafmill` what the command found
    dropped.jsonl    {line, code, sentence, value, threshold, evidence, row}
    waiting.jsonl    the same, of rows that could not be judged
    broken.jsonl     {line, fault, raw}
    checkpoint.json  how far it is, and under which settings
    summary.json, *.svg

Outputs are synced before the checkpoint names their sizes, and going on cuts them back to these. So whatever a crash leaves behind the
checkpoint is made again, and the files end as those of an unbroken run, byte for byte.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ValidationError

from leafmill.dataset.reader import written
from leafmill.dataset.tally import Tally
from leafmill.errors import DiskError, InputError, OtherRecipeError, Place, RunFolderError
from leafmill.runfolder import RunFolder, write_whole

PLACES = ("kept", "dropped", "waiting", "broken")
CHECKPOINT, SUMMARY = "checkpoint.json", "summary.json"


class Checkpoint(BaseModel):
    settings: dict[str, Any]
    rules: dict[str, str] = {}
    line: int = 0
    sizes: dict[str, int] = dict.fromkeys(PLACES, 0)
    tally: Tally = Tally()
    seconds: float = 0.0
    done: bool = False


def default_folder(data: Path, command: str) -> Path:
    """`data.jsonl` is deduplicated into `data.dedup/` beside it."""
    name = data.name.removesuffix(".gz")
    return data.with_name(f"{Path(name).stem or name}.{command}")


def fingerprint(data: Path) -> str:
    """Identifies what is in a file. Raises InputError."""
    try:
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise InputError(f"cannot be read: {fault.strerror}", Place(str(data))) from fault


@dataclass
class Outputs:
    """The open folder of one command. Made with `Outputs.open`."""

    path: Path
    checkpoint: Checkpoint
    _files: dict[str, IO[bytes]]

    @classmethod
    @contextmanager
    def open(cls, path: Path, data: Path, settings: Mapping[str, Any], fresh: bool = False) -> Iterator[Outputs]:
        """The folder as the last checkpoint left it, or an empty one. Nobody else may write in it meanwhile.

        Raises OtherRecipeError when it was begun with other settings or another input, RunFolderError when it is no such folder or
        another process is in it, InputError when an output would overwrite the input.
        """
        if data.resolve() in {_place(path, place).resolve() for place in PLACES}:
            raise InputError(f"{path}: this folder holds the input: expected another for the output (--out)")
        _check_free(path)
        with RunFolder(path).claimed(), ExitStack() as stack:
            if fresh:
                _clear(path)
            checkpoint = _read(path / CHECKPOINT) or Checkpoint(settings=dict(settings))
            if changed := _changed(checkpoint.settings, settings):
                raise OtherRecipeError(f"{path}: was begun otherwise ({changed}): --fresh begins anew, --out writes elsewhere")
            files = {place: stack.enter_context(_cut(_place(path, place), checkpoint.sizes[place])) for place in PLACES}
            yield cls(path, checkpoint, files)

    def write(self, place: str, line: Mapping[str, Any]) -> None:
        with _disk(self.path):
            self._files[place].write(f"{written(dict(line))}\n".encode())

    def commit(self) -> None:
        """From now on it goes on from here."""
        with _disk(self.path):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        self.checkpoint.sizes = {place: file.tell() for place, file in self._files.items()}
        write_whole(self.path / CHECKPOINT, self.checkpoint.model_dump_json())

    def hold_to(self, rules: Mapping[str, str]) -> None:
        """Note by which rules rows are judged. Raises OtherRecipeError when it was begun under others."""
        if self.checkpoint.line and (changed := _changed(self.checkpoint.rules, rules)):
            raise OtherRecipeError(f"{self.path}: was begun under other rules ({changed}): --fresh begins anew")
        self.checkpoint.rules = dict(rules)
        self.commit()

    @property
    def kept(self) -> Path:
        return _place(self.path, "kept")


def _place(path: Path, place: str) -> Path:
    return path / f"{place}.jsonl"


def _check_free(path: Path) -> None:
    """A folder that is in use for something else is left alone."""
    if path.is_dir() and not (path / CHECKPOINT).exists() and (others := sorted(p.name for p in path.iterdir() if p.name != "lock")):
        raise RunFolderError(f"{path}: holds something else already ({others[0]}): expected an empty folder, or none (--out)")


def _clear(path: Path) -> None:
    """Take away what a command wrote here, and nothing else. The checkpoint goes last: without it the folder would be a stranger's."""
    import shutil

    with _disk(path):
        for place in PLACES:
            _place(path, place).unlink(missing_ok=True)
        for old in (path / SUMMARY, *path.glob("*.svg")):
            old.unlink(missing_ok=True)
        shutil.rmtree(path / "chroma", ignore_errors=True)
        (path / CHECKPOINT).unlink(missing_ok=True)


def _read(path: Path) -> Checkpoint | None:
    if not path.exists():
        return None
    try:
        return Checkpoint.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as fault:
        raise RunFolderError(f"{path}: is no checkpoint of this version of Leafmill: --fresh begins anew") from fault


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, with both values; "" when nothing does."""
    keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
    return ", ".join(f"{key}: {_short(before.get(key))} there, {_short(now.get(key))} now" for key in keys)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}..."


@contextmanager
def _cut(path: Path, size: int) -> Iterator[IO[bytes]]:
    """A file open for appending after its first `size` bytes."""
    with _disk(path), path.open("ab") as file:
        if file.tell() < size:
            raise RunFolderError(f"{path}: has {file.tell()} bytes, the checkpoint says {size}: --fresh begins anew")
        file.truncate(size)
        file.seek(size)
        yield file


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise DiskError(f"{path}: cannot be written: {fault.strerror}") from fault
