"""Syntax tree -> the one canonical spelling of it.

In: a `Spec`. Out: its text, in which declarations come first, expressions have only the brackets they need, and numbers
are exact decimals; parsed and printed again, it is the same. Emitted modules quote and hash it. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import assert_never

from flowc.syntax import tree as syntax

_SUM, _PRODUCT, _UNARY, _POWER, _POSTFIX = 1, 2, 3, 4, 5
_LEVEL = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "@": _PRODUCT, "**": _POWER}


def canonical(spec: syntax.Spec) -> str:
    """The canonical text of `spec`, ending with a newline."""
    doc = [f"# {line}".rstrip() for line in spec.doc.split("\n")] if spec.doc else []
    header = f"flow {spec.name.text}({', '.join(_dimension(dimension) for dimension in spec.dimensions)})"
    declarations: dict[str, list[str]] = {"input": [], "param": [], "state": []}
    for item in spec.items:
        match item:
            case syntax.Input(names, shape, bounds):
                declarations["input"] += (f"{name.text}\0{_shape(shape)}{_range(bounds)}" for name in names)
            case syntax.Param(names, shape, bounds):
                declarations["param"] += (f"{name.text}\0{_shape(shape)}{_range(bounds)}" for name in names)
            case syntax.State(names, shape, start):
                begin = f" = {_bound(start)}" if start is not None and start.value != 0 else ""
                declarations["state"] += (f"{name.text}\0{_shape(shape)}{begin}" for name in names)
            case syntax.Let() | syntax.Assign() | syntax.Repeat():
                pass
            case _:
                assert_never(item)
    declared = [line for keyword, names in declarations.items() for line in _grouped(keyword, names)]
    steps = list(_statements(spec.items, ""))
    blocks = ("\n".join(block) for block in ([*doc, header], declared, steps) if block)
    return "\n\n".join(blocks) + "\n"


def expression(written: syntax.Expression) -> str:
    """The canonical text of an expression."""
    return _text(written, 0)


def number(value: Fraction) -> str:
    """The shortest decimal of `value`, which must have one; with an exponent where that is shorter to read."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    places = 0
    while value.denominator != 1:
        value, places = value * 10, places + 1
    digits = str(value.numerator)
    stripped = digits.rstrip("0") or "0"
    exponent = 0 if stripped == "0" else len(digits) - len(stripped) - places
    point = len(stripped) + exponent
    if -4 < point <= 16:
        if exponent >= 0:
            return sign + stripped + "0" * exponent
        return f"{sign}{stripped[:point]}.{stripped[point:]}" if point > 0 else f"{sign}0.{'0' * -point}{stripped}"
    mantissa = stripped[0] + ("." + stripped[1:] if len(stripped) > 1 else "")
    return f"{sign}{mantissa}e{point - 1}"


# -- declarations -------------------------------------------------------------------------------------------------


def _grouped(keyword: str, names: Sequence[str]) -> Iterator[str]:
    """One line for neighbours that are declared alike; `names` are `name NUL shape`."""
    for shape, group in groupby((entry.split("\0") for entry in names), key=lambda entry: entry[1]):
        yield f"{keyword} {', '.join(name for name, _ in group)} : {shape}"


def _dimension(dimension: syntax.Dimension) -> str:
    return dimension.name.text if dimension.value is None else f"{dimension.name.text} = {_bound(dimension.value)}"


def _shape(shape: syntax.Shape) -> str:
    match shape:
        case syntax.Scalar():
            return "scalar"
        case syntax.Vector(size):
            return expression(size)
        case syntax.Matrix(rows, cols):
            return f"{expression(rows)} x {expression(cols)}"
        case syntax.List(count, item):
            return f"{expression(count)} of {_shape(item)}"
        case _:
            assert_never(shape)


def _range(bounds: syntax.Range | None) -> str:
    match bounds:
        case None:
            return ""
        case syntax.Range(None, syntax.Bound() as high):
            return f" {'<' if bounds.high_open else '<='} {_bound(high)}"
        case syntax.Range(syntax.Bound() as low, None):
            return f" {'>' if bounds.low_open else '>='} {_bound(low)}"
        case syntax.Range(syntax.Bound() as low, syntax.Bound() as high):
            return (
                f" in {'(' if bounds.low_open else '['}{_bound(low)}, {_bound(high)}{')' if bounds.high_open else ']'}"
            )
        case _:
            raise AssertionError(bounds)


def _bound(bound: syntax.Bound) -> str:
    match bound.value:
        case Fraction() as value:
            return number(value)
        case value:
            return "inf" if value > 0 else "-inf"


# -- statements ---------------------------------------------------------------------------------------------------


def _statements(items: Sequence[syntax.Item], indent: str) -> Iterator[str]:
    for item in items:
        match item:
            case syntax.Let(name, value):
                yield f"{indent}let {name.text} = {expression(value)}"
            case syntax.Assign(target, value):
                yield f"{indent}{expression(target)} = {expression(value)}"
            case syntax.Repeat(index, count, body):
                yield f"{indent}repeat {index.text} in {expression(count)}:"
                yield from _statements(body, indent + "    ")
            case syntax.Input() | syntax.Param() | syntax.State():
                pass
            case _:
                assert_never(item)


def _text(written: syntax.Expression, level: int) -> str:
    """The text of `written` where only operators that bind at least as tightly as `level` may stand bare."""
    match written:
        case syntax.Number(value):
            return number(value)
        case syntax.Reference(name, subscripts):
            return name.text + "".join(f"[{_index(subscript)}]" for subscript in subscripts)
        case syntax.Call(name, arguments):
            return f"{name.text}({', '.join(_argument(argument) for argument in arguments)})"
        case syntax.Transpose(inner):
            return f"{_text(inner, _POSTFIX)}.T"
        case syntax.Negate(inner):
            return _bracketed(f"-{_text(inner, _UNARY)}", level > _UNARY)
        case syntax.Comparison(op, left, right):
            return _bracketed(f"{_text(left, _SUM)} {op} {_text(right, _SUM)}", level > 0)
        case syntax.Binary("**", left, right):
            return _bracketed(f"{_text(left, _POSTFIX)}**{_text(right, _UNARY)}", level > _POWER)
        case syntax.Binary(op, left, right):
            own = _LEVEL[op]
            return _bracketed(f"{_text(left, own)} {op} {_text(right, own + 1)}", own < level)
        case _:
            assert_never(written)


def _bracketed(text: str, needed: bool) -> str:
    return f"({text})" if needed else text


def _index(subscript: syntax.Expression) -> str:
    return expression(subscript).replace(" ", "")


def _argument(argument: syntax.Argument) -> str:
    keyword = "" if argument.keyword is None else f"{argument.keyword.text} = "
    return keyword + expression(argument.value)
