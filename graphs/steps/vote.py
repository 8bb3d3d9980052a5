"""The node of candidates that are answered several times, of which one answer is chosen.

    k answers, all at once -> those that may win (gates of `check`, sums that hold; where a right answer is known, those that give it)
                           -> vote | jury | grade | reward -> one answer, or a state that says why there is none

An answer that may not win does not end the others; what becomes of each, and of the choice, stands in the lineage. No consensus is a
state: the candidate waits for a person, with all its answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agents import answerer, grader, juror
from agents.chat import Reply
from agents.role_gate import RoleGate
from agents.together import together
from filters.gate import refusal
from filters.grounding import Grounding
from filters.scoring.reward import rank
from filters.voting import equations
from filters.voting.best import Best, best, graded
from filters.voting.canonical import Form, forms, is_verifiable
from filters.voting.jury import Match, Outcome, knockout, majority
from filters.voting.vote import Ballot, count, middle
from graphs.state import Context, State, Update
from graphs.steps import revise
from graphs.steps.node import made_by, subject_in
from leafmill.errors import CallError
from leafmill.ledger import Ending, Step
from leafmill.recipe import Answers
from leafmill.records import Decision, Row, Verdict, digest

FEWEST = 2
"""answers that must come, for one of them to be chosen"""
WRONG_SUM = "equations.wrong"


@dataclass
class Answer:
    """One of the k, and what became of it: `code` says why it may not win."""

    sample: int
    alias: str
    family: str
    row: Row
    reply: Reply | None = None
    """None where none came"""
    code: str = ""
    form: Form | None = None
    marks: dict[str, Any] = field(default_factory=dict)
    """what the choice went by"""

    @property
    def way(self) -> str:
        """All of it, the way to the answer included."""
        return f"{self.row.reasoning}\n{self.row.answer}".strip()

    def told(self, whole: bool) -> dict[str, Any]:
        """As the lineage keeps it. `whole`: with its words, for who has to look at a candidate that has no answer; of another they stand in
        the trace alone, for what a gate has refused must not get into an export by way of the lineage."""
        origin = {"model": self.reply.model, "variant": self.reply.role.variant} if self.reply else {}
        said = {"answer": self.row.answer, "reasoning": self.row.reasoning} if self.reply and whole else {}
        final = {"final": self.form.key, "kind": self.form.kind} if self.form else {}
        found = {**origin, **said, **final, "code": self.code, **self.marks}
        return {
            "sample": self.sample,
            "alias": self.alias,
            "family": self.family,
            **{k: v for k, v in found.items() if v not in ("", None)},
        }


@dataclass(frozen=True)
class Choice:
    """`answer` is None where none was chosen; the verdict says why, `told` on what grounds."""

    answer: Answer | None
    verdict: Verdict
    told: Mapping[str, Any] = field(default_factory=dict)


async def vote(state: State, context: Context, step: Step) -> Update:
    answers = await _ask(state, context, step)
    came = [one for one in answers if one.reply]
    may_win = [one for one in came if not one.code]
    seq = step.seq
    if may_win:
        here = step._replace(seq=step.seq + 1, name=step.name.replace("vote", "choose", 1))
        choice = await _choose(state, context, here, may_win, came)
        context.ledger.note_verdict(here, choice.verdict)
        seq = here.seq
    else:
        choice = _none_may(came)
        if choice.answer is None:
            context.ledger.note_verdict(step, choice.verdict)
    kept = [one for one in state["lineage"] if one["part"] != "answer"]
    winner = choice.answer
    about = {
        "by": choice.verdict.gate,
        "code": choice.verdict.code,
        **choice.told,
        "answers": [one.told(winner is None) for one in answers],
    }
    if winner is None:
        lineage = [*kept, {"part": "answer", "step": step.name, "vote": about}]
        return {"seq": seq, **_without_answer(choice.verdict, {**state, "lineage": lineage}, context, step)}
    assert winner.reply is not None, "it is chosen of those that came"
    made = {**made_by("answer", step, winner.reply), "vote": {"sample": winner.sample, **about}}
    done: Update = {"row": winner.row, "cut_off": winner.reply.cut_off, "votes": [], "lineage": [*kept, made]}
    return {**done, "seq": seq, "answered": state["answered"] + 1}


async def _ask(state: State, context: Context, step: Step) -> list[Answer]:
    """The k answers, by the models in turn, each held against what an answer must pass. Raises the CallError of one that failed when fewer
    than two came: then there is nothing to choose from."""
    brief, models = state["brief"], context.answers.models or [""]

    async def ask(sample: int) -> tuple[Answer, CallError | None]:
        alias = models[sample % len(models)]
        try:
            row, reply = await answerer.answer(
                context.chat, context.leaf, brief, state["row"], step, state["feedback"], sample, alias or None
            )
        except CallError as fault:
            return Answer(sample, alias, alias, state["row"], code=fault.code), fault
        player = context.chat.aliases[alias] if alias else context.chat.alias(reply.role)
        answer = Answer(sample, player.name, player.model.kin, row, reply)
        answer.code = await _why_not(answer, state, context, step)
        return answer, None

    found = await together(ask(sample) for sample in range(brief.mode.answers))
    faults = [fault for _, fault in found if fault]
    if faults and len(found) - len(faults) < FEWEST:
        raise faults[0]
    return [answer for answer, _ in found]


async def _why_not(answer: Answer, state: State, context: Context, step: Step) -> str:
    """Why an answer may not win; "" when it may. Gates that ask a model are asked about the winner only, at the door."""
    if equations.wrong(answer.way):
        return WRONG_SUM
    subject = subject_in("check", {**state, "row": answer.row, "cut_off": bool(answer.reply and answer.reply.cut_off)}, step)
    free = [gate for gate in context.gates.get("check", ()) if not isinstance(gate, RoleGate | Grounding)]
    verdict = await refusal(free, subject)
    return verdict.code if verdict else ""


def _none_may(came: Sequence[Answer]) -> Choice:
    """The first that a gate refuses goes to the door, which says so; where all their sums are wrong, that is it."""
    at_door = next((one for one in came if one.code != WRONG_SUM), None)
    wrong = equations.wrong(came[0].way)
    return Choice(at_door, _verdict("vote", "reject", at_door.code if at_door else WRONG_SUM, None, equation=None if at_door else wrong))


def _without_answer(verdict: Verdict, state: State, context: Context, step: Step) -> Update:
    """No answer was chosen. An earlier answer, which was to be revised, stays; else the candidate ends."""
    if state.get("earlier") is not None:
        return revise.give_back(state, context, {"step": step.name, "refused": verdict.code, "stays": False})
    end: Literal["waiting", "rejected"] = "waiting" if verdict.decision == "unscorable" else "rejected"
    return {"ending": Ending(end, "vote", verdict.code, verdict.sentence), "lineage": state["lineage"]}


async def _choose(state: State, context: Context, step: Step, may_win: list[Answer], came: Sequence[Answer]) -> Choice:
    """By a vote where the answers can be compared, or else by whom the settings name; only among those that are right, where that is
    known."""
    settings = context.answers
    reference = _reference(state)
    *found, right = forms([*(one.row.answer for one in may_win), reference], settings.verifiable)
    for one, form in zip(may_win, found, strict=True):
        one.form = form
    by = settings.by
    if by == "auto":
        by = "vote" if is_verifiable(found, settings.verifiable) else "jury"
    if right is not None and any(form and form.kind == right.kind for form in found):  # else nobody answered in a way that it is told by
        for one in may_win:
            one.marks["right"] = one.form is not None and one.form.key == right.key
        if not (may_win := [one for one in may_win if one.marks["right"]]):
            return Choice(None, _verdict(by, "unscorable", "vote.unverified", settings, reference=right.key))
        came = may_win
    if by == "vote":
        return _voted(came, settings)
    if by == "jury":
        return await _preferred(state, context, step, may_win)
    texts = [one.row.answer for one in may_win]
    if by == "grade":
        chosen = best(graded(await _grades(state, context, step, may_win), texts), texts, settings.lead)
    else:
        assert context.reward is not None, "`by: reward` is refused where no reward model is named"
        model, asked = context.reward, state["row"].asked
        rewards = await together(model.score(asked, text) for text in texts)
        for one, reward in zip(may_win, rewards, strict=True):
            one.marks |= {"reward": reward.value, "failed": reward.code}
        chosen = best(rank(rewards), texts, settings.lead)
    return _best(by, chosen, may_win, settings)


def _reference(state: State) -> str:
    """The right answer, where the instruction has one from its source and has not been changed since; else ""."""
    source, changed = state["brief"].source, any(not one.refused for one in state["evolutions"]) or state["row"].history
    return source.output if source and not changed else ""


def _voted(answers: Sequence[Answer], settings: Answers) -> Choice:
    """The vote of all who answered: who may not win keeps its share of the family's vote, and gives it to nobody."""
    ballots = [Ballot(one.family, one.form.key if one.form and not one.code else None) for one in answers]
    tally = count(ballots, settings.share, settings.margin)
    told = {"margin": tally.margin, "needs_margin": settings.margin, "families": tally.families, "votes": tally.shares}
    decided: Decision = "accept" if tally.winner else "unscorable"
    code = "ok" if tally.winner else "vote.no_consensus"
    verdict = _verdict("vote", decided, code, settings, value=tally.share, threshold=settings.share, **told)
    agreeing = [one for one in answers if tally.winner and one.form and not one.code and one.form.key == tally.winner]
    chosen = agreeing[middle([one.way for one in agreeing])] if agreeing else None
    return Choice(chosen, verdict, {"share": tally.share, "margin": tally.margin, "votes": tally.shares})


async def _preferred(state: State, context: Context, step: Step, answers: Sequence[Answer]) -> Choice:
    """The jury's choice: all jurors see the same pairs, each in both orders."""
    row, jurors = state["row"], context.answers.jurors or [""]
    texts = [one.row.answer for one in answers]
    matches: list[dict[str, Any]] = []

    async def play(round_: Sequence[Match]) -> list[Outcome]:
        pairs = [(match, alias) for match in round_ for alias in jurors]
        compared = (
            juror.compare(context.chat, context.leaf, state["brief"], row, texts[match.one], texts[match.other], step, alias)
            for match, alias in pairs
        )
        heard = await together(compared)
        outcomes: list[Outcome] = []
        for at, match in enumerate(round_):
            of_match = heard[at * len(jurors) : (at + 1) * len(jurors)]
            outcomes.append(majority(one.outcome for one in of_match))
            samples = [answers[match.one].sample, answers[match.other].sample]
            matches.append({"samples": samples, "outcome": outcomes[-1], "jurors": [asdict(one) for one in of_match]})
        return outcomes

    result = await knockout(texts, play)
    outcomes = Counter[str](one.outcome for one in result.played)
    code = "ok" if result.winner is not None else "jury.unheard" if outcomes["unscored"] == outcomes.total() else "jury.no_winner"
    verdict = _verdict("jury", "accept" if code == "ok" else "unscorable", code, context.answers, matches=outcomes.total(), **outcomes)
    return Choice(None if result.winner is None else answers[result.winner], verdict, {"matches": matches})


async def _grades(state: State, context: Context, step: Step, answers: Sequence[Answer]) -> list[list[float | None]]:
    """By grader, the grade of each answer; of equal answers the first is graded."""
    texts = dict.fromkeys(one.row.answer for one in answers)
    graders = context.answers.jurors or [""]
    asked = (
        grader.grade(context.chat, context.leaf, state["brief"], state["row"].model_copy(update={"answer": text}), step, alias)
        for alias in graders
        for text in texts
    )
    given = await together(asked)
    by_grader = [dict(zip(texts, given[at : at + len(texts)], strict=True)) for at in range(0, len(given), len(texts))]
    for one in answers:
        one.marks["grades"] = [asdict(of_one[one.row.answer]) for of_one in by_grader]
    return [[of_one[one.row.answer].value for one in answers] for of_one in by_grader]


def _best(by: str, chosen: Best, answers: Sequence[Answer], settings: Answers) -> Choice:
    for one, value in zip(answers, chosen.values, strict=True):
        one.marks["lead"] = value
    decided: dict[str, Decision] = {"ok": "accept", "unscored": "unscorable", "too_close": "reject"}
    code = chosen.code if chosen.code == "ok" else f"{by}.{chosen.code}"
    told = {"length_rho": chosen.length_rho, "by_length": chosen.by_length}
    verdict = _verdict(by, decided[chosen.code], code, settings, value=chosen.lead, threshold=settings.lead, **told)
    return Choice(None if chosen.place is None else answers[chosen.place], verdict, told)


def _verdict(
    by: str,
    decision: Decision,
    code: str,
    settings: Answers | None,
    *,
    value: float | None = None,
    threshold: float | None = None,
    **why: Any,
) -> Verdict:
    version = f"{by}@{digest(settings.model_dump() if settings else None, length=8)}"
    evidence = {name: found for name, found in why.items() if found is not None}
    return Verdict(gate=by, decision=decision, code=code, value=value, threshold=threshold, evidence=evidence, version=version)
