"""Logarithms of gates.

In: a gate as a SymPy expression over leaves and the ranges of the leaves. Out: its logarithm, exactly rewritten where
a rule applies. Refuses (`Outside`) a gate whose sign or zero cannot be excluded: a clamped logarithm would be another
recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

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
    if isinstance(e, sp.Symbol):
        return ranges(e)
    if e.is_Rational:
        value = Fraction(int(e.p), int(e.q))
        return Interval(value, value)
    if e.is_number:
        return Interval()
    parts = [interval(a, ranges) for a in e.args]
    if isinstance(e, (sp.Add, sp.Mul)):
        op = "+" if isinstance(e, sp.Add) else "*"
        total = parts[0]
        for part in parts[1:]:
            total = applied(op, (total, part))
        return total
    if isinstance(e, sp.Pow):
        return applied("**", tuple(parts))
    return applied(_ALIKE.get(e.func.__name__, e.func.__name__), tuple(parts))


def is_positive(e: sp.Expr, ranges: Ranges) -> bool:
    """Whether `e` is provably greater than 0."""
    bound = interval(e, ranges)
    return bound.low is not None and (bound.low > 0 or (bound.low == 0 and bound.low_open))


def logarithm(e: sp.Expr, ranges: Ranges) -> sp.Expr:
    """log(e) for a gate e; `Outside` where e is not provably positive."""
    if isinstance(e, sp.exp):
        return e.args[0]
    if isinstance(e, _sigmoid):
        return _logsigmoid(*e.args)
    if isinstance(e, sp.Mul):
        return sp.Add(*(logarithm(f, ranges) for f in e.args))
    if isinstance(e, sp.Pow) and is_positive(e.base, ranges):
        return e.exp * logarithm(e.base, ranges)
    if isinstance(e, sp.Add):
        rest = e - 1
        minus = -rest
        if isinstance(minus, _sigmoid):  # 1 - sigmoid(x)
            return _logsigmoid(-minus.args[0])
        if is_positive(e, ranges):
            return _log1p(rest) if len(rest.args) < len(e.args) or not rest.is_Add else _log(e)
    if is_positive(e, ranges):
        return sp.log(e) if e.is_number else _log(e)
    raise Outside("its gate is not provably positive: declare its range, or write it as exp(.) or sigmoid(.)")
