"""The sizes of a Model: those bound at the call, and the header constants that are used as sizes.

In: a checked `Spec` and its names. Out: `Dimension`s, in the header's order. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowc.semantics.model import Dimension
from flowc.semantics.names import Constant, Names, Symbolic
from flowc.syntax import tree as syntax


def dimensions(spec: syntax.Spec, names: Names) -> Iterator[Dimension]:
    """The sizes, and the integer constants that some shape or repeat uses as one."""
    used = {name for written in _sizes(spec.items) for name in _size_names(written)}
    for dimension in spec.dimensions:
        name = dimension.name.text
        match names.find(name):
            case Symbolic():
                yield Dimension(name, None, dimension.span)
            case Constant(value) if name in used:
                yield Dimension(name, int(value), dimension.span)
            case _:
                pass


def _sizes(items: Sequence[syntax.Item]) -> Iterator[syntax.Expression]:
    """The written sizes of declarations, repeats, `ones` and `zeros`."""
    for item in items:
        match item:
            case syntax.Input() | syntax.Param() | syntax.State():
                yield from _shape_sizes(item.shape)
            case syntax.Repeat():
                yield item.count
                yield from _sizes(item.body)
            case syntax.Let() | syntax.Assign():
                yield from _filled(item.value)


def _shape_sizes(shape: syntax.Shape) -> tuple[syntax.Expression, ...]:
    match shape:
        case syntax.Scalar():
            return ()
        case syntax.Vector(size):
            return (size,)
        case syntax.Matrix(rows, cols):
            return (rows, cols)
        case syntax.List(count, item):
            return (count, *_shape_sizes(item))


def _filled(written: syntax.Expression) -> Iterator[syntax.Expression]:
    match written:
        case syntax.Call(syntax.Name("ones" | "zeros"), (argument,)):
            yield argument.value
        case syntax.Call(_, arguments):
            for argument in arguments:
                yield from _filled(argument.value)
        case syntax.Negate(inner) | syntax.Transpose(inner):
            yield from _filled(inner)
        case syntax.Binary(_, left, right) | syntax.Comparison(_, left, right):
            yield from _filled(left)
            yield from _filled(right)
        case syntax.Number() | syntax.Reference():
            pass


def _size_names(written: syntax.Expression) -> Iterator[str]:
    match written:
        case syntax.Reference(name):
            yield name.text
        case syntax.Binary(_, left, right):
            yield from _size_names(left)
            yield from _size_names(right)
        case _:
            pass
