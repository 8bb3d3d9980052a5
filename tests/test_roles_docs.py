"""docs/roles.md, run as it is written there: its files, its commands, and what it says they do."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from leafmill import entrypoints
from leafmill.cli import app
from leafmill.ledger import CALLS, CANDIDATES, VERDICTS, VOTES, Ledger

DOC = Path(__file__).parent.parent / "docs" / "roles.md"


class Block(NamedTuple):
    kind: str
    """sh, or another language"""
    file: str
    text: str


def blocks(section: str) -> list[Block]:
    """The code blocks of a section (by the beginning of its title; "": before the first) in their order."""
    parts = re.split(r"^## ", DOC.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (part,) = [parts[0]] if not section else [one for one in parts if one.startswith(section)]
    return [Block(*found) for found in re.findall(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)]


def do(section: str) -> None:
    """Write the files of a section, and give its commands."""
    for block in blocks(section):
        if block.kind == "sh":
            for line in block.text.splitlines():
                command = shlex.split(line)
                assert command[0] == "leafmill"
                result = CliRunner().invoke(app, command[1:])
                assert result.exit_code in (0, 3), f"{line}\n{result.output}\n{result.exception!r}"
        elif block.file:
            Path(block.file).parent.mkdir(exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    do("")


def ask(run: str, query: sa.Select[tuple[object, ...]]) -> list[dict[str, object]]:
    with Ledger(Path("runs") / run / "ledger.db", read_only=True) as ledger:
        return ledger.rows(query)


def test_a_panel_member_as_in_the_docs() -> None:
    do("1.")
    accepted = sa.select(CANDIDATES.c.id).where(CANDIDATES.c.state == "accepted")
    votes = ask("roles-scripted", sa.select(VOTES).where(VOTES.c.role == "fact_checker", VOTES.c.candidate.in_(accepted)))
    assert len(votes) >= 2
    assert all(vote["rationale"] for vote in votes)


def test_a_gate_as_in_the_docs() -> None:
    do("2.")
    verdicts = ask("roles-scripted", sa.select(VERDICTS).where(VERDICTS.c.gate == "house-style"))
    assert verdicts
    assert {one["threshold"] for one in verdicts} == {3}
    assert all(one["step"].startswith("check.") for one in verdicts)  # type: ignore[attr-defined]
    for one in verdicts:
        assert one["decision"] == ("accept" if one["value"] >= 3 else "reject")  # type: ignore[operator]
    stricter = blocks("2.")[-1].text.split("#")[0].replace("4", "5").replace("{house", "{ifd: false, house")
    Path("recipe.yaml").write_text(re.sub(r"^gates:.*$", stricter, Path("recipe.yaml").read_text("utf-8"), flags=re.MULTILINE), "utf-8")
    result = CliRunner().invoke(app, ["run", "--scripted", "--name", "stricter"])
    assert result.exit_code in (0, 3), result.output
    verdicts = ask("stricter-scripted", sa.select(VERDICTS).where(VERDICTS.c.gate == "house-style"))
    assert {one["code"] for one in verdicts if one["value"] < 5} == {"house-style.low"}  # type: ignore[operator]


def test_a_node_as_in_the_docs() -> None:
    do("3.")
    rows = ask("roles-scripted", sa.select(CANDIDATES).where(CANDIDATES.c.state == "accepted"))
    assert rows
    for row in rows:
        made = [one for one in row["lineage"]["made"] if one["role"] == "shortener"]  # type: ignore[index]
        assert [one["part"] for one in made] == ["answer"]


def test_an_axis_as_in_the_docs() -> None:
    do("An axis")
    result = CliRunner().invoke(app, ["run", "--scripted"])
    assert result.exit_code in (0, 3), result.output
    briefs = ask("roles-scripted", sa.select(CANDIDATES.c.brief))
    assert len({one["brief"]["axes"]["channel"] for one in briefs}) >= 2  # type: ignore[index]
    asked = ask("roles-scripted", sa.select(CALLS.c.role).where(CALLS.c.role == "channel"))
    assert len(asked) == 1


def test_a_variant_as_in_the_docs() -> None:
    do("Variants")
    assert {path.name for path in Path("my-prompts").iterdir()} == {"writer.formal.en.md", "writer.formal.zh.md"}
    assert CliRunner().invoke(app, ["roles", "check", "--prompts", "my-prompts"]).exit_code == 0


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with the entry points of the docs, as pip would have installed it."""
    do("What a prompt cannot do")
    info = tmp_path / "my_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.2\n")
    groups = re.findall(r'entry-points\."(leafmill\.\w+)"\]\n([\w-]+) = "(.+)"', blocks("What a prompt cannot do")[0].text)
    assert len(groups) == 2
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {value}\n" for group, name, value in groups))
    monkeypatch.syspath_prepend(str(tmp_path))
    caches = (entrypoints.names, entrypoints.load)
    for one in caches:
        one.cache_clear()
    yield
    sys.modules.pop("my_package", None)
    for one in caches:
        one.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_gate_and_a_role_in_python_as_in_the_docs() -> None:
    own = "gates: {ifd: false, no-prices: {allowed: 1}}\nroles: {trim: {}}\n"
    assert all(line in own.replace("ifd: false, ", "") for line in blocks("What a prompt cannot do")[-1].text.splitlines())
    text = Path("recipe.yaml").read_text(encoding="utf-8")
    Path("recipe.yaml").write_text(re.sub(r"^gates:.*$|^prompts:.*$", "", text, flags=re.MULTILINE) + own, encoding="utf-8")
    result = CliRunner().invoke(app, ["run", "--scripted"])
    assert result.exit_code in (0, 3), f"{result.output} {result.exception!r}"
    assert ask("roles-scripted", sa.select(VERDICTS).where(VERDICTS.c.gate == "no-prices"))
    rows = ask("roles-scripted", sa.select(CANDIDATES).where(CANDIDATES.c.state == "accepted"))
    for row in rows:
        (made,) = [one for one in row["lineage"]["made"] if one["role"] == "trim"]  # type: ignore[index]
        assert made["python"] == "my-package 1.2 my_package:Trim"


@pytest.mark.usefixtures("installed")
def test_nothing_of_a_package_is_asked_or_imported_unless_the_recipe_names_it() -> None:
    text = Path("recipe.yaml").read_text(encoding="utf-8")
    Path("recipe.yaml").write_text(re.sub(r"^prompts:.*$", "", text, flags=re.MULTILINE), encoding="utf-8")
    result = CliRunner().invoke(app, ["run", "--scripted"])
    assert result.exit_code in (0, 3), result.output
    assert "my_package" not in sys.modules
    assert not ask("roles-scripted", sa.select(VERDICTS).where(VERDICTS.c.gate == "no-prices"))
