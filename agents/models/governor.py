"""How fast one model at one address may be called: places, rests and rates, shared by every alias and leaf that speaks to it.

    enter -> Place     waits in line until a place is free, the lane does not rest, and the rates allow the call
    answered, refused  what became of the call: the limit of places follows it
    leave              gives the place back

**The limit of places** is TCP's rule for a road of unknown width (Jacobson 1988; additive up and multiplicative down share it fairly
and settle: Chiu & Jain 1989), with one change: a single refusal says nothing here, because servers refuse a few calls in a hundred at
random, and a lane that halved or paused for each of them would crawl.

* A refusal only makes its own call wait (the caller's business) while refusals are at most a quarter of the last replies. These are the
  last `limit` replies, and at least 16.
* More than that, and the limit is halved (never below 1) and the lane rests for the longest wait that those refusals asked for, or for
  a moment of its own that doubles from cut to cut. Replies to calls that went out before a cut are not counted after it, so that
  one burst cuts once; they can only lengthen the rest.
* While nothing was answered since the last cut there is a storm: then only the last `limit` replies are looked at, so that the lane is soon
  down to one call, sent after each rest to see whether the storm is over.
* Good replies raise the limit: by one each up to a goal, which doubles it from round to round (slow start), then by one for each
  `limit` of them. The goal is half of what was too many; but a storm says nothing of how many are too many, so it is the limit of before.

**The rates** (rpm, tpm) are an exact window: in no 60 seconds do more calls enter. aiolimiter's bucket lets up to twice the rate into its
first minute, and pyrate-limiter keeps one item per token, so this is ours; libraries of adaptive limits cut at each refusal.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from leafmill.errors import Halted
from leafmill.log import ENDPOINT, INFO, WARNING, event

WINDOW = 60.0
"""seconds that rpm and tpm are counted over"""
FAIR_SHARE = 4
"""one refusal in so many replies is borne"""
FEWEST = 16
"""replies that the share is taken of, at least: of fewer, random refusals alone would cut a lane of few places now and then"""
FIRST_REST, LONGEST_REST = 0.5, 10.0
"""seconds of the lane's own rests, where the server asks for none: before jitter, and at most"""
FARTHEST = 86400.0
"""seconds; a header that puts its reset farther off than a day holds a date, or nonsense"""
HEADERS = tuple((f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}") for kind in ("requests", "tokens"))
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(slots=True, eq=False)
class Place:
    """One call in flight. Only the governor reads it."""

    era: int
    """how often the limit had been cut when the call went out"""
    since: float
    tokens: int
    """as estimated, then as counted"""


class Governor:
    """Lets `most` calls at a time through, and fewer while the endpoint shows that they are too many. All times are monotonic seconds."""

    def __init__(
        self, most: int, rpm: int | None = None, tpm: int | None = None, clock: Callable[[], float] = time.monotonic, lane: str = ""
    ) -> None:
        self.most, self.rpm, self.tpm = most, rpm, tpm
        self.lane = lane
        """what the log calls it: the model and its address"""
        self.limit = most
        self.in_flight = 0
        self.refusals = 0
        self.answered_at: float | None = None
        """when the last call was answered"""
        self._clock = clock
        self._line: OrderedDict[asyncio.Future[Place], int] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._rest_until = 0.0
        self._minute: deque[Place] = deque()
        self._minute_tokens = 0
        # since the last cut:
        self._era = 0
        self._replies = 0
        self._good = 0
        self._refused: deque[tuple[int, float]] = deque()
        """of the last replies: which were refusals, by their count, and until when each asked to wait"""
        # growth:
        self._goal = self._before = most
        self._toward_next = 0
        self._cuts = 0
        """in a row, with nothing answered between them"""

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def resting(self) -> float:
        """Seconds until the lane is open again; 0.0 while it is."""
        return max(0.0, self._rest_until - self._clock())

    async def enter(self, tokens: int = 0) -> Place:
        """Wait, first come first served, for a place for a call of about so many tokens. Each place must be given back by `leave`.

        Raises Halted once nobody is let in any more.
        """
        if self._closed:
            raise Halted("nothing new is asked")
        if not self._line and self._opens(tokens) is None:
            return self._admit(tokens)
        admitted: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._line[admitted] = tokens
        self._serve()
        try:
            return await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                self._line.pop(admitted, None)
                self._serve()  # who was behind it may fit
            else:
                self.leave(admitted.result(), 0)
            raise

    def leave(self, place: Place, tokens: int | None = None) -> None:
        """Give a place back. `tokens` is what the call really took, where that is known."""
        self.in_flight -= 1
        if tokens is not None and self._minute and place.since >= self._minute[0].since:  # it is in the window still
            self._minute_tokens += tokens - place.tokens
            place.tokens = tokens
        if self._line:
            self._serve()

    def answered(self, place: Place, headers: Mapping[str, str]) -> None:
        """The call was answered. Where a rate-limit header (lower case) says that nothing remains, the lane rests until its reset."""
        self.answered_at = self._clock()
        if place.era == self._era:
            self._replies += 1
            self._good += 1
            if self.limit < self.most:
                self._grow()
                if self.limit == self.most:
                    event(ENDPOINT, INFO, "lane recovered", lane=self.lane, limit=self.limit)
        for remaining, reset in HEADERS:
            left = headers.get(remaining)
            if left is not None and left.strip() == "0" and (wait := seconds(headers.get(reset, ""))):
                self.rest(wait)

    def refused(self, place: Place, wait: float | None = None) -> None:
        """The call was refused for its rate or an overload (429, 503, 529), or timed out. `wait`: the seconds that the server asked for."""
        self.refusals += 1
        now = self._clock()
        until = now + (wait or 0.0)
        if place.era != self._era:
            if self._rest_until > now:
                self._rest_until = max(self._rest_until, until)
            return
        self._replies += 1
        self._refused.append((self._replies, until))
        storm = self._cuts and not self._good
        looked_at = self.limit if storm else max(self.limit, FEWEST)
        while self._refused[0][0] <= self._replies - looked_at:
            self._refused.popleft()
        if len(self._refused) * FAIR_SHARE > looked_at:
            self._cut(now)

    def close(self) -> None:
        """Let nobody in any more: whoever waits is turned away, calls in flight go on."""
        self._closed = True
        for admitted in self._line:
            if not admitted.done():
                admitted.set_exception(Halted("nothing new is asked"))
        self._line.clear()
        self._serve()

    def rest(self, seconds: float) -> None:
        """Let nobody in for so long; a longer rest that is under way stays."""
        if self._rest_until <= self._clock():
            event(ENDPOINT, INFO, "lane rests", lane=self.lane, seconds=seconds)
        self._rest_until = max(self._rest_until, self._clock() + seconds)

    # -- the limit

    def _grow(self) -> None:
        if self.limit < self._goal:
            self.limit += 1
            return
        self._toward_next += 1
        if self._toward_next >= self.limit:
            self.limit += 1
            self._toward_next = 0

    def _cut(self, now: float) -> None:
        if self._good:
            self._before, self._goal, self._cuts = self.limit, self.limit // 2, 0
        else:
            self._goal = self._before
        asked = max(until for _, until in self._refused)
        own = min(FIRST_REST * 2 ** min(self._cuts, 16), LONGEST_REST) * random.uniform(0.5, 1.0)
        self._rest_until = max(self._rest_until, asked if asked > now else now + own)
        level = WARNING if self.limit > 1 else INFO  # one call at a time already: a storm goes on
        self.limit = max(1, self.limit // 2)
        self._cuts += 1
        self._era += 1
        self._replies = self._good = self._toward_next = 0
        self._refused.clear()
        event(ENDPOINT, level, "lane slowed", lane=self.lane, limit=self.limit, rests=self.resting, refusals=self.refusals)

    # -- the line

    def _opens(self, tokens: int) -> float | None:
        """None if a call may enter now, else when to look again: inf is when somebody leaves."""
        if self.in_flight >= self.limit:
            return float("inf")
        if not self._rest_until and self.rpm is None and self.tpm is None:
            return None
        now = self._clock()
        if self._rest_until > now:
            return self._rest_until
        self._rest_until = 0.0
        minute = self._minute
        while minute and minute[0].since + WINDOW <= now:
            self._minute_tokens -= minute.popleft().tokens
        full = self.rpm is not None and len(minute) >= self.rpm
        # a call larger than tpm goes alone rather than never
        over = self.tpm is not None and bool(minute) and self._minute_tokens + tokens > self.tpm
        return minute[0].since + WINDOW if full or over else None

    def _admit(self, tokens: int) -> Place:
        self.in_flight += 1
        if self.rpm is None and self.tpm is None:
            return Place(self._era, 0.0, tokens)
        place = Place(self._era, self._clock(), tokens)
        self._minute.append(place)
        self._minute_tokens += tokens
        return place

    def _serve(self) -> None:
        """Let in whoever may enter, in order; set a timer when only time can let the next one in."""
        while self._line:
            admitted, tokens = next(iter(self._line.items()))
            if not admitted.done():  # else it is cancelled, and will say so itself in a moment
                opens = self._opens(tokens)
                if opens is not None:
                    if opens != float("inf") and self._timer is None:
                        # not before a millisecond: a loop with a coarse clock would come back at once, again and again
                        self._timer = asyncio.get_running_loop().call_later(max(opens - self._clock(), 0.001), self._look_again)
                    return
                admitted.set_result(self._admit(tokens))
            self._line.popitem(last=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        self._timer = None
        self._serve()


def seconds(text: str) -> float | None:
    """A duration as rate-limit headers write it: "1s", "6m0s", "120ms", "1h2m3s", or plain seconds. None if it is none, or over a day.

    >>> seconds("1m30s")
    90.0
    """
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        wait = float(text)
    elif text and (found := DURATION.fullmatch(text)):
        wait = sum(float(part) * unit for part, unit in zip(found.groups(), (86400, 3600, 60, 1, 0.001), strict=True) if part)
    else:
        return None
    return wait if wait <= FARTHEST else None
