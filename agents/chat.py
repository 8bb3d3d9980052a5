"""One model call, from a role to a reply that keeps its contract. Every agent speaks through `Chat.ask`.

    ask -> render -> recorded already? -> read it from the ledger, pay nothing
                  -> no: Endpoint.complete -> record -> parse -> reply
                                                          `-- unreadable: asked again once, with the error -> record -> parse

The key of a call says what was asked: model, rendered messages, schema, the parameters that change the meaning (temperature, seed,
the model's `extra_body`), and whose call it is (candidate, step, sample). Limits (max_tokens, timeout) are not in it: raising one keeps
what succeeded.
A repaired reply is recorded under the key of the call it repairs, so that a resumed run reads one good reply.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from agents.endpoint import Completion, Endpoint
from agents.role import Role, Roles
from leafmill.errors import CallError, ReplyError, RoleFileError, TemplateError
from leafmill.ledger import Call, Ledger, Step
from leafmill.recipe import RoleSettings
from leafmill.records import digest

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

    def get(self, name: str, default: Any = "") -> Any:
        """A field of the reply; of a plain text, the text itself."""
        return self.text if self.value is None else getattr(self.value, name, default)

    @property
    def origin(self) -> dict[str, str]:
        """Which prompt and model made it: what the lineage keeps."""
        return {"role": self.role.name, "variant": self.role.variant, "prompt": self.role.hash, "model": self.model}


class Chat:
    """Asks roles of a run. Holds the endpoints by alias, the roles, the ledger, and the overrides of the recipe."""

    def __init__(
        self, ledger: Ledger, roles: Roles, endpoints: Mapping[str, Endpoint], settings: Mapping[str, RoleSettings], seed: int
    ) -> None:
        self.ledger, self.roles, self.endpoints = ledger, roles, endpoints
        self._settings, self._seed = settings, seed
        self.tokens = 0
        """tokens of the calls that were paid for by this process"""
        self.calls = 0

    def endpoint(self, role: Role) -> Endpoint:
        alias = self._settings.get(role.name, RoleSettings()).model or role.model
        return self.endpoints[alias]

    async def ask(self, name: str, language: str, step: Step, values: Mapping[str, Any], sample: int = 0) -> Reply:
        """Ask a role. Raises CallError when this call cannot be had (recorded), EndpointError when none can."""
        role = self.roles.pick(name, language, f"{self._seed}/{step.candidate}/{step.name}")
        endpoint = self.endpoint(role)
        params = self._params(role, endpoint, step, sample)
        made_by = (role.name, role.variant, role.hash, endpoint.alias, endpoint.model.served_name)
        try:
            messages = role.render(values)
        except RoleFileError as fault:  # these values do not suit the template: nothing is asked, and that is on record
            unasked = Call("", step, *made_by, [], params, status=TemplateError.code, error=str(fault), started_at=time.time())
            await self.ledger.record_call(unasked)
            raise TemplateError(str(fault)) from fault
        schema = None if role.schema is None else (role.name, role.schema)
        meaning = {**endpoint.model.extra_body, **{k: v for k, v in params.items() if k != "max_tokens"}}
        key = digest(endpoint.model.served_name, messages, meaning, schema, step.candidate, step.name, sample, length=32)
        call = Call(key, step, *made_by, messages, params)
        if recorded := self.ledger.recorded_call(key):
            return _read(role, recorded)
        return await self._ask_anew(role, endpoint, call, schema)

    async def _ask_anew(self, role: Role, endpoint: Endpoint, call: Call, schema: Any) -> Reply:
        first = await self._complete(endpoint, call, schema)
        try:
            reply = _read(role, first)
        except ReplyError as fault:
            await self.ledger.record_call(replace(first, status=fault.code, error=str(fault)))
            again = replace(call, messages=[*call.messages, *_correction(role, first, fault)])
            second = await self._complete(endpoint, again, schema)
            try:
                reply = _read(role, second)
            except ReplyError as final:
                await self.ledger.record_call(replace(second, status=final.code, error=str(final)))
                raise
            first = second
        # A cut-off text may be used, but raising max_tokens must ask for it again.
        await self.ledger.record_call(replace(first, status="cut_off") if reply.cut_off else first)
        return reply

    async def _complete(self, endpoint: Endpoint, call: Call, schema: Any) -> Call:
        """Send one call and count it; a call that fails is recorded with its code before the error goes on."""
        started = time.time()
        try:
            done = await endpoint.complete(call.messages, call.params, schema, call.role)
        except CallError as fault:
            seconds = time.time() - started
            await self.ledger.record_call(
                replace(call, status=fault.code, error=str(fault), attempts=fault.attempts, started_at=started, seconds=seconds)
            )
            raise
        self.calls += 1
        self.tokens += done.usage.total
        return _answered(call, done, started)

    def _params(self, role: Role, endpoint: Endpoint, step: Step, sample: int) -> dict[str, Any]:
        """Temperature and max_tokens: from the recipe's `roles`, else its model, else the role's head."""
        override = self._settings.get(role.name, RoleSettings())
        sources = (override, endpoint.model, role.head)
        temperature = next((s.temperature for s in sources if s.temperature is not None), None)
        max_tokens = next((s.max_tokens for s in sources if s.max_tokens is not None), 1024)
        seed = int(digest(self._seed, step.candidate, step.name, role.name, sample, length=8), 16) % 2**31
        params: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed}
        return params if temperature is None else {"temperature": temperature, **params}


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
    return Reply(role, call.model, call.reply, value, call.reasoning)


def _correction(role: Role, call: Call, fault: ReplyError) -> Sequence[dict[str, str]]:
    """The two turns that ask again: what was said (if anything can be shown), and what is wrong with it."""
    wanted = "plain text" if role.schema is None else f"only one JSON object of this schema: {json.dumps(role.schema, ensure_ascii=False)}"
    ask = {"role": "user", "content": f"That reply could not be used ({fault}). Reply again, shorter, with {wanted}"}
    said = call.reply.strip()[:1000]
    return [{"role": "assistant", "content": said}, ask] if said else [ask]


def _answered(call: Call, done: Completion, started: float) -> Call:
    return replace(
        call,
        reply=done.text,
        reasoning=done.reasoning,
        finish_reason=done.finish_reason,
        usage=done.usage,
        attempts=done.attempts,
        started_at=started,
        seconds=time.time() - started,
    )
