"""What a Model's statements mention: outputs, expressions and references to inputs.

In: statements. Out: those of their parts that are asked for, in order. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def outputs_of(statements: Iterable[Statement]) -> tuple[Output, ...]:
    """The output statements; none stands inside a repeat."""
    return tuple(statement for statement in statements if isinstance(statement, Output))


def values_of(statements: Iterable[Statement]) -> Iterable[tuple[Let | Update | Output, Expr]]:
    """Every statement that has a value, with it, in the order of the text."""
    for statement in statements:
        match statement:
            case Repeat():
                yield from values_of(statement.body)
            case Let() | Update() | Output():
                yield statement, statement.value
            case _:
                assert_never(statement)


def parts_of(expr: Expr) -> Iterable[Expr]:
    """`expr` and everything inside it, outermost first."""
    yield expr
    match expr:
        case Negate() | Transpose():
            yield from parts_of(expr.argument)
        case Binary():
            yield from parts_of(expr.left)
            yield from parts_of(expr.right)
        case Call():
            for argument in expr.arguments:
                yield from parts_of(argument)
        case Number() | SizeNumber() | HeadNumber() | LoopNumber() | InputRef() | StateRef() | LetRef():
            return
        case _:
            assert_never(expr)


def input_refs(statements: Iterable[Statement]) -> Iterable[InputRef]:
    """Every reference to an input or a param, in the order of the text."""
    return (part for _, value in values_of(statements) for part in parts_of(value) if isinstance(part, InputRef))
