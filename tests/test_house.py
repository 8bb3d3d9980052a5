"""The house: who may import whom, what a top level holds, and that nothing stands before our short package names."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EARLY = {
    *("__init__", "errors", "records", "yamlfile", "entrypoints", "recipe", "ledger", "runfolder"),
    *("tokens", "latencies", "log", "telemetry"),
}
"""the modules of leafmill/ that everything may import; the others stand last"""
READING = {"dataset", "dataset.formats", "dataset.items", "dataset.reader", "sharegpt"}
"""those that read dataset files: they know gates, and graphs write from the rows"""
FLOORS = ["early", "taxonomy", "filters", "agents", "graphs", "late"]
MODULES = sorted(path for room in ("leafmill", "taxonomy", "filters", "agents", "graphs") for path in (ROOT / room).rglob("*.py"))


def floor(module: str) -> str | None:
    room, _, rest = module.partition(".")
    if room == "leafmill":
        if ".".join(rest.split(".")[:2]) in READING:
            return "filters"
        return "early" if not rest or rest.split(".")[0] in EARLY else "late"
    return room if room in FLOORS else None


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_stands_before_it(path: Path) -> None:
    here = FLOORS.index(floor(".".join(path.relative_to(ROOT).with_suffix("").parts)) or "late")
    above = {module for module in imports(path) if (there := floor(module)) and FLOORS.index(there) > here}
    assert not above


@pytest.mark.parametrize("room", ["agents", "filters", "graphs", "taxonomy"])
def test_no_installed_package_stands_before_a_room_of_ours(room: str) -> None:
    module = __import__(room)
    assert Path(module.__file__ or "").parent == ROOT / room


def test_a_package_that_does_is_reported_at_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from leafmill import cli
    from leafmill.errors import LeafmillError

    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    monkeypatch.delitem(__import__("sys").modules, "agents", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LeafmillError, match="the package 'agents' is found at"):
        cli._check_rooms()


def test_every_top_level_folder_is_one_of_the_house() -> None:
    import subprocess

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    folders = {line.split("/")[0] for line in tracked if "/" in line}
    assert folders <= {".ci", "agents", "bench", "docs", "filters", "graphs", "leafmill", "prompts", "taxonomy", "tests"}
