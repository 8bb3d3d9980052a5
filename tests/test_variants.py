"""How operators and prompt variants fared, read from a ledger: counted by candidates that were judged, with what the rate may be."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from leafmill import report, screens, variants
from leafmill.ledger import Call, Ending, Ledger, Step
from leafmill.records import Brief, Usage

Said = tuple[str, str, str]
"""role, variant, status"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


async def candidate(
    ledger: Ledger, number: int, state: Any, calls: list[Said], evolutions: list[tuple[str, str]] | None = None, code: str = ""
) -> None:
    """One whose calls (role, variant, status) took 10 tokens each."""
    brief = Brief(id=f"c{number}", leaf="t/a", number=number, language="en")
    await ledger.begin(brief)
    for n, (role, variant, status) in enumerate(calls):
        step, usage = Step(brief.id, brief.leaf, n, f"{role}.{n}"), Usage(prompt=8, completion=2)
        await ledger.record_call(Call(f"{number}.{n}", step, role, variant, "h", "generator", "m", [], {}, status=status, usage=usage))
    if state != "open":
        made = [{"operator": operator, "refused": refused} for operator, refused in evolutions or []]
        await ledger.finish(brief, Ending(state, "x", code), None, {"made": [], **({"evolutions": made} if made else {})})


WRITER, PERSONA, FAILED = ("writer", "en", "ok"), ("writer", "persona.en", "ok"), ("writer", "persona.en", "unreadable_reply")


async def filled(ledger: Ledger) -> None:
    answerer = ("answerer", "en", "ok")
    await candidate(ledger, 0, "accepted", [WRITER, answerer, answerer], [("deepen", ""), ("breadth", "evolution.equal")])
    await candidate(ledger, 1, "accepted", [PERSONA, answerer], [("deepen", "evolution.no_gain")])
    await candidate(ledger, 2, "rejected", [FAILED, PERSONA, answerer], [("deepen", "")], code="critic.low")
    await candidate(ledger, 3, "rejected", [PERSONA], [("deepen", "evolution.no_gain")], code="exact.duplicate")
    await candidate(ledger, 4, "rejected", [WRITER], [("deepen", "")], code="quota_met")
    await candidate(ledger, 5, "waiting", [WRITER], [("deepen", "")])
    await candidate(ledger, 6, "errored", [FAILED])
    await candidate(ledger, 7, "open", [WRITER])


async def test_an_operator_is_told_what_became_of_its_children(ledger: Ledger) -> None:
    await filled(ledger)
    found = variants.read(ledger).operators
    assert (found["deepen"].tried, found["deepen"].accepted, found["deepen"].refused) == (4, 1, {"evolution.no_gain": 2})
    assert (found["breadth"].tried, found["breadth"].accepted, found["breadth"].refused) == (1, 0, {"evolution.equal": 1})


async def test_a_variant_is_told_by_the_judged_candidates_it_spoke_in_once_each_and_all_its_tokens(ledger: Ledger) -> None:
    await filled(ledger)
    found = {(one.role, one.variant): (one.tried, one.accepted, one.tokens) for one in variants.read(ledger).variants}
    assert found == {
        ("answerer", "en"): (3, 2, 40),
        ("writer", "en"): (1, 1, 40),
        ("writer", "persona.en"): (3, 1, 50),
    }


async def test_the_report_shows_operators_and_only_roles_that_vary(ledger: Ledger) -> None:
    await filled(ledger)
    out = StringIO()
    found = report.read(ledger)
    screens.report(found, Console(file=out, width=130))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["deepen", "4", "1", "25%", "5%", "to", "70%", "2", "evolution.no_gain"] in lines
    assert ["writer", "persona.en", "3", "1", "33%", "6%", "to", "79%", "50"] in lines
    assert not any(line[:2] == ["answerer", "en"] for line in lines)
    assert found.model_dump()["varied"]["operators"]["deepen"]["interval"] == found.varied.operators["deepen"].interval


def test_a_report_of_a_run_without_evolutions_says_nothing_of_them(ledger: Ledger) -> None:
    out = StringIO()
    found = report.read(ledger)
    screens.report(found, Console(file=out, width=130))
    assert (found.varied.operators, found.varied.variants) == ({}, [])
    assert "evolutions" not in out.getvalue()


@given(st.integers(1, 400), st.data())
def test_the_interval_holds_the_rate_lies_in_0_to_1_and_is_mirrored(tried: int, data: st.DataObject) -> None:
    accepted = data.draw(st.integers(0, tried))
    low, high = variants.wilson(accepted, tried)
    assert 0 <= low <= accepted / tried + 1e-12
    assert accepted / tried - 1e-12 <= high <= 1
    assert variants.wilson(tried - accepted, tried) == pytest.approx((1 - high, 1 - low))


def test_the_interval_is_that_of_the_textbook() -> None:
    """Both ends solve |p - share| = z * sqrt(p * (1 - p) / n)."""
    for end in variants.wilson(8, 10):
        assert abs(end - 0.8) == pytest.approx(variants.Z * (end * (1 - end) / 10) ** 0.5)
