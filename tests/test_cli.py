"""The command line as a user meets it: help, exit codes, JSON, and each command on a real run."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from filelock import FileLock
from terminal import KEYLESS, LEAVES, RECIPE, Said, leafmill, write_recipe

from agents.role import BUILT_IN, Roles
from agents.scripted import ScriptedServer
from leafmill.cli import app
from leafmill.recipe import Recipe

HEAVY = ("torch", "transformers", "chromadb", "langgraph", "langchain_openai", "sqlalchemy", "pydantic", "openai", "rich.console", "yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe that has been run once, by the scripted server."""
    here = tmp_path_factory.mktemp("cli")
    write_recipe(here)
    assert leafmill(here, "run", "--scripted").code == 0
    return here


def commands(group: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += commands(command, (*before, name)) if hasattr(command, "commands") else [(*before, name)]
    return found


COMMANDS = commands(typer.main.get_command(app))


def with_server(server: ScriptedServer, folder: Path, *words: object, text: str = KEYLESS) -> Said:
    """A command whose recipe points at a server that runs meanwhile, in this thread's stead."""

    async def both() -> Said:
        async with server:
            write_recipe(folder, text.replace("http://127.0.0.1:9/v1", server.base_url))
            return await asyncio.to_thread(leafmill, folder, *words)

    job: Coroutine[Any, Any, Said] = both()
    return asyncio.run(job)


# -- help --------------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_that_is_heavy() -> None:
    code = f"import sys, leafmill.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(tmp_path: Path, command: tuple[str, ...]) -> None:
    said = leafmill(tmp_path, *command, "--help")
    assert said.code == 0
    assert re.search(rf"Example:\s+leafmill\s+{' '.join(command)}", " ".join(said.out.split()))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_example_of_every_command_can_be_parsed(command: tuple[str, ...]) -> None:
    group: Any = typer.main.get_command(app)
    for name in command:
        group = group.commands[name]
    line = " ".join((group.help or "").split()).split("Example: leafmill ")[1].split(" Exit code")[0]
    words = [word.strip("'") for word in line.split()][len(command) :]
    group.make_context("it", words, resilient_parsing=False)


def test_an_unknown_command_or_option_is_refused(tmp_path: Path) -> None:
    assert leafmill(tmp_path, "frobnicate").code == 2
    assert "No such option" in leafmill(tmp_path, "report", "--jsn").err
    for words in (["rows", "-n", "0"], ["candidates", "--limit", "-3"], ["scripted", "--port", "80000"]):
        assert leafmill(tmp_path, *words).code == 2


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_run_reports_each_leaf_says_where_it_lies_and_ends_with_0(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    said = leafmill(tmp_path, "run", "--scripted", "--leaf", LEAVES[0], "--target", 1, "--name", "one")
    assert said.code == 0, said
    assert re.search(rf"{LEAVES[0]} +1/1 .*met", said.out)
    assert "the run is in runs/one-scripted/" in said.out


def test_a_leaf_that_does_not_meet_its_quota_is_said_so_and_the_code_is_3(tmp_path: Path) -> None:
    text = RECIPE.replace("semantic: false", "critic: {min_score: 5}, agreement: {min_median: 5}, semantic: false")
    write_recipe(tmp_path, text + "limits: {candidates_per_leaf: 2}\n")
    said = leafmill(tmp_path, "run", "--scripted", "--leaf", LEAVES[0], "--target", 2)
    assert said.code == 3, said
    assert re.search(rf"{LEAVES[0]}: starved: \d of 2 candidates were accepted; the others: ", said.out)
    assert "to go on, give the same command again" in said.out


def test_with_json_a_run_prints_json_on_stdout_and_nothing_else(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    said = leafmill(tmp_path, "run", "--scripted", "--json", "--target", 1)
    found = json.loads(said.out)
    assert (found["run"], found["exit_code"], [leaf["accepted"] for leaf in found["leaves"]]) == ("runs/small-scripted", 0, [1, 1])


def test_two_dry_runs_with_the_same_seed_accept_the_same_rows(tmp_path: Path) -> None:
    datasets = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_recipe(tmp_path / name, RECIPE.replace("in_flight: 4", f"in_flight: {2 if name == 'one' else 5}"))
        assert leafmill(tmp_path / name, "run", "--scripted").code == 0
        leafmill(tmp_path / name, "export", "--format", "alpaca", "--out", "rows.jsonl")
        datasets.append((tmp_path / name / "rows.jsonl").read_text())
    assert datasets[0] == datasets[1]


def test_a_dry_run_is_never_taken_for_the_real_one(tmp_path: Path) -> None:
    write_recipe(tmp_path, KEYLESS)
    assert leafmill(tmp_path, "run", "--scripted").code == 0
    assert leafmill(tmp_path, "run").code == 31  # nobody is there: but the dry run's rows do not meet the quota either
    assert json.loads(leafmill(tmp_path, "rows", "small", "--json").out) == []


def test_a_role_that_is_tried_shows_only_its_own_calls(folder: Path) -> None:
    said = leafmill(folder, "roles", "try", "critic", "--leaf", LEAVES[0], "--scripted", "--json")
    events = json.loads(said.out)["events"]
    assert [(event["kind"], event.get("role", event.get("gate"))) for event in events] == [("call", "critic"), ("verdict", "critic")]
    assert leafmill(folder, "roles", "try", "critc", "--leaf", LEAVES[0], "--scripted").code == 13


def test_a_preview_carries_one_candidate_and_leaves_no_folder(folder: Path) -> None:
    said = leafmill(folder, "preview", "--scripted", "--json")
    assert json.loads(said.out)["candidate"]["number"] == 0
    assert leafmill(folder, "preview", "--scripted", "--leaf", LEAVES[1]).out.count("critic.") == 1
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["small-scripted"]


# -- what stops a run --------------------------------------------------------------------------------------------------


def test_a_recipe_that_is_wrong_ends_with_2_and_one_line_on_stderr(tmp_path: Path) -> None:
    write_recipe(tmp_path, KEYLESS + "targt: 3\n")
    said = leafmill(tmp_path, "run")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: recipe.yaml:11: unknown key 'targt': did you mean 'target'?")
    assert said.err.count("\n") == 1


def test_a_leaf_of_the_command_line_is_not_blamed_on_a_line_of_the_recipe(folder: Path) -> None:
    said = leafmill(folder, "run", "--scripted", "--leaf", "programming/debuging")
    assert (said.code, said.err.startswith("error: recipe.yaml: unknown leaf 'programming/debuging': did you mean")) == (2, True)


@pytest.mark.parametrize(
    ("server", "code", "expected"),
    [
        (lambda: ScriptedServer(api_key="right"), 32, "refuses the API key"),
        (lambda: ScriptedServer(models=("other",)), 33, "no model 'llama-small' there"),
    ],
)
def test_a_wrong_key_and_an_unknown_model_stop_the_run_with_their_own_codes(tmp_path: Path, server: Any, code: int, expected: str) -> None:
    said = with_server(server(), tmp_path, "run")
    assert said.code == code, said
    assert expected in said.err


def test_an_endpoint_that_is_down_stops_the_run_with_31_and_its_address(tmp_path: Path) -> None:
    write_recipe(tmp_path, KEYLESS)
    said = leafmill(tmp_path, "run")
    assert said.code == 31
    assert "at http://127.0.0.1:9/v1): cannot be reached" in said.err


def test_a_folder_that_is_in_use_is_not_run_in_twice(folder: Path) -> None:
    with FileLock(folder / "runs" / "small-scripted" / "lock"):
        said = leafmill(folder, "run", "--scripted")
        assert leafmill(folder, "report").code == 0  # readers may
    assert said.code == 22
    assert "runs/small-scripted: another process is running in this folder" in said.err


def test_a_folder_of_another_recipe_is_refused_and_what_differs_is_named(folder: Path) -> None:
    (folder / "other.yaml").write_text(RECIPE.replace("seed: 3", "seed: 4"))
    said = leafmill(folder, "run", "other.yaml", "--scripted")
    assert said.code == 21
    assert "(seed: 3 there, 4 now). Give this one another `name`" in said.err


def test_a_run_folder_that_cannot_be_made_ends_with_20(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    (tmp_path / "file").write_text("")
    said = leafmill(tmp_path, "run", "--scripted", "--runs", "file/runs")
    assert (said.code, "the run folder cannot be used: Not a directory" in said.err) == (20, True)


# -- reading commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("report",),
        ("candidates",),
        ("rows", "-n", "2"),
        ("trace", f"{LEAVES[0]}#0"),
        ("gates",),
        ("roles", "list"),
        ("models", "list"),
        ("taxonomy", "show", "general"),
    ],
    ids=" ".join,
)
def test_json_is_all_that_is_printed_and_the_table_is_not_empty(folder: Path, words: tuple[str, ...]) -> None:
    said = leafmill(folder, *words, "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out)
    plain = leafmill(folder, *words)
    assert plain.code == 0
    assert len(plain.out.splitlines()) > 2


def test_a_run_is_found_by_its_name_its_path_or_as_the_one_used_last(folder: Path) -> None:
    reports = {leafmill(folder, "report", *which).out for which in ((), ("small-scripted",), ("runs/small-scripted",))}
    assert len(reports) == 1
    assert re.search(r"(?s)accepted.*met", reports.pop())


def test_a_run_that_is_not_there_is_named_with_the_nearest_one(folder: Path, tmp_path: Path) -> None:
    said = leafmill(folder, "report", "smal-scripted")
    assert (said.code, "unknown run 'smal-scripted': did you mean 'small-scripted'?" in said.err) == (20, True)
    assert "there is no run under runs/ yet: start one with `leafmill run recipe.yaml`" in leafmill(tmp_path, "rows").err


def test_nothing_found_is_said_so(folder: Path) -> None:
    assert leafmill(folder, "rows", "--leaf", "no/such").out == "(none)\n"
    assert leafmill(folder, "candidates", "--code", "no.such").out == "(none)\n"
    assert leafmill(folder, "candidates", "--state", "done").code == 2
    assert leafmill(folder, "trace", "zzz").code == 20


def test_an_export_goes_to_the_run_or_where_it_is_told_and_says_how_many(folder: Path, tmp_path: Path) -> None:
    assert leafmill(folder, "export").out == "wrote 4 rows to runs/small-scripted/export/messages.jsonl\n"
    assert leafmill(folder, "export", "--format", "alpaca", "--out", tmp_path / "a.jsonl", "--no-lineage").code == 0
    assert set(json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])) == {"id", "instruction", "input", "output"}
    said = leafmill(folder, "export", "--format", "alpacca")
    assert (said.code, said.err) == (2, "error: unknown format 'alpacca': did you mean 'alpaca'? known: alpaca, messages, sharegpt\n")
    assert leafmill(folder, "export", "--out", ".").code == 23


# -- beginnings --------------------------------------------------------------------------------------------------------


def test_init_writes_a_recipe_that_is_valid_once_its_key_is_set_and_never_overwrites(tmp_path: Path) -> None:
    said = leafmill(tmp_path, "init", "12 eggs")
    assert said.code == 0
    recipe = Recipe.read(tmp_path / "12 eggs" / "recipe.yaml", {"LEAFMILL_API_KEY": "x"})
    assert (recipe.name, recipe.target) == ("12-eggs", 10)
    assert leafmill(tmp_path, "init", "12 eggs").code == 2


def test_what_the_written_recipe_shows_as_defaults_are_the_defaults(tmp_path: Path) -> None:
    leafmill(tmp_path, "init", "fresh")
    written = Recipe.read(tmp_path / "fresh" / "recipe.yaml", {"LEAFMILL_API_KEY": "x"})
    plain = Recipe(models=written.models)
    for name in ("seed", "taxonomies", "languages", "target", "in_flight", "flow", "limits", "gates", "embedder", "scorer"):
        assert getattr(written, name) == getattr(plain, name), name


def test_every_example_in_the_written_recipe_is_valid_when_it_is_uncommented(tmp_path: Path) -> None:
    leafmill(tmp_path, "init", "fresh")
    path = tmp_path / "fresh" / "recipe.yaml"
    text = re.sub(r"(?m)^(\s*)# ?(\s*)(?=[a-z_]+: )", r"\1\2", path.read_text()).replace("gates: {}", "gates:")
    path.write_text(text)
    recipe = Recipe.read(path, {"LEAFMILL_API_KEY": "x"})
    assert (recipe.same_family_judge, recipe.roles["planner"].off, recipe.gates["semantic"]) == (True, True, False)
    assert recipe.models["judge"].family == "llama"


def test_a_new_role_is_sound_as_it_is_written_and_its_name_is_checked(tmp_path: Path) -> None:
    assert leafmill(tmp_path, "roles", "new", "annotator-safety").code == 0
    assert leafmill(tmp_path, "roles", "check", "--prompts", "my-prompts").out.startswith("65 role files of 32 roles are sound")
    assert leafmill(tmp_path, "roles", "new", "annotator-safety").code == 13
    for name in ("../escape", "Bad Name", "é", ""):
        assert leafmill(tmp_path, "roles", "new", name).code == 13, name
    assert "annotator-safety" in Roles.load(BUILT_IN, tmp_path / "my-prompts").at("annotate")


def test_a_faulty_role_file_is_found_by_roles_check(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "critic.md").write_text("---\nname: critic\n")
    said = leafmill(tmp_path, "roles", "check", "--prompts", "mine")
    assert (said.code, said.err) == (13, "error: mine/critic.md:1: expected 2 or 3 lines `---` (head, system, user), got 1\n")
    assert leafmill(tmp_path, "roles", "list", "--prompts", "nowhere").code == 13


def test_a_taxonomy_is_checked_by_name_or_path(tmp_path: Path) -> None:
    assert re.search(r"programming\.yaml: 33 leaves, \d+ seeds", leafmill(tmp_path, "taxonomy", "check", "programming").out)
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"name": "t", "chldren": {}}))
    said = leafmill(tmp_path, "taxonomy", "check", "t.yaml")
    assert (said.code, "unknown key 'chldren': did you mean 'children'?" in said.err) == (12, True)
    assert leafmill(tmp_path, "taxonomy", "show", "programing").code == 12
    assert leafmill(tmp_path, "taxonomy", "show", "general", "--language", "fr").code == 2


def test_a_port_that_is_taken_is_an_error_of_one_line(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = leafmill(tmp_path, "scripted", "--port", taken.getsockname()[1])
    assert (said.code, "cannot be listened on" in said.err) == (30, True)


def test_the_commands_of_all_groups_are_looked_at() -> None:
    assert {("run",), ("export",), ("roles", "try"), ("taxonomy", "check"), ("models", "get")} <= set(COMMANDS)
