"""`run --fresh`: a new folder beside the old one, which stays as it is."""

from __future__ import annotations

from pathlib import Path

import yaml
from terminal import LEAVES, leafmill, write_recipe

from leafmill.runfolder import fresh_name

SMALL = ("run", "--scripted", "--target", "1", "--leaf", LEAVES[0], "--log-level", "error")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "runs").iterdir())


def test_a_fresh_name_is_the_first_whose_folder_is_not_there(tmp_path: Path) -> None:
    assert fresh_name("数据", tmp_path / "nowhere") == "数据"
    for taken in ("数据", "数据-3", "x-scripted", "x-2"):
        (tmp_path / taken).mkdir()
    assert fresh_name("数据", tmp_path) == "数据-2"
    (tmp_path / "数据-2").write_text("a file takes the name too")
    assert fresh_name("数据", tmp_path) == "数据-4"
    assert (fresh_name("x", tmp_path), fresh_name("x", tmp_path, "-scripted")) == ("x", "x-2")


def test_a_fresh_run_leaves_the_old_one_alone_and_says_how_to_go_on(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    assert leafmill(tmp_path, *SMALL).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    said = leafmill(tmp_path, *SMALL, "--fresh")
    assert said.code == 0, said
    assert "a fresh run: small-2; to go on with it later, `leafmill run --name small-2` instead of --fresh" in said.out
    assert "the run is in runs/small-2-scripted/" in said.out
    assert names(tmp_path) == ["small-2-scripted", "small-scripted"]
    assert yaml.safe_load((tmp_path / "runs" / "small-2-scripted" / "recipe.yaml").read_text())["name"] == "small-2-scripted"
    assert {path: path.read_bytes() for path in before} == before


def test_a_fresh_run_goes_on_under_its_name_and_another_fresh_one_does_not(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    for words in ((), ("--fresh",), ("--fresh",), ("--name", "small-2", "--target", "2")):
        assert leafmill(tmp_path, *SMALL, *words).code == 0
    assert names(tmp_path) == ["small-2-scripted", "small-3-scripted", "small-scripted"]
    rows = [leafmill(tmp_path, "export", name, "--out", "rows.jsonl").out.split()[1] for name in names(tmp_path)]
    assert rows == ["2", "1", "1"]


def test_the_first_run_of_a_name_is_fresh_anyway(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    assert leafmill(tmp_path, *SMALL, "--fresh").code == 0
    assert names(tmp_path) == ["small-scripted"]


def test_a_fresh_run_that_is_not_done_is_gone_on_with_by_its_name(tmp_path: Path) -> None:
    write_recipe(tmp_path, "limits: {tokens: 100}\n" + write_recipe(tmp_path).read_text())
    assert leafmill(tmp_path, *SMALL).code == 3
    said = leafmill(tmp_path, *SMALL, "--fresh")
    assert said.code == 3
    assert "to go on, give `--name small-2` instead of `--fresh` (what was recorded is not asked again)" in said.out


def test_a_fresh_run_is_estimated_as_if_nothing_had_been_done(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    leafmill(tmp_path, *SMALL)
    said = leafmill(tmp_path, *SMALL, "--estimate", "--fresh")
    assert (said.code, "1/1" in said.out, "a fresh run" in said.out) == (0, True, False)
    assert "has all its rows" in leafmill(tmp_path, *SMALL, "--estimate").out
    assert names(tmp_path) == ["small-scripted"]
