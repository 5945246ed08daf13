"""Walking over typed expressions.

In: expressions and statements of a Model. Out: their parts, in the order of the text. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    HeadNumber,
    InputRef,
    Let,
    LetRef,
    LoopNumber,
    Negate,
    Number,
    Output,
    Repeat,
    SizeNumber,
    Statement,
    StateRef,
    Transpose,
    Update,
)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The operands or arguments of `expr`."""
    match expr:
        case Number() | SizeNumber() | HeadNumber() | LoopNumber() | InputRef() | StateRef() | LetRef():
            return ()
        case Negate(argument) | Transpose(argument):
            return (argument,)
        case Binary(_, left, right):
            return (left, right)
        case Call(_, arguments):
            return arguments
        case _:
            assert_never(expr)


def parts(expr: Expr) -> Iterator[Expr]:
    """`expr` and everything in it."""
    yield expr
    for child in children(expr):
        yield from parts(child)


def flat(statements: tuple[Statement, ...]) -> Iterator[Let | Update | Output]:
    """All statements, those inside repeats in their place."""
    for statement in statements:
        match statement:
            case Repeat():
                yield from flat(statement.body)
            case Let() | Update() | Output():
                yield statement
            case _:
                assert_never(statement)


def lets(statements: tuple[Statement, ...], name: str) -> Iterator[Expr]:
    """The values of the lets named `name`: one, or one for each repeat that has it."""
    for statement in flat(statements):
        match statement:
            case Let(own, value) if own == name:
                yield value
            case _:
                pass
