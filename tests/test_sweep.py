"""A file carried through a judge: nothing is lost, and a command that was killed ends as one that was not."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filters.dedup.exact import Exact
from filters.dedup.minhash import Minhash, MinhashIndex
from leafmill.dataset.dedup import Dedup
from leafmill.dataset.folder import default_folder
from leafmill.dataset.items import Item
from leafmill.dataset.sweep import Job, Judge, Outcome, Summary, sweep
from leafmill.dataset.tally import Tally
from leafmill.errors import InputError, LockedError, OtherRecipeError, RunFolderError
from leafmill.records import Verdict

PLACES = ("kept", "dropped", "waiting", "broken")
BATCH = 3
FILES = [f"{place}.jsonl" for place in PLACES]


class Killed(Exception):
    pass


class Mortal:
    """The two dedup gates that need no model, in small batches; killed when it is asked about batch `killed_at`."""

    def __init__(self, killed_at: int, more_rules: Mapping[str, str]) -> None:
        self.judge = Dedup((Exact(), Minhash(index=MinhashIndex())), BATCH)
        self.batch, self.rules = BATCH, {**self.judge.rules, **more_rules}
        self.left, self.remember = killed_at, self.judge.remember

    async def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return await self.judge(items)


@asynccontextmanager
async def mortal(killed_at: int = -1, **more_rules: str) -> AsyncIterator[Judge]:
    yield Mortal(killed_at, more_rules)


def do(job: Job, killed_at: int = -1, **more_rules: str) -> Summary:
    return asyncio.run(sweep(job, lambda folder: mortal(killed_at, **more_rules), pause=0.0))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def out(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def row(text: str) -> str:
    return json.dumps({"instruction": text, "input": "", "output": "x", "id": 7}, ensure_ascii=False)


WORDS = ["sort", "list", "numbers", "quickly", "写", "诗", "夏天", "的", "python", "seven", "green", "house"]
LINES = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join).map(row),
    st.sampled_from([row("!!!"), row("Name seven birds."), "", "  ", "{broken", '{"instruction": "", "output": "x"}', "\0", "[]"]),
)
FILE = st.lists(LINES, min_size=1, max_size=40).map(lambda found: "\n".join([row("First of all, greet."), *found]) + "\n")


def saved(folder: Path, text: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def a_file(seed: int, n: int = 40) -> str:
    """Lines of every kind, many of them twins that stand far apart."""
    rng = random.Random(seed)
    texts = [row(" ".join(rng.choices(WORDS, k=6))) for _ in range(8)]
    return "".join(rng.choice([*texts, "{broken", row("!!!"), ""]) + "\n" for _ in range(n)) + row("End.")


# -- laws --------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILE)
def test_every_line_of_a_file_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("law")
    found = do(Job("dedup", saved(folder, text)))
    assert found.read == found.kept + found.dropped + found.waiting + found.broken
    assert found.read + found.blank == text.count("\n")
    written = {place: lines(folder / "data.dedup" / f"{place}.jsonl") for place in PLACES}
    assert {place: len(rows) for place, rows in written.items()} == found.model_dump(include=set(PLACES))
    numbers = [one["leafmill"]["dedup"]["line"] for one in written["kept"]] + [
        one["line"] for place in PLACES[1:] for one in written[place]
    ]
    given_lines = [number for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    assert sorted(numbers) == given_lines
    assert sum(found.codes.values()) == found.read - found.kept
    assert sum(found.formats.values()) == found.read - found.broken


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILE, st.lists(st.integers(0, 6), max_size=3))
def test_a_command_that_was_killed_ends_as_one_that_was_not(tmp_path_factory: pytest.TempPathFactory, text: str, kills: list[int]) -> None:
    data = saved(tmp_path_factory.mktemp("kill"), text)
    whole = do(Job("dedup", data, data.parent / "whole"))
    job = Job("dedup", data, data.parent / "parts")
    for batch in kills:
        try:
            do(job, killed_at=batch)
        except Killed:
            assert not (job.folder / "summary.json").exists()
    parts = do(job)
    assert out(data.parent / "parts") == out(data.parent / "whole")
    clocks = {"out", "seconds", "rows_per_second"}
    assert parts.model_dump(exclude=clocks) == whole.model_dump(exclude=clocks)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILE)
def test_dedup_of_what_dedup_kept_drops_nothing(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    data = saved(tmp_path_factory.mktemp("twice"), text)
    first = do(Job("dedup", data))
    kept = data.parent / "data.dedup" / "kept.jsonl"
    second = do(Job("dedup", kept))
    assert (second.read, second.kept) == (first.kept, first.kept)
    assert default_folder(kept, "dedup") == data.parent / "data.dedup" / "kept.dedup"


KILLER = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_sweep
from leafmill.dataset.sweep import Job, sweep

class Kill(BaseException):
    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)

test_sweep.Killed = Kill
asyncio.run(sweep(Job("dedup", Path(sys.argv[2])), lambda folder: test_sweep.mortal(int(sys.argv[3])), pause=float(sys.argv[4])))
"""


@pytest.mark.parametrize(("batch", "pause"), [(0, 0.0), (4, 0.0), (5, 60.0)])
def test_after_kill_9_the_same_command_goes_on_to_the_same_files(tmp_path: Path, batch: int, pause: float) -> None:
    data = saved(tmp_path, a_file(seed=batch))
    words = [sys.executable, "-c", KILLER, str(Path(__file__).parent), str(data), str(batch), str(pause)]
    assert subprocess.run(words, capture_output=True, cwd=Path(__file__).parent.parent).returncode == -signal.SIGKILL
    parts = do(Job("dedup", data))
    whole = do(Job("dedup", data, tmp_path / "whole"))
    assert out(tmp_path / "data.dedup") == out(tmp_path / "whole")
    assert (parts.read, parts.kept) == (whole.read, whole.kept)
    assert whole.dropped > 9


def test_what_was_written_after_the_last_checkpoint_is_made_again(tmp_path: Path) -> None:
    job = Job("dedup", saved(tmp_path, a_file(seed=2)))
    with pytest.raises(Killed):
        do(job, killed_at=4)
    for name in FILES:
        with (job.folder / name).open("ab") as file:
            file.write(b'{"half a li')
    do(job)
    do(Job("dedup", job.data, tmp_path / "whole"))
    assert out(job.folder) == out(tmp_path / "whole")


# -- what is written ---------------------------------------------------------------------------------------------------


def test_what_is_kept_stands_as_it_stood_with_what_was_found_under_one_key(tmp_path: Path) -> None:
    stood = {"output": "诗", "instruction": "写一首关于夏天的诗", "extra": {"b": [1.5, None], "a": "é"}, "leafmill": {"ifd": 0.5}}
    data = saved(tmp_path, json.dumps(stood) + "\n" + json.dumps(stood) + "\n")
    do(Job("dedup", data))
    (kept,) = (tmp_path / "data.dedup" / "kept.jsonl").read_text(encoding="utf-8").splitlines()
    assert kept == json.dumps({**stood, "leafmill": {"ifd": 0.5, "dedup": {"line": 1}}}, ensure_ascii=False)
    (dropped,) = lines(tmp_path / "data.dedup" / "dropped.jsonl")
    assert dropped == {
        "line": 2,
        "code": "exact.duplicate",
        "sentence": dropped["sentence"],
        "value": 1.0,
        "threshold": None,
        "evidence": dropped["evidence"],
        "row": stood,
    }
    assert dropped["evidence"]["kept"] == "1"
    assert dropped["sentence"].startswith("exact: 1, ")


def test_what_cannot_be_judged_waits_and_what_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    found = do(Job("dedup", saved(tmp_path, f"{row('Greet.')}\n{row('!!!')}\n{{bad\n")))
    (waiting,) = lines(tmp_path / "data.dedup" / "waiting.jsonl")
    assert (waiting["line"], waiting["code"], waiting["row"]["id"]) == (2, "minhash.no_words", 7)
    assert lines(tmp_path / "data.dedup" / "broken.jsonl") == [
        {"line": 3, "fault": found.faults[0].removeprefix("line 3: "), "raw": "{bad"}
    ]
    assert (found.kept, found.waiting, found.broken, found.errors) == (1, 1, 1, 0)


def test_a_gate_that_fails_on_a_row_is_counted_as_an_error_and_the_row_waits(tmp_path: Path) -> None:
    class Failing(Exact):
        async def __call__(self, subject: Any) -> Verdict:
            raise ZeroDivisionError("by design")

    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[Judge]:
        yield Dedup((Failing(),))

    found = asyncio.run(sweep(Job("dedup", saved(tmp_path, row("Greet."))), opened))
    assert (found.waiting, found.errors, found.codes) == (1, 1, {"exact_crashed": 1})


def test_pictures_and_summary_are_there_when_it_is_done_and_are_not_made_twice(tmp_path: Path) -> None:
    job = Job("dedup", saved(tmp_path, "\n".join(row(f"写一首关于{word}的诗，要押韵，共四句。") for word in ("夏天", "夏天!", "冬天"))))
    found = do(job)
    assert Summary.model_validate_json((job.folder / "summary.json").read_bytes()) == found
    picture = (job.folder / "rows.svg").read_text(encoding="utf-8")
    assert "why rows are not kept" in picture
    assert "exact.duplicate" in picture or "minhash.duplicate" in picture
    before = (job.folder / "summary.json").stat().st_mtime_ns
    assert do(job, killed_at=0) == found  # no judge is opened
    assert (job.folder / "summary.json").stat().st_mtime_ns == before


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_going_on_under_other_settings_or_rules_or_with_another_file_is_refused_and_said(tmp_path: Path) -> None:
    data = saved(tmp_path, a_file(seed=1))
    with pytest.raises(Killed):
        do(Job("dedup", data), killed_at=3)
    before = out(tmp_path / "data.dedup")
    with pytest.raises(OtherRecipeError, match=r"threshold: None there, 0.7 now.*--fresh begins anew"):
        do(Job("dedup", data, settings={"threshold": 0.7}))
    with pytest.raises(OtherRecipeError, match=r"begun under other rules .more: None there, 2 now"):
        do(Job("dedup", data), more="2")
    data.write_text(data.read_text() + "\n" + row("One more."))
    with pytest.raises(OtherRecipeError, match=r"input: \w{12}\.\.\. there, \w{12}\.\.\. now"):
        do(Job("dedup", data))
    assert out(tmp_path / "data.dedup") == before
    assert do(Job("dedup", data, settings={"threshold": 0.7}, fresh=True)).settings["threshold"] == 0.7


def test_fresh_takes_away_what_a_command_wrote_and_nothing_else(tmp_path: Path) -> None:
    job = Job("dedup", saved(tmp_path, a_file(seed=1)))
    do(job)
    (job.folder / "notes.txt").write_text("mine")
    whole = out(job.folder)
    do(Job("dedup", job.data, fresh=True))
    assert out(job.folder) == whole
    assert (job.folder / "notes.txt").read_text() == "mine"


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    data = saved(tmp_path, row("Greet."))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.jsonl").write_text("precious")
    for fresh in (False, True):
        with pytest.raises(RunFolderError, match=r"holds something else already \(kept.jsonl\)"):
            do(Job("dedup", data, tmp_path / "mine", fresh=fresh))
    assert (tmp_path / "mine" / "kept.jsonl").read_text() == "precious"


def test_an_output_never_overwrites_the_input(tmp_path: Path) -> None:
    do(Job("dedup", saved(tmp_path, row("Greet."))))
    with pytest.raises(InputError, match="this folder holds the input"):
        do(Job("dedup", tmp_path / "data.dedup" / "kept.jsonl", tmp_path / "data.dedup", fresh=True))


def test_two_commands_do_not_write_in_one_folder(tmp_path: Path) -> None:
    job = Job("dedup", saved(tmp_path, row("Greet.")))
    do(job)
    with FileLock(job.folder / "lock"), pytest.raises(LockedError):
        do(job)


def test_a_file_that_is_no_dataset_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the columns are a: not those of any format"):
        do(Job("dedup", saved(tmp_path, '{"a": 1}')))
    assert not (tmp_path / "data.dedup").exists()


def test_outputs_that_are_shorter_than_the_checkpoint_says_are_refused(tmp_path: Path) -> None:
    job = Job("dedup", saved(tmp_path, a_file(seed=1)))
    with pytest.raises(Killed):
        do(job, killed_at=3)
    (job.folder / "kept.jsonl").write_text("")
    with pytest.raises(RunFolderError, match=r"kept.jsonl: has 0 bytes, the checkpoint says"):
        do(job)


# -- counting ----------------------------------------------------------------------------------------------------------


def test_a_spread_has_quantiles_of_what_was_counted() -> None:
    tally = Tally()
    for value in range(1, 101):
        item = Item(value, _row("en"), {}, "", "alpaca")
        tally.see(item, (Verdict(gate="ifd", decision="accept", code="ok", value=value / 100, threshold=1.0),))
    (spread,) = tally.spreads()
    assert [spread.quantile(share) for share in (0.05, 0.5, 0.95)] == [0.05, 0.5, 0.95]
    assert (spread.n, tally.thresholds) == (100, {"ifd/en": [1.0]})


def test_values_far_out_are_counted_but_do_not_make_the_picture_of_all_others_flat(tmp_path: Path) -> None:
    from leafmill.dataset.plots import draw

    tally = Tally()
    for value in [0.1 * n for n in range(1, 1000)] + [1e300]:
        tally.see(Item(1, _row("zh"), {}), (Verdict(gate="ppl", decision="accept", code="ok", value=value),))
    assert max(next(tally.spreads()).counts) == 1000.0
    assert {path.name for path in draw("score", tally, tmp_path)} == {"rows.svg", "ppl.svg"}


def _row(language: Any) -> Any:
    from leafmill.records import Row

    return Row(language=language, instruction="x")
