"""What tests of the web pages share: a rich run made by the scripted server, a copy of it to change, and a client of its pages.

The run is docs/whole's recipe with a cast of its own (`say`): some answers are in Markdown with code, a table and a formula, some refuse or
are too short, and some hedge, which divides the panel, so that their rows wait for a person. The fixture `shop` of tests/conftest.py makes
it once per session.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from starlette.testclient import TestClient

from agents.scripted import Reply, Request, ScriptedServer
from leafmill.recipe import Recipe
from leafmill.records import digest
from leafmill.runfolder import RunFolder
from leafmill.ui.app import create

NAME = "shop"
"""of the run"""
WHOLE = Path(__file__).parent.parent / "docs" / "whole"
HOST = "http://127.0.0.1:8321"
HEDGES = {"en": "It depends on whom one asks about {0}.", "zh": "关于{0}，要看问的是谁。"}
REFUSALS = {"en": "I'm sorry, but I cannot help with that request.", "zh": "很抱歉，我无法协助完成这个请求。"}
SHORT = {"en": "No.", "zh": "不。"}
RICH = {
    "en": """\
## Keep `{0}` in one place

1. **Write it down** before anything else, with the date.
2. Let a second person read it: *what is unclear to them* is unclear.

```python
def total(prices: list[float], discount: float = 0.1) -> float:
    return sum(prices) * (1 - discount)  # of {0}
```

| step | takes | who |
|:--|--:|---|
| note | 5 min | clerk |
| check | 12 min | manager |

The expected loss is $E = \\sum_i p_i x_i$, so with $p = 0.2$:

$$E = 0.2 \\times 40 = 8.$$
""",
    "zh": """\
## 把“{0}”记在一处

1. **先写下来**，并注明日期。
2. 请另一个人看一遍：*他看不懂的地方*就是没写清楚。

```python
def 合计(价格: list[float], 折扣: float = 0.1) -> float:
    return sum(价格) * (1 - 折扣)  # {0}
```

| 步骤 | 用时 | 谁来做 |
|:--|--:|---|
| 记录 | 5 分钟 | 店员 |
| 核对 | 12 分钟 | 店长 |

预期损失为 $E = \\sum_i p_i x_i$，取 $p = 0.2$：

$$E = 0.2 \\times 40 = 8.$$
""",
}
HARM = """\
<script>window.harmed = 1</script><img src="/harm" onerror="window.harmed = 2"><svg onload="window.harmed = 3"></svg>
</textarea></title></style></script><script src="http://harm.example/a.js"></script><style>main { display: none }</style>
<div hx-get="/harm" hx-trigger="load" hx-on:click="window.harmed = 4">x</div><iframe srcdoc="<script>parent.harmed = 5</script>"></iframe>
<meta http-equiv="refresh" content="0;url=http://harm.example/"><form action="http://harm.example/"><button>Accept</button></form>
[a](javascript:window.harmed=6) ![b](http://harm.example/b.png) <http://harm.example/c> [d](data:text/html,<script>alert(7)</script>)
$\\href{javascript:window.harmed=8}{e}$ $\\includegraphics{http://harm.example/f.png}$ {{ 7 * 191 }} {% raw %} ${window.harmed=9}
```html
<script>window.harmed = 10</script>
```
"><b onmouseover='window.harmed = 11'>' onfocus='window.harmed = 12' autofocus=' \u202egnp.exe\u202c \u200b\u0000 &lt;script&gt;"""
"""what would do harm if a page took it for markup"""


def made(folder: Path, **overrides: Any) -> Path:
    """Run it in `folder`; the folder of runs, in which it is called `shop`. Overrides replace keys of the recipe."""
    path = folder / "recipe.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(WHOLE / "taxonomy.yaml", folder)
    thread = threading.Thread(target=lambda: asyncio.run(_run(path, folder / "runs", overrides)))  # a test may have a loop of its own
    thread.start()
    thread.join()
    return folder / "runs"


def copy_of(runs: Path, folder: Path) -> Path:
    """A folder of runs that a test may change; what is made of a ledger is made anew there."""
    return Path(shutil.copytree(runs, folder / "runs", ignore=shutil.ignore_patterns("index.db*")))


def spoil(runs: Path) -> dict[str, str]:
    """Put what would do harm into every text of three candidates, and into names that stand on many pages. Their ids, by their states."""
    with sqlite3.connect(runs / NAME / "ledger.db") as ledger:
        found = ledger.execute("SELECT state, max(id) FROM candidates WHERE state IN ('accepted', 'rejected', 'waiting') GROUP BY state")
        ids = dict(found.fetchall())
        turns = [{"role": role, "content": HARM, "calls": [], "answers": ""} for role in ("user", "assistant")]
        for id_ in ids.values():
            (row,) = ledger.execute("SELECT row FROM candidates WHERE id = ?", (id_,)).fetchone()
            spoilt = (json.loads(row) if row else {"language": "en"}) | {"history": turns}
            spoilt |= dict.fromkeys(("instruction", "input", "answer", "reasoning"), HARM)
            ledger.execute("UPDATE candidates SET row = ?, detail = ? WHERE id = ?", (json.dumps(spoilt), HARM, id_))
            ledger.execute("UPDATE candidates SET brief = json_set(brief, '$.scenario', ?, '$.persona', ?) WHERE id = ?", (HARM, HARM, id_))
            ledger.execute("UPDATE calls SET reply = ?, reasoning = ?, error = ? WHERE candidate = ?", (HARM, HARM, HARM, id_))
            messages = json.dumps([{"role": "user", "content": HARM}])
            ledger.execute("UPDATE calls SET messages = ?, model = ? WHERE candidate = ?", (messages, HARM, id_))
            ledger.execute("UPDATE votes SET rationale = ? WHERE candidate = ?", (HARM, id_))
            ledger.execute("UPDATE verdicts SET evidence = ? WHERE candidate = ?", (json.dumps({"why": HARM, HARM: 1}), id_))
        ledger.execute("UPDATE candidates SET code = ? WHERE id = ?", (HARM, ids["rejected"]))
        ledger.execute("UPDATE leaves SET reason = ?", (HARM,))
    ledger.close()
    return ids


def client(runs: Path, language: str = "en", **headers: str) -> Client:
    """A browser without eyes: it asks for pages as one on this machine does."""
    accepted = {"accept": "text/html", "accept-language": language, **headers}
    return Client(create(runs), base_url=HOST, headers=accepted, follow_redirects=False)


class Client(TestClient):
    """A client that can also change things: `change` posts what a form of a page would."""

    def change(self, address: str, page: str = "/", **fields: str) -> Any:
        """POST fields to an address, with the token that every reply gives to those who may change something."""
        token = self.get(page).headers["X-CSRF-Token"]
        return self.post(address, data=fields, headers={"X-CSRF-Token": token})


def server(**settings: Any) -> ScriptedServer:
    """The models of the run; they say the same to the same."""
    return ScriptedServer(seed=7, script=say, duplicates=0.4, **settings)


@contextmanager
def serving(**settings: Any) -> Iterator[ScriptedServer]:
    """The models for another process to ask, on a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    models = server(**settings)
    try:
        asyncio.run_coroutine_threadsafe(models.__aenter__(), loop).result()
        yield models
        asyncio.run_coroutine_threadsafe(models.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def write_recipe(path: Path, base_url: str, **overrides: Any) -> Path:
    """The recipe of the run, its models at a server; what is overridden replaces a key."""
    given = yaml.safe_load((WHOLE / "recipe.yaml").read_text(encoding="utf-8"))
    for number, model in enumerate(given["models"].values()):
        price = {"input": 0.2 + number / 10, "output": 0.8 + number / 10}
        model |= {"base_url": base_url, "attempts": 2, "patience": 5, "timeout": 10, "price": price}
    given |= {"name": NAME, "seed": 11, "target": 5, "gates": {"ifd": False, "semantic": False}, **overrides}
    path.write_text(yaml.safe_dump(given, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def say(request: Request) -> Reply | str | dict[str, Any] | None:
    """What a role says; None: what the scripted server says by itself."""
    role = request.role or ""
    language = "zh" if re.search("[\u4e00-\u9fff]", request.task) else "en"
    chance = int(digest("says", role, request.task, length=6), 16) / 16**6
    if role == "answerer":
        topic, is_first = _topic(request.task, language), "<assistant>" not in request.task
        rich = RICH[language].format(topic) if is_first else ""
        if chance < 0.45:
            return f"{HEDGES[language].format(topic)}\n\n{rich}".strip()
        return rich if chance < 0.6 and is_first else REFUSALS[language] if chance < 0.66 else SHORT[language] if chance < 0.7 else None
    if role.startswith("annotator") and re.search("<answer>\\s*(It depends on|关于.*要看问的是谁)", request.task):
        return _divided(request.model, language)
    if role == "arbiter":
        return {"rationale": {"en": "Both sides have a point.", "zh": "双方各有道理。"}[language], "score": 3}
    return None


def _divided(model: str, language: str) -> dict[str, Any]:
    """One family of judges likes hedging, the other does not."""
    if model == "scripted-llama":
        return {"rationale": {"en": "It is honest about what is not known.", "zh": "对不确定之处说得坦诚。"}[language], "score": 5}
    return {"rationale": {"en": "It hedges instead of answering.", "zh": "在绕弯子，没有回答。"}[language], "score": 1}


def _topic(task: str, language: str) -> str:
    """Some words of what was asked, so that no two answers are alike."""
    asked = re.search(r"<instruction>\s*(.+?)\s*</instruction>", task, re.DOTALL)
    text = " ".join((asked[1] if asked else task).split())
    return text[:12].strip("，。 ") if language == "zh" else " ".join(text.split()[-3:]).strip(".?!:")


async def _run(path: Path, runs: Path, overrides: dict[str, Any]) -> None:
    from graphs.prepare import prepare
    from graphs.run import Run

    async with server() as models:
        recipe = Recipe.read(write_recipe(path, models.base_url, **overrides), {})
        async with Run.open(prepare(recipe), RunFolder(runs / recipe.name), lambda line: None) as run:
            await run.go()


def an_id(runs: Path, state: str, name: str = NAME, **columns: str) -> str:
    """The id of a candidate of that state, and with these values of other columns; of those that have a row the first."""
    where = " AND ".join(f"{column} GLOB ?" for column in columns)
    with closing(sqlite3.connect(runs / name / "ledger.db")) as ledger:
        query = f"SELECT id FROM candidates WHERE state = ? {where and 'AND ' + where} ORDER BY row IS NULL, leaf, number"
        return str(ledger.execute(query, (state, *columns.values())).fetchone()[0])
