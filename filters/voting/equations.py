"""The sums that a solution works out as it goes, written `<<48/2=24>>` as in GSM8K: they must hold, and they tell two ways apart.

The rule is that of rejection-sampling fine-tuning (Yuan et al. 2023, arXiv 2308.01825): each equation within a thousandth, and of two
solutions with the same list of equations one is enough. What stands there is text that a model wrote: it is read as arithmetic, by its
syntax tree, and never evaluated as a program. What is no arithmetic does not hold.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

TOLERANCE = Fraction(1, 1000)
LONGEST = 200
"""characters of one side"""
MAX_POWER = 32
_WRITTEN = re.compile(r"<<(.*?)>>", re.DOTALL)
_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Equation(NamedTuple):
    """`text` is without spaces."""

    text: str
    holds: bool


def equations(solution: str) -> list[Equation]:
    """All of a solution, in order."""
    return [Equation("".join(text.split()), _holds(text)) for text in _WRITTEN.findall(solution)]


def wrong(solution: str) -> str | None:
    """The first that does not hold, or None."""
    return next((one.text for one in equations(solution) if not one.holds), None)


def path(solution: str) -> str:
    """The way that a solution takes: its equations in their order; "" where it has none."""
    return "|".join(one.text for one in equations(solution))


def _holds(text: str) -> bool:
    left, equals, right = text.rpartition("=")
    values = [_value(side) for side in (left, right)]
    return bool(equals) and values[0] is not None and values[1] is not None and abs(values[0] - values[1]) <= TOLERANCE


def _value(text: str) -> Fraction | None:
    """What an arithmetic expression comes to; None where it is none."""
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.replace("$", "").replace("×", "*").replace("÷", "/").strip())
    plain = re.sub(r"(\d+(?:\.\d+)?|\.\d+)%(?!\s*[\d.(])", r"(\1/100)", plain)
    if not plain or len(plain) > LONGEST:
        return None
    try:
        return _worked_out(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None


def _worked_out(node: ast.expr) -> Fraction:
    """Raises ValueError for anything but numbers, + - * / ** and signs."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Fraction(str(value))
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_worked_out(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _worked_out(inner)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            power = _worked_out(right)
            if power.denominator != 1 or abs(power) > MAX_POWER:
                raise ValueError(f"a power of {power}")
            return _worked_out(left) ** int(power)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_worked_out(left), _worked_out(right))
    raise ValueError(f"no arithmetic: {ast.dump(node)[:60]}")
