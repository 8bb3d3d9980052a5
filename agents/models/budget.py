"""What a run may still spend, in tokens and in money, as a whole and on each leaf: asked before each call.

    hold               before a call: sets aside the most that it may take, waits for room, or says that the budget is over
    settle | release   after it: what it really took replaces what was set aside | nothing was taken

What is set aside counts as spent, so calls in flight can never pass a limit together. Mostly a call takes less than it might; so one that
does not fit waits while others in flight may leave room, first come first served within its leaf and then within the run. Once a call
cannot fit however little those in flight take, the budget of that leaf, or of the run, is over for good: what was spent does not come back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from leafmill.errors import Halted, RecipeError
from leafmill.log import RUN, WARNING, event
from leafmill.recipe import Limits

ROUNDING = 1e-9
"""share of a limit of money that sums of floats may be off by: so little never keeps a call waiting"""


class BudgetSpent(Halted):
    """A call is not made because its budget is over."""


@dataclass(frozen=True)
class Spent:
    """What calls took. Money is None where some of it is unknown; that never becomes 0."""

    tokens: int = 0
    money: float | None = 0.0


@dataclass(slots=True, eq=False)
class Hold:
    """What is set aside for one call in flight."""

    purses: tuple[_Purse, ...]
    """the leaf's, then the run's"""
    tokens: int
    money: float | None


class Budget:
    """The purse of the run and those of its leaves. `earlier` is what earlier runs in the folder spent, by leaf; `calls` is how many more
    may be made, where that is bounded. Raises RecipeError."""

    def __init__(self, limits: Limits, currency: str = "USD", earlier: Mapping[str, Spent] | None = None, calls: int | None = None) -> None:
        self._limits, self._currency = limits, currency
        self._calls = calls
        self._limited = any(one is not None for one in (limits.tokens, limits.money, limits.leaf_tokens, limits.leaf_money))
        self._leaves: dict[str, _Purse] = {}
        self._run = _Purse("", limits.tokens, limits.money, currency, self._leaves)
        for leaf, spent in (earlier or {}).items():
            for purse in (self._leaf(leaf), self._run):
                if spent.money is None and purse.most_money is not None:
                    key = "leaf_money" if purse.leaf else "money"
                    raise RecipeError(f"limits.{key} cannot be kept: what earlier runs spent on leaf {leaf!r} is not known in {currency}")
                purse.spend(spent.tokens, spent.money)

    async def hold(self, leaf: str, tokens: int, money: float | None) -> Hold:
        """Set aside the most that one call of a leaf may take (`money` None: its price is unknown). Each hold is settled or released.

        Raises BudgetSpent when the budget of the leaf or of the run is over.
        """
        if self._calls is not None:
            if self._calls <= 0:
                raise BudgetSpent("all calls that are allowed have been made (--max-calls)")
            self._calls -= 1
        hold = Hold((self._leaf(leaf), self._run), tokens, money)
        if not self._limited:
            return hold
        purse, run = hold.purses
        await purse.take(hold)
        try:
            await run.take(hold)
        except BaseException:
            purse.give_back(hold)
            raise
        return hold

    def settle(self, hold: Hold, tokens: int | None, money: float | None) -> None:
        """The call was made. Tokens that the server did not count, or a cost that is unknown, are taken to be all that was set aside."""
        took = hold.tokens if tokens is None else tokens
        cost = hold.money if money is None else money
        for purse in hold.purses:
            purse.spend(took, cost)
        self.release(hold)

    def release(self, hold: Hold) -> None:
        """Nothing more is spent on the call: what was set aside is free again."""
        if self._limited:
            for purse in hold.purses:
                purse.give_back(hold)

    def over(self, leaf: str) -> str | None:
        """Why no further call of the leaf will be made, as a sentence; None while some may be."""
        return self._leaf(leaf).over or self._run.over

    @property
    def spent(self) -> Spent:
        """By all leaves, earlier runs included; what is only set aside is not in it."""
        return self._run.spent

    def spent_on(self, leaf: str) -> Spent:
        return self._leaf(leaf).spent

    def _leaf(self, leaf: str) -> _Purse:
        purse = self._leaves.get(leaf)
        if purse is None:
            purse = self._leaves[leaf] = _Purse(leaf, self._limits.leaf_tokens, self._limits.leaf_money, self._currency)
        return purse


@dataclass(eq=False)
class _Purse:
    """What one leaf, or the run (its leaf is ""), may spend, and who waits to."""

    leaf: str
    most_tokens: int | None
    most_money: float | None
    currency: str
    inside: Mapping[str, _Purse] = field(default_factory=dict)
    """the purses that end with this one"""
    over: str | None = None
    spent: Spent = Spent()
    _held_tokens: int = 0
    _held_money: float = 0.0
    _line: OrderedDict[asyncio.Future[bool], Hold] = field(default_factory=OrderedDict)
    """each is told whether it was let in"""

    async def take(self, hold: Hold) -> None:
        """Set the hold aside, at once or when those before it leave room. Raises BudgetSpent."""
        if self.most_money is not None and hold.money is None:
            raise ValueError(f"a call of leaf {self.leaf!r} without a price, under a limit of money: every model needs a price then")
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._line[told] = hold
        self._serve()
        try:
            let_in = await told
        except asyncio.CancelledError:
            if told.cancelled():
                self._line.pop(told, None)
                self._serve()  # who was behind it may fit
            elif told.result():
                self.give_back(hold)
            raise
        if not let_in:
            raise BudgetSpent(self.over)

    def give_back(self, hold: Hold) -> None:
        self._held_tokens -= hold.tokens
        self._held_money -= hold.money or 0.0
        self._serve()

    def spend(self, tokens: int, money: float | None) -> None:
        known = self.spent.money
        self.spent = Spent(self.spent.tokens + tokens, None if known is None or money is None else known + money)
        if why := self._too_much(1, 0.0):  # no call takes less
            self._end(why)

    def _serve(self) -> None:
        """Let in, in order, whoever fits; turn all away once the next one never will."""
        while self._line:
            told, hold = next(iter(self._line.items()))
            if not told.done():  # else it is cancelled, and will say so itself in a moment
                if why := self.over or self._too_much(hold.tokens, hold.money):
                    return self._end(why)
                if self._too_much(self._held_tokens + hold.tokens, self._held_money + (hold.money or 0.0)):
                    return None
                self._held_tokens += hold.tokens
                self._held_money += hold.money or 0.0
                told.set_result(True)
            self._line.popitem(last=False)
        return None

    def _end(self, why: str, *, with_run: bool = False) -> None:
        for told in self._line:
            if not told.done():
                told.set_result(False)
        self._line.clear()
        if self.over is None:
            self.over = why
            if not with_run:
                event(RUN, WARNING, "budget used up", leaf=self.leaf or "*", reason=why)
            for purse in self.inside.values():
                purse._end(why, with_run=True)

    def _too_much(self, tokens: int, money: float | None) -> str | None:
        """The sentence that says which limit so much more would pass; None if none."""
        of, key = (f" of leaf {self.leaf!r}", "leaf_") if self.leaf else ("", "")
        used, paid = self.spent.tokens, self.spent.money or 0.0
        if self.most_tokens is not None and used + tokens > self.most_tokens:
            more = f", the next call may take {tokens}" if used < self.most_tokens else ""
            return f"{used} of {self.most_tokens} tokens{of} used{more} (limits.{key}tokens)"
        if self.most_money is not None and paid + (money or 0.0) > self.most_money * (1 + ROUNDING):
            more = f", the next call may take {money:.6g}" if paid < self.most_money else ""
            return f"{paid:.6g} of {self.most_money:.6g} {self.currency}{of} used{more} (limits.{key}money)"
        return None
