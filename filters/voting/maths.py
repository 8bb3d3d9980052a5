"""A formula, so told that equal ones are told alike: `\\frac{\\sqrt{8}}{2}` and `\\sqrt 2`, `(x+1)^2` and `x^2+2x+1`.

math-verify reads it. What would take long to work out is not read at all: nothing here may hang a run, whatever a model wrote.
"""

from __future__ import annotations

import functools
import logging
import re
from fractions import Fraction

LONGEST = 200
"""characters"""
LARGEST = 60
"""operations in a formula"""
MAX_POWER = 64
MAX_DIGITS = 15
DIGITS = 12
"""significant digits to which numbers that are no fractions are compared"""
_FORMULA = re.compile(r"[\\^√π]|\d\s*[a-z]|[a-z]\s*[+*/=-]\s*[\da-z]|[\d)]\s*[+*]\s*[\d(]")
_HEAVY = re.compile(rf"!|\\(?:sum|prod|int|lim|binom)|\d{{{MAX_DIGITS + 1},}}")
_WORD = re.compile(r"(?<![\\a-z])(?!(?:pi|sin|cos|tan|log|ln)\b)[a-z]{2,}")
_COUNTED = re.compile(r"(?<=[}\d$])\s*\$?\s+[a-z]{2,}(?: [a-z]{2,})?$")
"""what is counted, after a formula in LaTeX: "$\\frac34$ cups\""""


@functools.lru_cache(maxsize=1024)
def formula(text: str) -> Fraction | str | None:
    """A fraction where it is one; else its canonical text; None when it is no formula, or too heavy a one."""
    text = text.replace("√", "\\sqrt ").replace("π", "\\pi ")
    text = re.sub(r"\\(?:text|mathrm|operatorname)\s*\{[^{}]*\}", "", text).strip()
    text = _COUNTED.sub("", text).strip("$ ") if "\\" in text else text
    if len(text) > LONGEST or not _FORMULA.search(text) or _HEAVY.search(text) or _WORD.search(text):
        return None  # words with hyphens are no differences, and 3-4 may well be a range
    import sympy  # half a second
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no timeout; what may be slow is kept from it
    found = parse(f"${text}$", extraction_config=[LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    if not found or isinstance(found[0], str):
        return None
    value = found[0]
    if isinstance(value, sympy.Eq) and value.lhs.is_Symbol:  # x = 5
        value = value.rhs
    try:
        return _told(value) if isinstance(value, sympy.Expr) and _is_light(value) else None
    except (ValueError, TypeError, ArithmeticError, AttributeError, NotImplementedError, RecursionError):  # sympy's words for "no idea"
        return None


def _is_light(value: object) -> bool:
    import sympy

    if not isinstance(value, sympy.Expr) or value.count_ops() > LARGEST:
        return False
    for part in sympy.preorder_traversal(value):
        if isinstance(part, sympy.Pow) and not (part.exp.is_Symbol or (part.exp.is_number and abs(_float(part.exp)) <= MAX_POWER)):
            return False
        if isinstance(part, sympy.factorial | sympy.Sum | sympy.Product | sympy.Integral):
            return False
        if isinstance(part, sympy.Pow) and part.exp.atoms(sympy.Pow):
            return False
        # (a + b + c)^64 has thousands of terms
        if isinstance(part, sympy.Pow) and part.base.is_Add and not (part.exp.is_number and abs(_float(part.exp)) <= 6):
            return False
    return True


def _float(value: object) -> float:
    return float(value.evalf(5))  # type: ignore[attr-defined]


def _told(value: object) -> Fraction | str | None:
    import sympy

    assert isinstance(value, sympy.Expr)
    exact = value.xreplace({one: sympy.Rational(str(one)) for one in value.atoms(sympy.Float)})
    done = sympy.expand(exact.doit())
    if done.is_Rational:
        return Fraction(int(done.p), int(done.q)) if done.is_finite else None
    if done.is_number and done.is_real:
        return f"≈{sympy.N(done, DIGITS)}"
    return None if done.has(sympy.zoo, sympy.nan, sympy.oo) else sympy.sstr(done)
