"""What is read from a ledger after a run: the report, traces, listings and the dataset. One scripted run serves all tests here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from terminal import LEAVES, RECIPE, leafmill, write_recipe

from leafmill import export, report, screens, trace
from leafmill.errors import DiskError, InputError, RunFolderError
from leafmill.ledger import CALLS, CANDIDATES, VOTES, Call, Ledger, Step
from leafmill.records import Brief, Row, Turn, Usage

SECRET = "sk-55-never-to-be-seen"
SAFETY = """\
---
name: annotator-safety
stage: annotate
reply:
  rationale: str
  score: {type: int, min: 4, max: 5}
---
{{ answer }}
"""
POLISHER = """\
---
name: polisher
after: answer
writes: answer
---
Polish this. {{ answer }}
"""
MORE = "target: 4\nprompts: mine\nroles: {annotator-clarity: {off: true}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a recipe with roles of its own has been run, with a secret in the environment."""
    here = tmp_path_factory.mktemp("read")
    (here / "mine").mkdir()
    (here / "mine" / "annotator-safety.md").write_text(SAFETY)
    (here / "mine" / "polisher.md").write_text(POLISHER)
    (here / ".env").write_text(f"SMALL_KEY={SECRET}\n")
    said = leafmill(here, "run", write_recipe(here, RECIPE.replace("target: 2\n", MORE)), "--scripted")
    assert said.code == 0, said
    return here / "runs" / "small-scripted"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with Ledger(folder / "ledger.db", read_only=True) as opened:
        yield opened


def accepted(ledger: Ledger) -> list[dict[str, Any]]:
    return ledger.rows(sa.select(CANDIDATES).where(CANDIDATES.c.state == "accepted").order_by(CANDIDATES.c.leaf, CANDIDATES.c.number))


# -- the report --------------------------------------------------------------------------------------------------------


def test_the_numbers_of_a_leaf_add_up_to_what_was_started(ledger: Ledger) -> None:
    found = report.read(ledger)
    started = Counter(row["leaf"] for row in ledger.rows(sa.select(CANDIDATES.c.leaf)))
    assert {leaf.leaf: leaf.started for leaf in found.leaves} == dict(started)
    for leaf in [*found.leaves, found.total]:
        states = ("accepted", "rejected", "errored", "waiting", "open")
        assert leaf.started == sum(leaf.states.get(state, 0) for state in states)
        assert leaf.started - leaf.accepted == sum(leaf.reasons.values())


def test_a_leaf_that_is_met_has_as_many_accepted_rows_as_were_asked_for(ledger: Ledger) -> None:
    found = report.read(ledger)
    assert [(leaf.leaf, leaf.asked, leaf.accepted, leaf.outcome) for leaf in found.leaves] == [(leaf, 4, 4, "met") for leaf in LEAVES]
    assert (found.total.asked, found.total.accepted, found.total.outcome) == (8, 8, "2 of 2 met")


def test_calls_and_tokens_are_those_of_the_ledger(ledger: Ledger) -> None:
    total, calls = report.read(ledger).total, ledger.rows(sa.select(CALLS))
    assert total.calls == len(calls)
    assert total.tokens == sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls)
    assert total.tokens_per_accepted == total.tokens / total.accepted


async def test_a_leaf_that_was_met_and_is_taken_up_again_is_not_finished(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as fresh:
        await fresh.note_leaf("a/b", 1, "met", "")
        assert report.read(fresh).leaves[0].outcome == "met"
        await fresh.begin(Brief(id="x", leaf="a/b", number=0, language="en"))
        (leaf,) = report.read(fresh).leaves
    assert (leaf.outcome, leaf.started, leaf.accepted) == ("not finished", 1, 0)


def test_a_report_of_nothing_is_empty(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as fresh:
        found = report.read(fresh)
    assert (found.leaves, found.roles, found.total.started, found.total.tokens_per_accepted) == ([], {}, 0, None)
    assert (found.total.money, found.total.unpriced_calls) == (0.0, 0)


def call(leaf: str, role: str = "writer", **changes: Any) -> Call:
    return Call(
        "k",
        Step("x", leaf, 1, "write"),
        role,
        "en",
        "hash",
        "generator",
        "m",
        [],
        {},
        **{"usage": Usage(prompt=1, completion=2), **changes},
    )


async def test_money_is_the_sum_of_what_is_known_and_never_a_zero_for_what_is_not(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as fresh:
        for made in (call("a/whole", cost=0.5), call("a/whole", cost=0.25), call("b/part", cost=1.0), call("b/part"), call("c/none")):
            await fresh.record_call(made)
        await fresh.note_leaf("d/unasked", 1, "not finished", "")
        found = report.read(fresh)
    assert {leaf.leaf: (leaf.money, leaf.unpriced_calls) for leaf in [*found.leaves, found.total]} == {
        "a/whole": (0.75, 0),
        "b/part": (1.0, 1),
        "c/none": (None, 1),
        "d/unasked": (0.0, 0),
        "all": (1.75, 2),
    }
    assert report.Report(leaves=found.leaves[2:], roles={}).total.money is None


async def test_roles_are_told_by_calls_tokens_retries_and_the_seconds_of_those_that_succeeded(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as fresh:
        for seconds in range(1, 21):
            await fresh.record_call(call("a/b", seconds=float(seconds), attempts=1 + (seconds > 18)))
        await fresh.record_call(call("c/d", seconds=600.0, attempts=4, status="timeout", usage=Usage()))
        await fresh.record_call(call("c/d", "critic", attempts=0, status="template_error", usage=Usage()))
        found = report.read(fresh)
    assert found.roles == {
        "critic": report.RoleReport(calls=1, failed=1, tokens=0, retries=0, p50=None, p95=None),
        "writer": report.RoleReport(calls=21, failed=1, tokens=60, retries=5, p50=10.0, p95=19.0),
    }


def test_the_roles_of_a_run_add_up_to_its_leaves(ledger: Ledger) -> None:
    found = report.read(ledger)
    assert sum(role.calls for role in found.roles.values()) == found.total.calls
    assert sum(role.tokens for role in found.roles.values()) == found.total.tokens
    assert all(role.p50 and role.p95 and role.p50 <= role.p95 for role in found.roles.values())


def test_the_audit_sizes_of_five_and_one_percent_are_59_and_299() -> None:
    assert (report.audit_size(0.05, 0.95), report.audit_size(0.01, 0.95)) == (59, 299)


@given(share=st.floats(0.001, 0.5), confidence=st.floats(0.5, 0.999))
def test_an_audit_is_as_small_as_its_confidence_allows(share: float, confidence: float) -> None:
    size = report.audit_size(share, confidence)
    assert (1 - share) ** size <= (1 - confidence) * (1 + 1e-9)
    assert size == 0 or (1 - share) ** (size - 1) > (1 - confidence) * (1 - 1e-9)


@pytest.mark.parametrize("width", [80, 130])
def test_the_report_shows_leaf_numbers_and_outcome_in_any_terminal(ledger: Ledger, width: int) -> None:
    out = StringIO()
    screens.report(report.read(ledger), Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    row = next(line for line in lines if line.startswith("programming/"))
    assert "4/4" in row
    assert row.rstrip().endswith("met")


# -- traces and listings -----------------------------------------------------------------------------------------------


def test_a_trace_holds_every_call_vote_and_verdict_in_the_order_of_steps(ledger: Ledger) -> None:
    found = trace.read(ledger, accepted(ledger)[0]["id"])
    steps = [event["seq"] for event in found.events]
    assert steps == sorted(steps)
    assert Counter(event["kind"] for event in found.events)["vote"] >= 3
    roles = [event["role"] for event in found.events if event["kind"] == "call"]
    assert (roles[0], roles[-1]) == ("writer", "critic")
    calls = [event for event in found.events if event["kind"] == "call"]
    assert found.tokens == sum(event["prompt_tokens"] + event["completion_tokens"] for event in calls)
    assert all(event["endpoint"].startswith("http") and "cost" in event for event in calls)


def test_a_candidate_is_found_by_the_beginning_of_its_id_and_by_leaf_and_number(ledger: Ledger) -> None:
    id_ = accepted(ledger)[0]["id"]
    number = accepted(ledger)[0]["number"]
    assert trace.read(ledger, id_[:10]).candidate["id"] == trace.read(ledger, f"{LEAVES[0]}#{number}").candidate["id"] == id_


@pytest.mark.parametrize(
    ("id_", "problem"),
    [("", "several candidates have"), *((id_, "no candidate has") for id_ in ("zzz", "%", "_", "a#b", f"{LEAVES[0]}#999"))],
)
def test_an_id_that_fits_none_or_several_is_said_so(ledger: Ledger, id_: str, problem: str) -> None:
    with pytest.raises(RunFolderError, match=problem):
        trace.read(ledger, id_)


def test_candidates_are_listed_by_leaf_state_and_reason(ledger: Ledger) -> None:
    every = trace.listing(ledger, limit=1000)
    assert len(every) == report.read(ledger).total.started
    assert {row["leaf"] for row in trace.listing(ledger, leaf="*/locate-error")} == {LEAVES[0]}
    assert len(trace.listing(ledger, state="accepted")) == 8
    assert {row["code"] for row in trace.listing(ledger, code="quota_met")} <= {"quota_met"}
    with pytest.raises(InputError, match="unknown state 'accept': did you mean 'accepted'"):
        trace.listing(ledger, state="accept")


def test_a_sample_is_spread_over_the_leaves(ledger: Ledger) -> None:
    assert [row["leaf"] for row in trace.sample(ledger, 4)] == [*LEAVES, *LEAVES]
    assert {row["leaf"] for row in trace.sample(ledger, 3, LEAVES[1])} == {LEAVES[1]}


@pytest.mark.parametrize("width", [80, 130])
def test_a_listing_has_one_line_for_each_candidate_with_its_whole_id(ledger: Ledger, width: int) -> None:
    out = StringIO()
    listed = trace.listing(ledger)
    screens.candidates(listed, Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert len(lines) == len(listed) + len(LEAVES)
    assert all(sum(row["id"] in line and row["state"] in line for line in lines) == 1 for row in listed)


# -- the dataset -------------------------------------------------------------------------------------------------------


def exported(ledger: Ledger, path: Path, format_: str, **options: bool) -> list[dict[str, Any]]:
    export.write(ledger, path, format_, **options)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_alpaca_has_the_accepted_rows_and_no_others(ledger: Ledger, tmp_path: Path) -> None:
    rows = exported(ledger, tmp_path / "a.jsonl", "alpaca")
    assert [(row["id"], row["instruction"], row["input"], row["output"]) for row in rows] == [
        (one["id"], one["row"]["instruction"], one["row"]["input"], one["row"]["answer"]) for one in accepted(ledger)
    ]


def test_messages_are_one_user_and_one_assistant_message_with_the_input_in_the_first(ledger: Ledger, tmp_path: Path) -> None:
    rows = exported(ledger, tmp_path / "deep" / "m.jsonl", "messages")
    for row, one in zip(rows, accepted(ledger), strict=True):
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"], assistant["content"]) == ("user", "assistant", one["row"]["answer"])
        assert user["content"].startswith(one["row"]["instruction"])
        assert user["content"].endswith(one["row"]["input"])


def test_chinese_stands_in_the_file_as_it_is(ledger: Ledger, tmp_path: Path) -> None:
    exported(ledger, tmp_path / "a.jsonl", "alpaca")
    text = (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    chinese = [one["row"]["instruction"] for one in accepted(ledger) if one["language"] == "zh"]
    assert chinese
    assert all(instruction in text for instruction in chinese)
    assert "\\u" not in text


def test_the_lineage_says_why_a_row_is_there_and_who_made_which_part_of_it(ledger: Ledger, tmp_path: Path) -> None:
    prompts = {(call["role"], call["variant"], call["prompt_hash"], call["model"]) for call in ledger.rows(sa.select(CALLS))}
    for row in exported(ledger, tmp_path / "a.jsonl", "alpaca"):
        lineage = row["lineage"]
        assert lineage["leaf"] in LEAVES
        assert {"difficulty", "programming_language"} <= set(lineage["axes"])
        assert {part["part"] for part in lineage["made"]} == {"instruction", "answer"}
        assert all((part["role"], part["variant"], part["prompt"], part["model"]) in prompts for part in lineage["made"])
        assert set(lineage["votes"].values()) <= {1, 2, 3, 4, 5}
        assert {"length", "exact", "minhash", "agreement", "critic"} <= set(lineage["gates"])
        assert all(version.startswith(f"{gate}@") for gate, version in lineage["gates"].items())
        assert {"agreement", "critic"} <= set(lineage["scores"])


def test_lineage_can_be_left_out(ledger: Ledger, tmp_path: Path) -> None:
    assert {"lineage"} & set().union(*exported(ledger, tmp_path / "a.jsonl", "alpaca", lineage=False)) == set()


def test_a_failed_export_leaves_the_old_file_as_it_was(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="it is a folder"):
        export.write(ledger, tmp_path, "alpaca")
    (tmp_path / "file").write_text("old")
    with pytest.raises(DiskError, match="cannot be written"):
        export.write(ledger, tmp_path / "file" / "a.jsonl", "alpaca")
    assert (tmp_path / "file").read_text() == "old"


# -- roles of one's own ------------------------------------------------------------------------------------------------


def test_an_annotator_that_was_dropped_in_has_voted_and_one_that_is_off_has_not(ledger: Ledger) -> None:
    voters = {row["role"] for row in ledger.rows(sa.select(VOTES.c.role))}
    assert voters - {"arbiter"} == {"annotator-correctness", "annotator-helpfulness", "annotator-safety"}
    asked = {row["role"] for row in ledger.rows(sa.select(CALLS.c.role))}
    assert "annotator-clarity" not in asked


def test_a_role_after_the_answer_has_a_node_and_its_reply_is_in_row_and_lineage(ledger: Ledger) -> None:
    for one in accepted(ledger):
        answers = [part for part in one["lineage"]["made"] if part["part"] == "answer"]
        assert [part["role"] for part in answers] == ["answerer", "polisher"]
        said = [event for event in trace.read(ledger, one["id"]).events if event.get("role") == "polisher"]
        assert said[-1]["reply"].strip() == one["row"]["answer"]


# -- what is written down and what is not ------------------------------------------------------------------------------


def test_the_recipe_and_the_prompts_are_kept_as_they_were_used(folder: Path) -> None:
    assert (folder / "prompts" / "polisher.md").read_text() == POLISHER
    assert "name: small-scripted" in (folder / "recipe.yaml").read_text()


def test_a_secret_is_in_no_file_of_the_run(folder: Path, ledger: Ledger) -> None:
    export.write(ledger, folder / "export" / "a.jsonl", "alpaca")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"ledger.db", "recipe.yaml", "a.jsonl"} <= {path.name for path in files}
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_conversation_is_exported_whole_or_not_at_all() -> None:
    history = (Turn(role="user", content="写一首诗"), Turn(role="assistant", content="海阔天空。"))
    row = Row(language="zh", instruction="再短一点", answer="海阔。", history=history)
    said = export.messages(row, "海。")["messages"]
    assert [turn["content"] for turn in said] == ["写一首诗", "海阔天空。", "再短一点", "海。"]
    with pytest.raises(InputError, match="no Alpaca row: '写一首诗' has 3 turns"):
        export.alpaca(row, row.answer)
