"""The queue of those who wait for a person: claims, decisions, undo, and several who review at once."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from leafmill import reviews
from leafmill.errors import DiskError, InputError, ReviewError, RunFolderError
from leafmill.ledger import Ending, Ledger
from leafmill.records import Brief, Row, Turn
from leafmill.reviews import Queue, Wanted
from tests.waiting import Held, sampled, several, written

ONE, TWO, THREE = (Held(number).id for number in range(3))


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Three that wait."""
    return Queue(written(tmp_path, Held(0), Held(1), Held(2)), patience=0.1)


def said(queue: Queue, sql: str, *values: object) -> list[dict[str, object]]:
    with closing(sqlite3.connect(queue.path)) as ledger:
        ledger.row_factory = sqlite3.Row
        found = [dict(row) for row in ledger.execute(sql, values)]
        ledger.commit()
        return found


def finish(queue: Queue, held: Held, state: str, code: str = "") -> None:
    """As a graph does that has gone on by a decision."""

    async def write() -> None:
        with Ledger(queue.path) as ledger:
            brief = Brief(id=held.id, leaf=held.leaf, number=held.number, language="en")
            await ledger.finish(brief, Ending(state, "score", code), Row(language="en", instruction="q", answer="a"))  # type: ignore[arg-type]

    asyncio.run(write())


# -- who looks at what -------------------------------------------------------------------------------------------------


def test_two_reviewers_are_shown_different_candidates_and_each_the_same_again(queue: Queue) -> None:
    shown = [queue.next_for(name) for name in ("ann", "bob", "ann", "bob")]
    assert shown == [ONE, TWO, ONE, TWO]


def test_what_all_others_look_at_leaves_nothing(queue: Queue) -> None:
    assert [queue.next_for(name) for name in ("a", "b", "c", "d")] == [ONE, TWO, THREE, None]


def test_a_claim_that_ran_out_or_was_released_is_free_again(queue: Queue) -> None:
    queue.next_for("ann")
    said(queue, "UPDATE claims SET until = ?", time.time() - 1)
    assert queue.next_for("bob") == ONE
    queue.release("bob", until=time.time())  # a page that was closed before it was opened anew
    assert queue.next_for("cid") == TWO
    queue.release("bob")
    queue.release("cid")
    assert queue.next_for("cid") == ONE


def test_a_claim_is_renewed_by_its_owner_and_refused_to_others(queue: Queue) -> None:
    queue.claim(TWO, "ann")
    said(queue, "UPDATE claims SET until = until - 500")
    queue.claim(TWO, "ann")
    (claim,) = said(queue, "SELECT * FROM claims")
    assert float(str(claim["until"])) > time.time() + reviews.CLAIMED - 60
    with pytest.raises(ReviewError, match="ann looks at it just now") as raised:
        queue.claim(TWO, "bob")
    assert raised.value.code == "claimed"


def test_whoever_takes_another_lets_the_first_go(queue: Queue) -> None:
    queue.next_for("ann")
    queue.claim(THREE, "ann")
    assert queue.next_for("bob") == ONE
    assert queue.next_for("bob", Wanted(ids=(TWO,))) == TWO
    assert queue.next_for("cid") == ONE


def test_looking_ahead_claims_nothing(queue: Queue) -> None:
    assert queue.first_for("ann") == ONE
    assert queue.next_for("bob") == ONE


def test_those_that_a_reviewer_skipped_come_last_for_them_only(queue: Queue) -> None:
    queue.decide(ONE, "ann", "skip")
    queue.decide(TWO, "ann", "skip")
    assert queue.next_for("bob") == ONE
    queue.release("bob")
    assert queue.next_for("ann") == THREE
    queue.decide(THREE, "ann", "accept")
    assert queue.next_for("ann") == ONE


def test_what_waits_once_more_is_no_longer_skipped(queue: Queue) -> None:
    queue.decide(ONE, "ann", "skip")
    said(queue, "UPDATE reviews SET at = at - 1000")
    assert queue.next_for("ann") == ONE


def test_the_queue_can_be_narrowed_to_leaves_codes_and_ids(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0), sampled(1), Held(2, leaf="t/b"), Held(3, leaf="t/b", state="rejected")))
    b2 = Held(2, leaf="t/b").id
    asked = (Wanted(leaf=("t/b",)), Wanted(leaf=("*/b",)), Wanted(code=("review.sample",)), Wanted(ids=(b2, "nobody")), Wanted(ids=()))
    assert [queue.first_for("ann", wanted) for wanted in asked] == [b2, b2, sampled(1).id, b2, None]
    assert [queue.counts("ann", wanted).waiting for wanted in asked] == [1, 1, 1, 1, 0]
    assert queue.first_for("ann", Wanted(leaf=("t/b",), code=("review.sample",))) is None


def test_counts_tell_by_reason_and_leaf_who_waits_and_who_decided_today(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0), sampled(1), Held(2, leaf="t/b"), sampled(3), Held(4, state="accepted")))
    queue.decide(sampled(1).id, "ann", "accept")
    queue.decide(Held(0).id, "bob", "skip")
    queue.next_for("bob")
    counts = queue.counts("ann")
    assert counts.model_dump() == {
        "waiting": 3,
        "claimed": 1,
        "pending": 1,
        "codes": {"agreement.disagree": 2, "review.sample": 1},
        "leaves": {"t/a": 2, "t/b": 1},
        "today": {"ann": 1},
    }
    assert queue.counts("bob").claimed == 0


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_a_case_has_the_row_the_last_votes_the_gates_and_the_critics_remark(queue: Queue) -> None:
    case = queue.case(ONE)
    assert (case.row.answer, case.axes, case.concepts) == ("Sheet 0 goes on the lowest shelf.", {"card": "c0"}, ["filing"])
    assert [(vote.seat, vote.value, vote.rationale) for vote in case.votes] == [
        ("annotator@judge-0", 5, "It is worth 5."),
        ("annotator@judge-1", 1, "It is worth 1."),
    ]
    assert [(gate.door, gate.gate, gate.decision) for gate in case.gates] == [
        ("screen", "length", "accept"),
        ("agree", "agreement", "unscorable"),
    ]
    assert case.remark is not None
    assert (case.remark.score, case.remark.reason, case.remark.where) == (4, "It does not say why.", "the lowest shelf")
    assert case.why.sentence == "The panel is divided: its votes lie 4 points apart, and at most 2 are allowed."


def test_a_seat_that_was_not_heard_has_no_number(tmp_path: Path) -> None:
    vote = Queue(written(tmp_path, Held(0, votes=(None,)))).case(ONE).votes[0]
    assert (vote.value, vote.failed) == (None, "timeout")


def test_votes_of_an_earlier_answer_are_not_shown_and_the_arbiters_is(queue: Queue) -> None:
    vote = "INSERT INTO votes (candidate, seq, role, alias, score, rationale, failed, at) VALUES (?, ?, ?, '', 2, '', '', 0)"
    for place in ((ONE, 2, "annotator"), (ONE, 5, "arbiter")):
        said(queue, vote, *place)
    assert [vote.seat for vote in queue.case(ONE).votes] == ["annotator@judge-0", "annotator@judge-1", "arbiter"]


def test_of_a_candidate_without_consensus_all_answers_are_shown(tmp_path: Path) -> None:
    case = Queue(written(tmp_path, several(0))).case(ONE)
    assert [(one.sample, one.answer, one.final) for one in case.answers] == [
        (0, "Sheet 0: the first shelf.", "0"),
        (1, "Sheet 0: the second shelf.", "1"),
    ]
    assert not case.can_be_accepted


def test_what_no_known_gate_could_measure_is_told_with_its_code(tmp_path: Path) -> None:
    case = Queue(written(tmp_path, Held(0, "ifd.too_short", "score"))).case(ONE)
    assert case.why.sentence == "The gate ifd could not measure it (ifd.too_short)."


def test_a_case_that_is_not_there_is_named(queue: Queue) -> None:
    with pytest.raises(ReviewError, match="no candidate has the id 'nobody'"):
        queue.case("nobody")


# -- deciding ----------------------------------------------------------------------------------------------------------


def test_a_decision_says_who_when_why_and_after_which_step(queue: Queue) -> None:
    queue.next_for("王芳")
    queue.decide(ONE, "王芳", "reject", code="style", note="  太长了 ")
    (found,) = said(queue, "SELECT * FROM reviews")
    assert [found[name] for name in ("candidate", "reviewer", "decision", "code", "note", "seq")] == [
        ONE,
        "王芳",
        "reject",
        "style",
        "太长了",
        5,
    ]
    assert abs(float(str(found["at"])) - time.time()) < 60
    assert queue.next_for("王芳") == TWO


def test_a_decision_is_what_the_graph_will_be_resumed_with(queue: Queue) -> None:
    queue.decide(ONE, "ann", "edit", row={"answer": "On the top shelf."})
    queue.decide(TWO, "ann", "skip")
    with Ledger(queue.path, read_only=True) as ledger:
        (due,) = ledger.decisions(time.time() + 1)
    assert (due.candidate, due.decision, due.row and due.row.answer) == (ONE, "edit", "On the top shelf.")
    assert due.row is not None
    assert due.row.instruction == "Which shelf does sheet 0 go on?"


def test_nobody_decides_what_was_decided_or_is_claimed_or_does_not_wait(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0), Held(1), Held(2, "minhash.duplicate", state="rejected")))
    queue.decide(ONE, "ann", "accept")
    queue.claim(TWO, "ann")
    refused = {}
    for id_ in (ONE, TWO, THREE, "nobody"):
        with pytest.raises(ReviewError) as raised:
            queue.decide(id_, "bob", "accept")
        refused[raised.value.code] = str(raised.value)
    assert list(refused) == ["decided", "claimed", "not_waiting", "unknown"]
    assert refused["decided"].startswith(f"{ONE}: ann accepted it at 2")
    assert refused["not_waiting"] == f"{THREE} does not wait for anybody: it is rejected (minhash.duplicate)"
    listed = queue.not_decidable("bob", [ONE, TWO, THREE, "nobody"])
    assert [one.code for one in listed] == list(refused)
    assert queue.not_decidable("ann", [TWO]) == []


@pytest.mark.parametrize(
    ("decision", "told", "wrong"),
    [
        ("approve", {}, "unknown decision 'approve'"),
        ("reject", {}, "unknown reason ''"),
        ("reject", {"code": "wrng"}, "did you mean 'wrong'"),
        ("edit", {}, "nothing was changed"),
        ("edit", {"row": {"answer": "Sheet 0 goes on the lowest shelf."}}, "nothing was changed"),
        ("edit", {"row": {"answer": " \n"}}, "the answer of an edited row must not be empty"),
        ("edit", {"row": {"instruction": ""}}, "the instruction of an edited row must not be empty"),
        ("edit", {"row": {"language": "zh"}}, "stays in its language, 'en'"),
        ("edit", {"row": {"answr": "x"}}, "is no row"),
    ],
)
def test_what_is_no_decision_is_refused_with_the_reason(queue: Queue, decision: str, told: dict[str, str], wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        queue.decide(ONE, "ann", decision, **told)  # type: ignore[arg-type]
    assert queue.counts().pending == 0


def test_what_has_no_answer_can_be_edited_but_not_accepted(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, several(0)))
    with pytest.raises(InputError, match="no answer that could be accepted: edit it"):
        queue.decide(ONE, "ann", "accept")
    queue.decide(ONE, "ann", "edit", row={"answer": "Sheet 0: the second shelf."})
    assert queue.counts().pending == 1


def test_what_waits_before_it_is_answered_can_be_accepted(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0, "safety.unknown", "screen", answer="")))
    assert queue.decide(ONE, "ann", "accept")


def test_line_ends_of_a_browser_are_no_change(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0, answer="one\ntwo")))
    with pytest.raises(InputError, match="nothing was changed"):
        queue.decide(ONE, "ann", "edit", row={"answer": "one\r\ntwo"})
    queue.decide(ONE, "ann", "edit", row={"answer": "one\r\ntwo\r\nthree"})
    with Ledger(queue.path, read_only=True) as ledger:
        row = ledger.decisions(time.time() + 1)[0].row
    assert row is not None
    assert row.answer == "one\ntwo\nthree"


def test_an_edit_keeps_the_earlier_turns(tmp_path: Path) -> None:
    turns = (Turn(role="user", content="Hello."), Turn(role="assistant", content="Good day."))
    queue = Queue(written(tmp_path, Held(0, history=turns)))
    queue.decide(ONE, "ann", "edit", row={"answer": "New."})
    with Ledger(queue.path, read_only=True) as ledger:
        row = ledger.decisions(time.time() + 1)[0].row
    assert row is not None
    assert row.history == turns


# -- undo --------------------------------------------------------------------------------------------------------------


def test_undo_takes_back_the_last_of_ones_own_step_by_step(queue: Queue) -> None:
    queue.decide(ONE, "ann", "accept")
    queue.decide(TWO, "bob", "accept")
    queue.decide(THREE, "ann", "skip")
    undone = [queue.undo("ann") for _ in range(2)]
    assert [(one.candidate, one.decision, one.became) for one in undone] == [(THREE, "skip", "undone"), (ONE, "accept", "undone")]
    assert queue.counts().waiting == 2
    with pytest.raises(ReviewError, match="ann has decided nothing that could be undone"):
        queue.undo("ann")
    queue.decide(ONE, "ann", "reject", code="wrong")
    assert queue.counts().pending == 2


def test_what_is_taken_back_is_looked_at_again_unless_another_does(queue: Queue) -> None:
    queue.decide(ONE, "ann", "skip")
    assert queue.next_for("ann") == TWO
    queue.undo("ann")
    assert queue.next_for("ann") == ONE
    queue.decide(ONE, "ann", "skip")
    queue.claim(ONE, "bob")
    queue.undo("ann")
    assert queue.next_for("ann") == TWO


def test_what_has_gone_on_cannot_be_undone_and_its_end_is_told(queue: Queue) -> None:
    queue.decide(ONE, "ann", "accept")
    finish(queue, Held(0), "rejected", "ifd.too_hard")
    with pytest.raises(ReviewError, match=r"to accept a0+\) has gone on already: it is rejected \(score: ifd.too_hard\)") as raised:
        queue.undo("ann")
    assert raised.value.code == "gone_on"


def test_a_running_process_leaves_five_seconds_for_second_thoughts(tmp_path: Path) -> None:
    process = {"pid": os.getpid(), "host": platform.node(), "began_at": 1.0, "ended_at": None, "command": "leafmill run x.yaml"}
    queue = Queue(written(tmp_path, Held(0), Held(1), process=process))
    assert queue.going() == reviews.Going(running=True, command="leafmill run x.yaml")
    queue.decide(ONE, "ann", "accept")
    assert queue.undo("ann").candidate == ONE
    queue.decide(ONE, "ann", "accept")
    said(queue, "UPDATE reviews SET at = at - 6")
    with pytest.raises(ReviewError, match="may be going on in the running process"):
        queue.undo("ann")


def test_what_was_decided_before_a_process_began_it_takes_at_once(tmp_path: Path) -> None:
    process = {"pid": os.getpid(), "host": platform.node(), "began_at": time.time() + 60}
    queue = Queue(written(tmp_path, Held(0), process=process))
    queue.decide(ONE, "ann", "accept")
    with pytest.raises(ReviewError, match="may be going on in the running process"):
        queue.undo("ann")


@pytest.mark.parametrize("change", [{"ended_at": 5.0}, {"host": "elsewhere"}, {"pid": 2**22 + 1}])
def test_without_one_that_runs_all_can_be_undone_until_the_next_run(tmp_path: Path, change: dict[str, object]) -> None:
    process = {"pid": os.getpid(), "host": platform.node(), "began_at": 1.0, "ended_at": None, "command": "leafmill run x.yaml"}
    queue = Queue(written(tmp_path, Held(0), process={**process, **change}))
    queue.decide(ONE, "ann", "accept")
    said(queue, "UPDATE reviews SET at = at - 100000")
    assert not queue.going().running
    assert queue.undo("ann").candidate == ONE


def test_history_tells_what_became_of_each(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, *(Held(number) for number in range(6))))
    ids = [Held(number).id for number in range(6)]
    for id_, decision in zip(ids, ("accept", "accept", "edit", "skip", "accept", "accept"), strict=True):
        queue.decide(id_, "ann", decision, row={"answer": "Better."} if decision == "edit" else None)
    finish(queue, Held(0), "accepted")
    finish(queue, Held(1), "rejected", "ifd.too_hard")
    said(queue, "UPDATE reviews SET taken_at = 1 WHERE candidate = ?", ids[2])  # it went on and waits once more
    queue.undo("ann")
    history = queue.history()
    assert [(one.number, one.became, one.ended) for one in history] == [
        (5, "undone", ""),
        (4, "pending", ""),
        (3, "skipped", ""),
        (2, "again", ""),
        (1, "rejected", "ifd.too_hard"),
        (0, "accepted", ""),
    ]
    assert [one.number for one in queue.history(2, before=history[1].id)] == [3, 2]
    assert queue.entry(history[-1].id) == history[-1]
    assert queue.entry(99) is None


# -- several at once ---------------------------------------------------------------------------------------------------

DECIDE_ALL = """
import sys
from pathlib import Path
from leafmill.errors import ReviewError
from leafmill.reviews import Queue

queue, me = Queue(Path(sys.argv[1])), sys.argv[2]
while (found := queue.next_for(me)) is not None:
    queue.decide(found, me, "accept")
    print(found)
"""


def test_two_processes_decide_every_candidate_once(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, *(Held(number) for number in range(24))))
    words = [sys.executable, "-c", DECIDE_ALL, str(queue.path)]
    root = Path(reviews.__file__).parent.parent
    going = [subprocess.Popen([*words, name], stdout=subprocess.PIPE, text=True, cwd=root) for name in ("ann", "bob")]
    decided = Counter(line for one in going for line in one.communicate(timeout=120)[0].split())
    assert [one.returncode for one in going] == [0, 0]
    assert decided == Counter(Held(number).id for number in range(24))
    assert (queue.counts().pending, queue.counts().waiting) == (24, 0)


def test_of_many_threads_that_decide_the_same_exactly_one_does(queue: Queue) -> None:
    queue = Queue(queue.path)
    start, ends = threading.Barrier(8), list[str]()

    def decide(name: str) -> None:
        start.wait()
        try:
            queue.decide(ONE, name, "accept")
            ends.append("decided it")
        except ReviewError as fault:
            ends.append(fault.code)

    threads = [threading.Thread(target=decide, args=(f"r{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(ends) == {"decided it": 1, "decided": 7}


# -- a ledger that cannot be used --------------------------------------------------------------------------------------


def test_a_ledger_that_another_holds_says_so_and_nothing_is_written(queue: Queue) -> None:
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DiskError, match=r"writing to the ledger for 0.1 s: nothing was written down"):
            queue.decide(ONE, "ann", "accept")
        assert queue.counts().waiting == 3
    assert queue.decide(ONE, "ann", "accept")


def test_a_damaged_ledger_is_an_error_of_the_disk(queue: Queue) -> None:
    with queue.path.open("r+b") as file:
        file.seek(0)
        file.write(b"x" * 4096)
    with pytest.raises(DiskError, match="is damaged"):
        queue.decide(ONE, "ann", "accept")


def test_an_older_ledger_is_given_what_it_lacks(queue: Queue) -> None:
    for sql in ("DROP TABLE reviews", "DROP TABLE claims", "UPDATE meta SET value = '3' WHERE key = 'schema'"):
        said(queue, sql)
    assert Queue(queue.path).next_for("ann") == ONE


def test_a_file_that_is_not_there_is_no_queue(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no ledger here"):
        Queue(tmp_path / "ledger.db")


@pytest.mark.parametrize(("text", "name"), [(" Ann\n Lee ", "Ann Lee"), ("王芳", "王芳"), ("\u202e\x00", ""), ("x" * 99, "x" * 60)])
def test_a_reviewers_name_stands_on_one_line(text: str, name: str) -> None:
    assert reviews.name_of(text) == name
