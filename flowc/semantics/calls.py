"""Calls of functions -> typed expressions, by the table of functions.

In: a written call and the `Typer` of its arguments. Out: a `Call` with its shape, or None with the errors reported:
unknown functions, wrong numbers of arguments, shapes that a function does not take.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol, assert_never

from flowc.semantics.functions import CALLABLE, EPS, Function, Rule
from flowc.semantics.model import SCALAR, Binary, Call, Expr, Kind, Shape
from flowc.semantics.names import Constant, Names, Unknown, kind, nearest
from flowc.semantics.shapes import Misfit, Operand, column, described, elementwise, matrix
from flowc.semantics.size import Size
from flowc.semantics.sizes import resolve
from flowc.source import Span
from flowc.syntax import tree as syntax


class Typer(Protocol):
    """What a call needs to have its arguments typed; `semantics.expressions` has it."""

    names: Names

    def type(self, written: syntax.Expression, square: Size | None = None) -> Expr | None:
        """The typed expression, None with an error reported."""

    def operand(self, typed: Expr) -> Operand:
        """`typed` for a sentence."""

    def misfit(self, misfit: Misfit, span: Span) -> None:
        """Report `misfit`."""


def call(written: syntax.Call, typer: Typer) -> Expr | None:
    """The typed call."""
    function = CALLABLE.get(written.name.text)
    if function is None:
        _unknown(written, typer)
        return None
    arguments, eps = _split(written, function, typer)
    if arguments is None:
        return None
    if function.rule is Rule.FILLED:
        size = resolve(arguments[0], typer.names)
        return None if size is None else Call(function.name, (), None, column(size), written.span)
    if function.rule is Rule.CHOICE:
        typed = (_condition(arguments[0], typer), *(typer.type(argument) for argument in arguments[1:]))
    else:
        typed = tuple(typer.type(argument) for argument in arguments)
    known = tuple(argument for argument in typed if argument is not None)
    if len(known) < len(typed):
        return None
    shape = _shape(function, known, written, typer)
    return None if shape is None else Call(function.name, known, eps, shape, written.span)


def _unknown(written: syntax.Call, typer: Typer) -> None:
    name = written.name.text
    meaning = typer.names.find(name)
    if isinstance(meaning, Unknown):
        return
    near = nearest(name, set(CALLABLE))
    if meaning is not None:
        message, advice = (
            f"`{name}` is {kind(meaning, typer.names.report.words)}, no function",
            f"write `{name} * (...)` for a product, `{name}[...]` for an index",
        )
    else:
        message = f"no function is named `{name}`"
        advice = (
            f"did you mean `{near}`?"
            if near
            else "use one of the functions of the language, such as `exp` or `sigmoid`"
        )
    typer.names.report.error("F202", message, advice, written.name.span)


def _split(
    written: syntax.Call, function: Function, typer: Typer
) -> tuple[tuple[syntax.Expression, ...] | None, Fraction | None]:
    """The arguments without eps, None if their number is wrong; and eps."""
    report = typer.names.report
    positional = [argument.value for argument in written.arguments if argument.keyword is None]
    eps: syntax.Expression | None = None
    for argument in written.arguments:
        if argument.keyword is None:
            continue
        if argument.keyword.text != "eps" or not function.has_eps or eps is not None:
            message = (
                f"`{function.name}` has no keyword `{argument.keyword.text}`" if eps is None else "eps is given twice"
            )
            advice = f"write `{usage(function)}`"
            report.error("F306", message, advice, argument.keyword.span)
            return None, None
        eps = argument.value
    if eps is None and function.has_eps and len(positional) == function.arity + 1:
        eps = positional.pop()
    if len(positional) != function.arity:
        many = "1 argument" if function.arity == 1 else f"{function.arity} arguments"
        message = f"`{function.name}` takes {many}, and gets {len(positional)}"
        report.error("F306", message, f"write `{usage(function)}`", written.span)
        return None, None
    if not function.has_eps:
        return tuple(positional), None
    value = EPS if eps is None else _eps(eps, typer)
    return (None if value is None else tuple(positional)), value


def usage(function: Function) -> str:
    """How `function` is called."""
    match function.rule:
        case Rule.CHOICE:
            names = "a < b, x, y"
        case Rule.FILLED:
            names = "K"
        case _:
            names = ("x", "a, b", "x, low, high")[function.arity - 1]
    return f"{function.name}({names}, eps = 1e-6)" if function.has_eps else f"{function.name}({names})"


def _eps(written: syntax.Expression, typer: Typer) -> Fraction | None:
    match written:
        case syntax.Number(value) if value >= 0:
            return value
        case syntax.Reference(name, ()):
            meaning = typer.names.find(name.text)
            if isinstance(meaning, Constant) and meaning.value >= 0:
                return meaning.value
    message = "eps must be a number that is not negative, known when the spec is compiled"
    advice = f"write a number such as `1e-6`, or {typer.names.report.words.a_constant}"
    typer.names.report.error("F311", message, advice, written.span)
    return None


def _condition(written: syntax.Expression, typer: Typer) -> Expr | None:
    match written:
        case syntax.Comparison(op, left, right, span):
            a, b = typer.type(left), typer.type(right)
            if a is None or b is None:
                return None
            shape = elementwise(typer.operand(a), typer.operand(b))
            if isinstance(shape, Misfit):
                typer.misfit(shape, span)
                return None
            return Binary(op, a, b, shape, span)
        case _:
            message = "the condition of `where` must be a comparison"
            typer.names.report.error("F310", message, "write `where(a < b, x, y)`", written.span)
            return None


def _shape(function: Function, arguments: tuple[Expr, ...], written: syntax.Call, typer: Typer) -> Shape | None:
    match function.rule:
        case Rule.ELEMENTWISE | Rule.CHOICE:
            return _common(arguments, written, typer)
        case Rule.REDUCTION:
            return SCALAR
        case Rule.VECTOR | Rule.DIAGONAL | Rule.OUTER | Rule.STACKED | Rule.KRONECKER:
            sizes = [argument.shape.rows for argument in arguments if _is_column(argument, function, typer)]
            return _built(function.rule, sizes) if len(sizes) == len(arguments) else None
        case Rule.FILLED | Rule.IDENTITY:
            raise AssertionError(function.name)
        case rule:
            assert_never(rule)


def _built(rule: Rule, sizes: list[Size]) -> Shape:
    first, last = sizes[0], sizes[-1]
    match rule:
        case Rule.DIAGONAL | Rule.OUTER:
            return matrix(first, last)
        case Rule.STACKED:
            return column(first + last)
        case Rule.KRONECKER:
            return column(first * last)
        case _:
            return column(first)


def _common(arguments: tuple[Expr, ...], written: syntax.Call, typer: Typer) -> Shape | None:
    shape, widest = arguments[0].shape, arguments[0]
    for argument in arguments[1:]:
        joined = elementwise(typer.operand(widest), typer.operand(argument))
        if isinstance(joined, Misfit):
            typer.misfit(joined, written.span)
            return None
        shape, widest = joined, argument if joined != shape else widest
    return shape


def _is_column(argument: Expr, function: Function, typer: Typer) -> bool:
    if argument.shape.kind is Kind.COLUMN:
        return True
    match argument.shape.kind:
        case Kind.ROW:
            advice = f"write `{typer.operand(argument).flipped}`"
        case Kind.SCALAR:
            advice = f"write `{typer.operand(argument).factor} * ones(1)` for a column of size 1"
        case _:
            advice = f"apply `{function.name}` to a column such as `k`"
    message = f"`{function.name}` takes columns, and `{typer.operand(argument).text}` is {described(argument.shape)}"
    typer.names.report.error("F305", message, advice, argument.span)
    return False
