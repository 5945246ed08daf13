"""Logarithms of gates.

In: a gate as a SymPy expression over leaves and the ranges of the leaves. Out: its logarithm, exactly rewritten where
a rule applies. Refuses (`Outside`) a gate whose sign or zero cannot be excluded: a clamped logarithm would be another
recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import reduce

import sympy as sp

from flowc.algebra.forms import Outside
from flowc.algebra.functions import OWN
from flowc.semantics.model import Interval
from flowc.semantics.ranges import applied

_sigmoid, _logsigmoid, _log, _log1p = (OWN[n] for n in ("sigmoid", "logsigmoid", "gate_log", "gate_log1p"))

_ALIKE = {"Abs": "abs", "root": "sqrt"}  # functions by the names that ranges know them by

Ranges = Callable[[sp.Symbol], Interval]


def interval(e: sp.Expr, ranges: Ranges) -> Interval:
    """A range that holds every value of `e`, by interval arithmetic over the leaves' ranges."""
    parts = [interval(a, ranges) for a in e.args]
    match e:
        case sp.Symbol():
            return ranges(e)
        case sp.Rational(p=p, q=q):
            value = Fraction(int(p), int(q))
            return Interval(value, value)
        case _ if e.is_number and not e.args:
            return Interval()
        case sp.Add():
            return reduce(lambda a, b: applied("+", (a, b)), parts)
        case sp.Mul():
            return reduce(lambda a, b: applied("*", (a, b)), parts)
        case sp.Pow():
            return applied("**", tuple(parts))
        case _:
            return applied(_ALIKE.get(e.func.__name__, e.func.__name__), tuple(parts))


def is_positive(e: sp.Expr, ranges: Ranges) -> bool:
    """Whether `e` is provably greater than 0."""
    bound = interval(e, ranges)
    return bound.low is not None and (bound.low > 0 or (bound.low == 0 and bound.low_open))


def logarithm(e: sp.Expr, ranges: Ranges) -> sp.Expr:
    """log(e) for a gate e; `Outside` where e is not provably positive."""
    match e:
        case sp.exp(args=(x,)):
            return x
        case _sigmoid(args=(x,)):
            return _logsigmoid(x)
        case sp.Mul(args=parts):
            return sp.Add(*(logarithm(f, ranges) for f in parts))
        case sp.Pow(base=base, exp=exponent) if is_positive(base, ranges):
            return exponent * logarithm(base, ranges)
        case sp.Add() if isinstance(1 - e, _sigmoid):
            return _logsigmoid(-(1 - e).args[0])
        case _ if not is_positive(e, ranges):
            raise Outside("its gate is not provably positive")
        case sp.Add(args=parts):
            rest = e - 1
            return _log1p(rest) if len(rest.args) < len(parts) or not rest.is_Add else _log(e)
        case _:
            return sp.log(e) if e.is_number else _log(e)
