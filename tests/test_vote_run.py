"""Candidates that are answered several times: which answer becomes the row, by vote, jury, grade or reward, and what if none does."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, shelf, taxonomy, told

from agents.scripted import Reply, Request, ScriptedServer
from graphs.estimate import estimate
from graphs.prepare import prepare
from leafmill import report, trace
from leafmill.errors import RecipeError, TaxonomyError
from leafmill.ledger import Ledger
from leafmill.runfolder import RunFolder

NOBODY = "http://127.0.0.1:9/v1"
WAYS = (
    "Count the sheets one by one as you walk along it.",
    "Take the number of folders and multiply by what each of them holds, which is quicker.",
    "Ask the clerk who filled it last, then check one folder to be sure.",
    "Weigh the whole pile and divide by the weight of a single page.",
)
"""each in words of its own"""


def says(case: Case, way: int, final: Any, mark: str = "Answer: ") -> str:
    return f"For {case.leaf}-{case.number}: {WAYS[way % len(WAYS)]}\n{mark}{final}"


class Sampled:
    """An answerer whose samples differ: by model and candidate, the lines in turn."""

    def __init__(self, **lines: Sequence[Callable[[Case], Any]]) -> None:
        self.lines, self.said = lines, defaultdict[tuple[str, Case], int](int)

    def __call__(self, request: Request, case: Case) -> Any:
        model = request.model.removeprefix("scripted-")
        at = self.said[model, case]
        self.said[model, case] += 1
        lines = self.lines[model]
        return lines[at % len(lines)](case)


def final(number: Any, way: int = 0, mark: str = "Answer: ") -> Callable[[Case], str]:
    return lambda case: says(case, way, number, mark)


def choosing(
    folder: Path, server: ScriptedServer | str, answers: dict[str, Any], k: int = 3, mode: dict[str, Any] | None = None, **more: Any
) -> Any:
    """A recipe of one leaf whose candidates are answered k times; the models qwen, glm and yi may answer, llama and gemma may judge."""
    taxonomy(folder, settings={"a": {"mode": {"answers": k, **(mode or {})}}})
    model = {
        "base_url": server if isinstance(server, str) else server.base_url,
        "attempts": 2,
        "patience": 5,
        "timeout": 10,
        "concurrency": 32,
    }
    names = {"generator": "qwen", "glm": "glm", "yi": "yi", "judge": "llama", "second": "gemma"}
    models = {alias: {**model, "model": f"scripted-{name}"} for alias, name in names.items()}
    given = {"target": 1, "flow": {"evolve_rounds": 0}, "models": models, "limits": {"candidates_per_leaf": 1}, **more}
    return recipe(folder, server, answers=answers, **given)


def chosen(folder: Path) -> dict[str, Any]:
    """What the lineage says of the choice."""
    (made,) = (one for one in told(folder).of(0)["lineage"]["made"] if one["part"] == "answer")
    about: dict[str, Any] = made["vote"]
    return about


def verdict(folder: Path, gate: str) -> dict[str, Any]:
    (one,) = (one for one in told(folder).verdicts if one["gate"] == gate)
    return one


ALL = {"models": ["generator", "glm", "yi"]}


# -- the vote ----------------------------------------------------------------------------------------------------------


async def test_the_answer_of_most_families_is_the_row(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=Sampled(qwen=[final("0.50")], glm=[final("50", 1)], yi=[final("５０%", 2, "答案：")]))
    run = await go(choosing(tmp_path, server, ALL), tmp_path)
    assert run.exit_code == 0
    row, about = told(tmp_path).rows[0], chosen(tmp_path)
    assert "0.50" in row["answer"] or "５０%" in row["answer"]
    assert about["votes"] == pytest.approx({"1/2": 2 / 3, "50": 1 / 3})
    assert [one["final"] for one in about["answers"]] == ["1/2", "50", "1/2"]
    assert about["answers"][about["sample"]]["final"] == "1/2"
    assert row["answer"] not in json.dumps(about)  # it is in the trace; here it could bring a refused answer into an export
    given = verdict(tmp_path, "vote")
    assert (given["decision"], given["threshold"]) == ("accept", 0.6)
    assert given["value"] == pytest.approx(2 / 3)
    calls = [call for call in told(tmp_path).calls if call["role"] == "answerer"]
    assert sorted(call["alias"] for call in calls) == ["generator", "glm", "yi"]
    assert len({call["params"]["seed"] for call in calls}) == 3


async def test_T27_ten_samples_of_one_family_do_not_outvote_two_others(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=Sampled(qwen=[final(7, way) for way in range(4)], glm=[final(18)], yi=[final(18, 1)]))
    answers = {"models": [*["generator"] * 10, "glm", "yi"]}
    await go(choosing(tmp_path, server, answers, k=12), tmp_path)
    assert chosen(tmp_path)["votes"] == pytest.approx({"18": 2 / 3, "7": 1 / 3})
    assert told(tmp_path).rows[0]["answer"].endswith("Answer: 18")


async def test_without_a_consensus_a_candidate_waits_with_all_its_answers(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=Sampled(qwen=[final(7)], glm=[final(8, 1)], yi=[final(9, 2)]))
    wanted = choosing(tmp_path, server, ALL)
    run = await go(wanted, tmp_path)
    assert run.exit_code != 0
    candidate = told(tmp_path).of(0)
    assert (candidate["state"], candidate["stage"], candidate["code"]) == ("waiting", "vote", "vote.no_consensus")
    assert candidate["row"]["answer"] == ""
    assert [(one["final"], one["answer"][-1]) for one in chosen(tmp_path)["answers"]] == [("7", "7"), ("8", "8"), ("9", "9")]
    assert verdict(tmp_path, "vote")["decision"] == "unscorable"
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        assert report.read(ledger).total.reasons == {"vote:vote.no_consensus": 1}
        assert len(trace.listing(ledger, state="waiting", code="vote.no_consensus")) == 1
        events = trace.read(ledger, candidate["id"]).events
    assert [event["role"] for event in events if event["kind"] == "call"].count("answerer") == 3
    before = len(server.requests)
    await go(wanted, tmp_path)
    assert len(server.requests) == before  # it is decided


async def test_the_shares_are_those_of_the_recipe(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=Sampled(qwen=[final(7)], glm=[final(7, 1)], yi=[final(9, 2)]))
    await go(choosing(tmp_path, server, {**ALL, "share": 0.7}), tmp_path)
    assert told(tmp_path).of(0)["code"] == "vote.no_consensus"


async def test_a_leaf_may_set_them_too(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=Sampled(qwen=[final(7)], glm=[final(7, 1)], yi=[final(9, 2)]))
    wanted = choosing(tmp_path, server, {**ALL, "share": 0.7})
    taxonomy(tmp_path, settings={"a": {"mode": {"answers": 3}, "answers": {"share": 0.5}}})
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted"


async def test_an_answer_that_a_gate_refuses_does_not_win_however_many_give_it(tmp_path: Path, server: ScriptedServer) -> None:
    def refuses(case: Case) -> str:
        return "I'm sorry, but as an AI language model I cannot help with that.\nAnswer: 7"

    lines = {"qwen": [refuses], "glm": [refuses], "yi": [final(9)]}
    server.script = Cast(answerer=Sampled(**lines))
    await go(choosing(tmp_path, server, ALL), tmp_path)
    assert told(tmp_path).of(0)["code"] == "vote.no_consensus"  # it keeps its share, and gives it to nobody
    assert [one["code"][:7] if "code" in one else "" for one in chosen(tmp_path)["answers"]] == ["refusal", "refusal", ""]


async def test_where_all_are_refused_the_gate_at_the_door_says_so(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer="I'm sorry, but as an AI language model I cannot help with that.")
    await go(choosing(tmp_path, server, ALL), tmp_path)
    candidate = told(tmp_path).of(0)
    assert (candidate["state"], candidate["stage"], candidate["code"]) == ("rejected", "check", "refusal.apology")


async def test_T28_an_answer_with_a_wrong_sum_does_not_win(tmp_path: Path, server: ScriptedServer) -> None:
    right, wrong = final("<<3*6=18>>18\n#### 18", mark=""), final("<<3*6=17>>17\n#### 17", mark="")
    server.script = Cast(answerer=Sampled(qwen=[right], glm=[wrong], yi=[wrong]))
    await go(choosing(tmp_path, server, {**ALL, "share": 0.3}), tmp_path)
    assert told(tmp_path).rows[0]["answer"].endswith("#### 18")
    assert [one.get("code") for one in chosen(tmp_path)["answers"]] == [None, "equations.wrong", "equations.wrong"]
    server.script = Cast(answerer=Sampled(qwen=[wrong], glm=[wrong], yi=[wrong]))
    (tmp_path / "other").mkdir()
    await go(choosing(tmp_path / "other", server, ALL), tmp_path / "other")
    assert (told(tmp_path / "other").of(0)["state"], told(tmp_path / "other").of(0)["code"]) == ("rejected", "equations.wrong")


def sums_to_rewrite(folder: Path, output: str) -> dict[str, Any]:
    """Candidates that say a row of a data set in other words, which has a right answer."""
    row = {"instruction": "How many sheets lie on the shelf of three folders with six each?", "output": output}
    (folder / "rows.jsonl").write_text(json.dumps(row))
    return {"mode": {"write": "rewrite", "answers": 3}, "source": {"rewrite": {"path": "rows.jsonl", "operations": ["paraphrase"]}}}


def reworded(request: Request, case: Case) -> dict[str, str]:
    return {"instruction": f"On shelf {shelf(case)} stand three folders of six sheets: how many are they for a-0? See invoice a-0."}


async def test_where_the_right_answer_is_known_the_majority_does_not_win_against_it(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(rewriter=reworded, answerer=Sampled(qwen=[final(18)], glm=[final(20, 1)], yi=[final(20, 2)]))
    wanted = choosing(tmp_path, server, ALL)
    taxonomy(tmp_path, settings={"a": sums_to_rewrite(tmp_path, "Three times six.\n#### 18")})
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted", told(tmp_path).of(0)["detail"]
    assert told(tmp_path).rows[0]["answer"].endswith("Answer: 18")
    assert [one["right"] for one in chosen(tmp_path)["answers"]] == [True, False, False]


async def test_where_no_answer_is_right_a_candidate_waits(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(rewriter=reworded, answerer=Sampled(qwen=[final(20)], glm=[final(20, 1)], yi=[final(20, 2)]))
    wanted = choosing(tmp_path, server, {**ALL, "by": "grade"})
    taxonomy(tmp_path, settings={"a": sums_to_rewrite(tmp_path, "18")})
    await go(wanted, tmp_path)
    assert (told(tmp_path).of(0)["state"], told(tmp_path).of(0)["code"]) == ("waiting", "vote.unverified")
    assert server.count("grader") == 0


async def test_verified_stands_over_liked(tmp_path: Path, server: ScriptedServer) -> None:
    """The grader likes a wrong answer best; it is not even asked about it."""
    server.script = Cast(rewriter=reworded, answerer=Sampled(qwen=[final(18)], glm=[final(20, 1)], yi=[final(18, 2)]))
    wanted = choosing(tmp_path, server, {**ALL, "by": "grade"})
    taxonomy(tmp_path, settings={"a": sums_to_rewrite(tmp_path, "18")})
    await go(wanted, tmp_path)
    assert told(tmp_path).rows[0]["answer"].endswith("Answer: 18")
    assert server.count("grader") == 2


async def test_an_instruction_that_was_evolved_is_not_held_to_its_sources_answer(tmp_path: Path, server: ScriptedServer) -> None:
    def harder(request: Request, case: Case) -> dict[str, str]:
        return {
            "instruction": f"{reworded(request, case)['instruction']} Two sheets more are added to the first; count them, too.",
            "input": "",
        }

    server.script = Cast(rewriter=reworded, evolver=harder, answerer=Sampled(qwen=[final(20)], glm=[final(20, 1)], yi=[final(20, 2)]))
    wanted = choosing(tmp_path, server, ALL, flow={"evolve_rounds": 1, "breadth_share": 0.0})
    taxonomy(tmp_path, settings={"a": sums_to_rewrite(tmp_path, "18")})
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted", told(tmp_path).of(0)["detail"]


async def test_one_call_that_fails_does_not_end_the_others(tmp_path: Path, server: ScriptedServer) -> None:
    lines = {"qwen": [final(18)], "glm": [final(18, 1)], "yi": [lambda case: Reply("no such thing", status=400, code="bad_request")]}
    server.script = Cast(answerer=Sampled(**lines))
    await go(choosing(tmp_path, server, ALL), tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted"
    failed = chosen(tmp_path)["answers"][2]
    assert failed["code"]
    assert "answer" not in failed


async def test_fewer_than_two_answers_are_an_error_and_those_that_came_are_not_paid_again(tmp_path: Path, server: ScriptedServer) -> None:
    broken = lambda case: Reply("no such thing", status=400, code="bad_request")  # noqa: E731
    server.script = Cast(answerer=Sampled(qwen=[final(18)], glm=[broken], yi=[broken]))
    wanted = choosing(tmp_path, server, ALL)
    await go(wanted, tmp_path)
    assert told(tmp_path).of(0)["state"] == "errored"
    server.script = Cast(answerer=Sampled(qwen=[final(99)], glm=[final(18, 1)], yi=[final(18, 2)]))
    await go(wanted, tmp_path)
    assert told(tmp_path).rows[0]["answer"].endswith("Answer: 18")
    assert chosen(tmp_path)["votes"] == {"18": 1.0}  # qwen's first answer was read from the ledger


async def test_a_candidate_that_reasons_keeps_the_way_of_the_answer_that_won(tmp_path: Path, server: ScriptedServer) -> None:
    def reasoned(way: int, number: int) -> Callable[[Case], Any]:
        return lambda case: {
            "reasoning": f"Way {way}: {WAYS[way]} It is {number}.",
            "answer": f"It is for {case.leaf}-{case.number}, so: \nAnswer: {number}",
        }

    server.script = Cast(reasoner=Sampled(qwen=[reasoned(0, 7)], glm=[reasoned(1, 18)], yi=[reasoned(1, 18)]))
    await go(choosing(tmp_path, server, ALL, mode={"depth": "cot"}), tmp_path)
    row = told(tmp_path).rows[0]
    assert (row["answer"][-2:], row["reasoning"][:5]) == ("18", "Way 1")


async def test_every_answer_of_a_conversation_is_chosen(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = choosing(tmp_path, server, {"by": "jury"}, k=2, mode={"turns": 2})
    await go(wanted, tmp_path)
    found = told(tmp_path)
    assert found.of(0)["state"] == "accepted", found.of(0)["detail"]
    assert [call["role"] for call in found.calls].count("answerer") == 4
    assert len([one for one in found.of(0)["lineage"]["made"] if "vote" in one]) == 2


# -- the jury ----------------------------------------------------------------------------------------------------------


def essay(word: str) -> Callable[[Case], str]:
    """An open answer: it names no final one."""
    rest = "and then put the sheet behind the last one, so that whoever comes next finds it at once without asking anybody"
    return lambda case: f"{word.capitalize()} is where it starts for {case.leaf}-{case.number} on {shelf(case)}: look there first, {rest}."


def shown(request: Request) -> tuple[str, str]:
    first, second = (request.task.split(f"<answer_{letter}>\n")[1].split(f"\n</answer_{letter}>")[0] for letter in "ab")
    return first, second


def prefers(word: str) -> Callable[[Request, Case], Any]:
    def line(request: Request, case: Case) -> Any:
        first, second = shown(request)
        better = "A" if word in first else "B" if word in second else "tie"
        return {"rationale": "It starts at the right place.", "verdict": better}

    return line


def open_answers() -> Sampled:
    return Sampled(qwen=[essay("cellar")], glm=[essay("attic")], yi=[essay("garden")])


async def test_open_answers_are_chosen_by_a_jury_in_both_orders(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers(), juror=prefers("Attic"))
    await go(choosing(tmp_path, server, ALL), tmp_path)
    assert told(tmp_path).rows[0]["answer"].startswith("Attic")
    seen = [shown(one.request) for one in server.requests if one.role == "juror"]
    assert len(seen) == 4  # two matches, each in both orders
    assert {(second, first) for first, second in seen} == set(seen)
    about = chosen(tmp_path)
    assert [match["outcome"] for match in about["matches"]].count("tie") < 2
    assert verdict(tmp_path, "jury")["decision"] == "accept"


async def test_T24_a_juror_that_favours_a_place_decides_nothing(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers(), juror={"rationale": "The first one.", "verdict": "A"})
    await go(choosing(tmp_path, server, ALL), tmp_path)
    candidate = told(tmp_path).of(0)
    assert (candidate["state"], candidate["code"]) == ("waiting", "jury.no_winner")
    assert len(chosen(tmp_path)["answers"]) == 3


async def test_T24_a_juror_that_cannot_be_heard_is_no_tie(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers(), juror="no verdict at all")
    await go(choosing(tmp_path, server, ALL), tmp_path)
    assert told(tmp_path).of(0)["code"] == "jury.unheard"
    assert {match["outcome"] for match in chosen(tmp_path)["matches"]} == {"unscored"}


async def test_T29_the_second_judge_sees_the_same_pairs_as_the_first(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers(), juror=prefers("Garden"))
    await go(choosing(tmp_path, server, {**ALL, "jurors": ["judge", "second"]}), tmp_path)
    seen = {
        model: sorted(shown(one.request) for one in server.requests if one.model == model and one.role == "juror")
        for model in ("scripted-llama", "scripted-gemma")
    }
    assert seen["scripted-llama"] == seen["scripted-gemma"]
    assert len(seen["scripted-llama"]) == 4
    assert told(tmp_path).rows[0]["answer"].startswith("Garden")


async def test_answers_in_the_same_words_need_no_jury(tmp_path: Path, server: ScriptedServer) -> None:
    await go(choosing(tmp_path, server, {"by": "jury"}), tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted"
    assert server.count("juror") == 0


async def test_by_jury_means_by_jury_even_where_a_vote_could_decide(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=Sampled(qwen=[final(18)], glm=[final(18, 1)], yi=[final(7, 2)]), juror=prefers("Answer: 7"))
    await go(choosing(tmp_path, server, {**ALL, "by": "jury"}), tmp_path)
    assert told(tmp_path).rows[0]["answer"].endswith("Answer: 7")


# -- the best of n -----------------------------------------------------------------------------------------------------


def grades(**by_word: int | None) -> Callable[[Request, Case], Any]:
    def line(request: Request, case: Case) -> Any:
        for word, grade in by_word.items():
            if word in request.task:
                return {"rationale": "As it is.", "grade": grade} if grade else "cannot say"
        raise AssertionError(request.task)

    return line


async def test_the_best_graded_answer_is_the_row(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers(), grader=grades(Cellar=6, Attic=4, Garden=9))
    await go(choosing(tmp_path, server, {**ALL, "by": "grade"}), tmp_path)
    assert told(tmp_path).rows[0]["answer"].startswith("Garden")
    assert [one["grades"][0]["value"] for one in chosen(tmp_path)["answers"]] == [6, 4, 9]
    assert verdict(tmp_path, "grade")["value"] == pytest.approx(9 - 19 / 3)


async def test_T25_a_grade_that_cannot_be_read_is_no_zero(tmp_path: Path, server: ScriptedServer) -> None:
    """The mean of 8 and 6 is 7; a zero among them would make it less, and the lead of the best too large."""
    server.script = Cast(answerer=open_answers(), grader=grades(Cellar=8, Attic=None, Garden=6))
    await go(choosing(tmp_path, server, {**ALL, "by": "grade", "lead": 1.0}), tmp_path)
    assert verdict(tmp_path, "grade")["value"] == 1.0
    assert [one["grades"][0]["value"] for one in chosen(tmp_path)["answers"]] == [8, None, 6]


async def test_a_lead_that_is_too_small_is_refused(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers(), grader=grades(Cellar=8, Attic=7, Garden=6))
    await go(choosing(tmp_path, server, {**ALL, "by": "grade", "lead": 1.5}), tmp_path)
    assert (told(tmp_path).of(0)["state"], told(tmp_path).of(0)["code"]) == ("rejected", "grade.too_close")


async def test_without_a_grade_a_candidate_waits(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers(), grader="cannot say")
    await go(choosing(tmp_path, server, {**ALL, "by": "grade"}), tmp_path)
    assert (told(tmp_path).of(0)["state"], told(tmp_path).of(0)["code"]) == ("waiting", "grade.unscored")


async def test_a_grader_of_ones_own_may_reply_in_text(tmp_path: Path, server: ScriptedServer) -> None:
    (tmp_path / "mine").mkdir()
    head = "name: grader\nstage: grade\nlanguage: LANGUAGE\nreply: text"
    for language in ("en", "zh"):
        file = tmp_path / "mine" / f"grader.{language}.md"
        file.write_text(f"---\n{head.replace('LANGUAGE', language)}\n---\nGrade from 1 to 10: {{{{ instruction }}}} {{{{ answer }}}}\n")
    said = {"Cellar": "The worst of all. Score: 1/10", "Attic": "I like it. 评分：８", "Garden": "Hm."}
    server.script = Cast(answerer=open_answers(), grader=lambda request, case: next(said[word] for word in said if word in request.task))
    await go(choosing(tmp_path, server, {**ALL, "by": "grade"}, prompts="mine"), tmp_path)
    assert [one["grades"][0]["value"] for one in chosen(tmp_path)["answers"]] == [1, 8, None]
    assert chosen(tmp_path)["answers"][2]["grades"][0]["failed"] == "unreadable_grade"
    assert told(tmp_path).rows[0]["answer"].startswith("Attic")


async def test_the_answer_with_the_highest_reward_is_the_row(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(answerer=open_answers())
    await go(choosing(tmp_path, server, {**ALL, "by": "reward", "reward": server.base_url}), tmp_path)
    answers = chosen(tmp_path)["answers"]
    best = max(answers, key=lambda one: one["reward"])
    assert chosen(tmp_path)["sample"] == best["sample"]
    assert len({one["reward"] for one in answers}) == 3
    assert verdict(tmp_path, "reward")["value"] == pytest.approx(best["reward"] - sum(one["reward"] for one in answers) / 3)


async def test_T29_an_answer_with_a_heading_survives(tmp_path: Path, server: ScriptedServer) -> None:
    def headed(case: Case) -> str:
        first, then = "Look the number up first, then walk to its shelf.", "Put the sheet behind the last one."
        return f"# Filing {case.leaf}-{case.number}\n\n{first}\n\n#### Afterwards\n\n{then}"

    server.script = Cast(
        answerer=Sampled(qwen=[headed], glm=[essay("attic")], yi=[essay("garden")]), grader=grades(Filing=9, Attic=3, Garden=4)
    )
    await go(choosing(tmp_path, server, {**ALL, "by": "grade"}), tmp_path)
    assert told(tmp_path).rows[0]["answer"].startswith("# Filing")


# -- before a run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"models": ["nobody"]}, "unknown model alias 'nobody'"),
        ({"jurors": ["nobody"]}, "unknown model alias 'nobody'"),
        ({"models": ["judge"]}, "of the family 'llama' that also answers"),
        ({"jurors": ["glm"], "models": ["glm"]}, "'glm' judges, and is of the family 'glm'"),
        ({"by": "reward"}, "there is no `reward` model under `answers`"),
        ({"by": "reward", "reward": "org/Reward-Qwen-1B"}, "of the family 'qwen' that also answers"),
    ],
)
def test_who_answers_and_who_judges_is_checked_before_a_call(tmp_path: Path, answers: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml") as caught:
        prepare(choosing(tmp_path, NOBODY, answers))
    assert message in str(caught.value)


def test_a_leaf_may_not_name_what_answers_does_not_have(tmp_path: Path) -> None:
    taxonomy(tmp_path, settings={"a": {"answers": {"shares": 0.5}}})
    with pytest.raises(TaxonomyError, match=r"unknown setting of `answers` 'shares'"):
        prepare(recipe(tmp_path, NOBODY))


def test_where_one_answer_is_enough_nobody_needs_a_juror(tmp_path: Path) -> None:
    roles = {"planner": {"off": True}, "juror": {"off": True}, "grader": {"off": True}}
    prepare(recipe(tmp_path, NOBODY, roles=roles))
    taxonomy(tmp_path, settings={"a": {"mode": {"answers": 2}}})
    with pytest.raises(RecipeError, match="no role of stage 'jury'"):
        prepare(recipe(tmp_path, NOBODY, roles=roles))
    prepare(recipe(tmp_path, NOBODY, roles=roles, answers={"verifiable": "number"}))


@pytest.mark.parametrize(("by", "role", "calls"), [("jury", "juror", 4), ("grade", "grader", 3)])
async def test_plan_cost_knows_what_k_answers_and_their_judges_take(
    tmp_path: Path, server: ScriptedServer, by: str, role: str, calls: int
) -> None:
    server.script = Cast(answerer=open_answers(), juror=prefers("Attic"))
    wanted = choosing(tmp_path, server, {**ALL, "by": by})
    found = estimate(prepare(wanted), RunFolder(tmp_path / "run"), acceptance=1.0)
    expected = {one.role: one for one in found.roles}
    assert (expected["answerer"].calls, expected["answerer"].models) == (round(3 * 1.2 * 1.02), ["generator", "glm", "yi"])
    assert expected[role].calls == round(calls * 1.2 * 1.02)
    await go(wanted, tmp_path)
    assert server.count(role) == calls
    assert found.total["least"].calls <= len(told(tmp_path).calls) <= found.total["most"].calls


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_a_dry_run_makes_up_answers_and_verdicts(tmp_path: Path, server: ScriptedServer, language: str) -> None:
    server.script = None
    wanted = choosing(tmp_path, server, ALL, languages=[language], target=2, limits={"candidates_per_leaf": 8})
    await go(wanted, tmp_path)
    assert told(tmp_path).states["accepted"] == 2, [(one["code"], one["detail"]) for one in told(tmp_path).candidates]
    assert server.count("juror") > 0
