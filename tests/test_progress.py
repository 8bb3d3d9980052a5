"""The live screen: it fits the terminal, shows what moves and what is slow, and guesses the time left from what is accepted."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from graphs.leaf import Outcome
from leafmill.latencies import Latencies
from leafmill.progress import WINDOW, Pace, Progress, duration

NARROW, BROAD = (80, 24), (130, 40)


def job(name: str, accepted: int = 0, under_way: int = 0, outcome: str = "", codes: Mapping[str, int] | None = None) -> Any:
    """A leaf of which 20 rows are wanted."""
    return SimpleNamespace(
        leaf=SimpleNamespace(path=f"programming/software-engineering/{name}"),
        target=20,
        accepted=accepted,
        under_way=under_way,
        started=accepted + under_way + sum((codes or {}).values()),
        new=Counter(accepted=accepted),
        codes=Counter(codes),
        outcome=Outcome(outcome) if outcome else None,  # type: ignore[arg-type]
    )


def lane(limit: int = 8, in_flight: int = 8, waiting: int = 0, refusals: int = 0, resting: float = 0.0) -> Any:
    return SimpleNamespace(limit=limit, in_flight=in_flight, waiting=waiting, refusals=refusals, resting=resting)


def latencies(**seconds: list[float]) -> dict[str, Latencies]:
    found = {name.replace("_", "-"): Latencies() for name in seconds}
    for took, values in zip(found.values(), seconds.values(), strict=True):
        for value in values:
            took.add(value)
    return found


def run(*jobs: Any, roles: Any = None, lanes: Any = None, money: float | None = 1.5, priced: bool = True) -> Any:
    """What the screen reads of a run."""
    recipe = SimpleNamespace(currency="CNY", models={"one": SimpleNamespace(price="some" if priced else None)})
    return SimpleNamespace(
        jobs=list(jobs),
        chat=SimpleNamespace(latencies=roles or {}, calls=1200),
        budget=SimpleNamespace(spent=SimpleNamespace(tokens=18_233_211, money=money)),
        governors=lanes or {},
        stopping=asyncio.Event(),
        prepared=SimpleNamespace(recipe=recipe),
    )


def shown(run: Any, size: tuple[int, int] = BROAD) -> list[str]:
    """The lines of the live screen in a terminal of this size."""
    file = StringIO()
    console = Console(file=file, width=size[0], height=size[1], force_terminal=True, color_system=None)
    console.print(Progress(run, console).picture())
    return [line.rstrip() for line in file.getvalue().splitlines()]


EIGHT = latencies(**{f"role_{i}": [float(i), float(i), 10.0 * i] for i in range(1, 9)})
FOUR = {f"a-model-with-a-name-that-goes-on at https://models-{i}.example.com/v1": lane(waiting=i) for i in range(4)}


@pytest.mark.parametrize("size", [NARROW, BROAD, (80, 12), (40, 24)])
@pytest.mark.parametrize("leaves", [1, 4, 50])
def test_the_screen_fits_whatever_there_is_to_show(size: tuple[int, int], leaves: int) -> None:
    jobs = [job(f"refactoring/leaf-{i:02}", i % 20, i % 3, codes={"minhash.duplicate": 30, "agreement.disagree": 8}) for i in range(leaves)]
    lines = shown(run(*jobs, roles=EIGHT, lanes=FOUR), size)
    assert max(cell_len(line) for line in lines) <= size[0]
    if size[1] >= 24:
        assert len(lines) < size[1]


@pytest.mark.parametrize("size", [NARROW, BROAD])
def test_below_the_leaves_there_are_a_dozen_lines_or_so(size: tuple[int, int]) -> None:
    lines = shown(run(job("a"), roles=EIGHT, lanes=FOUR), size)
    assert len(lines) - 2 <= 13


def test_of_many_leaves_those_that_move_are_shown_and_the_others_counted() -> None:
    idle = [job(f"idle-{i:02}") for i in range(30)]
    done = [job(f"done-{i:02}", 20, outcome="met") for i in range(17)]
    lines = shown(run(*idle, *done, job("busy-1", 3, under_way=2), job("busy-2", under_way=1), job("poor", 1, outcome="starved")), NARROW)
    assert ["busy-1" in lines[1], "busy-2" in lines[2], "poor" in lines[3]] == [True] * 3
    (told,) = (line for line in lines if line.startswith("and "))
    more, met, idle_ones = (int(one) for one in re.fullmatch(r"and (\d+) more: (\d+) met, (\d+) not begun", told).groups())  # type: ignore[union-attr]
    assert (met, more) == (17, met + idle_ones)
    assert sum("idle-" in line for line in lines) == 30 - idle_ones


def test_leaves_that_fit_keep_their_order() -> None:
    lines = shown(run(job("c"), job("a", 2, under_way=4), job("b", 20, outcome="met")))
    assert [line.split("/")[2][0] for line in lines[1:4]] == ["c", "a", "b"]


def test_of_a_path_that_is_too_long_the_end_is_shown() -> None:
    lines = shown(run(job("debugging/a-leaf-in-the-depth/编程")), NARROW)
    assert re.match(r"…\S*in-the-depth/编程 +0/20", lines[1])


def test_a_leaf_says_how_it_ended_and_why_others_are_not_in() -> None:
    lines = shown(run(job("a", 3, outcome="starved", codes={"minhash.duplicate": 5, "length.short": 9})))
    assert lines[1].endswith("starved: 9 length.short, 5 minhash.duplicate")


def test_the_slowest_roles_come_first_with_their_usual_and_slow_times() -> None:
    roles = latencies(writer=[1.0] * 19 + [30.0], critic=[2.0] * 10, planner=[100.0, 200.0])
    lines = shown(run(job("a"), roles=roles))
    at = [next(i for i, line in enumerate(lines) if line.startswith(name)) for name in ("planner", "critic", "writer")]
    assert at == sorted(at)
    assert [re.split(r"  +|(?<=s) ", line)[:4] for line in lines if line.startswith("planner")] == [
        ["planner", "2 1 min 40 s", "3 min 20 s"]
    ]
    assert re.match(r"writer +20 +1\.0 s +1\.0 s$", lines[at[2]])
    assert "and 4 faster" in "\n".join(shown(run(job("a"), roles=EIGHT)))


def test_an_endpoint_shows_its_places_its_line_its_refusals_and_its_rest() -> None:
    lanes = {"qwen at https://models.example.com/v1": lane(limit=4, in_flight=2, waiting=30, refusals=88, resting=12.3)}
    (line,) = (line for line in shown(run(job("a"), lanes=lanes), NARROW) if line.startswith("qwen"))
    assert re.split(r" {2,}", line) == ["qwen at models.example.com", "2/4", "30", "88 rests 13 s"]


def test_endpoints_that_rest_or_keep_calls_waiting_come_first() -> None:
    lanes = {"idle": lane(), "full": lane(waiting=3), "resting": lane(resting=1.0), "last": lane()}
    text = "\n".join(shown(run(job("a"), lanes=lanes)))
    assert re.search(r"(?s)resting .*full .*idle .*and 1 more +8/8 +0 +0", text)


@pytest.mark.parametrize(
    ("money", "priced", "expected"),
    [(1.5, True, "tokens, 1.50 CNY"), (0.00123, True, "tokens, 0.0012 CNY"), (None, True, "tokens, ? CNY"), (None, False, "tokens")],
)
def test_money_is_shown_where_there_are_prices_and_a_question_mark_where_some_is_unknown(
    money: float | None, priced: bool, expected: str
) -> None:
    assert shown(run(job("a"), money=money, priced=priced))[-1].endswith(f"18,233,211 {expected}")


def test_a_run_that_stops_says_so() -> None:
    stopped = run(job("a", 3))
    stopped.stopping.set()
    assert "stopping: calls in flight are waited for" in shown(stopped)[-2]


# -- the time left -----------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 50.0), st.integers(2, 60), st.integers(1, 1000))
def test_at_an_even_pace_the_time_left_is_the_missing_rows_at_that_pace(each: float, rows: int, missing: int) -> None:
    pace = Pace()
    for i in range(rows):
        pace.see(i * each, i)
    assert pace.seconds_for(missing) == pytest.approx(missing * each)


def test_the_time_left_is_unknown_before_the_first_row_and_when_none_comes_any_more() -> None:
    pace = Pace()
    assert pace.seconds_for(5) is None
    for second in range(30):
        pace.see(float(second), 0)
    assert pace.seconds_for(5) is None
    pace.see(30.0, 1)
    assert pace.seconds_for(5) == pytest.approx(150.0)
    for second in range(31, 31 + int(WINDOW) + 31):
        pace.see(float(second), 1)
    assert pace.seconds_for(5) is None


def test_only_the_pace_of_late_counts() -> None:
    pace = Pace(window=100.0)
    for second in range(1000):
        pace.see(float(second), second // 10 if second < 500 else 50 + (second - 500))
    assert pace.seconds_for(60) == pytest.approx(60.0, rel=0.02)


def test_rows_of_an_earlier_run_are_no_pace_and_starved_leaves_miss_nothing() -> None:
    earlier = job("a", 10)
    earlier.new = Counter()
    assert "10/20 rows in 0 s, ? to go" in shown(run(earlier))[-2]
    progress = Progress(run(job("a", 10), job("b", 2, outcome="starved")), Console(file=StringIO()))
    progress._pace.see(0.0, 0)
    found = progress.figures()
    assert found.left == pytest.approx(10 * progress._pace._seen[-1][0] / 12)


@given(st.floats(0, 1e6))
def test_a_duration_is_never_more_than_two_units(seconds: float) -> None:
    said = duration(seconds)
    assert len(re.findall(r"\d+ (?:s|min|h)", said)) <= 2
    assert re.sub(r"\d+ (?:s|min|h) ?", "", said) == ""


def test_latencies_know_the_last_512_and_count_all() -> None:
    took = Latencies()
    assert (took.p50, took.p95, took.count) == (None, None, 0)
    for i in range(1000):
        took.add(float(i))
    assert (took.p50, took.p95, took.count) == (743.0, 974.0, 1000)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_a_quantile_is_one_of_the_values_and_that_share_lies_at_or_below_it(values: list[float]) -> None:
    took = Latencies()
    for value in values:
        took.add(value)
    for share in (0.5, 0.95, 1.0):
        found = took.quantile(share)
        assert found in values
        assert sum(value <= found for value in values) >= share * len(values)
        assert sum(value < found for value in values) < share * len(values)


# -- elsewhere than on a terminal --------------------------------------------------------------------------------------


def test_elsewhere_than_on_a_terminal_the_figures_are_an_event_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "leafmill")
    going = run(job("a", 3, under_way=2, codes={"minhash.duplicate": 5}), job("b", 20, outcome="met"), lanes={"m": lane(waiting=7)})
    going.chat.latencies = latencies(writer=[1.0], critic=[4.0])
    Progress(going, Console(file=StringIO())).tell()
    (line,) = caplog.messages
    assert re.fullmatch(
        r"run goes on seconds=\S+ accepted=23 asked=40 under_way=2 calls=1200 tokens=18233211 money=1\.5 waiting=7 left=\S+ met=1/2 "
        r'not_in="5 minhash\.duplicate" slowest="critic 4\.0 s"',
        line,
    )
