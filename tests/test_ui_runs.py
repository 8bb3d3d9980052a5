"""The page of all runs: what it says of each, of those that cannot be read, and how little of a huge one it needs."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from leafmill.ledger import Call, Ending, Ledger, Step
from leafmill.records import Brief, Row, State, Usage
from leafmill.ui import runs as runs_page
from leafmill.ui.app import create
from tests.ui import HOST, Client, client

ROW = Row(language="en", instruction="Ask.", answer="Say.")
BEGAN = 1.7e9
STATES: tuple[State, ...] = ("accepted", "accepted", "rejected", "waiting", "errored")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look waits until everything is known."""
    monkeypatch.setattr(runs_page, "LOOK", 30.0)


def make(folder: Path, name: str = "shop", met: bool = True, process: dict[str, Any] | None = None, cost: float | None = 0.25) -> Path:
    """A run of one leaf with one candidate, and one call, for each of STATES."""
    path = folder / name
    path.mkdir(parents=True)
    recipe = {
        "name": name,
        "languages": ["en", "zh"],
        "currency": "EUR",
        "models": {"generator": {"model": "qwen"}, "judge": {"model": "llama"}},
    }
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")

    async def write() -> None:
        with Ledger(path / "ledger.db") as ledger:
            briefs = [
                Brief(id=f"c{number}", leaf="t/a", number=number, language="en", axes={}, scenario="") for number in range(len(STATES))
            ]
            await asyncio.gather(*(ledger.begin(brief) for brief in briefs))
            await asyncio.gather(*(ledger.record_call(call(brief, cost)) for brief in briefs))
            await asyncio.gather(*(ledger.finish(*pair, ROW) for pair in zip(briefs, map(Ending, STATES), strict=True)))
            await ledger.note_leaf("t/a", 2, "met" if met else "starved", "")
            await ledger.set_meta("leaves", {"t/a": {"title": {"en": "A"}, "target": 2}})
            if process is not None:
                here = {"pid": os.getpid(), "host": platform.node(), "began_at": BEGAN}
                await ledger.set_meta("process", {**here, **process})

    asyncio.run(write())
    return path


def call(brief: Brief, cost: float | None) -> Call:
    """That of the first failed."""
    step, usage = Step(brief.id, "t/a", 1, "write"), Usage(prompt=300, completion=700)
    status = "ok" if brief.number else "timeout"
    told: dict[str, Any] = {"status": status, "usage": usage, "cost": cost, "started_at": BEGAN}
    return Call(f"k{brief.number}", step, "writer", "default", "hash", "generator", "qwen", [], {}, **told)


def lines(one: Client, query: str = "") -> dict[str, dict[str, Any]]:
    found = one.get(f"/{query}", headers={"accept": "application/json"})
    assert found.status_code == 200
    return {line["name"]: line for line in found.json()["runs"]}


def test_without_runs_the_page_says_where_it_looked_and_how_to_make_one(tmp_path: Path) -> None:
    found = client(tmp_path / "none").get("/")
    assert found.status_code == 200
    assert str(tmp_path / "none") in found.text
    assert "leafmill run my-data/recipe.yaml --scripted" in found.text
    assert "还没有运行" in client(tmp_path).get("/?lang=zh").text


def test_a_run_is_one_line_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    make(tmp_path)
    line = lines(client(tmp_path))["shop"]
    told = {name: line[name] for name in ("state", "accepted", "asked", "waiting", "rejected", "errored", "open", "leaves", "leaves_met")}
    assert told == {
        "state": "finished", "accepted": 2, "asked": 2, "waiting": 1, "rejected": 1, "errored": 1, "open": 0, "leaves": 1, "leaves_met": 1
    }  # fmt: skip
    spent = {name: line[name] for name in ("calls", "failed_calls", "tokens", "money", "currency", "unpriced_calls", "indexed")}
    assert spent == {"calls": 5, "failed_calls": 1, "tokens": 5000, "money": 1.25, "currency": "EUR", "unpriced_calls": 0, "indexed": 1.0}
    assert (line["began_at"], line["recipe"], line["languages"], line["models"]) == (BEGAN, "shop", ["en", "zh"], ["qwen", "llama"])
    assert abs(line["changed_at"] - time.time()) < 60
    page = client(tmp_path).get("/").text
    assert '<progress value="2" max="2"' in page
    assert 'href="/runs/shop/review"' in page
    assert "1.25 EUR" in page


def test_what_calls_cost_is_not_known_rather_than_nothing(tmp_path: Path) -> None:
    make(tmp_path, cost=None)
    line = lines(client(tmp_path))["shop"]
    assert (line["money"], line["unpriced_calls"]) == (None, 5)


@pytest.mark.parametrize(
    ("process", "met", "state"),
    [
        (None, True, "finished"), (None, False, "short"), ({}, True, "running"), ({"host": "elsewhere"}, True, "stopped"),
        ({"ended_at": 2.0, "exit_code": 0}, True, "finished"), ({"ended_at": 2.0, "exit_code": 3}, False, "short"),
        ({"ended_at": 2.0, "exit_code": 130}, True, "stopped"), ({"ended_at": 2.0, "exit_code": 31}, True, "failed"),
    ],
)  # fmt: skip
def test_the_state_of_a_run_is_that_of_its_process(tmp_path: Path, process: dict[str, Any] | None, met: bool, state: str) -> None:
    make(tmp_path, met=met, process=process)
    assert lines(client(tmp_path))["shop"]["state"] == state


def test_a_process_that_was_killed_is_noticed_though_no_file_changes(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        make(tmp_path, process={"pid": process.pid})
        one = client(tmp_path)
        assert lines(one)["shop"]["state"] == "running"
        process.kill()
        process.wait()
        assert lines(one)["shop"]["state"] == "stopped"


def test_a_run_that_grows_and_one_that_is_deleted_are_noticed(tmp_path: Path) -> None:
    make(tmp_path)
    one = client(tmp_path)
    assert lines(one)["shop"]["accepted"] == 2
    with closing(sqlite3.connect(tmp_path / "shop" / "ledger.db")) as ledger:
        ledger.execute("UPDATE candidates SET state = 'accepted' WHERE id = 'c3'")
        ledger.commit()
    assert lines(one)["shop"]["accepted"] == 3
    shutil.rmtree(tmp_path / "shop")
    assert lines(one) == {}
    assert one.get("/runs/shop/recipe").status_code == 404


def test_runs_whose_ledger_cannot_be_read_have_a_line_that_says_why(tmp_path: Path) -> None:
    for name in ("well", "other", "torn", "held"):
        make(tmp_path, name)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "ledger.db").touch()
    (tmp_path / "torn" / "ledger.db").write_bytes(os.urandom(9000))
    with closing(sqlite3.connect(tmp_path / "other" / "ledger.db")) as other:
        other.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
        other.commit()
    with closing(sqlite3.connect(tmp_path / "held" / "ledger.db", isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode=DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        one = client(tmp_path)
        found = lines(one)
        page = one.get("/").text
    why = {name: line["why"] for name, line in found.items() if line["state"] == "unreadable"}
    assert {name: said.partition("ledger.db: ")[2][:23] for name, said in why.items()} == {
        "begun": "there is no ledger in i",
        "torn": "the ledger is damaged: ",
        "other": "made by another version",
        "held": "the ledger cannot be re",
    }
    assert "locked" in why["held"]
    assert found["well"]["state"] == "finished"
    assert page.count("cannot be read</span>") == 4
    assert lines(one)["held"]["state"] == "finished", "what was held only for a while is read later, though no file changed"


def test_what_takes_long_to_find_out_is_found_out_beside_the_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    monkeypatch.setattr(runs_page, "LOOK", 0.0)
    app = create(tmp_path)
    one = Client(app, base_url=HOST)
    enough = threading.Event()
    app.state.shelf._finder = other = threading.Thread(target=enough.wait, args=[10])  # as if others kept it busy
    other.start()
    found = one.get("/?format=json").json()
    page = one.get("/").text
    enough.set()
    other.join()
    assert (found["complete"], found["runs"][0]["state"], found["runs"][0]["accepted"]) == (False, "unknown", None)
    assert 'hx-trigger="every 1s"' in page
    until = time.monotonic() + 30
    while not (found := one.get("/?format=json").json())["complete"] and time.monotonic() < until:
        time.sleep(0.02)
    assert (found["runs"][0]["accepted"], found["runs"][0]["tokens"]) == (2, 5000)
    assert 'hx-trigger="every 3s"' in one.get("/").text


def test_the_run_that_changed_last_stands_first_and_names_are_searched(tmp_path: Path) -> None:
    for name, at in (("Invoices-en", 3e8), ("商店", 5e8), ("invoices-zh", 4e8)):
        make(tmp_path, name)
        for file in (tmp_path / name).glob("ledger.db*"):
            os.utime(file, (at, at))
    one = client(tmp_path)
    assert list(lines(one)) == ["商店", "invoices-zh", "Invoices-en"]
    assert list(lines(one, "?q=INVOICES")) == ["invoices-zh", "Invoices-en"]
    assert list(lines(one, "?q=店")) == ["商店"]
    assert "None of 3 runs" in one.get("/?q=nobody").text
    assert "/runs/%E5%95%86%E5%BA%97" in one.get("/").text


def test_the_recipe_is_shown_as_the_run_used_it_and_keys_in_it_are_not(tmp_path: Path) -> None:
    path = make(tmp_path) / "recipe.yaml"
    models = "models:\n  - api_key: sk-1\n    base_url: http://h/v1?key=sk-2&x=1\n    Authorization: 'Bearer sk-3'\n    max_tokens: 9\n"
    path.write_text("name: <b>shop</b>\napi_key: ${A_KEY}\n" + models)
    found = client(tmp_path).get("/runs/shop/recipe")
    assert "&lt;b&gt;shop&lt;/b&gt;" in found.text
    assert "api_key: ${A_KEY}\n" in found.text
    assert "sk-" not in found.text
    assert "x=1" in found.text
    assert "max_tokens: 9" in found.text
    assert "sk-" not in client(tmp_path).get("/runs/shop/recipe?format=json").text
    path.unlink()
    gone = client(tmp_path).get("/runs/shop/recipe")
    assert (gone.status_code, "recipe cannot be read" in gone.text) == (404, True)


@pytest.mark.parametrize("text", ["models: [", "name: 3", "- a", "", "models: {generator: 3}"])
def test_a_recipe_that_somebody_broke_takes_nothing_from_the_ledger(tmp_path: Path, text: str) -> None:
    (make(tmp_path) / "recipe.yaml").write_text(text, encoding="utf-8")
    line = lines(client(tmp_path))["shop"]
    assert (line["accepted"], line["recipe"], line["models"]) == (2, "", [])


def test_looking_does_not_change_a_ledger(tmp_path: Path) -> None:
    path = make(tmp_path) / "ledger.db"
    before = path.read_bytes()
    client(tmp_path).get("/")
    assert path.read_bytes() == before
