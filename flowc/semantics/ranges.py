"""Ranges of typed expressions.

In: an expression of a Model. Out: a range that holds every entry of its value, from the declared ranges of inputs, the
known ranges of functions and `head >= 0`; a convex combination `a x + (1 - a) y` lies between `x` and `y`. Refuses
nothing: what is not known is unbounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from typing import assert_never

from flowc.semantics.intervals import NATURAL, REAL, applied, hull, point, total
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    HeadNumber,
    Input,
    InputRef,
    Interval,
    Kind,
    LetRef,
    LoopNumber,
    Model,
    Negate,
    Number,
    SizeNumber,
    StateRef,
    Transpose,
)
from flowc.semantics.size import Size
from flowc.semantics.walk import behind

__all__ = ["applied", "at_most_one", "interval", "positive", "same"]


def interval(expr: Expr, model: Model) -> Interval:
    """A range that holds every entry of `expr`, an expression of `model`."""
    ranges = _Ranges(model)
    for let in behind(expr, model.statements):
        value = ranges.of(let.value)
        ranges.lets[let.name] = hull(ranges.lets[let.name], value) if let.name in ranges.lets else value
    return ranges.of(expr)


def positive(expr: Expr, model: Model) -> bool:
    """Whether every entry of `expr` is provably greater than 0."""
    found = interval(expr, model)
    return found.low is not None and (found.low > 0 or (found.low == 0 and found.low_open))


def at_most_one(expr: Expr, model: Model) -> bool:
    """Whether every entry of `expr` is provably at most 1."""
    high = interval(expr, model).high
    return high is not None and high <= 1


def same(a: Expr, b: Expr) -> bool:
    """Whether two expressions are written alike, wherever they stand."""
    return _key(a) == _key(b)


def _key(expr: object) -> object:
    """`expr` without its spans."""
    match expr:
        case tuple():
            return tuple(_key(part) for part in expr)
        case (
            Number()
            | SizeNumber()
            | HeadNumber()
            | LoopNumber()
            | InputRef()
            | StateRef()
            | LetRef()
            | Negate()
            | Transpose()
            | Binary()
            | Call()
        ):
            own = ((f.name, _key(getattr(expr, f.name))) for f in fields(expr) if f.name not in ("span", "shape"))
            return (type(expr).__name__, *own)
        case _:
            return expr


class _Ranges:
    """Ranges within one model, given those of the lets: a chain of lets may be longer than Python's stack."""

    def __init__(self, model: Model) -> None:
        self.inputs: dict[str, Input] = {declared.name: declared for declared in model.inputs}
        self.held = {state.name: state.range for state in model.states}
        self.lets: dict[str, Interval] = {}
        self.known: dict[int, Interval] = {}
        """Answers by the node's identity: a convex combination asks for its parts again."""

    def of(self, expr: Expr) -> Interval:
        if id(expr) not in self.known:
            self.known[id(expr)] = self._found(expr)
        return self.known[id(expr)]

    def _found(self, expr: Expr) -> Interval:
        match expr:
            case Number(value):
                return point(value)
            case SizeNumber(size):
                return _size(size)
            case HeadNumber(count):
                return Interval(Fraction(1)) if count else NATURAL
            case LoopNumber():
                return NATURAL
            case InputRef(name, _, previous):
                declared = self.inputs[name].range or REAL
                return hull(declared, point(0)) if previous else declared
            case StateRef(name, previous):
                held = self.held[name] if previous else None
                return REAL if held is None else held
            case LetRef(name):
                return self.lets[name]
            case Negate(argument):
                return applied("-", (point(0), self.of(argument)))
            case Transpose(argument):
                return self.of(argument)
            case Binary():
                return self._binary(expr)
            case Call(function, arguments):
                return applied(function, tuple(self.of(argument) for argument in arguments))
            case _:
                assert_never(expr)

    def _binary(self, expr: Binary) -> Interval:
        left, right = expr.left, expr.right
        if expr.op == "@" and (left.shape.kind, right.shape.kind) == (Kind.COLUMN, Kind.ROW):
            return applied("*", (self.of(left), self.of(right)))
        plain = applied(expr.op, (self.of(left), self.of(right)))
        if expr.op in ("*", "@") and _is_square(expr):
            return _both(plain, NATURAL)
        mixed = self._convex(expr)
        return plain if mixed is None else _both(plain, mixed)

    def _convex(self, expr: Binary) -> Interval | None:
        """The range of `a x + (1 - a) y` with `a` in [0, 1], where `expr` is written so."""
        if expr.op != "+":
            return None
        for one, other in ((expr.left, expr.right), (expr.right, expr.left)):
            for weight, value in _factors(other):
                kept = _complement(weight)
                if kept is None or not self._is_weight(kept):
                    continue
                for first, rest in _factors(one):
                    if same(first, kept):
                        return hull(
                            point(1) if rest is None else self.of(rest), point(1) if value is None else self.of(value)
                        )
        return None

    def _is_weight(self, expr: Expr) -> bool:
        found = self.of(expr)
        return found.low is not None and found.low >= 0 and found.high is not None and found.high <= 1


def _factors(expr: Expr) -> Iterator[tuple[Expr, Expr | None]]:
    """The ways to read `expr` as a factor times a rest; None is a rest of 1."""
    yield expr, None
    match expr:
        case Binary("*", left, right):
            yield left, right
            yield right, left
        case _:
            pass


def _complement(expr: Expr) -> Expr | None:
    """The `a` of `1 - a`."""
    match expr:
        case Binary("-", Number(value), right) if value == 1:
            return right
        case _:
            return None


def _is_square(expr: Binary) -> bool:
    """Whether `expr` is `x * x` or `x.T @ x`."""
    match expr:
        case Binary("@", Transpose(left), right) if expr.shape.kind is Kind.SCALAR:
            return same(left, right)
        case Binary("*", left, right):
            return same(left, right)
        case _:
            return False


def _both(a: Interval, b: Interval) -> Interval:
    """What lies in `a` and in `b`."""
    low = a if _starts_later(a, b) else b
    high = a if _ends_earlier(a, b) else b
    return Interval(low.low, high.high, low.low_open, high.high_open)


def _starts_later(a: Interval, b: Interval) -> bool:
    return b.low is None or (a.low is not None and (a.low, a.low_open) >= (b.low, b.low_open))


def _ends_earlier(a: Interval, b: Interval) -> bool:
    return b.high is None or (a.high is not None and (a.high, not a.high_open) <= (b.high, not b.high_open))


def _size(size: Size) -> Interval:
    """Every size is at least 1; a difference of sizes may be anything."""
    at_least_one = Interval(Fraction(1))
    return total(applied("*", (point(c), at_least_one if monomial else point(1))) for monomial, c in size.terms)
