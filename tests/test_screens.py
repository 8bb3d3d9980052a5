"""Listings and the report: readable in a narrow terminal as in a wide one, and nothing in them is cut."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from leafmill import screens
from leafmill.records import Row, Turn
from leafmill.report import LeafReport, Report, RoleReport

WORDS = st.lists(st.sampled_from(["gate", "[red]", "instruction", "回答", "0.95"]), max_size=30).map(" ".join)
RULE = "instruction and answer are complete, and neither too short nor too long"
GATES = [
    {"gate": "length", "stage": "screen, check", "rule": RULE, "settings": "min=3, max=1500"},
    {"gate": "exact", "stage": "admit", "rule": "the same prompt was accepted before", "settings": None},
]


def listed(rows: list[Mapping[str, Any]], width: int) -> list[str]:
    file = StringIO()
    screens.table(rows, Console(file=file, width=width))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@given(
    st.lists(st.fixed_dictionaries({"name": st.sampled_from(["a", "b-and-c"]), "languages": WORDS, "good for": WORDS}), min_size=1),
    st.integers(40, 130),
)
def test_nothing_is_cut_whatever_the_width(rows: list[Mapping[str, Any]], width: int) -> None:
    lines = listed(rows, width)
    assert max(map(cell_len, lines)) <= width
    said = re.sub(r"\s", "", "".join(lines))
    for row in rows:
        for value in row.values():
            for word in value.split():
                assert word in said


def test_in_a_wide_terminal_cells_stand_side_by_side() -> None:
    lines = listed(GATES, 130)
    assert re.fullmatch(r"length +screen, check +instruction and answer are .* too long +min=3, max=1500", lines[1])
    assert len(lines) == 3


def test_in_a_narrow_one_long_cells_stand_below_their_row_and_empty_ones_nowhere() -> None:
    rows = [{**row, "settings": row["settings"] and "min_instruction=3, max_instruction=1500"} for row in GATES]
    assert listed(rows, 70) == [
        "gate    stage",
        "length  screen, check",
        "    rule: instruction and answer are complete, and neither too short",
        "    nor too long",
        "    settings: min_instruction=3, max_instruction=1500",
        "exact   admit",
        "    rule: the same prompt was accepted before",
    ]


def test_columns_that_are_short_but_too_many_go_below_too() -> None:
    row = {"role": "annotator-correctness", "variant": "en", "stage": "annotate", "model": "judge", "prompt": "ff4519e2e712739a"}
    assert listed([row], 60) == [
        "role                   variant  stage     model",
        "annotator-correctness  en       annotate  judge",
        "    prompt: ff4519e2e712739a",
    ]


@pytest.mark.parametrize("width", [40, 130])
def test_a_listing_of_nothing_says_so(width: int) -> None:
    assert listed([], width) == ["(none)"]


# -- the report --------------------------------------------------------------------------------------------------------


def reported(width: int, *leaves: LeafReport, **roles: RoleReport) -> list[str]:
    file = StringIO()
    screens.report(Report(leaves=list(leaves), roles=roles), Console(file=file, width=width))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def leaf(path: str, money: float | None, unpriced_calls: int) -> LeafReport:
    return LeafReport(
        leaf=path, asked=5, states={"accepted": 5}, outcome="met", calls=40, tokens=123456, money=money, unpriced_calls=unpriced_calls
    )


@pytest.mark.parametrize("width", [80, 130])
def test_money_of_which_some_is_unknown_is_a_sum_and_a_question_mark(width: int) -> None:
    lines = reported(width, leaf("a/all-known", 1.25, 0), leaf("a/some-known", 0.5, 10), leaf("a/none-known", None, 40))
    said = {line.split()[0]: line for line in lines if line}
    assert re.search(r" 1\.25 +met$", said["a/all-known"])
    assert re.search(r" 0\.5 \+ \? +met$", said["a/some-known"])
    assert re.search(r" \? +met$", said["a/none-known"])
    assert re.search(r" 1\.75 \+ \? +3 of 3 met$", said["all"])
    assert max(map(cell_len, lines)) <= width


def test_where_nothing_has_a_price_there_is_no_column_of_money() -> None:
    lines = reported(80, leaf("a/b", None, 40))
    assert "money" not in lines[1]
    assert re.search(r" 123456 +met$", lines[2])


def test_each_role_has_a_line_with_its_calls_and_times_the_slowest_first() -> None:
    quick = RoleReport(calls=120, failed=2, tokens=9000, retries=7, p50=0.25, p95=2.5)
    lines = reported(
        80, leaf("a/b", None, 40), writer=quick, critic=RoleReport(calls=30, p50=4.0, p95=31.0), evolver=RoleReport(failed=1, calls=1)
    )
    at = lines.index("how each role's calls went")
    assert [line.split() for line in lines[at + 1 : at + 5]] == [
        ["role", "calls", "failed", "retries", "tokens", "p50", "p95"],
        ["critic", "30", "0", "0", "0", "4.0", "s", "31.0", "s"],
        ["writer", "120", "2", "7", "9000", "0.25", "s", "2.5", "s"],
        ["evolver", "1", "1", "0", "0"],
    ]


def test_a_conversation_is_shown_turn_by_turn_with_its_last_exchange_below() -> None:
    row = Row(
        language="en",
        instruction="And water?",
        answer="After ten days.",
        reasoning="The cut must dry.",
        history=(Turn(role="user", content="Can I keep the soil?"), Turn(role="assistant", content="No [it is foul].")),
    )
    file = StringIO()
    screens.row_panel(row.model_dump(), Console(file=file, width=60))
    said = [line.strip("│ ") for line in file.getvalue().splitlines()]
    order = ["user", "Can I keep the soil?", "assistant", "No [it is foul].", "instruction", "And water?", "reasoning", "answer"]
    assert [line for line in said if line in order] == order


def test_a_terminal_shows_what_a_model_wrote_and_does_not_obey_it() -> None:
    import io

    from rich.console import Console

    from leafmill import screens

    out = io.StringIO()
    screens.row_panel(
        {"instruction": "\x1b[2J\x1b]0;owned\x07 tidy \u202eup", "answer": "a\x9bb"}, Console(file=out, width=80), "\x1b[31mrow"
    )
    assert not set(out.getvalue()) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "tidy" in out.getvalue()
