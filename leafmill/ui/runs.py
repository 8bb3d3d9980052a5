"""The page of all runs: how far each is, what it took, and what is wrong with those that cannot be read.

What a run says of itself is looked up when its files have changed, beside the requests, which wait for it a little: a folder of many runs,
or of huge ones, is shown at once, and what took longer comes with the next look.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from leafmill.errors import OtherVersionError, RunFolderError
from leafmill.index.index import Index
from leafmill.ledger import MIGRATED, SCHEMA_VERSION, disk_error
from leafmill.process import Process
from leafmill.runfolder import RunFolder
from leafmill.ui import numbers as _filters  # noqa: F401  those that runs.html uses
from leafmill.ui.library import Library, changed_at
from leafmill.ui.page import page
from leafmill.ui.run.standing import state_of

LOOK = 0.12
"""seconds that a request waits for what is not known yet"""
LATER = 1.0
"""seconds for one index; one that takes longer goes on in the background"""
PATIENCE = 0.05
"""seconds to wait for a ledger that another process has locked; the others must not wait for it"""

router = APIRouter(tags=["runs"])

State = Literal["running", "finished", "short", "stopped", "failed", "unreadable", "unknown"]
"""`finished`: every leaf has its rows; `short`: some leaf ended without; `stopped`: it has not come to its end, and the same command goes
on; `failed`: it ended with an error; `unknown`: not looked at yet"""


class Line(BaseModel):
    """One run. None is what is not known."""

    name: str
    state: State = "unknown"
    why: str = ""
    """what is wrong with it"""
    exit_code: int | None = None
    recipe: str = ""
    """its recipe's name"""
    command: str = ""
    """that goes on with it"""
    began_at: float | None = None
    """its first call; seconds since the epoch"""
    changed_at: float | None = None
    """when its ledger was written last"""
    accepted: int | None = None
    asked: int | None = None
    waiting: int | None = None
    """candidates that wait for a person"""
    rejected: int | None = None
    errored: int | None = None
    open: int | None = None
    leaves: int | None = None
    leaves_met: int | None = None
    languages: list[str] = []
    models: list[str] = []
    currency: str = ""
    calls: int | None = None
    failed_calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    """of the calls whose cost is known"""
    unpriced_calls: int | None = None
    indexed: float = 0.0
    """the share of the ledger that the sums of calls, tokens and money are made of; they are shown when it is 1"""

    @property
    def is_known(self) -> bool:
        """Whether there is nothing more to find out."""
        return self.indexed >= 1 or self.state == "unreadable"


class Runs(BaseModel):
    folder: str
    runs: list[Line]
    total: int
    """of runs in the folder, whatever was asked for"""
    q: str = ""
    complete: bool
    """whether everything is known of each run that is shown"""


class Recipe(BaseModel):
    run: str
    text: str
    """the recipe as it was resolved, in YAML; of secrets the names of what holds them"""


class _Known(NamedTuple):
    """What was found of a run, and of which state of its files (when each was written)."""

    stamp: tuple[float, float]
    line: Line
    process: Process | None


@dataclass
class Shelf:
    """What is known of the runs, kept as long as their files are the same."""

    library: Library
    _known: dict[str, _Known] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _finder: threading.Thread | None = None
    """finds out what is not known; requests wait for it, but not for long"""

    def look(self, names: list[str]) -> list[Line]:
        """A line for each of these runs that is still there."""
        if stale := [name for name in names if self._is_stale(name)]:
            self._finding_out(stale).join(LOOK)
        return [line for name in names if (line := self._line(name))]

    def _finding_out(self, names: list[str]) -> threading.Thread:
        with self._lock:
            if self._finder is None or not self._finder.is_alive():
                self._finder = threading.Thread(target=self._find_out, args=[names], name="shelf", daemon=True)
                self._finder.start()
            return self._finder

    def _find_out(self, names: list[str]) -> None:
        """First of all what is found at once; those that could not be read come last, for some of them are waited for."""
        for name in sorted(names, key=self._is_unreadable):
            self._read(name)
        for name in names:
            self._add_spent(name)

    def _line(self, name: str) -> Line | None:
        """None: it was deleted meanwhile."""
        changed = changed_at(RunFolder(self.library.runs / name).ledger)
        if not changed:
            return None
        known = self._known.get(name)
        if known is None:
            return Line(name=name, changed_at=changed)
        if known.line.state == "running" and not (known.process and known.process.is_alive):
            return known.line.model_copy(update={"state": "stopped"})
        return known.line

    def _is_unreadable(self, name: str) -> bool:
        return name in self._known and self._known[name].line.state == "unreadable"

    def _is_stale(self, name: str) -> bool:
        """Also one that could not be read: what held it may be gone."""
        known = self._known.get(name)
        return known is None or known.line.indexed < 1 or known.stamp != _stamp(RunFolder(self.library.runs / name))

    def _read(self, name: str) -> None:
        folder = RunFolder(self.library.runs / name)
        stamp, known = _stamp(folder), self._known.get(name)
        if known is None or known.stamp != stamp or known.line.state == "unreadable":
            self._known[name] = _read(folder, stamp)

    def _add_spent(self, name: str) -> None:
        known = self._known[name]
        if known.line.is_known:
            return
        found: dict[str, Any]
        try:
            with self.library.glance(name, LATER) as (index, progress):
                done = progress.done / progress.total if progress.total else 1.0
                found = {"indexed": done, **(_spent(index) if done >= 1 else {})}
        except RunFolderError as fault:
            found = {"state": "unreadable", "why": str(fault)}
        self._known[name] = known._replace(line=known.line.model_copy(update=found))


@router.get("/", response_model=Runs, summary="All runs: how far each is, and what it took")
def runs(request: Request, q: Annotated[str, Query(description="only runs whose name has this in it")] = "") -> Response:
    library: Library = request.app.state.library
    shelf: Shelf = request.app.state.shelf
    names = library.names()
    lines = shelf.look([name for name in names if q.casefold() in name.casefold()])
    complete = all(line.is_known for line in lines)
    return page(request, "runs.html", Runs(folder=str(library.runs), runs=lines, total=len(names), q=q, complete=complete))


@router.get("/runs/{run}/recipe", response_model=Recipe, summary="The recipe of a run, as it was resolved")
def recipe(request: Request, run: str) -> Response:
    path = request.app.state.library.folder(run).recipe
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as fault:
        raise RunFolderError(f"{path}: the recipe cannot be read: {fault.strerror}") from fault
    return page(request, "recipe.html", Recipe(run=run, text=without_secrets(text)))


_KEY = r"[\w-]*(?:api[_-]?key|secret|password|authorization|auth[_-]?token)"
_SECRETS = (
    re.compile(rf"""^([ \t-]*["']?{_KEY}["']?[ \t]*:[ \t]*)(?!\$\{{\w+\}}[ \t]*$|null\b)\S.*$""", re.IGNORECASE | re.MULTILINE),
    re.compile(r"([?&][\w-]*(?:key|token|secret)=)[^&\s'\"]+", re.IGNORECASE),
)


def without_secrets(text: str) -> str:
    """A recipe names what holds a secret; what somebody wrote into one nevertheless is not shown."""
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text


# -- what the files of a run say ---------------------------------------------------------------------------------------


def _stamp(folder: RunFolder) -> tuple[float, float]:
    return changed_at(folder.ledger), changed_at(folder.recipe)


def _read(folder: RunFolder, stamp: tuple[float, float]) -> _Known:
    """What the ledger and the recipe say at once, however large they are."""
    line = Line(name=folder.path.name, changed_at=stamp[0], **_of_recipe(folder.recipe))
    try:
        found, process = _of_ledger(folder.ledger)
    except RunFolderError as fault:
        return _Known(stamp, line.model_copy(update={"state": "unreadable", "why": str(fault)}), None)
    return _Known(stamp, line.model_copy(update=found), process)


def _of_recipe(path: Path) -> dict[str, Any]:
    """Nothing, where it is not there or somebody broke it: the ledger counts."""
    with suppress(OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, LookupError, TypeError):
        said = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        models = {str(model.get("model") or model.get("embedded") or alias): None for alias, model in said["models"].items()}
        languages = [str(language) for language in said["languages"]]
        return {"recipe": str(said["name"]), "languages": languages, "currency": str(said["currency"]), "models": list(models)}
    return {}


def _of_ledger(path: Path) -> tuple[dict[str, Any], Process | None]:
    """By a connection of its own, which waits for nobody. Raises RunFolderError."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE)) as conn:
            if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                raise RunFolderError(f"{path}: there is no ledger in it")
            said = conn.execute("SELECT key, CAST(value AS TEXT) FROM meta WHERE key IN ('schema', 'process', 'leaves')")
            meta = {key: json.loads(value) for key, value in said}
            if meta.get("schema") not in (SCHEMA_VERSION, *MIGRATED):
                raise OtherVersionError(f"{path}: made by another version (schema {meta.get('schema')}, expected {SCHEMA_VERSION})")
            states = Counter(dict(conn.execute("SELECT state, count(*) FROM candidates GROUP BY state")))
            ended = {leaf: (asked, state) for leaf, asked, state in conn.execute("SELECT leaf, asked, state FROM leaves")}
            first = conn.execute("SELECT started_at FROM calls ORDER BY id LIMIT 1").fetchone()
    except sqlite3.DatabaseError as fault:
        raise disk_error(path, fault) from fault
    process = Process.model_validate(meta["process"]) if meta.get("process") else None
    planned = {leaf: said["target"] for leaf, said in (meta.get("leaves") or {}).items()}
    asked = {leaf: asked for leaf, (asked, _) in ended.items()} | planned
    met = sum(state == "met" for _, state in ended.values())
    found = {
        **{state: states[state] for state in ("accepted", "rejected", "errored", "waiting", "open")},
        "asked": sum(asked.values()) if asked else None,
        "leaves": len(asked) or None,
        "leaves_met": met,
        "began_at": first and first[0],
        "exit_code": process and process.exit_code,
        "command": process.command if process else "",
        "state": state_of(process, is_open=bool(states["open"]), is_met=bool(ended) and met == len(asked), has_ended=bool(ended)),
    }
    return found, process


def _spent(index: Index) -> dict[str, Any]:
    (sums,) = index.rows(
        "SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(CASE WHEN status <> 'ok' THEN calls END), 0) AS failed_calls, "
        "coalesce(sum(prompt_tokens + completion_tokens), 0) AS tokens, sum(money) AS money, "
        "coalesce(sum(unpriced), 0) AS unpriced_calls FROM spent"
    )
    return {**sums, "money": None if sums["unpriced_calls"] == sums["calls"] else sums["money"]}
