"""A model alias of the recipe: one endpoint or several, and the one place where a call is tried again.

    Alias.complete -> pick an endpoint -> Endpoint.ask -> Completion
                          ^                   |
                          '--- wait (jittered backoff, at least what the server asks for) --- a fault worth another try

A fault of the call's own (a broken connection, a 500, a body that cannot be read, a timeout) uses up one of `attempts`. A fault that
would befall whoever asks (a rate limit, an overloaded server, one that went down after it had answered, an outage in which nobody is
answered any more) uses up `patience` instead: the governor holds the calls back, so that a storm costs time and not candidates. An
endpoint that fails beside others is rested, and tried again later.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from agents.models.endpoint import Asked, Completion, Endpoint, Transient
from leafmill import errors
from leafmill.log import CALL, ENDPOINT, INFO, WARNING, event
from leafmill.recipe import Model

REST = 5.0
"""seconds that a failed endpoint is left alone the first time when there are others; twice as long each further time"""
LONGEST_REST = 300.0


@dataclass
class _Place:
    """An endpoint beside others: until when it rests (monotonic seconds), how often it has failed in a row, and why."""

    endpoint: Endpoint
    weight: float
    until: float = 0.0
    failures: int = 0
    fault: errors.LeafmillError | None = None

    @property
    def load(self) -> tuple[float, float]:
        """What it has to do now, then what it has done, for its weight."""
        governor = self.endpoint.governor
        return (governor.in_flight + governor.waiting) / self.weight, self.endpoint.sent / self.weight

    def rest(self, fault: errors.LeafmillError, wait: float) -> None:
        self.until = time.monotonic() + max(wait, min(REST * 2**self.failures, LONGEST_REST))
        if not self.failures:
            event(ENDPOINT, WARNING, "endpoint rests", endpoint=self.endpoint.address.base_url, seconds=self.until - time.monotonic())
        self.failures, self.fault = self.failures + 1, fault

    def recover(self) -> None:
        event(ENDPOINT, INFO, "endpoint works again", endpoint=self.endpoint.address.base_url)
        self.until, self.failures, self.fault = 0.0, 0, None


@dataclass
class _Trying:
    """What one call has been through: how often it was sent, faults of its own, and since when faults of others have kept it waiting."""

    attempts: int
    patience: float
    role: str
    at: str = ""
    """the address that it was sent to last"""
    tries: int = 0
    own: int = 0
    waiting_since: float | None = None

    def enough(self, state: RetryCallState) -> bool:
        """tenacity's `stop`."""
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, Transient) and fault.general:
            self.waiting_since = self.waiting_since or time.monotonic()
            return max(time.monotonic() - self.waiting_since, fault.wait or 0.0) >= self.patience
        self.own, self.waiting_since = self.own + 1, None
        return self.own >= self.attempts

    def wait(self, state: RetryCallState) -> float:
        """tenacity's `wait`: jittered exponential backoff in seconds, at least what the server asked for. Where everybody is refused, the
        governor's rest is the backoff, and a call only has to come back in time for it."""
        fault = state.outcome.exception() if state.outcome else None
        asked, general = (fault.wait or 0.0, fault.general) if isinstance(fault, Transient) else (0.0, False)
        return max(min(asked, self.patience), _SOON(state) if general else _BACKOFF(state))

    def tell(self, state: RetryCallState) -> None:
        """tenacity's `before_sleep`."""
        reason, wait = getattr(state.outcome and state.outcome.exception(), "code", "?"), state.upcoming_sleep
        event(CALL, INFO, "call retried", role=self.role, endpoint=self.at, reason=reason, tries=self.tries, wait=wait)


class Alias:
    """`complete` asks one of the endpoints until there is an answer."""

    def __init__(self, name: str, model: Model, endpoints: Sequence[Endpoint]) -> None:
        self.name, self.model, self.endpoints = name, model, tuple(endpoints)
        self._places = [_Place(one, one.address.weight) for one in endpoints]

    async def aclose(self) -> None:
        for one in self.endpoints:
            await one.aclose()

    async def complete(self, asked: Asked) -> Completion:
        """Send one call until it is answered. Raises an EndpointError when no call can work, a CallError when this one cannot."""
        trying = _Trying(self.model.attempts, self.model.patience, asked.role)
        retrying = AsyncRetrying(stop=trying.enough, retry=_AGAIN, wait=trying.wait, before_sleep=trying.tell, reraise=True)
        try:
            return await retrying(self._once, asked, trying)
        except Transient as fault:
            error = self._final(fault, trying)
            if isinstance(error, errors.CallError):
                error.attempts = trying.tries
            raise error from fault

    async def _once(self, asked: Asked, trying: _Trying) -> Completion:
        """One try, at whichever endpoints it takes to find one that works at all."""
        while True:
            place = self._pick()
            trying.tries, trying.at = trying.tries + 1, place.endpoint.address.base_url
            try:
                done = await place.endpoint.ask(asked)
            except (errors.EndpointError, Transient) as fault:
                error, wait, general = (fault.error, fault.wait, fault.general) if isinstance(fault, Transient) else (fault, None, False)
                if len(self._places) == 1 or not (general or isinstance(error, errors.EndpointError)):
                    raise
                place.rest(error, wait or 0.0)
                if all(one.fault and one.until > time.monotonic() for one in self._places):
                    raise
                continue
            if place.failures:
                place.recover()
            return replace(done, attempts=trying.tries)

    def _pick(self) -> _Place:
        """The endpoint with the least to do for its weight; one at rest only when all are, and then the one that is done soonest."""
        if len(self._places) == 1:
            return self._places[0]
        now = time.monotonic()
        awake = [one for one in self._places if one.until <= now]
        return min(awake, key=lambda one: one.load) if awake else min(self._places, key=lambda one: one.until)

    def _final(self, fault: Transient, trying: _Trying) -> errors.LeafmillError:
        """The error that a fault becomes when there are no tries left."""
        if not fault.general:
            return fault.error
        since = trying.waiting_since or 0.0
        asks = fault.wait is not None and fault.wait >= trying.patience
        waited = f"and asks to wait {fault.wait:.0f} s" if asks else f"for {time.monotonic() - since:.0f} s"
        said = f"{fault.error} ({waited}: `patience` is {trying.patience:g})"
        if isinstance(fault.error, errors.CallError) and any((one.governor.answered_at or 0.0) > since for one in self.endpoints):
            return errors.ServerFaultError(said)  # others were answered meanwhile: it is this call
        return fault.error if isinstance(fault.error, errors.EndpointError) else errors.EndpointError(said)


_AGAIN = retry_if_exception_type(Transient)
_BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
_SOON = wait_random_exponential(multiplier=0.5, max=2)
