"""The index of a run: it says what the ledger says, whenever and however often it is brought up to date."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from leafmill.errors import DiskError, RunFolderError
from leafmill.index import build
from leafmill.index.build import Cast, Entry, Judged, bucket, facts_of, node_of
from leafmill.index.filter import Filter, page
from leafmill.index.index import NAME, Index
from leafmill.index.schema import STEPS
from leafmill.ledger import Call, Ending, Ledger, Step
from leafmill.records import Brief, Row, Usage, Verdict, Vote
from leafmill.runfolder import RunFolder
from tests import ui

TABLES = {
    "candidates": "SELECT * FROM candidates ORDER BY id",
    "tags": "SELECT c.id, t.kind, t.value FROM tags AS t JOIN candidates AS c USING (n) ORDER BY 1, 2, 3",
    "votes": "SELECT c.id, v.role, v.alias, v.value FROM votes AS v JOIN candidates AS c USING (n) ORDER BY 1, 2, 3",
    "spent": "SELECT * FROM spent ORDER BY leaf, node, role, variant, alias, model, status",
    "latencies": "SELECT * FROM latencies ORDER BY role, model, bucket",
}


def contents(index: Index) -> dict[str, list[dict[str, Any]]]:
    """All that an index says, but for how it numbers things; floats as far as the order of adding them up leaves them alone."""
    found = {name: index.rows(sql) for name, sql in TABLES.items()}
    for rows in found.values():
        for row in rows:
            row.pop("n", None), row.pop("doc", None)
            row |= {name: round(value, 6) for name, value in row.items() if isinstance(value, float)}
    words = ("zero", "one", "two")
    return {
        **found,
        "found": [{"id": row["id"], "q": word} for word in words for row in page(index, Filter.of(f"q={word}&sort=number")).rows],
    }


def anew(folder: RunFolder, beside: Path) -> Index:
    """An index of the same ledger that was made at once."""
    beside.mkdir(parents=True)
    for suffix in ("", "-wal"):
        if (there := Path(f"{folder.ledger}{suffix}")).exists():
            (beside / there.name).write_bytes(there.read_bytes())
    index = Index(RunFolder(beside))
    index.refresh(60)
    return index


class Writing:
    """A run's ledger as a run writes it: three candidates, each step of their lives at a time."""

    def __init__(self, folder: RunFolder) -> None:
        self.ledger = Ledger(folder.ledger)
        self._calls = 0
        self._states: dict[int, str] = {}

    async def do(self, what: str, number: int) -> None:
        brief = Brief(id=f"c{number}", leaf="t/a", number=number, language="en", axes={"tone": f"tone{number}"}, concepts=("k",))
        step = Step(brief.id, brief.leaf, self._calls, f"answer.{number}.0")
        word = ("zero", "one", "two")[self._calls % 3]
        row = Row(language="en", instruction=f"Ask {word}.", answer=f"Say {self._calls}.")
        state = self._states.get(number, "open")
        if state not in ("open", "waiting") or (state == "waiting" and what in ("call", "judge")):
            await self.ledger.begin(brief)  # nothing happens to what has ended
        self._states[number] = what if what in ("accepted", "rejected", "waiting", "errored") else "open"
        if what == "begin":
            await self.ledger.begin(brief)
        elif what == "call":
            self._calls += 1
            model = f"m{self._calls % 2}"
            usage = Usage(prompt=self._calls, completion=1) if number else Usage()
            call = Call(
                f"k{self._calls}",
                step,
                "answerer",
                "en",
                "h",
                "a",
                model,
                [],
                {},
                usage=usage,
                started_at=time.time(),
                seconds=self._calls / 7,
            )
            await self.ledger.record_call(call if number else Call(**{**vars(call), "status": "timeout", "cost": 0.5}))
        elif what == "judge":
            self._calls += 1
            self.ledger.note_verdict(step, Verdict(gate="ifd", decision="accept", code="ok", value=self._calls / 10))
            self.ledger.note_vote(step, Vote(role="annotator", alias="a", score=1 + self._calls % 5))
            await self.ledger.set_meta("told", self._calls)
        else:
            await self.ledger.finish(brief, Ending(what, "check", "x" if what == "rejected" else ""), row, {"evolutions": []})  # type: ignore[arg-type]


lives = st.lists(
    st.tuples(st.sampled_from(["begin", "call", "judge", "accepted", "rejected", "waiting", "errored", "open", "look"]), st.integers(0, 2)),
    min_size=3,
    max_size=24,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=lives)
@example(life=[("waiting", 0), ("look", 0), ("accepted", 0)])
@example(life=[("errored", 2), ("look", 0), ("begin", 2), ("look", 0), ("rejected", 2)])
@example(life=[("judge", 1), ("look", 0), ("judge", 1)])
def test_bit_by_bit_comes_to_the_same_as_at_once(
    life: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens to candidates, and whenever somebody looks; in chunks of two candidates and three calls."""
    monkeypatch.setattr(build, "CANDIDATES_AT_ONCE", 2)
    monkeypatch.setattr(build, "CALLS_AT_ONCE", 3)
    folder = RunFolder(tmp_path_factory.mktemp("run"))

    async def happen() -> None:
        writing = Writing(folder)
        with closing(Index(folder)) as index, writing.ledger:
            for number in range(3):
                await writing.do("begin", number)
            for what, number in life:
                if what == "look":
                    index.refresh(60)
                else:
                    await writing.do(what, number)
            index.refresh(60)
            seen = contents(index)
        with closing(anew(folder, folder.path / "anew")) as other:
            assert seen == contents(other)

    asyncio.run(happen())


def test_it_adds_up_what_the_ledger_holds(shop: Path, tmp_path: Path) -> None:
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    with closing(Index(folder)) as index, Ledger(folder.ledger, read_only=True) as ledger:
        index.refresh(60)
        sums = "sum(calls) AS calls, sum(prompt_tokens + completion_tokens) AS tokens, sum(uncounted) AS uncounted_calls"
        spent = {
            row.pop("leaf"): row for row in index.rows(f"SELECT leaf, {sums}, sum(unpriced) AS unpriced_calls FROM spent GROUP BY leaf")
        }
        assert spent == {leaf: {name: one._asdict()[name] for name in row} for leaf, one in ledger.spent().items() for row in [spent[leaf]]}
        (calls,) = index.rows("SELECT count(*) AS n, sum(status = 'ok') AS ok FROM ledger.calls")
        assert index.rows("SELECT sum(calls) AS n FROM latencies") == [{"n": calls["ok"]}]
        own = index.rows("SELECT sum(calls) AS n, sum(tokens) AS tokens FROM candidates")
        asked = "SELECT count(*) AS n, sum(prompt_tokens + completion_tokens) AS tokens FROM ledger.calls WHERE candidate NOT LIKE 'leaf:%'"
        assert own == index.rows(asked)
        for row in index.rows(
            "SELECT l.lineage -> '$.critic.score' AS score, c.* FROM candidates AS c JOIN ledger.candidates AS l USING (id)"
        ):
            assert row["critic"] == (row["score"] and int(row["score"]))
        middle = index.rows(
            """
            SELECT c.panel, v.value FROM candidates AS c JOIN ledger.verdicts AS v ON v.candidate = c.id AND v.code = 'agreement.low'
            WHERE c.code = v.code
            """
        )
        assert all(row["panel"] == row["value"] for row in middle)


def test_nothing_is_found_under_what_a_candidate_said_before(tmp_path: Path) -> None:
    async def happen() -> None:
        folder = RunFolder(tmp_path)
        writing = Writing(folder)
        with closing(Index(folder)) as index, writing.ledger:
            for what in ("begin", "errored"):
                await writing.do(what, 0)
            index.refresh()
            found = [page(index, Filter.of("q=zero")).total]
            for what in ("begin", "call", "accepted"):
                await writing.do(what, 0)
                index.refresh()
                found.append(page(index, Filter.of("q=zero")).total)
            assert found == [1, 0, 0, 0]
            assert page(index, Filter.of("q=one&state=accepted")).rows[0]["n"] == 1

    asyncio.run(happen())


async def test_the_version_grows_when_something_has_changed_and_only_then(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    writing = Writing(folder)
    with closing(Index(folder)) as index, writing.ledger:
        assert index.version == 0
        seen = []
        for what in ("begin", "judge", "call", "look", "accepted"):
            await writing.do(what, 0) if what != "look" else await writing.ledger.set_meta("told", "something else")
            index.refresh()
            seen.append(index.version)
        assert seen[0] > 0
        assert seen == sorted(seen)
        assert [one == other for one, other in pairwise(seen)] == [False, False, True, False]
        assert index.once("answer", lambda: seen[-1]) == index.once("answer", lambda: "another") == seen[-1]
        await writing.do("rejected", 0)
        await writing.do("begin", 0)
        index.refresh()
        assert index.once("answer", lambda: "another") == "another"


def test_two_that_refresh_at_once_count_nothing_twice(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with connections of its own, as two processes have them."""
    monkeypatch.setattr(build, "CANDIDATES_AT_ONCE", 2)
    monkeypatch.setattr(build, "CALLS_AT_ONCE", 7)
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    both = [Index(folder), Index(folder)]
    threads = [threading.Thread(target=index.refresh, args=(60,)) for index in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(anew(folder, tmp_path / "anew")) as other:
        assert contents(both[0]) == contents(both[1]) == contents(other)
    for index in both:
        index.close()


@pytest.mark.parametrize("broken", ["_ADD_LATENCY", "_PUT"])
def test_a_refresh_that_dies_half_way_has_counted_nothing(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    monkeypatch.setattr(build, "CALLS_AT_ONCE", 50)
    with closing(Index(folder)) as index:
        index.refresh(0)
        with monkeypatch.context() as dying:
            dying.setattr(build, broken, "INSERT INTO nowhere VALUES (?, ?, ?, ?)")
            dying.setattr(build, "CANDIDATES_AT_ONCE", 3)
            with pytest.raises((RunFolderError, sqlite3.Error)):
                index.refresh(60)
        index.refresh(60)
        with closing(anew(folder, tmp_path / "anew")) as other:
            assert contents(index) == contents(other)


def damage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def other_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as change:
        change.execute("UPDATE meta SET value = '0' WHERE key = 'schema'")
        change.execute("DROP TABLE votes")
        change.commit()


def half_made(path: Path) -> None:
    with closing(sqlite3.connect(path)) as change:
        change.execute("DROP TABLE votes")
        change.commit()


@pytest.mark.parametrize("spoil", [Path.unlink, damage, other_version, half_made])
def test_an_index_that_is_missing_or_spoilt_is_made_anew(shop: Path, tmp_path: Path, spoil: Any) -> None:
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    with closing(Index(folder)) as index:
        index.refresh(60)
        before = contents(index)
    spoil(folder.path / NAME)
    with closing(Index(folder)) as index:
        progress = index.refresh(60)
        assert progress.done == progress.total
        assert contents(index) == before


async def test_of_a_ledger_that_was_made_anew_the_index_is_too(tmp_path: Path) -> None:
    """Even where it has grown as long as the old one was."""
    folder = RunFolder(tmp_path)
    with closing(Index(_made(folder))) as index:
        for round_ in range(2):
            folder.ledger.unlink(missing_ok=True)
            writing = Writing(folder)
            with writing.ledger:
                for what in ("begin", "call", "accepted"):
                    await writing.do(what, round_)
            index.refresh(60)
            assert [row["id"] for row in index.rows("SELECT id FROM candidates")] == [f"c{round_}"]
            assert index.rows("SELECT sum(calls) AS n FROM spent") == [{"n": 1}]


def _made(folder: RunFolder) -> RunFolder:
    Ledger(folder.ledger).close()
    return folder


def test_where_the_folder_cannot_be_written_the_index_lies_elsewhere(shop: Path, tmp_path: Path) -> None:
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    (folder.path / NAME).mkdir()
    index = Index(folder)
    index.refresh(60)
    assert index.path.parent != folder.path
    assert page(index, Filter()).total > 0
    index.close()
    assert not index.path.parent.exists()


def test_what_is_wrong_with_the_files_is_said(shop: Path, tmp_path: Path) -> None:
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    with closing(Index(folder)) as index:
        index.refresh(60)
        folder.ledger.write_bytes(b"x" * 5000)
        with closing(Index(folder)) as other, pytest.raises(DiskError, match="is damaged: file is not a database"):
            other.refresh()
        folder.ledger.unlink()
        with pytest.raises(RunFolderError, match="there is no ledger here"):
            Index(folder)
        with pytest.raises(RunFolderError, match="the run has been removed, or moved"):
            index.rows("SELECT * FROM nothing")


async def test_a_page_waits_a_moment_only_and_the_rest_is_taken_up_behind(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "CALLS_AT_ONCE", 10)
    monkeypatch.setattr("leafmill.index.index.AT_ONCE", 0.0)
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    with closing(Index(folder)) as index:
        first = index.fresh()
        assert first.done < first.total
        for _ in range(1000):
            if index.progress.done == index.progress.total:
                break
            await asyncio.sleep(0.01)
        with closing(anew(folder, tmp_path / "anew")) as other:
            assert contents(index) == contents(other)


@pytest.mark.parametrize(
    ("state", "stage", "verdicts", "asked", "step"),
    [
        ("accepted", "admit", [], [], "admitted"),
        ("rejected", "screen", ["screen.0.0"], [], "started"),
        ("rejected", "compare", ["screen.1.0", "compare.1.0"], [], "started"),
        ("rejected", "check", ["screen.0.0", "check.0.1"], [], "screened"),
        ("waiting", "vote", ["choose.1.0"], [], "screened"),
        ("rejected", "agree", ["agree.0.1"], [], "answered"),
        ("errored", "answer", ["agree.0.1"], [], "answered"),  # a revision: it had come further before
        ("rejected", "score", ["score.0.1"], [], "agreed"),
        ("rejected", "admit", ["admit.0.1"], [], "scored"),
        ("rejected", "admit", [], [], "scored"),  # the leaf was full
        ("rejected", "review", ["agree.0.1", "review.0.1"], [], "answered"),
        ("errored", "polish", ["screen.0.0", "check.0.1"], [], "screened"),  # a role of the user's own
        ("open", "", ["screen.0.0"], ["write"], "started"),
        ("open", "", ["screen.0.0"], ["write", "answer"], "screened"),
        ("open", "", ["check.0.1"], ["annotate"], "answered"),
    ],
)
def test_how_far_a_candidate_has_come(state: str, stage: str, verdicts: list[str], asked: list[str], step: str) -> None:
    entry = Entry("c", "t/a", 0, "en", state, stage, "x", 0.0, 1.0, {}, None, {})
    judged = [Judged(name, "length", "accept", "ok", None, {}) for name in verdicts]
    assert STEPS[facts_of(entry, judged, [], asked).step] == step


def test_scores_are_those_of_the_last_verdicts_and_votes() -> None:
    row = Row(language="en", instruction="Ask\n  me.", answer="Say.", history=())
    entry = Entry("c", "t/a", 0, "en", "rejected", "admit", "semantic.duplicate", 0.0, 1.0, {}, row, {})
    judged = [
        Judged("score.0.1", "ifd", "reject", "ifd.too_easy", 0.2, {}),
        Judged("score.0.2", "ifd", "accept", "ok", 0.6, {}),
        Judged("agree.0.2", "critic", "accept", "ok", 4.0, {}),
        Judged("admit.0.2", "exact", "accept", "ok", None, {}),
        Judged("admit.0.2", "semantic", "reject", "semantic.duplicate", 0.93, {"kept": "other"}),
    ]
    found = facts_of(entry, judged, [Cast("a", "", 3.0), Cast("b", "", None), Cast("c", "", 4.0)], [])
    assert (found.ifd, found.critic, found.similarity, found.neighbour) == (0.6, 4.0, 0.93, "other")
    assert (found.panel, found.deviation) == (3.5, 0.5)
    assert (found.instruction, found.answer, found.instruction_length, found.answer_length) == ("Ask me.", "Say.", 9, 4)
    assert [*build.tags_of(entry, judged)] == [("gate", "semantic")]
    nothing = facts_of(entry._replace(row=None), [], [Cast("a", "", None)], [])
    assert (nothing.ifd, nothing.panel, nothing.deviation, nothing.similarity, nothing.answer_length) == (None,) * 5


@pytest.mark.parametrize(
    ("step", "role", "node"),
    [
        ("answer.1.0", "answerer", "answer"),
        ("answer.1.0.again", "answerer", "answer"),
        ("annotator-clarity.0.1", "annotator-clarity", "annotate"),
        ("annotator-clarity@gpt-4.1.0.1", "annotator-clarity", "annotate"),
        ("taster.0.1", "taster", "annotate"),
        ("polish.0.1", "polish", "polish"),
        ("write.0.0", "task-classifier", "write"),
        ("plan.2.zh", "planner", "plan"),
        ("axis.tone", "axis-writer", "axis"),
        ("tools.en", "tool-writer", "tools"),
    ],
)
def test_which_node_asked(step: str, role: str, node: str) -> None:
    assert node_of(step, role, frozenset({"taster"})) == node


def test_latencies_are_counted_to_within_a_twentieth() -> None:
    for seconds in (0.001, 0.0375, 1.0, 2.5, 180.0):
        low = 1.05 ** bucket(seconds) / 1000
        assert low <= seconds * 1.000001 < low * 1.0501
    assert bucket(0.0) == 0
