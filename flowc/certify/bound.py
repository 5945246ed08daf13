"""How likely a wrong program passes: the degree of what is compared.

In: a `Model`, sizes. Out: a bound of the degree of numerators and denominators of every compared entry in the drawn
values and images of exp. Refuses nothing.

Every expression of a step without the state is a rational function of the draw; its degree is at most what `_degree`
adds up, a function of one argument (rational in it and in its image) counting twice its argument plus one; exp of a
fraction p/q of its argument is a power p of a q-th root, which counts p q times. An edit of
the state multiplies by such expressions and adds, over one common denominator for all entries, so T tokens of E edits
of degree D each give 2 T E D, and a derivative's denominator is the square: twice that.
"""

from __future__ import annotations

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
from flowc.semantics.walk import parts

CHOOSING = frozenset({"min", "max", "clamp", "where", "abs", "relu", "sum", "diag", "outer", "concat", "kron"})


def degree_bound(model: Model, sizes: Sizes) -> int:
    """The degree of every compared entry, at most."""
    lets: dict[str, int] = {}
    edits, largest = _edits(model.statements, lets, sizes)
    return 4 * sizes.length * edits * largest


def _edits(statements: tuple[Statement, ...], lets: dict[str, int], sizes: Sizes) -> tuple[int, int]:
    """Statements that run in a step, and the degree of the largest."""
    count, largest = 0, 1
    for statement in statements:
        match statement:
            case Repeat(body=body):
                inner, degree = _edits(body, lets, sizes)
                count += inner * statement.count.value(sizes.bound)
            case Let(name, value):
                degree = lets[name] = _degree(value, lets, sizes) * _height(value, sizes)
            case _:
                degree = _degree(statement.value, lets, sizes)
                count += 1
        largest = max(largest, degree)
    return count, largest


def _degree(expr: Expr, lets: dict[str, int], sizes: Sizes) -> int:
    match expr:
        case Number() | SizeNumber() | HeadNumber() | LoopNumber():
            return 0
        case InputRef() | StateRef():
            return 1
        case LetRef(name):
            return lets[name]
        case Negate(argument) | Transpose(argument):
            return _degree(argument, lets, sizes)
        case Binary(op, left, right):
            summed = left.shape.cols.value(sizes.bound) if op == "@" else 1
            return summed * (_degree(left, lets, sizes) + _degree(right, lets, sizes))
        case Call(name, arguments):
            entries = max((_entries(a, sizes) for a in arguments), default=1)
            within = sum(_degree(a, lets, sizes) for a in arguments)
            height = 1 if name in CHOOSING else prod(_height(a, sizes) for a in arguments)
            return height * (2 * entries * within + 1)


def _height(expr: Expr, sizes: Sizes) -> int:
    """The product of numerators and denominators of the numbers in an expression; a let's are in its degree."""
    found = 1
    for part in parts(expr):
        match part:
            case Number(value):
                found *= max(1, abs(value.numerator)) * value.denominator
            case SizeNumber(size):
                found *= max(1, abs(size.value(sizes.bound)))
            case _:
                pass
    return found


def _entries(expr: Expr, sizes: Sizes) -> int:
    return expr.shape.rows.value(sizes.bound) * expr.shape.cols.value(sizes.bound)
