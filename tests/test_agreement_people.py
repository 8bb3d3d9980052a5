"""People against the panel: whose side each took, how far they agree, and what an audit sample says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.reliability import cohen
from leafmill import agreement
from leafmill.agreement import PeopleReport, Share
from leafmill.ledger import Ledger
from leafmill.reviews import Queue
from leafmill.variants import wilson
from tests.waiting import Held, sampled, several, written


def report(path: Path) -> PeopleReport:
    with Ledger(path, read_only=True) as ledger:
        return agreement.read(ledger)


def test_cohens_kappa_of_the_textbook_table() -> None:
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    found = cohen(pair for pair, count in table.items() for _ in range(count))
    assert (found.value, found.agreement, found.pairs) == (pytest.approx(0.4), 0.7, 50)


@pytest.mark.parametrize(("pairs", "why"), [([], "nothing was rated"), ([("yes", "yes")] * 3, "both said the same of all")])
def test_kappa_without_anything_to_tell_apart_is_none_with_a_reason(pairs: list[tuple[str, str]], why: str) -> None:
    found = cohen(pairs)
    assert found.value is None
    assert why in found.why


def test_a_rater_who_always_says_the_same_agrees_by_chance_only() -> None:
    assert cohen([(1, 1), (1, 2), (1, 1)]).value == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2))))
def test_kappa_does_not_depend_on_who_is_first_and_is_1_only_for_the_same(pairs: list[tuple[int, int]]) -> None:
    found, turned = cohen(pairs), cohen((two, one) for one, two in pairs)
    assert found.value == pytest.approx(turned.value) if found.value is not None else turned.value is None
    if found.value is not None:
        assert found.value <= 1
        assert (found.value == pytest.approx(1)) == all(one == two for one, two in pairs)


def test_the_panels_median_is_held_against_what_each_person_decided(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, *(Held(number, votes=votes) for number, votes in enumerate([(5, 4), (5, 3), (1, 2), (1, 5), (2, 2)]))))
    ids = [Held(number).id for number in range(5)]
    queue.decide(ids[0], "ann", "accept")
    queue.decide(ids[1], "bob", "edit", row={"answer": "Better."})
    queue.decide(ids[2], "ann", "reject", code="wrong")
    queue.decide(ids[3], "ann", "reject", code="wrong")  # the median is 3, which is enough
    queue.decide(ids[4], "bob", "accept")
    found = report(queue.path)
    assert found.all.model_dump(include={"both", "panel", "person", "neither"}) == {"both": 1, "panel": 2, "person": 1, "neither": 1}
    assert (found.threshold, found.all.accuracy.count, found.all.accuracy.of) == (3, 2, 5)
    assert found.all.accuracy.between == wilson(2, 5)
    assert found.all.kappa == pytest.approx((0.4 - 0.48) / 0.52)
    assert {name: (one.accuracy.count, one.accuracy.of) for name, one in found.reviewers.items()} == {"ann": (2, 3), "bob": (0, 2)}
    assert {name: one.accuracy.count for name, one in found.seats.items()} == {"annotator@judge-0": 3, "annotator@judge-1": 2}


def test_only_the_panels_last_look_before_the_decision_counts(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0, votes=(5, 5))))
    vote = "INSERT INTO votes (candidate, seq, role, alias, score, rationale, failed, at) VALUES (?, ?, ?, '', ?, '', '', 0)"
    columns = "candidate, seq, step, gate, decision, code, evidence, version, at"
    verdict = f"INSERT INTO verdicts ({columns}) VALUES (?, ?, '', '', 'reject', ?, '{{}}', '', 0)"
    with closing(sqlite3.connect(queue.path)) as ledger:
        ledger.execute(vote, (Held(0).id, 2, "annotator", 1))  # of an answer that was revised
        ledger.execute(vote, (Held(0).id, 5, "arbiter", 1))
        ledger.commit()
        queue.decide(Held(0).id, "ann", "accept")
        ledger.execute(vote, (Held(0).id, 8, "annotator", 1))
        ledger.execute(verdict, (Held(0).id, 8, "ifd.low"))
        ledger.commit()
    found = report(queue.path)
    assert (found.all.both, found.all.accuracy.of) == (1, 1)
    assert list(found.seats) == ["annotator@judge-0", "annotator@judge-1"]
    assert list(found.reasons) == ["agreement.disagree"]


def test_of_a_candidate_that_waited_twice_on_the_same_votes_the_first_decision_counts(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0)))
    queue.decide(Held(0).id, "ann", "edit", row={"answer": "Better."})
    with closing(sqlite3.connect(queue.path)) as ledger:
        ledger.execute("UPDATE reviews SET taken_at = 1")
        ledger.commit()
    queue.decide(Held(0).id, "bob", "accept")
    found = report(queue.path)
    assert (found.reviewed, found.all.panel, found.all.both) == (1, 1, 0)


def test_the_threshold_is_that_of_the_runs_recipe(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0, votes=(5, 4)), recipe="gates: {agreement: {min_median: 4.75}}"))
    queue.decide(Held(0).id, "ann", "reject", code="wrong")
    found = report(queue.path)
    assert (found.threshold, found.all.neither) == (4.75, 1)


def test_what_was_skipped_undone_or_not_voted_on_counts_for_nobody(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0), Held(1), several(2), Held(3, votes=(None, None)), recipe="gates: {agreement: false}"))
    queue.decide(Held(0).id, "ann", "skip")
    queue.decide(Held(1).id, "ann", "accept")
    queue.undo("ann")
    queue.decide(several(2).id, "ann", "reject", code="wrong")
    queue.decide(Held(3).id, "ann", "accept")
    found = report(queue.path)
    assert (found.reviewed, found.unvoted, found.all.accuracy.of, found.all.kappa) == (2, 2, 0, None)
    assert found.all.accuracy.value is None


def test_the_audit_sample_stands_apart_from_the_hard_cases(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, *(sampled(number) for number in range(5)), Held(5)))
    for number, decision in enumerate(("accept", "accept", "accept", "reject", "edit", "reject")):
        queue.decide(sampled(number).id, "ann", decision, code="wrong", row={"answer": "Better."} if decision == "edit" else None)
    found = report(queue.path)
    assert found.audit.rejected == Share(count=1, of=5, value=0.2, between=wilson(1, 5))
    assert (found.audit.not_as_it_was.count, found.audit.size) == (2, 59)
    assert {code: one.accuracy.of for code, one in found.reasons.items()} == {"agreement.disagree": 1, "review.sample": 5}


def test_a_run_that_nobody_reviewed_has_no_figures(tmp_path: Path) -> None:
    found = report(written(tmp_path, Held(0)))
    assert (found.reviewed, found.all.why, found.audit.rejected.value) == (0, "nothing was rated by both", None)
