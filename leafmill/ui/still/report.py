"""The static twin of a run's pages: one HTML file with its overview, coverage, charts, graph and a sample of traces, to be mailed around.

It is made of the pages themselves, as the server would give them: what acts or leads out of the file is taken from them, charts are drawn
beforehand, and the style sheets stand in the file. Its Content-Security-Policy forbids all but the style that stands in it.

It stays small enough to be mailed: texts are cut at TEXT characters, tables at ROWS lines, traces are left out beyond SIZE, and where that
happened it says so.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

import vl_convert
from fastapi import FastAPI
from markupsafe import Markup

from leafmill.index.index import Index
from leafmill.runfolder import RunFolder
from leafmill.ui.app import create
from leafmill.ui.page import HERE, written
from leafmill.ui.run import judging
from leafmill.ui.run.crossing import LEAF
from leafmill.ui.still.frozen import UNFOLDED, Still
from leafmill.ui.words import Spoken, speaking

TEXT = 1500
"""characters of one text of a model"""
ROWS = 120
"""lines of one table"""
SIZE = 4 * 2**20
"""characters of the file, after which no further trace is put into it"""
ACCEPTED, REJECTED, WAITING = 4, 6, 2
"""traces at most: of accepted candidates of different leaves, and of others that ended for different reasons"""
AXES = 6
"""axes whose coverage is shown, leaf by leaf"""
CHART = 440
"""width of a chart"""
PARTS = ("head", "leaves", "funnel", "distributions", "judges", "spending", "failures")
"""of the page of the run, beside its coverage"""
POLICY = "default-src 'none'; style-src 'sha256-{}'; img-src data:; form-action 'none'; base-uri 'none'"


class Sample(NamedTuple):
    """A candidate whose trace is shown, as an example of those that ended as it did."""

    id: str
    leaf: str
    language: str
    state: str
    stage: str
    code: str
    instruction: str
    like: int
    """how many ended so; of accepted ones: in its leaf"""


class Section(NamedTuple):
    """A sample and its page."""

    sample: Sample
    html: Markup


def render(folder: RunFolder, language: Spoken = "en") -> str:
    """The text of the file. Raises RunFolderError and DiskError where the ledger cannot be read."""
    return asyncio.run(_render(folder, language))


async def _render(folder: RunFolder, language: Spoken) -> str:
    path = folder.path.resolve()
    app = create(path.parent)
    index: Index = app.state.library.index(path.name)
    while (found := index.refresh()).done < found.total:
        pass
    while judging.read(index).working:
        await asyncio.sleep(0.2)
    pages, here = _Pages(app, language), f"/runs/{quote(path.name, safe='')}"
    await pages.get(here)  # for its style
    parts = {name: await pages.still(f"{here}/parts/{name}") for name in PARTS}
    crossings = [await pages.still(f"{here}/parts/coverage?{query}") for query in await _crossings(pages, here)]
    roles = await pages.still(f"{here}/roles", deeper=1)
    traces: list[Section] = []
    samples, size = [*_samples(index)], sum(map(len, [*parts.values(), *crossings, roles]))
    for sample in samples:
        if size > SIZE:
            break
        is_first = sample.state not in (section.sample.state for section in traces)
        traces.append(Section(sample, await pages.still(f"{here}/candidates/{sample.id}", deeper=2, unfolded=is_first)))
        size += len(traces[-1].html)
    style = Markup(pages.style())
    return written(
        "static_report.html",
        language,
        run=path.name,
        at=time.time(),
        policy=POLICY.format(base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()),
        style=style,
        parts=parts,
        crossings=crossings,
        roles=roles,
        traces=traces,
        left_out=len(samples) - len(traces),
        text=TEXT,
        rows=ROWS,
    )


async def _crossings(pages: _Pages, here: str) -> list[str]:
    """Which two axes are crossed: each with the leaves; where there are no axes of that kind, those that the page shows by itself."""
    axes = [axis for axis in json.loads(await pages.get(f"{here}/parts/coverage?format=json"))["axes"] if axis != LEAF]
    return [urlencode({"across": axis, "down": LEAF}) for axis in axes[:AXES]]


def _samples(index: Index) -> Iterator[Sample]:
    """Of every kind the commonest, and of each of them the first that has a row."""
    columns = "id, leaf, language, state, stage, code, instruction"
    kinds = (("accepted", "leaf", ACCEPTED), ("waiting", "code", WAITING), ("rejected", "code", REJECTED), ("errored", "code", 1))
    for state, kind, most in kinds:
        alike = f"""SELECT {columns}, count(*) OVER (PARTITION BY {kind}) AS "like",
            row_number() OVER (PARTITION BY {kind} ORDER BY answer = '', instruction = '', calls DESC, n) AS place
            FROM candidates WHERE state = ? AND code <> 'quota_met'"""
        for row in index.rows(
            f'SELECT {columns}, "like" FROM ({alike}) WHERE place = 1 ORDER BY "like" DESC, {kind} LIMIT ?', [state, most]
        ):
            yield Sample(**row)


# -- the pages ---------------------------------------------------------------------------------------------------------


@dataclass
class _Pages:
    """The pages of the server, asked for without one."""

    app: FastAPI
    language: Spoken
    sheets: dict[str, None] = field(default_factory=dict)
    """names of the style sheets of the pages asked for so far"""
    made: int = 0
    """how many pages are made still"""

    async def still(self, address: str, deeper: int = 0, unfolded: bool = False) -> Markup:
        """A page, or a part of one, made still, perhaps with what is fetched when it is unfolded; headings go so many levels deeper."""
        html = await self.get(address)
        self.made += 1
        main = re.search(r"<main\b[^>]*>(.*)</main>", html, re.DOTALL)
        charts = {unescape(found) for found in re.findall(r'data-chart="([^"]+)"', html)}
        fetched = {chart: _picture(json.loads(await self.get(chart)), f"c{self.made}-{at}-") for at, chart in enumerate(sorted(charts))}
        for folded in re.findall(rf'hx-get="([^"]+)" hx-trigger="{UNFOLDED}"', html) if unfolded else ():
            fetched[unescape(folded)] = await self.get(unescape(folded), "hx-request")
        still = Still(speaking(self.language), TEXT, ROWS)
        return still(main[1] if main else html, f"s{self.made}-", fetched, deeper)

    def style(self) -> str:
        """What the pages look like, for themselves and in one file; what came with fonts of its own stays outside."""
        names = [*(name for name in self.sheets if not name.startswith("vendor/")), "static_report.css"]
        return "\n".join((HERE / "static" / name).read_text(encoding="utf-8") for name in names)

    async def get(self, address: str, *says: str) -> str:
        """What the application answers to an address; what the request `says` are headers that are true."""
        path, _, query = address.partition("?")
        headers = {"host": "localhost", "accept": "text/html", "accept-language": self.language, **dict.fromkeys(says, "true")}
        scope = {
            "type": "http",
            "method": "GET",
            "http_version": "1.1",
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 0),
            "server": ("localhost", 80),
        }
        status, body = 0, b""

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal status, body
            status, body = message.get("status", status), body + message.get("body", b"")

        await self.app(scope, receive, send)  # type: ignore[arg-type]
        if status != 200:
            raise RuntimeError(f"{address}: status {status}, expected 200: {body[:500]!r}")
        html = body.decode()
        self.sheets |= dict.fromkeys(re.findall(r'<link rel="stylesheet" href="/static/([^"]+)"', html))
        return html


def _picture(specification: dict[str, Any], place: str) -> str:
    """A chart as SVG, its colours left to the page; `place` is put before its ids."""
    for chart in (specification, *specification.get("layer", ())):
        if chart.get("width") == "container":
            chart["width"] = CHART
    svg: str = vl_convert.vegalite_to_svg(specification)
    return re.sub(r'(\bid="|url\(#)', rf"\g<1>{place}", svg)
