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


def behind(expr: Expr, statements: tuple[Statement, ...]) -> Iterator[Let]:
    """The lets that `expr` depends on, in the order of the step: each after those that it depends on itself.

    Lets of one name in several repeats count together.
    """
    ordered = [statement for statement in flat(statements) if isinstance(statement, Let)]
    values: dict[str, list[Expr]] = {}
    for let in ordered:
        values.setdefault(let.name, []).append(let.value)
    needed: set[str] = set()
    waiting = [expr]
    while waiting:
        for part in parts(waiting.pop()):
            match part:
                case LetRef(name) if name not in needed:
                    needed.add(name)
                    waiting += values[name]
                case _:
                    pass
    return (let for let in ordered if let.name in needed)
