"""Where commands print: a terminal as wide as it is, or a file or pipe in wide lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 130
"""columns where nobody says how many there are"""


HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""what a terminal would obey instead of showing it"""


def visible(text: str) -> str:
    """Somebody else's text for a terminal that only shows it: what it would obey stands as a replacement character."""
    return HIDDEN.sub("\ufffd", text.replace("\r\n", "\n"))


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=WIDTH)


def sayer(console: Console) -> Callable[[str], None]:
    """Says what goes on, beside the result."""
    return lambda line: console.print(line, highlight=False, markup=False, style="dim", soft_wrap=True)
