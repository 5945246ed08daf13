"""Interval arithmetic over the operators and functions of the language.

In: an operator's or function's name and the ranges of its arguments. Out: a range that holds every value of the result;
ends are exact where the mathematics is, and rounded outwards where it is not. Refuses nothing: what it does not know is
unbounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from flowc.semantics.model import Interval

REAL = Interval()
UNIT = Interval(Fraction(0), Fraction(1))
POSITIVE = Interval(Fraction(0), None, low_open=True)
NATURAL = Interval(Fraction(0))
SYMMETRIC = Interval(Fraction(-1), Fraction(1))

_INFINITY = math.inf
_DIGITS = 8192
"""The longest exact end, in bits."""
_SLACK = Fraction(1, 10**12)
"""How far an inexact end is moved outwards, relative to it: far more than the error of a float's function."""


def point(value: Fraction | int) -> Interval:
    """The range that holds `value` alone."""
    return Interval(Fraction(value), Fraction(value))


def applied(name: str, arguments: tuple[Interval, ...]) -> Interval:
    """The range of operator or function `name` (`+`, `exp`, ...) over arguments in the given ranges."""
    rule = _RULES.get(name)
    return REAL if rule is None else _coarse(rule(*arguments))


def hull(*parts: Interval) -> Interval:
    """The smallest range that holds all of `parts`."""
    return _between((_low(part) for part in parts), (_high(part) for part in parts))


def _coarse(a: Interval) -> Interval:
    """`a`, with ends that take too many digits moved outwards, so that nested powers stay cheap."""
    low, high = a.low, a.high
    if low is not None and _digits(low) > _DIGITS:
        low = None if low < -1 else Fraction(math.floor(low)) if abs(low) < 1 else Fraction(1)
    if high is not None and _digits(high) > _DIGITS:
        high = None if high > 1 else Fraction(math.ceil(high)) if abs(high) < 1 else Fraction(-1)
    low_open, high_open = (a.low_open and low is not None), (a.high_open and high is not None)
    return Interval(low, high, low_open or (low != a.low and low == 0), high_open or (high != a.high and high == 0))


def _digits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


# -- ends: a value, infinite or not, and whether it is excluded ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class _End:
    value: Fraction | float
    open: bool


def _low(a: Interval) -> _End:
    return _End(-_INFINITY, True) if a.low is None else _End(a.low, a.low_open)


def _high(a: Interval) -> _End:
    return _End(_INFINITY, True) if a.high is None else _End(a.high, a.high_open)


def _between(lows: Iterable[_End], highs: Iterable[_End]) -> Interval:
    """From the lowest of `lows` to the highest of `highs`; of equal ends, one that is included wins."""
    low = min(lows, key=lambda end: (end.value, end.open))
    high = max(highs, key=lambda end: (end.value, not end.open))
    first, last = _finite(low), _finite(high)
    return Interval(first, last, low.open and first is not None, high.open and last is not None)


def _finite(end: _End) -> Fraction | None:
    return end.value if isinstance(end.value, Fraction) else None


# -- operators ----------------------------------------------------------------------------------------------------


def _add(a: Interval, b: Interval) -> Interval:
    low = None if a.low is None or b.low is None else a.low + b.low
    high = None if a.high is None or b.high is None else a.high + b.high
    return Interval(
        low, high, low is not None and (a.low_open or b.low_open), high is not None and (a.high_open or b.high_open)
    )


def _negate(a: Interval) -> Interval:
    low = None if a.high is None else -a.high
    high = None if a.low is None else -a.low
    return Interval(low, high, a.high_open, a.low_open)


def _subtract(a: Interval, b: Interval) -> Interval:
    return _add(a, _negate(b))


def _multiply(a: Interval, b: Interval) -> Interval:
    ends = [_product(x, y) for x in (_low(a), _high(a)) for y in (_low(b), _high(b))]
    return _between(ends, ends)


def _product(x: _End, y: _End) -> _End:
    zeros = [end.open for end in (x, y) if end.value == 0]
    if zeros:
        # A zero that is taken makes the product zero; one that is only approached, the product only approaches.
        return _End(Fraction(0), all(zeros))
    if isinstance(x.value, float) or isinstance(y.value, float):
        return _End(_INFINITY if (x.value > 0) == (y.value > 0) else -_INFINITY, True)
    return _End(x.value * y.value, x.open or y.open)


def _reciprocal(a: Interval) -> Interval:
    if _above_zero(a):
        high = None if not a.low else 1 / a.low
        low = Fraction(0) if a.high is None else 1 / a.high
        return Interval(low, high, a.high is None or a.high_open, a.low_open and high is not None)
    if _above_zero(_negate(a)):
        return _negate(_reciprocal(_negate(a)))
    return REAL


def _divide(a: Interval, b: Interval) -> Interval:
    return _multiply(a, _reciprocal(b))


def _power(base: Interval, exponent: Interval) -> Interval:
    fixed = exponent.low if exponent.low is not None and exponent.low == exponent.high else None
    if fixed is not None and fixed.denominator == 1 and abs(fixed) <= 64:
        return _whole_power(base, int(fixed))
    if base.low is not None and base.low == base.high and base.low > 0:
        return _exponential(base.low, exponent)
    if not _above_zero(base):
        return NATURAL if base.low is not None and base.low >= 0 else REAL
    below, rising = base.high is not None and base.high <= 1, exponent.low is not None and exponent.low >= 0
    return Interval(Fraction(0), Fraction(1), low_open=True) if below and rising else POSITIVE


def _whole_power(base: Interval, exponent: int) -> Interval:
    if exponent < 0:
        return _reciprocal(_whole_power(base, -exponent))
    if exponent % 2 == 0 and exponent > 0:
        base = _magnitude(base)
    elif exponent == 0:
        return point(1)
    low = None if base.low is None else base.low**exponent
    high = None if base.high is None else base.high**exponent
    return Interval(low, high, base.low_open, base.high_open)


def _exponential(base: Fraction, exponent: Interval) -> Interval:
    if base < 1:
        return _exponential(1 / base, _negate(exponent))
    if base == 1:
        return point(1)
    power = _Curve(lambda x: math.exp(x * math.log(base)), 0, None, whole=base)
    return power.over(exponent)


def _magnitude(a: Interval) -> Interval:
    if a.low is not None and a.low >= 0:
        return a
    if a.high is not None and a.high <= 0:
        return _negate(a)
    highs = (_high(a), _high(_negate(a)))
    return _between([_End(Fraction(0), False)], highs)


def _above_zero(a: Interval) -> bool:
    return a.low is not None and (a.low > 0 or (a.low == 0 and a.low_open))


# -- functions that rise everywhere -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Curve:
    """A rising function, its limits (None is infinite), where it starts, and the points where it is exact.

    `whole` is the base of a power, whose values at integers are exact.
    """

    function: Callable[[float], float]
    bottom: int | None
    top: int | None
    start: int | None = None
    exact: tuple[tuple[int, Fraction], ...] = ()
    whole: Fraction | None = None

    def over(self, a: Interval) -> Interval:
        """The range over arguments in `a`."""
        bottom = _End(-_INFINITY if self.bottom is None else Fraction(self.bottom), True)
        top = _End(_INFINITY if self.top is None else Fraction(self.top), True)
        below = self.start is not None and (a.low is None or a.low <= self.start)
        low = (
            bottom
            if a.low is None or below
            else max(self._at(a.low, a.low_open, -1), bottom, key=lambda end: end.value)
        )
        high = top if a.high is None else min(self._at(a.high, a.high_open, 1), top, key=lambda end: end.value)
        return _between([low], [high])

    def _at(self, x: Fraction, is_open: bool, direction: int) -> _End:
        for argument, value in self.exact:
            if x == argument:
                return _End(value, is_open)
        if self.whole is not None and x.denominator == 1 and abs(x) <= 64:
            return _End(self.whole ** int(x), is_open)
        try:
            value = Fraction(self.function(float(x)))
        except (OverflowError, ValueError):
            return _End(direction * _INFINITY, True)
        return _End(value + direction * (abs(value) * _SLACK + Fraction(1, 10**300)), False)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _exprel(x: float) -> float:
    return math.expm1(x) / x


_ZERO, _ONE = Fraction(0), Fraction(1)
_CURVES = {
    "exp": _Curve(math.exp, 0, None, exact=((0, _ONE),)),
    "expm1": _Curve(math.expm1, -1, None, exact=((0, _ZERO),)),
    "log": _Curve(math.log, None, None, start=0, exact=((1, _ZERO),)),
    "log1p": _Curve(math.log1p, None, None, start=-1, exact=((0, _ZERO),)),
    "exprel": _Curve(_exprel, 0, None, exact=((0, _ONE),)),
    "sigmoid": _Curve(_sigmoid, 0, 1, exact=((0, Fraction(1, 2)),)),
    "logsigmoid": _Curve(lambda x: -_softplus(-x), None, 0),
    "softplus": _Curve(_softplus, 0, None),
    "tanh": _Curve(math.tanh, -1, 1, exact=((0, _ZERO),)),
}


# -- the other functions ------------------------------------------------------------------------------------------


def _root(a: Interval) -> Interval:
    curve = _Curve(math.sqrt, None, None, exact=((0, _ZERO), (1, _ONE)))
    within = a if a.low is not None and a.low >= 0 else Interval(_ZERO, a.high, False, a.high_open)
    return curve.over(within) if a.high is None or a.high >= 0 else NATURAL


def _inverse_root(a: Interval) -> Interval:
    root = _root(a)
    return _reciprocal(Interval(root.low, root.high, root.low_open or root.low == 0, root.high_open))


def _max(a: Interval, b: Interval) -> Interval:
    low = max((_low(a), _low(b)), key=lambda end: (end.value, end.open))
    return _between([low], [_high(a), _high(b)])


def _min(a: Interval, b: Interval) -> Interval:
    return _negate(_max(_negate(a), _negate(b)))


def _dips(depth: Fraction) -> Callable[[Interval], Interval]:
    """A function like silu: between `depth` and its argument, and not negative where its argument is not."""

    def over(a: Interval) -> Interval:
        high = _high(_max(a, point(0)))
        return _between([_End(_ZERO if a.low is not None and a.low >= 0 else depth, False)], [high])

    return over


def _keeps_sign(a: Interval) -> Interval:
    """Any multiple, or sum over entries: only a common sign is known."""
    if a.low is not None and a.low >= 0:
        return POSITIVE if _above_zero(a) else NATURAL
    if a.high is not None and a.high <= 0:
        return _negate(_keeps_sign(_negate(a)))
    return REAL


def _normalized(a: Interval) -> Interval:
    return UNIT if a.low is not None and a.low >= 0 else SYMMETRIC


def _dot(a: Interval, b: Interval) -> Interval:
    return _keeps_sign(_multiply(a, b))


_RULES: dict[str, Callable[..., Interval]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "**": _power,
    "@": _dot,
    **{name: curve.over for name, curve in _CURVES.items()},
    **dict.fromkeys(("<", "<=", ">", ">="), lambda a, b: UNIT),
    **dict.fromkeys(("sin", "cos"), lambda a: SYMMETRIC),
    "sqrt": _root,
    "rsqrt": _inverse_root,
    "abs": _magnitude,
    "relu": lambda a: _max(a, point(0)),
    "silu": _dips(Fraction(-279, 1000)),
    "gelu": _dips(Fraction(-17, 100)),
    "max": _max,
    "min": _min,
    "clamp": lambda x, low, high: _min(_max(x, low), high),
    "where": lambda condition, a, b: hull(a, b),
    "l2norm": _normalized,
    "rmsnorm": _keeps_sign,
    "softmax": lambda a: Interval(_ZERO, _ONE, low_open=True),
    "sum": _keeps_sign,
    "norm": lambda a: POSITIVE if _above_zero(_magnitude(a)) else NATURAL,
    "identity": lambda: UNIT,
    "ones": lambda: point(1),
    "zeros": lambda: point(0),
    "diag": lambda a: hull(a, point(0)),
    "outer": _multiply,
    "kron": _multiply,
    "concat": hull,
}


def total(parts: Iterable[Interval]) -> Interval:
    """The range of a sum."""
    return reduce(_add, parts, point(0))
