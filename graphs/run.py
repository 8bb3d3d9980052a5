"""One run: all leaves of a recipe, their shared resources, its budget, and how it stops.

    Run.open(prepared, folder)   lock, ledger, budget, embedded models, endpoints, embedder, scorer, indexes, gates, one job per leaf
    `-- go()                     the leaf graphs run together; ends when each leaf is met, starved, out of budget or stopped

Ctrl-C once: nothing new is asked, calls in flight are waited for and recorded, and running again goes on. Twice: stop now. Either way
candidates under way stay open, and the next run carries them on from their recorded calls. A budget that is used up stops a run likewise.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import sqlalchemy as sa

from agents.chat import Chat
from agents.grounding_judge import judge_of
from agents.models.alias import Alias
from agents.models.budget import Budget, Spent
from agents.models.endpoint import Endpoint
from agents.models.governor import Governor
from agents.role import After
from agents.role_gate import role_gates
from filters import catalogue, review
from filters.contamination.gate import Contamination
from filters.contamination.testsets import dump
from filters.critic import Critic
from filters.gate import Gate, Stage, Subject
from filters.grounding import Grounding
from filters.memory import restore
from graphs import about, candidate, gold, leaf, seeds
from graphs.admission import Admission
from graphs.axes import with_own_axes
from graphs.briefs import Briefs
from graphs.cells import Cells
from graphs.checks import check_identity
from graphs.interrupt import interruptible
from graphs.players import answers_of, flow_of, seats_of
from graphs.prepare import Prepared
from graphs.slots import Slots
from graphs.waiting import Waiting
from leafmill.errors import EXIT_ERRORS, EXIT_INTERRUPTED, EXIT_UNMET, Halted, JudgeError, LeafmillError, RunFolderError
from leafmill.ledger import CANDIDATES, UNDO, Ending, Ledger
from leafmill.log import ERROR, INFO, RUN, WARNING, event
from leafmill.recipe import Address, Model, Recipe, ReviewRule
from leafmill.records import Brief, Review
from leafmill.runfolder import RunFolder
from taxonomy import Leaf, plan_of
from taxonomy.covering import FACTORS

if TYPE_CHECKING:
    from filters.dedup.semantic import SemanticIndex
    from filters.embedder import Embedder
    from filters.scoring.reward import Rewarding
    from filters.toxicity import Classifier

Say = Callable[[str], None]
NO_END = 2**31
"""steps of a leaf's graph: it ends by its outcome"""
LISTEN = 2.0
"""seconds between two looks for what people have decided"""
SETTLED = UNDO + 1
"""seconds after which a decision can surely not be taken back any more"""
ENOUGH = 20
"""candidates that must have ended before a share of errors means anything"""


@dataclass
class Run:
    """An open run. Counters of the jobs are live; everything durable is in the ledger."""

    prepared: Prepared
    folder: RunFolder
    ledger: Ledger
    chat: Chat
    jobs: list[leaf.LeafJob]
    slots: Slots
    stopping: asyncio.Event
    budget: Budget
    """what earlier runs in this folder spent is in it"""
    waiting: Waiting
    began: float = field(default_factory=time.monotonic)
    failure: str = ""
    interrupted: bool = False

    @classmethod
    @asynccontextmanager
    async def open(cls, prepared: Prepared, folder: RunFolder, say: Say = print, command: str = "") -> AsyncIterator[Run]:
        """Get ready to run: everything that can fail before the first call fails here, with its own error. `command`: by which a person
        goes on with it."""
        recipe = prepared.recipe
        async with AsyncExitStack() as stack:
            stack.enter_context(folder.claimed())
            ledger = stack.enter_context(Ledger(folder.ledger))
            await _check_identity(ledger, recipe, folder)
            await ledger.set_meta("process", told := about.process(command))  # from now on those who look see that it goes
            folder.write(recipe, _prompts(prepared))
            folder.write_test_sets({one.name: dump(one) for one in prepared.tests.sets})
            prepared = await seeds.leave_out_test_items(prepared, ledger, say)
            budget = Budget(recipe.limits, recipe.currency, spent_in(ledger))
            aliases = await open_aliases(recipe, stack, say)
            chat = Chat(ledger, prepared.roles, aliases, recipe.roles, recipe.seed, budget, recipe.judges.logprobs)
            prepared = await with_own_axes(prepared, chat, say)
            resources = await _open_resources(prepared, folder, stack, say)
            await _note_factors(prepared, ledger)
            waiting = await stack.enter_async_context(Waiting.open(folder.ledger))
            run = cls(prepared, folder, ledger, chat, [], Slots(recipe.in_flight), asyncio.Event(), budget, waiting)
            await run._assemble(resources, await _open_reward(prepared, stack, say))
            async with run._on_record(told):
                yield run

    async def go(self, *, try_judges: bool = True) -> None:
        """Run all leaves to their outcome, if the judges stand the trial on gold rows. Raises JudgeError, or the first EndpointError or
        RunFolderError; what was recorded stays."""
        graph = leaf.build()
        for job in self.jobs:
            await self.ledger.note_leaf(job.leaf.path, job.target, "not finished", "")
        config: Any = {"recursion_limit": NO_END}
        asked, accepted = sum(job.target for job in self.jobs), sum(job.accepted for job in self.jobs)
        event(RUN, INFO, "run started", run=self.folder.path.name, leaves=len(self.jobs), asked=asked, accepted=accepted)
        with interruptible(self._interrupt), _rare_collections():
            if try_judges and any(not job.is_over for job in self.jobs):
                await self._try_judges()
            try:
                await self._resume_decided()
                async with asyncio.TaskGroup() as group:
                    going = []
                    for job in self.jobs:
                        job.group = group
                        going.append(group.create_task(graph.ainvoke({}, config, context=job), name=job.leaf.path))
                    group.create_task(self._listen(going, group), name="decisions")
            except BaseExceptionGroup as faults:
                first = _first(faults)
                event(RUN, ERROR, "run failed", run=self.folder.path.name, error=type(first).__name__)
                raise first from faults
            for job in self.jobs:
                await job.settle()
        self._tell_end()

    async def _resume_decided(self) -> None:
        """First of all, those go on that people have decided meanwhile: what becomes of them is part of what the leaves have."""
        free = asyncio.Semaphore(self.prepared.recipe.in_flight)

        async def one(decided: Review) -> None:
            async with free:
                await self._resume(decided)

        async with asyncio.TaskGroup() as group:
            for decided in self.ledger.decisions(before=time.time()):
                group.create_task(one(decided), name=decided.candidate)

    async def _listen(self, going: Sequence[asyncio.Task[Any]], group: asyncio.TaskGroup) -> None:
        """While leaves go, go on with what people decide; not at once, so that they can undo it."""
        while not all(task.done() for task in going):
            await asyncio.wait(going, timeout=LISTEN)
            for decided in () if self.stopping.is_set() else self.ledger.decisions(before=time.time() - SETTLED):
                group.create_task(self._resume(decided), name=decided.candidate)

    async def _resume(self, decided: Review) -> None:
        """Of a leaf that is not in this run, or with the run stopping, a decision stays what it is: the next run goes on by it."""
        c = CANDIDATES.c
        ending = [getattr(c, name) for name in Ending._fields]
        found = self.ledger.rows(sa.select(c.leaf, c.brief, *ending).where(c.id == decided.candidate))
        job = next((job for job in self.jobs if found and job.leaf.path == found[0]["leaf"]), None)
        if job is not None and found[0]["state"] == "waiting" and not self.stopping.is_set():
            held = Ending(*(found[0][name] for name in Ending._fields))
            await job.resume(Brief.model_validate(found[0]["brief"]), held, decided)

    @asynccontextmanager
    async def _on_record(self, told: Mapping[str, Any]) -> AsyncIterator[None]:
        """The ledger says how the process ended that it was `told` of."""
        code = 1
        try:
            yield
            code = self.exit_code
        except LeafmillError as fault:
            code = fault.exit_code
            raise
        except asyncio.CancelledError:
            code = EXIT_INTERRUPTED
            raise
        finally:
            with suppress(RunFolderError):  # a ledger that cannot be written has been told of already
                await self.ledger.set_meta("process", {**told, "ended_at": time.time(), "exit_code": code})

    async def _try_judges(self) -> None:
        """A run that is stopped meanwhile, or whose budget is used up, ends as any other; none goes on with judges that were not tried."""
        try:
            await gold.require(self.chat, self.prepared)
        except JudgeError:
            event(RUN, ERROR, "judges failed", run=self.folder.path.name)
            raise
        except Halted as fault:
            if not self.stopping.is_set() and not self.budget.over(""):
                raise JudgeError(f"the judges cannot be tried on gold rows: {fault}") from fault

    def _tell_end(self) -> None:
        spent, ended = self.budget.spent, sum((job.new for job in self.jobs), Counter())
        fields = {"exit_code": self.exit_code, **ended, "calls": self.chat.calls, "tokens": spent.tokens, "money": spent.money}
        event(RUN, INFO, "run ended", run=self.folder.path.name, seconds=time.monotonic() - self.began, **fields)

    def stop(self) -> None:
        """Ask nothing new; calls in flight are recorded, candidates under way stay open."""
        if not self.stopping.is_set():
            event(RUN, WARNING, "run stops", run=self.folder.path.name, reason=self.failure or "interrupted")
        self.stopping.set()
        for governor in self.governors.values():
            governor.close()
        for job in self.jobs:
            job.look()

    @property
    def governors(self) -> dict[str, Governor]:
        """By the name of the model and its address."""
        ends = (end for alias in self.chat.aliases.values() for end in alias.endpoints)
        return {end.governor.lane: end.governor for end in ends}

    @property
    def exit_code(self) -> int:
        if self.failure:
            return EXIT_ERRORS
        if self.interrupted:
            return EXIT_INTERRUPTED
        return 0 if all(job.outcome and job.outcome.state == "met" for job in self.jobs) else EXIT_UNMET

    def halted(self, one: str) -> leaf.Outcome | None:
        """The outcome of a leaf that goes no further (somebody stopped the run, or a budget is used up), or None."""
        if self.stopping.is_set():
            return leaf.Outcome("stopped", self.failure or "the run was stopped before")
        spent = self._out_of_time() or self.budget.over(one)
        return leaf.Outcome("budget", spent) if spent else None

    def _out_of_time(self) -> str | None:
        limit = self.prepared.recipe.limits.minutes
        if limit is not None and time.monotonic() - self.began >= 60 * limit:
            return f"{limit:g} minutes are over (limits.minutes)"
        return None

    def _why_halted(self, one: str) -> str | None:
        halted = self.halted(one)
        return halted.reason if halted else None

    def _watch_errors(self) -> None:
        """Stop when too large a share of the candidates ends in errors: something is wrong that waiting will not mend."""
        states = sum((job.new for job in self.jobs), Counter())
        ended, limit = states.total(), self.prepared.recipe.limits.error_share
        if ended >= ENOUGH and states["errored"] > limit * ended and not self.failure:
            codes = sum((job.codes for job in self.jobs), Counter())
            seen = ", ".join(f"{n} {code}" for code, n in codes.most_common(5))
            self.failure = f"{states['errored']} of {ended} candidates ended in errors, more than limits.error_share = {limit:g}: {seen}"
            self.stop()

    async def _assemble(self, resources: Mapping[str, Mapping[str, Any]], reward: Rewarding | None = None) -> None:
        """The gates of every leaf, with what they remember of earlier runs, and the job of every leaf."""
        recipe, roles = self.prepared.recipe, self.prepared.roles
        gates = {one.path: _gates(self.prepared, one, resources, self.chat) for one in self.prepared.leaves}
        accepted = [Subject(id=brief.id, row=row, brief=brief) for brief, row in self.ledger.accepted()]
        quotas = {path: recipe.target for path in gates}
        doors = {path: by_stage.get("admit", []) for path, by_stage in gates.items()}
        admission = Admission(self.ledger, doors, quotas, Counter(s.brief.leaf for s in accepted if s.brief))
        for gate in admission.memory:
            await restore(gate, accepted)
        python = self.prepared.python
        own = {stage: [*roles.after(stage), *(name for name in python if python[name].after == stage)] for stage in get_args(After)}
        criticised, arbitrated, panel = bool(roles.at("criticise")), bool(roles.at("arbitrate")), seats_of(recipe, roles)
        shapes = {
            one.path: candidate.Shape.of(one.modes, own, criticised=criticised, scored="score" in gates[one.path], arbitrated=arbitrated)
            for one in self.prepared.leaves
        }
        graphs = {shape: candidate.build(shape) for shape in set(shapes.values())}
        for key, told in (("leaves", about.leaves(self.prepared)), ("roles", about.roles(self.prepared)), ("graphs", about.graphs(shapes))):
            await self.ledger.set_meta(key, told)
        embedder = resources.get("semantic", {}).get("embedder")
        for one in self.prepared.leaves:
            flow = flow_of(recipe.flow, one)
            context = candidate.Context(
                one,
                self.chat,
                self.ledger,
                panel,
                gates[one.path],
                admission,
                flow,
                seed=recipe.seed,
                python=python,
                answers=answers_of(recipe, one),
                reward=reward,
                halted=partial(self._why_halted, one.path),
            )
            self.jobs.append(
                leaf.LeafJob(
                    leaf=one,
                    target=recipe.target,
                    cells=Cells(recipe.refills, recipe.candidates_per_leaf),
                    briefs=Briefs(one, recipe.seed, self.prepared.languages(one), self.chat, flow, embedder),
                    context=context,
                    graph=graphs[shapes[one.path]],
                    admission=admission,
                    slots=self.slots,
                    waiting=self.waiting,
                    halted=partial(self.halted, one.path),
                    ended=self._watch_errors,
                )
            )

    def _interrupt(self) -> None:
        self.interrupted = True
        self.stop()


def _prompts(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """The role files as used: name and text."""
    return ((Path(role.path).name, role.source) for role in prepared.roles.files)


async def _note_factors(prepared: Prepared, ledger: Ledger) -> None:
    """What there is to cover, by leaf: for those who read how much of it is."""
    seed = prepared.recipe.seed
    found = {one.path: plan_of(one, seed, prepared.languages(one)).factors for one in prepared.leaves}
    await ledger.set_meta(FACTORS, {**(ledger.meta(FACTORS) or {}), **found})


async def _check_identity(ledger: Ledger, recipe: Recipe, folder: RunFolder) -> None:
    """A new folder becomes this recipe's; one of another is refused."""
    before = ledger.meta("identity")
    if before is None:
        await ledger.set_meta("identity", recipe.identity())
    check_identity(recipe, before, folder.path)


async def open_aliases(recipe: Recipe, stack: AsyncExitStack, say: Say) -> dict[str, Alias]:
    """The models by alias. Embedded ones are served first, each once, however many aliases name it."""
    served: dict[str, str] = {}
    for model in recipe.models.values():
        if model.embedded is not None and model.embedded not in served:
            from agents.models import local  # llama.cpp is loaded only by those who use it

            served[model.embedded] = (await stack.enter_async_context(local.serve(model.embedded, say=say))).base_url
    places = {name: model.addresses(served.get(model.embedded or "", "")) for name, model in recipe.models.items()}
    governors = _govern(recipe.models, places)
    aliases, reached = {}, set[str]()
    for name, model in recipe.models.items():
        ends = [Endpoint(name, model, address, governors[_same(model, address)], reached=reached) for address in places[name]]
        aliases[name] = Alias(name, model, ends)
        stack.push_async_callback(aliases[name].aclose)
    return aliases


def _govern(models: Mapping[str, Model], places: Mapping[str, Sequence[Address]]) -> dict[tuple[str, str], Governor]:
    """One governor for whatever speaks to the same model at the same address, with the smallest of the limits that are given for it."""
    sharing: dict[tuple[str, str], list[Model]] = defaultdict(list)
    for name, model in models.items():
        for address in places[name]:
            sharing[_same(model, address)].append(model)

    def least(given: Iterable[int | None]) -> int | None:
        return min((one for one in given if one is not None), default=None)

    return {
        same: Governor(
            min(m.concurrency for m in ones), least(m.rpm for m in ones), least(m.tpm for m in ones), lane=f"{same[1]} at {same[0]}"
        )
        for same, ones in sharing.items()
    }


def _same(model: Model, address: Address) -> tuple[str, str]:
    return address.base_url, address.model or model.served_name


async def _open_resources(prepared: Prepared, folder: RunFolder, stack: AsyncExitStack, say: Say) -> dict[str, dict[str, Any]]:
    """What gates need beyond their settings, by gate; all leaves share it. Nothing is loaded for a gate that is off."""
    from filters.dedup.minhash import MinhashIndex

    recipe = prepared.recipe
    resources: dict[str, dict[str, Any]] = {"exact": {"kept": {}}, "minhash": {"index": MinhashIndex()}}
    resources["novelty"] = {"index": seeds.known(prepared.leaves)}
    embedder: Embedder | None = None
    if recipe.gates.get("semantic") is not False or _compares_with_tests(prepared):
        from filters.embedder import open_embedder

        embedder = open_embedder(embedder_spec(recipe))
        await embedder.encode([])  # an endpoint's dimension is known once it has answered
        stack.push_async_callback(embedder.aclose)
    if embedder and recipe.gates.get("semantic") is not False:
        index = await _open_index(folder.chroma, embedder, say)
        stack.push_async_callback(_close_index, index, say)
        resources["semantic"] = {"embedder": embedder, "index": index}
    if prepared.tests.sets:
        from filters.contamination.similar import Meanings

        resources["contamination"] = {"tests": prepared.tests, "meanings": Meanings(prepared.tests, embedder) if embedder else None}
    if recipe.gates.get("ifd") is not False:
        from agents.models import local
        from filters.scoring.scorer import Scorer

        settings = recipe.scorer
        say(f"loading the scorer {settings.model} ({settings.device})")
        path = await asyncio.to_thread(local.as_transformers, settings.model, say)
        options = settings.model_dump(exclude={"model"})
        scorer = await asyncio.to_thread(Scorer.load, path, **options)
        stack.push_async_callback(scorer.aclose)
        resources["ifd"] = {"scorer": scorer}
    if tokenizer := (recipe.gates.get("length") or {}).get("tokenizer"):
        from filters.length import open_tokenizer

        await asyncio.to_thread(open_tokenizer, tokenizer)  # which is kept: one that is missing should be told of now
    if recipe.gates.get("safety") is not False:
        resources["safety"] = {"classifiers": await _open_classifiers(recipe, stack, say)}
    return resources


async def _open_reward(prepared: Prepared, stack: AsyncExitStack, say: Say) -> Rewarding | None:
    """The reward model, where the answers of a leaf are chosen by one."""
    recipe, wanted = prepared.recipe, prepared.recipe.answers.reward
    by_reward = (answers_of(recipe, one).by == "reward" and any(mode.chooses for mode in one.modes) for one in prepared.leaves)
    if wanted is None or not any(by_reward):
        return None
    model: Rewarding
    if wanted.startswith(("http://", "https://")):
        from filters.scoring.reward_endpoint import RewardEndpoint

        model = RewardEndpoint(wanted)
    else:
        from filters.scoring.reward import RewardModel

        beside = recipe.path(wanted)
        say(f"loading the reward model {wanted}")
        model = await asyncio.to_thread(RewardModel.load, beside if beside.is_dir() else wanted)
    stack.push_async_callback(model.aclose)
    return model


def _compares_with_tests(prepared: Prepared) -> bool:
    """Whether the recipe or a leaf would have prompts compared with test sets by their meaning."""
    named = [prepared.recipe.gates, *(leaf.settings.get("gates", {}) for leaf in prepared.leaves)]
    return bool(prepared.tests.sets) and any((gates.get("contamination") or {}).get("similar") is not None for gates in named)


async def _open_classifiers(recipe: Recipe, stack: AsyncExitStack, say: Say) -> dict[str, Classifier]:
    """The classifiers that the gate `safety` asks, by name; a folder is looked for beside the recipe. The judge is the scorer's model."""
    from agents.models import local
    from filters.safety import LANGUAGES, named
    from filters.toxicity import open_classifier

    settings, opened = catalogue.check("safety", recipe.gates.get("safety") or {}), {}
    for name in sorted({named(settings.get("classifier", "words"), language) for language in LANGUAGES}):
        place = str(recipe.path(name)) if recipe.path(name).is_dir() else name
        judge = await asyncio.to_thread(local.as_transformers, recipe.scorer.model, say) if name == "judge" else ""
        device, dtype, labels = recipe.scorer.device, recipe.scorer.dtype, settings.get("labels", ())
        opened[name] = await asyncio.to_thread(open_classifier, place, judge=judge, labels=labels, device=device, dtype=dtype)
        stack.push_async_callback(opened[name].aclose)
    return opened


async def _open_index(path: Path, embedder: Embedder, say: Say) -> SemanticIndex:
    """The index is a cache: one that does not open is put aside, one of another embedder emptied, and either filled from the ledger."""
    from chromadb.api.shared_system_client import SharedSystemClient

    from filters.dedup.semantic import SemanticIndex

    try:
        return await SemanticIndex.open(path, embedder, rebuild=True)  # reads all of it, so that damage shows
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # Chroma's core panics with an exception that is no Exception
        aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        say(f"{path} cannot be read ({fault}): it is put aside as {aside.name} and built anew from the ledger")
        event(RUN, INFO, "index rebuilt", path=path, aside=aside.name)
    try:
        path.rename(aside)
        SharedSystemClient.clear_system_cache()  # Chroma keeps the broken client under the path's name
        return await SemanticIndex.open(path, embedder, rebuild=True)
    except Exception as fault:
        raise RunFolderError(f"{path}: the index cannot be built anew: {fault}") from fault


async def _close_index(index: SemanticIndex, say: Say) -> None:
    """What the index cannot write (a full disk) must not hide why the run stopped: the next one finds it missing and adds it."""
    try:
        await index.close()
    except Exception as fault:
        say(f"the index could not be saved ({fault}): the next run builds it anew")


def embedder_spec(recipe: Recipe) -> str | dict[str, Any]:
    """The recipe's embedder as `open_embedder` takes it; a folder is looked for beside the recipe."""
    if isinstance(recipe.embedder, str):
        return str(recipe.path(recipe.embedder)) if recipe.path(recipe.embedder).is_dir() else recipe.embedder
    spec = recipe.embedder.model_dump(exclude_none=True)
    return {**spec, "api_key": recipe.embedder.api_key.get_secret_value()} if recipe.embedder.api_key else spec


def _gates(prepared: Prepared, one: Leaf, resources: Mapping[str, Mapping[str, Any]], chat: Chat) -> dict[Stage, list[Gate]]:
    """The gates of a leaf by stage, in the catalogue's order (cheap before dear) and behind them those that are roles, with the leaf's
    settings over the recipe's.

    What either switches off is off; so is the critic's gate in a run without a critic, and contamination without test sets, and what
    concerns none of the leaf's modes."""
    by_stage: dict[Stage, list[Gate]] = {}
    of_leaf = one.settings.get("gates", {})
    for name in catalogue.names():
        unnamed: dict[str, Any] | Literal[False] = False if catalogue.is_on_request(name) and name not in of_leaf else {}
        settings, own = prepared.recipe.gates.get(name, unnamed), of_leaf.get(name, {})
        if settings is False or own is False or (name == Critic.name and not prepared.roles.at("criticise")):
            continue
        if name == Contamination.name and not prepared.tests.sets:
            continue
        if name in catalogue.CONCERNS and name not in of_leaf and not any(map(catalogue.CONCERNS[name], one.modes)):
            continue
        needs = {"judge": judge_of(chat)} if name == Grounding.name else resources.get(name, {})
        gate = catalogue.make(name, {**settings, **own}, prepared.recipe.path(""), **needs)
        for stage in gate.stage:
            by_stage.setdefault(stage, []).append(gate)
    for kept in role_gates(chat, one, {**prepared.recipe.gates, **of_leaf}):
        by_stage.setdefault(kept.stage[0], []).append(kept)
    if (rule := prepared.recipe.review) != ReviewRule():
        by_stage.setdefault("score", []).append(review.Review(rule))
    return by_stage


def spent_in(ledger: Ledger) -> dict[str, Spent]:
    """By leaf, what earlier runs in the folder spent; its money is unknown when that of any call is."""
    found = ledger.spent().items()
    return {path: Spent(one.tokens, None if one.unpriced_calls else one.money or 0.0) for path, one in found}


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage seldom while a run goes: what it keeps lives long, and walking all of it again and again would cost as much as
    the work itself (`bench/runtime`)."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show of a group: the first of ours, else the first."""
    flat = list(_flat(faults))
    return next((fault for fault in flat if isinstance(fault, LeafmillError)), flat[0])


def _flat(fault: BaseException) -> Iterator[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        for one in fault.exceptions:
            yield from _flat(one)
    else:
        yield fault
