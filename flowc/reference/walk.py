"""What a Model's statements mention: outputs and references to inputs.

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


def input_refs(statements: Iterable[Statement]) -> Iterable[InputRef]:
    """Every reference to an input or a param, in the order of the text."""
    for statement in statements:
        match statement:
            case Repeat():
                yield from input_refs(statement.body)
            case Let() | Update() | Output():
                yield from _refs(statement.value)
            case _:
                assert_never(statement)


def _refs(expr: Expr) -> Iterable[InputRef]:
    match expr:
        case InputRef():
            yield expr
        case Negate() | Transpose():
            yield from _refs(expr.argument)
        case Binary():
            yield from _refs(expr.left)
            yield from _refs(expr.right)
        case Call():
            for argument in expr.arguments:
                yield from _refs(argument)
        case Number() | SizeNumber() | HeadNumber() | LoopNumber() | StateRef() | LetRef():
            return
        case _:
            assert_never(expr)
