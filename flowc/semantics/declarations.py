"""Declarations -> the sizes, inputs and states of a Model.

In: a `Spec`. Out: `Declared`, with every name entered in `Names`. Refuses reserved and repeated names, shapes that a
declaration can't have, empty ranges, and declarations inside a repeat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from flowc.semantics.model import SCALAR, Input, Interval, Shape, State
from flowc.semantics.names import Constant, Meaning, Names, Symbolic, Unknown
from flowc.semantics.shapes import column, matrix
from flowc.semantics.sizes import resolve
from flowc.syntax import tree as syntax

Declaration = syntax.Input | syntax.Param | syntax.State


@dataclass(frozen=True, slots=True)
class Declared:
    """The inputs, then the params; and the states: each in the order of the spec."""

    inputs: tuple[Input, ...]
    states: tuple[State, ...]


def declare(spec: syntax.Spec, names: Names) -> Declared:
    """Enter the header and all declarations of `spec` in `names`."""
    for dimension in spec.dimensions:
        names.declare(dimension.name, _dimension(dimension, names))
    inputs: list[Input] = []
    states: list[State] = []
    for item in spec.items:
        match item:
            case syntax.Input() | syntax.Param():
                inputs += _inputs(item, names)
            case syntax.State():
                states += _states(item, names)
            case syntax.Repeat():
                _refuse_inside(item, names)
            case syntax.Let() | syntax.Assign():
                pass
    return Declared(tuple(sorted(inputs, key=lambda x: x.is_param)), tuple(states))


def _dimension(dimension: syntax.Dimension, names: Names) -> Meaning:
    if dimension.name.text == "scalar":
        message = "`scalar` is a shape and can't be the name of a size"
        names.report.error("F204", message, "choose another name", dimension.name.span)
        return Unknown()
    if dimension.value is None:
        return Symbolic(dimension.name.text)
    match dimension.value.value:
        case Fraction() as value:
            return Constant(value)
        case _:
            message = f"the constant `{dimension.name.text}` is not finite"
            names.report.error(
                "F506", message, "write a number; only a state's start may be infinite", dimension.value.span
            )
            return Unknown()


def _refuse_inside(repeat: syntax.Repeat, names: Names) -> None:
    for item in repeat.body:
        match item:
            case syntax.Input() | syntax.Param() | syntax.State():
                message = "a declaration can't stand inside a repeat"
                names.report.error("F411", message, "move it above the `repeat`", item.span)
                for name in item.names:
                    names.declare(name, Unknown())
            case syntax.Repeat():
                _refuse_inside(item, names)
            case syntax.Let() | syntax.Assign():
                pass


def _inputs(item: syntax.Input | syntax.Param, names: Names) -> Iterator[Input]:
    is_param = type(item) is syntax.Param
    shape, bounds = _shape(item.shape, names), _range(item.range, names)
    for name in item.names:
        if shape is None:
            names.declare(name, Unknown())
            continue
        declared = Input(name.text, shape, is_param, bounds, name.span)
        names.declare(name, declared)
        if names.find(name.text) is declared:
            yield declared


def _states(item: syntax.State, names: Names) -> Iterator[State]:
    shape = _shape(item.shape, names)
    if shape is not None and shape.items is not None:
        message = f"a state can't be a list, `{shape}`"
        names.report.error("F505", message, f"declare a matrix, or {shape.items} states", item.shape.span)
        shape = None
    start = 0.0 if item.start is None else float(item.start.value)
    for name in item.names:
        if shape is None:
            names.declare(name, Unknown())
            continue
        declared = State(name.text, shape, start, name.span)
        names.declare(name, declared)
        if names.find(name.text) is declared:
            yield declared


def _shape(written: syntax.Shape, names: Names) -> Shape | None:
    match written:
        case syntax.Scalar():
            return SCALAR
        case syntax.Vector(size):
            rows = resolve(size, names)
            return None if rows is None else column(rows)
        case syntax.Matrix(first, second):
            rows, cols = resolve(first, names), resolve(second, names)
            return None if rows is None or cols is None else matrix(rows, cols)
        case syntax.List(count, item):
            items, shape = resolve(count, names), _shape(item, names)
            if type(item) is syntax.Matrix:
                message = "a list holds scalars or vectors, not matrices"
                names.report.error("F505", message, "declare one input for each matrix", written.span)
                return None
            return None if items is None or shape is None else Shape(shape.kind, shape.rows, shape.cols, items)


def _range(written: syntax.Range | None, names: Names) -> Interval | None:
    if written is None:
        return None
    low, high = _finite(written.low), _finite(written.high)
    infinite = [
        bound for bound, sign in ((written.low, 1), (written.high, -1)) if bound and bound.value == sign * float("inf")
    ]
    empty = (
        low is not None
        and high is not None
        and (low > high or (low == high and (written.low_open or written.high_open)))
    )
    if empty or infinite:
        text = names.report.text(written.span, "this range")
        names.report.error(
            "F504", f"no number lies in `{text}`", "write the lower bound first, such as `in (0, 1]`", written.span
        )
        return None
    return Interval(low, high, written.low_open and low is not None, written.high_open and high is not None)


def _finite(bound: syntax.Bound | None) -> Fraction | None:
    match bound:
        case syntax.Bound(Fraction() as value):
            return value
        case _:
            return None
