"""The doctor: what it looks at, and what it says to do about each thing that is not well."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import KEYLESS, leafmill, write_recipe

from agents.scripted import Reply, ScriptedServer
from leafmill.doctor import Finding, examine


async def findings(path: Path) -> dict[str, Finding]:
    return {finding.what: finding async for finding in examine(path)}


def recipe_at(folder: Path, base_url: str) -> Path:
    return write_recipe(folder, KEYLESS.replace("http://127.0.0.1:9/v1", base_url))


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_with_all_in_order_nothing_fails(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        found = await findings(recipe_at(tmp_path, server.base_url))
    assert {what: one.mark for what, one in found.items() if what != "gpu"} == {
        "recipe": "ok", "model generator": "ok", "model judge": "ok", "disk": "ok"
    }  # fmt: skip
    assert found["recipe"].found == "2 leaves, 11 roles, 2 rows wanted per leaf"
    assert found["model judge"].found == "llama-small answers; structured output by json_schema"


async def test_a_gate_that_is_off_needs_no_embedder_and_no_scorer(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        path = recipe_at(tmp_path, server.base_url)
        assert not {"embedder", "scorer"} & set(await findings(path))
        path.write_text(path.read_text().replace("semantic: false, ifd: false", "ifd: false"))
        assert (await findings(path))["embedder"].mark == "ok"


async def test_a_faulty_recipe_ends_the_examination_with_file_and_line(tmp_path: Path) -> None:
    found = await findings(write_recipe(tmp_path, KEYLESS + "gats: 1\n"))
    assert list(found) == ["recipe"]
    assert f"{tmp_path}/recipe.yaml:11: unknown key 'gats': did you mean 'gates'?" in found["recipe"].found


async def test_without_a_recipe_it_says_how_to_get_one(tmp_path: Path) -> None:
    finding = (await findings(tmp_path / "recipe.yaml"))["recipe"]
    assert (finding.mark, finding.todo) == ("fail", "leafmill init writes a recipe")


async def test_a_model_that_is_down_does_not_keep_the_others_from_being_looked_at(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        text = KEYLESS.replace("http://127.0.0.1:9/v1", f"http://127.0.0.1:{closed_port()}/v1", 1)
        found = await findings(write_recipe(tmp_path, text.replace("http://127.0.0.1:9/v1", server.base_url)))
    assert (found["model generator"].mark, found["model judge"].mark) == ("fail", "ok")
    assert "cannot be reached" in found["model generator"].found


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (lambda: ScriptedServer(api_key="right"), "refuses the API key"),
        (lambda: ScriptedServer(models=("other",)), "no model 'qwen-small' there"),
        (lambda: ScriptedServer(script=lambda request: Reply("out of money", status=429, code="insufficient_quota")), "no quota left"),
    ],
)
async def test_a_key_a_model_name_and_a_quota_are_told_apart(tmp_path: Path, server: Callable[[], ScriptedServer], expected: str) -> None:
    async with server() as running:
        finding = (await findings(recipe_at(tmp_path, running.base_url)))["model generator"]
    assert finding.mark == "fail"
    assert expected in finding.found


async def test_a_server_without_structured_output_is_a_warning_that_says_what_to_expect(tmp_path: Path) -> None:
    async with ScriptedServer(structured="text") as server:
        finding = (await findings(recipe_at(tmp_path, server.base_url)))["model generator"]
    assert (finding.mark, "by text" in finding.found, "unreadable" in finding.todo) == ("warn", True, True)


def test_the_recipe_that_init_writes_fails_on_its_missing_key_and_says_how_to_set_it(tmp_path: Path) -> None:
    assert leafmill(tmp_path, "init", "fresh").code == 0
    said = leafmill(tmp_path / "fresh", "doctor")
    assert said.code == 2
    assert said.out.startswith(
        "FAIL  recipe: recipe.yaml:18: environment variable 'LEAFMILL_API_KEY' is not set (export it, or put it into .env"
    )


def test_with_json_the_findings_are_all_that_is_printed(tmp_path: Path) -> None:
    said = leafmill(tmp_path, "doctor", write_recipe(tmp_path), "--json")
    (finding,) = json.loads(said.out)
    assert (said.code, finding["what"], finding["mark"], "SMALL_KEY" in finding["found"]) == (2, "recipe", "fail", True)
