"""How large the numbers may be that constants of a spec come to.

In: what SymPy makes of them. Out: nothing. Refuses, as `NoFloat`, what no float holds. A power is looked at before it
is taken: writing 9**9**9 out would take all memory there is.
"""

from __future__ import annotations

import math

import sympy as sp

from flowc.algebra.functions import number
from flowc.source import Span

MOST_DIGITS = 300
"""Powers of ten that a number may have, as one that is written (`flowc/syntax/literals.py`)."""


class NoFloat(Exception):
    """A number that no float holds; `reason` completes "this comes to ...", `span` is the expression that does."""

    def __init__(self, reason: str = "a number that is too large or too small", span: Span | None = None) -> None:
        """Record why, and where as far as it is known."""
        super().__init__(reason)
        self.reason, self.span = reason, span


def checked(value: sp.Expr) -> None:
    """Refuse what is a number and no float: beyond 10 ** 300, closer to 0 than 10 ** -300, not real."""
    if isinstance(value, sp.Rational):
        if value != 0 and abs(_magnitude(value)) > MOST_DIGITS:
            raise NoFloat
    elif value.is_number:
        try:
            number(value)
        except OverflowError:
            raise NoFloat from None
        except (TypeError, ValueError):
            raise NoFloat("no real number") from None


def check_power(base: sp.Expr, exponent: sp.Expr) -> None:
    """Refuse a power of numbers that would be too large."""
    if isinstance(base, sp.Rational) and isinstance(exponent, sp.Rational) and base not in (0, 1, -1):
        if abs(_magnitude(base)) * abs(_float(exponent)) > MOST_DIGITS:
            raise NoFloat
        if max(_digits(base.p), _digits(base.q)) * abs(_float(exponent)) > 10 * MOST_DIGITS:
            raise NoFloat  # near 1, and of so many digits


def _magnitude(value: sp.Rational) -> float:
    return _digits(value.p) - _digits(value.q)


def _digits(number: int) -> float:
    """The logarithm to base 10 of a whole number's absolute value."""
    return math.log10(abs(int(number)))  # of integers of any length


def _float(value: sp.Rational) -> float:
    if abs(_magnitude(value)) > MOST_DIGITS:
        raise NoFloat
    return float(value)
