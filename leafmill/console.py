"""Where commands print: a terminal as wide as it is, or a file or pipe in wide lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 130
"""columns where nobody says how many there are"""


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=WIDTH)


def sayer(console: Console) -> Callable[[str], None]:
    """Says what goes on, beside the result."""
    return lambda line: console.print(line, highlight=False, markup=False, style="dim", soft_wrap=True)
