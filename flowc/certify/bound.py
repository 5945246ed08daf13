"""How likely a wrong program passes: the degree of what is compared.

In: a `Model`, sizes. Out: a bound of the degree of numerators and denominators of every compared entry in the drawn
values and images of exp. Refuses nothing.

Every expression of a step without the state is a rational function of the draw; its degree is at most what `_bound`
adds up, a function of one argument (rational in it and in its image) counting twice its argument plus one; exp of a
fraction p/q of its argument is a power p of a q-th root, which counts p q times, as does a power p/q. An edit of
the state multiplies by such expressions and adds, over one common denominator for all entries, so T tokens of E edits
of degree D each give 2 T E D, and a derivative's denominator is the square: twice that.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from flowc.certify.draw import Sizes
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    HeadNumber,
    InputRef,
    Let,
    LetRef,
    LoopNumber,
    Model,
    Negate,
    Number,
    Repeat,
    SizeNumber,
    Statement,
    StateRef,
    Transpose,
)

EXPONENTIAL = frozenset({"exp", "expm1", "exprel", "sigmoid", "logsigmoid", "softplus", "tanh", "silu", "softmax"})
"""What is made of exp of its arguments, times constants."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """Of an expression: its degree, and what numerators and denominators of its factors come to (1: whole or none)."""

    degree: int
    height: int = 1


def degree_bound(model: Model, sizes: Sizes) -> int:
    """The degree of every compared entry, at most."""
    edits, largest = _edits(model.statements, {}, sizes)
    return 4 * sizes.length * edits * largest


def edits_of(model: Model, sizes: Sizes) -> int:
    """Statements that run in a step and assign something."""
    return _edits(model.statements, {}, sizes)[0]


def _edits(statements: tuple[Statement, ...], lets: dict[str, _Bound], sizes: Sizes) -> tuple[int, int]:
    """Statements that run in a step, and the degree of the largest."""
    count, largest = 0, 1
    for statement in statements:
        match statement:
            case Repeat(body=body):
                inner, degree = _edits(body, lets, sizes)
                count += inner * statement.count.value(sizes.bound)
            case Let(name, value):
                lets[name] = _bound(value, lets, sizes)
                degree = lets[name].degree
            case _:
                degree = _bound(statement.value, lets, sizes).degree
                count += 1
        largest = max(largest, degree)
    return count, largest


def _bound(expr: Expr, lets: dict[str, _Bound], sizes: Sizes) -> _Bound:
    match expr:
        case Number(value):
            return _Bound(0, max(1, abs(value.numerator)) * value.denominator)
        case SizeNumber(size):
            return _Bound(0, max(1, abs(size.value(sizes.bound))))
        case HeadNumber() | LoopNumber():
            return _Bound(0)
        case InputRef() | StateRef():
            return _Bound(1)
        case LetRef(name):
            return lets[name]
        case Negate(argument) | Transpose(argument):
            return _bound(argument, lets, sizes)
        case Binary(op, left, right):
            columns = left.shape.cols.value(sizes.bound)
            return _of_two(op, _bound(left, lets, sizes), _bound(right, lets, sizes), columns)
        case Call(name, arguments):
            bounds = [_bound(a, lets, sizes) for a in arguments]
            entries = max((_entries(a, sizes) for a in arguments), default=1)
            height = prod(b.height for b in bounds)
            within = sum(b.degree for b in bounds) * (height if name in EXPONENTIAL else 1)
            return _Bound(2 * entries * within + 1, height)


def _of_two(op: str, left: _Bound, right: _Bound, columns: int) -> _Bound:
    """A number that is added is no factor: exp of it is a number."""
    degree = left.degree + right.degree
    height = left.height * right.height
    match op:
        case "+" | "-":
            return _Bound(degree, prod(b.height for b in (left, right) if b.degree))
        case "@":
            return _Bound(columns * degree, height)
        case "**":
            return _Bound(degree * height, height)
        case _:
            return _Bound(degree, height)


def _entries(expr: Expr, sizes: Sizes) -> int:
    return expr.shape.rows.value(sizes.bound) * expr.shape.cols.value(sizes.bound)
