"""As what a row is compared: by its instruction, by the user's first message, and as a whole conversation, each with its like only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from filters.text import units
from leafmill.records import Row

View = Literal["instruction", "opening", "conversation"]
VIEWS: tuple[View, ...] = ("instruction", "opening", "conversation")
BITS: dict[View, int] = {view: 1 << number for number, view in enumerate(VIEWS)}

ALONE = 8
"""units under which a message of a longer conversation says too little without the rest: "go on", "hello" """


class Seen(NamedTuple):
    """A text of a row, and as what it is compared."""

    text: str
    asked: str
    """what the user says in it, which is all that the guard looks at"""
    bits: int
    """of its views: the prompt of a single exchange is instruction and opening in one"""

    def view(self, others: int) -> View:
        """The first view that it shares with the bits of another text."""
        return next(view for view in VIEWS if BITS[view] & self.bits & others)


def views(row: Row, wanted: Sequence[View]) -> Iterator[Seen]:
    """The texts by which a row is compared. What the system says is left out of the conversation: it is the same for thousands of rows."""
    prompt = row.prompt
    if not row.history:
        bits = sum(BITS[view] for view in wanted if view != "conversation")
        if bits:
            yield Seen(prompt, prompt, bits)
    else:
        texts: dict[View, str] = {"instruction": prompt, "opening": row.opening}
        for view, text in texts.items():
            if view in wanted and units(text) >= ALONE:
                yield Seen(text, text, BITS[view])
    if row.answer and "conversation" in wanted:
        said = [turn for turn in row.asked if turn.role != "system"]
        asked = "\n".join(turn.content for turn in said if turn.role == "user") if row.history else prompt
        yield Seen("\n".join([*(turn.text for turn in said), row.answer]), asked, BITS["conversation"])
