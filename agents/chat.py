"""One model call, from a role to a reply that keeps its contract. Every agent speaks through `Chat.ask`.

    ask -> render -> recorded already? -> read it from the ledger, pay nothing
                  -> no: budget -> Alias.complete -> record -> parse -> reply
                                                            ^         `-- unreadable: record, and ask again, with what was wrong
                                                            '------------------------------------' (as often as the model's `attempts`)

The key of a call says what was asked: model, rendered messages, schema, the parameters that change the meaning (temperature, seed,
the model's `extra_body`), and whose call it is (candidate, step, sample). Limits (max_tokens, timeout) are not in it, nor which of an
alias's endpoints answers: raising one keeps what succeeded.
A repaired reply is recorded under the key of the call it repairs, so that a resumed run reads one good reply.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from agents.models.alias import Alias
from agents.models.budget import Budget
from agents.models.endpoint import Asked, Completion
from agents.role import Role, Roles, sampling
from leafmill import telemetry
from leafmill.errors import CallError, ReplyError, RoleFileError, TemplateError
from leafmill.latencies import Latencies
from leafmill.ledger import Call, Ledger, Step
from leafmill.log import CALL, DEBUG, INFO, event
from leafmill.recipe import Limits, RoleSettings
from leafmill.records import Language, Usage, digest
from leafmill.tokens import count_prompt

MAX_REPLY = 50_000
"""characters; a longer reply is a model that does not stop"""


@dataclass(frozen=True)
class Reply:
    """What a role said. `value` is its contract's model, or None when its reply is plain text."""

    role: Role
    model: str
    text: str
    value: BaseModel | None
    reasoning: str
    cut_off: bool = False
    score_logprobs: Mapping[str, float] | None = None

    def get(self, name: str, default: Any = "") -> Any:
        """A field of the reply; of a plain text, the text itself."""
        return self.text if self.value is None else getattr(self.value, name, default)

    @property
    def origin(self) -> dict[str, str]:
        """Which prompt and model made it: what the lineage keeps."""
        return {"role": self.role.name, "variant": self.role.variant, "prompt": self.role.hash, "model": self.model}


class Chat:
    """Asks roles of a run. Holds the models by alias, the roles, the ledger, the budget, and the overrides of the recipe."""

    def __init__(
        self,
        ledger: Ledger,
        roles: Roles,
        aliases: Mapping[str, Alias],
        settings: Mapping[str, RoleSettings],
        seed: int,
        budget: Budget | None = None,
        logprobs: bool = False,
    ) -> None:
        """`logprobs`: ask judges for the likelihood of each score."""
        self.ledger, self.roles, self.aliases = ledger, roles, aliases
        self.budget = budget or Budget(Limits())
        self._settings, self._seed, self._logprobs = settings, seed, logprobs
        self.calls = 0
        """calls that were answered in this process"""
        self.latencies: dict[str, Latencies] = defaultdict(Latencies)
        """by role, seconds from asking to the answer, tries and waits included"""

    def alias(self, role: Role) -> Alias:
        return self.aliases[self._of(role).model or role.model]

    async def ask(
        self, name: str, language: Language, step: Step, values: Mapping[str, Any], sample: int = 0, alias: str | None = None
    ) -> Reply:
        """Ask a role, played by its own model or by that of `alias`. Raises CallError when this call cannot be had (recorded),
        EndpointError when none can, BudgetSpent when none may."""
        role = self.roles.pick(name, language, f"{self._seed}/{step.candidate}/{step.name}")
        player = self.aliases[alias] if alias else self.alias(role)
        params = self._params(role, player, step, sample)
        made_by = (role.name, role.variant, role.hash, player.name, player.model.served_name)
        try:
            messages = role.render(values)
        except RoleFileError as fault:  # these values do not suit the template: nothing is asked, and that is on record
            unasked = Call("", step, *made_by, [], params, status=TemplateError.code, error=str(fault), cost=0.0, started_at=time.time())
            await self.ledger.record_call(unasked)
            raise TemplateError(str(fault)) from fault
        meaning = {**player.model.extra_body, **{k: v for k, v in params.items() if k != "max_tokens"}}
        contract = None if role.schema is None else (role.name, role.schema)
        key = digest(player.model.served_name, messages, meaning, contract, step.candidate, step.name, sample, length=32)
        call = Call(key, step, *made_by, messages, params)
        with telemetry.role(role.name, role.variant, role.hash) as span:
            if recorded := self.ledger.recorded_call(key):
                span.recorded()
                return _read(role, recorded)
            return await self._ask_anew(role, player, call, language)

    async def _ask_anew(self, role: Role, alias: Alias, call: Call, language: Language) -> Reply:
        asked = call
        for left in reversed(range(alias.model.attempts)):
            done = await self._complete(role, alias, asked)
            try:
                reply = _read(role, done)
            except ReplyError as fault:
                await self.ledger.record_call(replace(done, status=fault.code, error=str(fault)))
                if not left:
                    raise
                asked = replace(call, messages=[*call.messages, *_correction(role, done, fault, language)])
            else:
                # A cut-off text may be used, but raising max_tokens must ask for it again.
                await self.ledger.record_call(replace(done, status="cut_off") if reply.cut_off else done)
                return reply
        raise AssertionError("the last try returns or raises")

    async def _complete(self, role: Role, alias: Alias, call: Call) -> Call:
        """Send one call, if the budget allows, and count it; a call that fails is recorded with its code before the error goes on."""
        schema = None if role.schema is None else (role.name, role.schema)
        most = Usage(prompt=count_prompt(call.messages), completion=call.params["max_tokens"])
        price = alias.model.price
        timeout, logprobs = self._of(role).timeout or alias.model.timeout, self._logprobs and role.judges
        asked = Asked(call.messages, call.params, schema, role.name, timeout, most.total, logprobs)
        hold = await self.budget.hold(call.step.leaf, most.total, price.of(most) if price else None)
        took: tuple[int | None, float | None] = (0, 0.0)
        started, began = time.time(), time.monotonic()
        try:
            done = await alias.complete(asked)
            cost = price.of(done.usage) if price else None
            took = (done.usage.total or None, cost)
        except CallError as fault:
            seconds = time.monotonic() - began
            await self.ledger.record_call(
                replace(call, status=fault.code, error=str(fault), attempts=fault.attempts, cost=0.0, started_at=started, seconds=seconds)
            )
            about = {"candidate": call.step.candidate, "role": role.name, "model": call.model, "code": fault.code}
            event(CALL, INFO, "call failed", **about, attempts=fault.attempts, seconds=seconds)
            raise
        finally:
            self.budget.settle(hold, *took)
        seconds = time.monotonic() - began
        self.calls += 1
        self.latencies[role.name].add(seconds)
        if CALL.isEnabledFor(DEBUG):
            used = {"input_tokens": done.usage.prompt, "output_tokens": done.usage.completion, "money": cost}
            about = {"candidate": call.step.candidate, "role": role.name, "model": call.model, "endpoint": done.base_url}
            event(CALL, DEBUG, "call answered", **about, seconds=seconds, attempts=done.attempts, finish=done.finish_reason, **used)
        return _answered(call, done, cost, started, seconds)

    def _of(self, role: Role) -> RoleSettings:
        """What the recipe says of a role."""
        return self._settings.get(role.name, _NOTHING)

    def _params(self, role: Role, alias: Alias, step: Step, sample: int) -> dict[str, Any]:
        temperature, max_tokens = sampling(role, self._of(role), alias.model)
        seed = int(digest(self._seed, step.candidate, step.name, role.name, sample, length=8), 16) % 2**31
        params: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed}
        return params if temperature is None else {"temperature": temperature, **params}


_NOTHING = RoleSettings()


def extract(text: str) -> Any:
    """The first JSON object in a reply, which may stand in a code fence or between sentences. Raises ValueError when there is none."""
    decoder = json.JSONDecoder(strict=False)
    start = text.find("{")
    while start >= 0:
        try:
            return decoder.raw_decode(text, start)[0]
        except json.JSONDecodeError:
            start = text.find("{", start + 1)
        except RecursionError:  # a model that opens brackets without end
            raise ValueError("its JSON is nested too deeply") from None
    raise ValueError("there is no JSON object in it")


def _read(role: Role, call: Call) -> Reply:
    """A recorded call as a reply that keeps the role's contract. Raises ReplyError."""
    if len(call.reply) > MAX_REPLY:
        raise ReplyError("reply_too_long", f"role {role.name!r}: {len(call.reply)} characters, at most {MAX_REPLY} expected")
    cut = call.finish_reason == "length"
    if not call.reply.strip():
        raise ReplyError("empty_reply", f"role {role.name!r}: the reply is empty (finish_reason {call.finish_reason!r})")
    if role.contract is None:
        return Reply(role, call.model, call.reply.strip(), None, call.reasoning, cut)
    try:
        value = role.contract.model_validate(extract(call.reply))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ReplyError("unreadable_reply", f"role {role.name!r}: {where}: {first['msg']}, got {str(first['input'])[:80]!r}") from None
    except ValueError as fault:
        code = "cut_off" if cut else "unreadable_reply"
        raise ReplyError(code, f"role {role.name!r}: {fault}: {call.reply[:80]!r}") from None
    return Reply(role, call.model, call.reply, value, call.reasoning, score_logprobs=call.score_logprobs)


AGAIN: Mapping[Language, tuple[str, str, str]] = {
    "en": (
        "That reply could not be used ({fault}). Reply again, shorter, with {wanted}",
        "plain text",
        "one JSON object only, of this schema: ",
    ),
    "zh": ("这条回复无法使用（{fault}）。请重新回复，更简短，只给出{wanted}", "纯文本", "一个符合此 schema 的 JSON 对象："),
}
"""What is said to a role whose reply cannot be used; what is wanted of it when it writes text; and when it writes JSON."""


def _correction(role: Role, call: Call, fault: ReplyError, language: Language) -> Sequence[dict[str, str]]:
    """The two turns that ask again: what was said (if anything can be shown), and what is wrong with it."""
    again, text, json_ = AGAIN[language]
    wanted = text if role.schema is None else json_ + json.dumps(role.schema, ensure_ascii=False)
    ask = {"role": "user", "content": again.format(fault=fault, wanted=wanted)}
    said = call.reply.strip()[:1000]
    return [{"role": "assistant", "content": said}, ask] if said else [ask]


def _answered(call: Call, done: Completion, cost: float | None, started: float, seconds: float) -> Call:
    return replace(
        call,
        reply=done.text,
        reasoning=done.reasoning,
        finish_reason=done.finish_reason,
        usage=done.usage,
        attempts=done.attempts,
        endpoint=done.base_url,
        score_logprobs=done.score_logprobs,
        cost=cost,
        started_at=started,
        seconds=seconds,
    )
