"""What a run will take, leaf by leaf, before a token is spent.

    least      every candidate is accepted, nothing is done twice
    expected   by the rates of the folder's own ledger, where enough has been judged in it; else by the assumptions named below
    most       all candidates that `limits` allows, each through every loop as often as `flow` allows, every call repaired once, every
               text and reply as long as it may be: a bound, as far as tokens can be counted without the model's own tokeniser

What is accepted already is not asked for again; a candidate that an earlier run left on its way counts as a new one, though its recorded
calls will be read. Not in it: tries that end without an answer, which are not billed as a rule; embeddings; candidates that are still
under way when their leaf becomes full.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, Literal

from pydantic import BaseModel, computed_field

from agents.planner import PAGE
from agents.stages import ANSWERING, BY_DEPTH, WRITING
from agents.syllabus import PAGES
from agents.tool_writer import TRIES
from graphs import gold
from graphs.history import FEW, NOTHING, History
from graphs.players import answers_of, flow_of, stages_of, unpriced
from graphs.prepare import Prepared
from graphs.rehearsal import Ask, Rehearsal
from leafmill.ledger import Spent
from leafmill.recipe import EmbeddingEndpoint, Flow, Limits, Recipe
from leafmill.records import Mode, Usage
from leafmill.runfolder import RunFolder
from taxonomy import Leaf, plan_of

ACCEPTED = 0.5
"""Assumed share of the candidates that is accepted."""
REVISED = 0.2
"""Assumed share of the answers that is sent back for another, in each round that `flow.revise_rounds` allows."""
RETURNED = 0.1
"""Assumed share of the rows that the score gate sends back to be evolved again, in each round that `flow.score_returns` allows."""
DIVIDED = 0.1
"""Assumed share of the panel's looks that divide it, and so take the arbiter."""
TAUGHT = 12
"""Assumed concepts of a page of a syllabus: of 20 at most."""
REPAIRED = 0.02
"""Assumed share of the replies that cannot be read and are asked for again."""

CHOOSING = ("jury", "grade")
"""The stages whose players choose one of several answers."""

Case = Literal["least", "expected", "most"]
CASES: tuple[Case, ...] = ("least", "expected", "most")
REPLIES: Mapping[str, int] = {"none": 0, "single": 2, "parallel": 2, "multi_step": 3, "missing_tool": 1, "missing_parameter": 1}
"""Replies of the tool-user until it answers, by what its task takes (`Mode.tools`)."""
DEALT = 64
"""briefs of a leaf that are looked at for their modes"""
AGAIN = 2
"""Messages of a conversation's user that are asked for at most, for one that passes."""
ASKED: Mapping[Case, float] = {"least": 1, "expected": 1 + REPAIRED, "most": 2}
"""How often a call is made."""


class Figures(BaseModel):
    """What so many candidates take. `money` is None where the price of a model that is asked is unknown."""

    candidates: int
    calls: int
    prompt: int
    completion: int
    money: float | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


class LeafEstimate(BaseModel):
    leaf: str
    wanted: int
    accepted: int
    """by earlier runs in the folder"""
    acceptance: float
    basis: Literal["leaf", "run", "assumed", "given"]
    """what the acceptance was measured on: the leaf's own candidates or those of all leaves; or that it was not"""
    needed: int | None
    """candidates that the missing rows take at that acceptance; None where nothing has ever been accepted"""
    allowed: int
    """candidates that may still be started"""
    used_tokens: int
    used_money: float | None
    least: Figures
    expected: Figures
    most: Figures

    @computed_field  # type: ignore[prop-decorator]
    @property
    def missing(self) -> int:
        return max(0, self.wanted - self.accepted)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def starves(self) -> bool:
        """whether `limits.candidates_per_leaf` ends it before its quota is met, as expected"""
        return self.missing > 0 and (self.needed is None or self.needed > self.allowed)


class RoleEstimate(BaseModel):
    """A role's part of what is expected, over all leaves."""

    role: str
    models: list[str]
    """aliases"""
    calls: int
    prompt: int
    completion: int
    money: float | None
    measured: int
    """calls in the ledger that its lengths come from; 0: its prompts were rendered, its replies assumed"""


class Fit(BaseModel):
    """Whether a limit of the recipe leaves room. `used`, `expected` and `most` are where the run stands now and would stand in the end;
    for a limit of each leaf, where the one does that needs most."""

    limit: str
    allowed: float
    leaf: str
    used: float | None
    expected: float | None
    most: float | None
    leaves: int
    """for which it is too little, as expected"""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fits(self) -> Literal["surely", "as expected", "no", "unknown"]:
        if self.expected is None or self.most is None:
            return "unknown"
        return "no" if self.expected > self.allowed else "as expected" if self.most > self.allowed else "surely"


class GoldEstimate(BaseModel):
    """Of trying the judges before the run; nothing where they have been tried."""

    least: Figures
    expected: Figures
    most: Figures


class Estimate(BaseModel):
    run: str
    currency: str
    leaves: list[LeafEstimate]
    gold: GoldEstimate
    roles: list[RoleEstimate]
    limits: list[Fit]
    unpriced: list[str]
    """aliases that play a role and have no price"""
    sources: list[str]
    """where the figures come from, in sentences"""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> dict[Case, Figures]:
        return {case: _sum([getattr(part, case) for part in (*self.leaves, self.gold)]) for case in CASES}


def estimate(prepared: Prepared, folder: RunFolder, acceptance: float | None = None) -> Estimate:
    """What is left to do of a recipe in its run folder. `acceptance` stands instead of a measured or assumed one. Nobody is asked, and
    nothing written. Raises OtherRecipeError when the folder is another recipe's."""
    recipe = prepared.recipe
    history = History.read(recipe, folder)
    usual, longest = Rehearsal(prepared), Rehearsal(prepared, longest=True)
    leaves, by_role = [], defaultdict[str, _Bill](_Bill)
    for leaf in prepared.leaves:
        share, basis = (acceptance, "given") if acceptance else history.acceptance(leaf.path) or (ACCEPTED, "assumed")
        past, spent = history.leaves[leaf.path], history.spent.get(leaf.path, NOTHING)
        missing, allowed = max(0, recipe.target - past.accepted), max(0, recipe.candidates_per_leaf - past.final)
        needed = math.ceil(missing / share - 1e-9) if share else None if missing else 0
        begun = {"least": missing, "expected": allowed if needed is None else needed, "most": allowed if missing else 0}
        bills = {case: _Bill(min(begun[case], allowed)) for case in CASES}
        for name in prepared.roles.names:
            asks = _measured(history, leaf, name, usual.calls(leaf, name))
            for case, bill in bills.items():
                calls = _calls(prepared, leaf, name, case, bill.candidates, history)
                bill.add(recipe, calls, longest.calls(leaf, name) if case == "most" else asks)
                if case == "expected":
                    by_role[name].add(recipe, calls, asks)
        leaves.append(
            LeafEstimate(
                leaf=leaf.path,
                wanted=recipe.target,
                accepted=past.accepted,
                acceptance=share,
                basis=basis,
                needed=needed,
                allowed=allowed,
                used_tokens=spent.tokens,
                used_money=_known(spent),
                **{case: bill.figures for case, bill in bills.items()},
            )
        )
    trial = _trial(prepared, usual, history, by_role) if any(leaf.missing for leaf in leaves) else {}
    tried = GoldEstimate(**{case: trial.get(case, _Bill()).figures for case in CASES})
    return Estimate(
        run=recipe.name,
        currency=recipe.currency,
        leaves=leaves,
        gold=tried,
        roles=sorted(
            (bill.of_role(name, history.all.counted[name]) for name, bill in by_role.items()), key=lambda one: -one.prompt - one.completion
        ),
        limits=_fits(recipe.limits, leaves, tried, history),
        unpriced=unpriced(recipe, prepared.roles),
        sources=_sources(recipe, leaves, history),
    )


@dataclass
class _Bill:
    """Calls added up. Money is None once it is unknown."""

    candidates: int = 0
    calls: float = 0.0
    prompt: float = 0.0
    completion: float = 0.0
    money: float | None = 0.0
    aliases: set[str] = field(default_factory=set)

    def add(self, recipe: Recipe, calls: float, asks: Sequence[Ask]) -> None:
        """So many calls, dealt evenly to the asks."""
        for ask in asks if calls else ():
            each, price = calls / len(asks), recipe.models[ask.alias].price
            self.calls += each
            self.prompt += each * ask.prompt
            self.completion += each * ask.completion
            self.aliases.add(ask.alias)
            usage = Usage(prompt=round(ask.prompt), completion=round(ask.completion), cached=round(ask.cached))
            cost = price.of(usage) if price else None
            self.money = None if self.money is None or cost is None else self.money + each * cost

    @property
    def figures(self) -> Figures:
        return Figures(candidates=self.candidates, **self._rounded)

    def of_role(self, name: str, measured: int) -> RoleEstimate:
        return RoleEstimate(role=name, models=sorted(self.aliases), measured=measured, **self._rounded)

    @property
    def _rounded(self) -> dict[str, Any]:
        counts = {kind: round(getattr(self, kind)) for kind in ("calls", "prompt", "completion")}
        return {**counts, "money": self.money}


def _trial(prepared: Prepared, usual: Rehearsal, history: History, by_role: Mapping[str, _Bill]) -> dict[Case, _Bill]:
    """What it takes to try the judges on the gold rows that they have not yet answered."""
    bills: dict[Case, _Bill] = {case: _Bill() for case in CASES}
    for judge in gold.judges_of(prepared):
        asks = [usual.of_gold(judge, row) for row in gold.questions(prepared, judge)]
        left = max(0, len(asks) - history.gold[judge.name])
        for case, bill in bills.items():
            bill.add(prepared.recipe, left * ASKED[case], asks)
        by_role[judge.role].add(prepared.recipe, left * ASKED["expected"], asks)
    return bills


def _measured(history: History, leaf: Leaf, name: str, asks: Sequence[Ask]) -> Sequence[Ask]:
    """The asks with the lengths that the ledger knows."""
    sizes = history.sizes(leaf.path, name)
    return asks if sizes is None else [Ask(ask.alias, **sizes) for ask in asks]


def _calls(prepared: Prepared, leaf: Leaf, name: str, case: Case, candidates: int, history: History) -> float:
    """How often a role is asked for so many more candidates of a leaf."""
    head = next(role.head for role in prepared.roles.files if role.name == name)
    stage = head.stage or ("gate" if head.after == "answer" else head.after) or ""
    stage = "screen" if head.at == "screen" else stage
    if stage == "plan":
        return _pages(prepared, leaf, name, candidates, history.leaves[leaf.path].drawn) * ASKED[case]
    if stage == "syllabus":
        return _syllabus(prepared, leaf, name, case, candidates, history.leaves[leaf.path].drawn) * ASKED[case]
    if stage == "axis":
        return ASKED[case] if candidates else 0.0
    if stage == "tools":
        return _toolboxes(prepared, leaf, case, candidates)
    flow = prepared.recipe.flow
    rounds = _rounds(prepared, leaf, stage, flow, case)
    measured, before = history.calls(leaf.path, name), _rounds(prepared, leaf, stage, history.flow or flow, case)
    if case == "expected" and measured is not None and before:
        return candidates * measured * rounds / before  # the flow may have changed since
    seats = len(prepared.recipe.panel.models_of(name)) or 1 if stage == "annotate" else 1
    return candidates * rounds * seats * _each_time(prepared, leaf, stage, case) * ASKED[case]


def _each_time(prepared: Prepared, leaf: Leaf, stage: str, case: Case) -> float:
    """How often a role is asked each time that a candidate comes to its stage: for each of the answers that its mode asks for, and as often
    as it takes to choose one. Of answers in the same words only one is judged."""
    several = [mode.answers if mode.chooses else 1 for mode in _dealt(prepared, leaf)]
    if stage in ("answer", "reason", "think"):
        found = [float(k) for k in several]
    elif stage in CHOOSING:
        chosen = answers_of(prepared.recipe, leaf)
        judges = len(chosen.jurors) or 1
        asked = chosen.by == stage or (stage == "jury" and chosen.by == "auto" and chosen.verifiable in ("auto", "none"))
        if not asked:
            return 0.0
        found = [0.0 if k == 1 else judges * (2.0 * (k - 1) if stage == "jury" else k) for k in several]
        if case == "least":
            return float(judges) if stage == "grade" and min(several) > 1 else 0.0
    else:
        return 1.0
    return {"least": min(found), "expected": mean(found), "most": max(found)}[case]


def _pages(prepared: Prepared, leaf: Leaf, name: str, candidates: int, drawn: Mapping[str, int]) -> int:
    """Pages of scenarios that so many more briefs take; briefs are dealt evenly to the leaf's languages."""
    languages = prepared.languages(leaf)
    more = math.ceil(candidates / len(languages))
    speaking = [language for language in languages if prepared.roles.speaks(name, language)]
    return sum(math.ceil((drawn[language] + more) / PAGE) - math.ceil(drawn[language] / PAGE) for language in speaking)


def _syllabus(prepared: Prepared, leaf: Leaf, name: str, case: Case, candidates: int, drawn: Mapping[str, int]) -> int:
    """Pages of concepts that so many more briefs take: at least one of a language, at most all that are ever asked for."""
    languages, pages = prepared.languages(leaf), 0
    more = math.ceil(candidates / len(languages))
    for language in languages if candidates else ():
        if prepared.roles.speaks(name, language):
            have, need = (min(PAGES, math.ceil(briefs / TAUGHT)) for briefs in (drawn[language], drawn[language] + more))
            pages += {"least": int(not have), "expected": need - have, "most": PAGES - bool(have)}[case]
    return pages


def _rounds(prepared: Prepared, leaf: Leaf, stage: str, flow: Flow, case: Case) -> float:
    """How often a candidate comes to a stage."""
    flow, gates = flow_of(flow, leaf), (prepared.recipe.gates, leaf.settings.get("gates", {}))
    on = {name: all(settings.get(name) is not False for settings in gates) for name in ("agreement", "critic", "evolution", "ifd")}
    can_revise = prepared.roles.at("criticise") and (on["agreement"] or on["critic"])
    revised = _loops(flow.revise_rounds if can_revise else 0, REVISED, case)
    returned = _loops(flow.score_returns if on["ifd"] else 0, RETURNED, case)
    if stage == "criticise" and case == "most":
        revised += returned  # a misaligned row is looked at twice: before it is answered anew, and after
    evolved = flow.evolve_rounds + returned
    if stage == "compare":  # an evolution in breadth is no rewrite
        rewrites = {"least": float(not flow.breadth_share), "expected": 1 - flow.breadth_share, "most": 1.0}[case]
        return flow.evolve_rounds * rewrites + returned
    if stage == "arbitrate":
        return (1.0 + revised + returned) * {"least": 0.0, "expected": DIVIDED, "most": 1.0}[case] * on["agreement"]
    if stage in (*ANSWERING, *CHOOSING) and case == "most" and flow.evolve_rounds and on["evolution"]:
        revised += 1  # the answer to an evolved instruction is eliminated, and its parent answered
    if stage == "ground":  # each answer from a document
        return _exchanges(prepared, leaf, case, _from_document) + _share(prepared, leaf, case, _from_document) * (revised + returned)
    if stage == "localise" or any(stage in stages for stages in WRITING.values()):
        return _share(prepared, leaf, case, lambda mode: stage in stages_of(mode))
    if stage == "tool_task":
        return _share(prepared, leaf, case, _takes_tools)
    if stage == "use_tools":
        return _replies(prepared, leaf, case, flow) * (_exchanges(prepared, leaf, case) + revised + returned)
    if stage == "evolve":  # what takes tools has its own writer and its own answerer, and is not evolved
        return _share(prepared, leaf, case, lambda mode: not _takes_tools(mode)) * evolved
    if stage in ANSWERING:

        def own(mode: Mode) -> bool:
            return not _takes_tools(mode) and BY_DEPTH[mode.depth] == stage

        return _exchanges(prepared, leaf, case, own) + _share(prepared, leaf, case, own) * (revised + returned)
    if stage in ("gate", *CHOOSING):  # and a role that comes after each answer
        return _exchanges(prepared, leaf, case) + revised + returned
    follow_ups = max(0.0, _exchanges(prepared, leaf, case) - 1) * (AGAIN if case == "most" else 1)
    return {"screen": 1.0 + evolved + follow_ups, "follow_up": follow_ups}.get(stage, 1.0 + revised + returned)


def _from_document(mode: Mode) -> bool:
    return mode.write == "document"


def _takes_tools(mode: Mode) -> bool:
    return mode.tools != "none"


def _dealt(prepared: Prepared, leaf: Leaf) -> Sequence[Mode]:
    """The modes of the first briefs of a leaf."""
    if len(leaf.modes) == 1:
        return leaf.modes
    plan = plan_of(leaf, prepared.recipe.seed, prepared.languages(leaf))
    return [leaf.mode(plan.cell(number).axes) for number in range(DEALT)]


def _share(prepared: Prepared, leaf: Leaf, case: Case, wanted: Callable[[Mode], bool]) -> float:
    """The share of a leaf's candidates whose mode is a wanted one; of few candidates it may be all or none."""
    found = [wanted(mode) for mode in _dealt(prepared, leaf)]
    return {"least": float(all(found)), "expected": sum(found) / len(found), "most": float(any(found))}[case]


def _exchanges(prepared: Prepared, leaf: Leaf, case: Case, wanted: Callable[[Mode], bool] = lambda mode: True) -> float:
    """How often a candidate of a leaf is answered before anybody judges it, if its mode is a wanted one: once in each exchange."""
    found = [mode.turns if wanted(mode) else 0 for mode in _dealt(prepared, leaf)]
    return float({"least": min(found), "expected": mean(found), "most": max(found)}[case])


def _replies(prepared: Prepared, leaf: Leaf, case: Case, flow: Flow) -> float:
    """Replies of the tool-user until a candidate is judged, of any candidate of a leaf."""
    modes = _dealt(prepared, leaf)
    if case == "most":
        return float(flow.tool_rounds * max(mode.turns * _takes_tools(mode) for mode in modes))
    found = [min(REPLIES[mode.tools], flow.tool_rounds) * mode.turns for mode in modes]
    return float(min(found)) if case == "least" else mean(found)


def _toolboxes(prepared: Prepared, leaf: Leaf, case: Case, candidates: int) -> float:
    """How often the tool-writer is asked: once for each language of a leaf whose answers take tools and that has none."""
    wanted = any(map(_takes_tools, leaf.modes)) and candidates > 0
    without = sum(not leaf.tools(language) for language in prepared.languages(leaf)) if wanted else 0
    return without * ASKED[case] * (TRIES if case == "most" else 1)


def _loops(rounds: int, share: float, case: Case) -> float:
    """How often a loop is gone through, when `share` of those who come to its gate are sent back."""
    return {"least": 0.0, "expected": sum(share**n for n in range(1, rounds + 1)), "most": float(rounds)}[case]


def _fits(limits: Limits, leaves: Sequence[LeafEstimate], tried: GoldEstimate, history: History) -> list[Fit]:
    """One for each limit that is set."""
    all_spent = list(history.spent.values())  # on leaves that are not asked for now, too
    used: dict[str, float | None] = {"tokens": sum(one.tokens for one in all_spent), "money": _plus(map(_known, all_spent))}
    fits = []
    for limit in ("tokens", "money", "leaf_tokens", "leaf_money"):
        allowed, kind = getattr(limits, limit), limit.removeprefix("leaf_")
        if allowed is not None and limit == kind:
            fits.append(_fit(limit, kind, allowed, used[kind], [*leaves, tried]))
        elif allowed is not None:
            found = [_fit(limit, kind, allowed, getattr(leaf, f"used_{kind}"), [leaf], leaf.leaf) for leaf in leaves]
            most = max(found, key=lambda fit: math.inf if fit.expected is None else fit.expected)
            fits.append(most.model_copy(update={"leaves": sum(fit.fits == "no" for fit in found)}))
    return fits


def _fit(limit: str, kind: str, allowed: float, used: float | None, parts: Sequence[LeafEstimate | GoldEstimate], leaf: str = "") -> Fit:
    expected = _plus([used, *(getattr(one.expected, kind) for one in parts)])
    most = _plus([used, *(getattr(one.most, kind) for one in parts)])
    return Fit(limit=limit, allowed=allowed, leaf=leaf, used=used, expected=expected, most=most, leaves=0)


def _sum(figures: Sequence[Figures]) -> Figures:
    counts = {kind: sum(getattr(one, kind) for one in figures) for kind in ("candidates", "calls", "prompt", "completion")}
    return Figures(**counts, money=_plus(one.money for one in figures))


def _known(spent: Spent) -> float | None:
    """What calls cost; None when that of any is unknown."""
    return None if spent.unpriced_calls else spent.money or 0.0


def _plus(amounts: Iterable[float | None]) -> float | None:
    """The sum; None when one of them is unknown."""
    known, found = 0.0, list(amounts)
    for amount in found:
        if amount is None:
            return None
        known += amount
    return known


def _sources(recipe: Recipe, leaves: Sequence[LeafEstimate], history: History) -> list[str]:
    past, own = history.all, sum(leaf.basis == "leaf" for leaf in leaves)
    counted, basis = sum(past.counted.values()), next((leaf.basis for leaf in leaves if leaf.basis != "leaf"), "leaf")
    seen = f"from the ledger: {past.accepted} of {past.judged} candidates" + (
        f"; {own} of {len(leaves)} leaves by their own" if own else ""
    )
    few = f" (the ledger has judged only {past.judged} candidates)" if past.judged else ""
    acceptance = {"given": f"as given: {leaves[0].acceptance:g}", "assumed": f"assumed to be {ACCEPTED:g}{few}", "run": seen, "leaf": seen}
    loops = f"{REVISED:.0%} of the answers are revised, {RETURNED:.0%} of the rows evolved again, {REPAIRED:.0%} of the replies repaired"
    calls = "from the ledger" if past.judged >= FEW else f"assumed: all go the whole way, {loops}"
    tokens = f"from the ledger: {counted} calls" if counted else "assumed: prompts as they will be rendered, replies of a usual length"
    embeddings = ["embeddings are not in it"] if isinstance(recipe.embedder, EmbeddingEndpoint) else []
    return [f"acceptance {acceptance[basis]}", f"calls for each candidate {calls}", f"tokens of a call {tokens}", *embeddings]
