"""`leafmill replay`: a recorded call is asked again, and both replies are shown."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents.scripted import ScriptedServer
from leafmill import screens, trace
from leafmill.errors import InputError, RecipeError, RunFolderError
from leafmill.ledger import Ledger
from leafmill.replay import Replayed, replay
from leafmill.runfolder import RunFolder
from tests import ui
from tests.terminal import leafmill


def calls(shop: Path, id_: str) -> list[dict[str, Any]]:
    with Ledger(shop / ui.NAME / "ledger.db", read_only=True) as ledger:
        return [event for event in trace.read(ledger, id_).events if event["kind"] == "call"]


def again(shop: Path, folder: Path, id_: str, number: int, script: Any = ui.say, **more: Any) -> tuple[Replayed, list[Any], list[str]]:
    """The reply that a server gives now, what it was asked, and what was said of it."""
    asked: list[Any] = []
    said: list[str] = []

    def hear(request: Any) -> Any:
        asked.append(request)
        return script(request)

    async def go() -> Replayed:
        async with ScriptedServer(seed=7, script=hear) as models:
            recipe = ui.write_recipe(folder / "recipe.yaml", models.base_url)
            return await replay(RunFolder(shop / ui.NAME), id_, number, said.append, recipe, **more)

    return asyncio.run(go()), asked, said


def test_the_same_messages_are_asked_with_the_same_parameters_and_nothing_is_recorded(shop: Path, tmp_path: Path) -> None:
    id_ = ui.an_id(shop, "accepted")
    recorded = calls(shop, id_)
    old = next(call for call in recorded if call["role"].startswith("annotator"))
    found, asked, said = again(shop, tmp_path, id_[:10], old["id"])
    assert [request.role for request in asked] == [old["role"]]
    assert asked[0].messages == old["messages"]
    assert (found.params, found.before, found.candidate) == (old["params"], old["reply"], id_)
    assert json.loads(found.after).keys() == json.loads(found.before).keys(), "it is asked for in the form of its prompt file"
    assert said == []
    assert calls(shop, id_) == recorded


def test_what_is_different_is_shown(shop: Path, tmp_path: Path) -> None:
    id_ = ui.an_id(shop, "accepted")
    old = next(call for call in calls(shop, id_) if call["role"] in ("answerer", "writer"))
    found, _, _ = again(shop, tmp_path, id_, old["id"], lambda request: old["reply"].replace(" ", "  ", 1) + " Once more.", model="judge")
    assert (found.alias, found.before != found.after) == ("judge", True)
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    screens.replayed(found, console)
    shown = console.export_text()
    assert f"call {old['id']} of {id_}" in shown
    assert "Once more." in shown


def test_a_call_of_a_prompt_file_that_has_changed_is_asked_and_that_is_said(shop: Path, tmp_path: Path) -> None:
    runs, id_ = ui.copy_of(shop, tmp_path), ui.an_id(shop, "accepted")
    old = next(call for call in calls(runs, id_) if call["role"].startswith("annotator"))
    for path in (runs / ui.NAME / "prompts").glob(f"{old['role']}*.md"):
        path.write_text(path.read_text(encoding="utf-8") + "\nMind the tone.\n", encoding="utf-8")
    found, _, said = again(runs, tmp_path, id_, old["id"])
    assert json.loads(found.after)
    assert "has changed since" in said[0]


def test_what_cannot_be_asked_again_is_said(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = ui.an_id(shop, "accepted")
    first = calls(shop, id_)[0]
    with pytest.raises(RunFolderError, match=rf"has no call 999999; it has {first['id']} \({first['role']}\)"):
        again(shop, tmp_path, id_, 999999)
    with pytest.raises(RunFolderError, match="no candidate has the id 'nobody'"):
        again(shop, tmp_path, "nobody", 1)
    with pytest.raises(InputError, match="unknown alias of a model 'judg': did you mean 'judge'"):
        again(shop, tmp_path, id_, first["id"], model="judg")
    recipe = ui.write_recipe(tmp_path / "keyed.yaml", "http://127.0.0.1:9/v1")
    recipe.write_text(
        recipe.read_text(encoding="utf-8").replace("base_url:", "api_key: ${NO_SUCH_KEY}\n    base_url:", 1), encoding="utf-8"
    )
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(RecipeError, match="environment variable 'NO_SUCH_KEY' is not set"):
        asyncio.run(replay(RunFolder(shop / ui.NAME), id_, first["id"], print, recipe))


def test_the_command_asks_the_models_of_the_run_and_says_that_they_are_away(shop: Path, tmp_path: Path) -> None:
    id_ = ui.an_id(shop, "accepted")
    said = leafmill(tmp_path, "replay", id_, calls(shop, id_)[0]["id"], "--run", ui.NAME, "--runs", shop)
    assert said.code != 0
    assert "Is the server running" in said.err
