"""How long the server takes for each page of a run, asked in process as a browser would, with parameters that vary."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

from starlette.testclient import TestClient

from agents.scripted.words import BANKS
from leafmill.index.filter import SORTS, place_of
from leafmill.index.index import NAME, Index
from leafmill.index.schema import SCORES, STEPS
from leafmill.runfolder import RunFolder
from leafmill.ui.app import create
from leafmill.ui.run.page import CHARTS, PARTS

HOST = "http://127.0.0.1:8321"
GOAL, WHOLE_GOAL = 0.2, 0.5
"""seconds that 95% of the requests may take; of the page of a whole run, which is many charts"""
WHOLE = ("overview", "overview of a leaf")


class Asked(NamedTuple):
    """What a page is called in the table, and one address of it."""

    page: str
    address: str


class Line(NamedTuple):
    """The seconds that requests of one page took: where something has changed since, and asked again at once."""

    page: str
    changed: list[float]
    again: list[float]

    @property
    def is_met(self) -> bool:
        return quantile(self.changed, 0.95) < (WHOLE_GOAL if self.page in WHOLE else GOAL)


def measure(folder: Path, each: int, seed: int = 1) -> list[Line]:
    """Every page of the run, `each` times."""
    index = Index(RunFolder(folder))
    index.refresh(3600)
    changed: dict[str, list[float]] = defaultdict(list)
    again: dict[str, list[float]] = defaultdict(list)
    with closing(index), TestClient(create(folder.parent), base_url=HOST, headers={"accept": "text/html"}) as browser:
        for page, address in addresses(index, folder.name, random.Random(seed), each):
            with closing(sqlite3.connect(folder / NAME)) as change, change:
                change.execute("UPDATE meta SET value = value + 1 WHERE key = 'version'")
            for took in (changed, again):
                begun = time.perf_counter()
                reply = browser.get(address)
                took[page].append(time.perf_counter() - begun)
                if reply.status_code != 200:
                    raise RuntimeError(f"{address}: {reply.status_code}: {reply.text[:500]}")
    return [Line(page, changed[page], again[page]) for page in changed]


def addresses(index: Index, run: str, rng: random.Random, each: int) -> Iterator[Asked]:
    """The pages of a run, each so many times."""
    here = f"/runs/{quote(run)}"
    ids = [row["id"] for row in index.rows("SELECT id FROM candidates ORDER BY random() LIMIT 1000")]
    long = [row["id"] for row in index.rows("SELECT id FROM candidates ORDER BY calls DESC LIMIT 100")]
    leaves = [row["leaf"] for row in index.rows("SELECT DISTINCT leaf FROM candidates")]
    codes = [row["code"] for row in index.rows("SELECT DISTINCT code FROM candidates WHERE code <> ''")]
    tones = [row["value"] for row in index.rows("SELECT DISTINCT value FROM tags WHERE kind = 'axis.tone'")]
    roles = [row["role"] for row in index.rows("SELECT DISTINCT role FROM spent")]
    variants = [f"{run}:{row['v']}" for row in index.rows("SELECT DISTINCT role || '.' || variant AS v FROM spent WHERE role = 'writer'")]
    english, chinese = BANKS["en"], BANKS["zh"]

    def table(**query: object) -> str:
        return f"{here}/candidates?{urlencode(query)}"

    for _ in range(each):
        leaf, code, score = rng.choice(leaves), rng.choice(codes), rng.choice(SCORES)
        yield Asked("all runs", "/")
        yield Asked("overview", here)
        yield Asked("overview of a leaf", f"{here}?leaf={quote(leaf)}")
        for part in PARTS:
            yield Asked(f"part: {part}", f"{here}/parts/{part}")
        yield Asked("chart", f"{here}/charts/{rng.choice([*CHARTS])}")
        yield Asked("table", table())
        yield Asked(
            "table: a filter", table(**rng.choice([{"code": code}, {"leaf": leaf, "state": "rejected"}, {"reached": rng.choice(STEPS)}]))
        )
        yield Asked("table: an axis", table(**{"axis.tone": rng.choice(tones), "language": rng.choice(("en", "zh"))}))
        yield Asked("table: a range", table(**{f"{score}.min": 0.3, f"{score}.max": 4}))
        yield Asked("table: sorted", table(sort=rng.choice(("", "-")) + rng.choice(SORTS)))
        yield Asked("table: deep", table(sort=f"-{score}", after=_deep(index, score, rng)))
        yield Asked("search: Chinese", table(q=rng.choice(chinese["topic"])))
        yield Asked("search: one character", table(q=rng.choice(rng.choice(chinese["topic"]))))
        yield Asked("search: English", table(q=rng.choice(english["topic"])))
        yield Asked("search: the commonest", table(q=rng.choice(("the", "a", "of", "的", "是")), sort=f"-{score}"))
        yield Asked("export, before", f"{here}/candidates/export?{urlencode({'leaf': leaf, 'state': 'accepted'})}")
        yield Asked("trace", f"{here}/candidates/{rng.choice(ids)}")
        yield Asked("trace: long", f"{here}/candidates/{rng.choice(long)}")
        yield Asked("trace: raw", f"{here}/candidates/{rng.choice(ids)}?raw=1")
        yield Asked("review", f"{here}/review")
        yield Asked("review: agreement", f"{here}/review/agreement")
        yield Asked("roles", f"{here}/roles")
        yield Asked("role", f"{here}/roles/{quote(rng.choice(roles))}")
        yield Asked("compare", f"/compare?{urlencode({'a': rng.choice(variants), 'b': rng.choice(variants)})}")


def table(lines: list[Line]) -> Iterator[str]:
    """What was measured, in milliseconds."""
    yield f"{'page':24}{'p50':>8}{'p95':>8}{'again p50':>12}{'p95':>8}"
    for line in lines:
        p50, p95, again50, again95 = (quantile(took, share) * 1000 for took in (line.changed, line.again) for share in (0.5, 0.95))
        yield f"{line.page:24}{p50:8.0f}{p95:8.0f}{again50:12.0f}{again95:8.0f}" + ("" if line.is_met else "  more than the goal")


def quantile(took: list[float], share: float) -> float:
    """What at least this share of them did not exceed."""
    return sorted(took)[max(0, -(-int(share * 100) * len(took) // 100) - 1)]


def _deep(index: Index, score: str, rng: random.Random) -> str:
    """A place far down in the table, as its own links say it."""
    (last,) = index.rows("SELECT max(n) AS n FROM candidates")
    (row,) = index.rows(f"SELECT n, {score} AS value FROM candidates WHERE n >= ? LIMIT 1", [rng.randint(1, last["n"])])
    return place_of(row["value"], row["n"])
