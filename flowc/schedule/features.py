"""Where the pairs are that a sum runs over half of: the gradient of a Kronecker product's factor.

In: a `Program` and a value that is summed over an axis. Out: `Shared`, or None where the value holds no such pairs; the
vector that two views of one lane are the pairs of. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.schedule.tiles import Change, Kind, Lane, Place, View
from flowc.semantics.size import Size


@dataclass(frozen=True, slots=True)
class Shared:
    """Pairs that lie in a vector of `size` entries from `start` on, `count` of them, the second factor of `fast`.

    `summed` and `kept` are the names of the axes of the factors; the first is summed over if `outer_summed`.
    """

    size: Size
    start: Size
    count: Size
    fast: Size
    summed: str
    kept: str
    outer_summed: bool


def moved(outer: Place, fast: Place, size: Size) -> Lane | View | None:
    """What two views are the quotient and the remainder of, if of one index by `size`."""
    match outer, fast:
        case View(base, Change.OVER, n), View(other, Change.WITHIN, m) if base == other and n == m == size:
            return base
    return None


def shared(program: Program, value: Value, axes: tuple[Axis, ...], lanes: Mapping[str, Place]) -> Shared | None:
    """The pairs of which a sum of `value` over one axis leaves another, whole."""
    if len(axes) != 1:
        return None
    (summed,) = axes
    for op, names in _elementwise(program, value, {a.name: a.name for a in value.axes}):
        match op:
            case ir.Unflatten(argument, (outer, fast), axis) if summed.name in (names[outer.name], names[fast.name]):
                outer_summed = names[outer.name] == summed.name
                kept = names[fast.name if outer_summed else outer.name]
                match lanes.get(kept), _start(program, argument, axis.name):
                    case Lane(Kind.OTHER), (size, start):
                        count = outer.size * fast.size
                        return Shared(size, start, count, fast.size, summed.name, kept, outer_summed)
    return None


def _elementwise(program: Program, value: Value, names: Mapping[str, str]) -> Iterator[tuple[ir.Op, Mapping[str, str]]]:
    """The operations of which a value is an elementwise function; what the value calls each one's axes."""
    op = program.defined[value]
    yield op, names
    match op:
        case ir.Apply(_, arguments):
            for argument in arguments:
                yield from _elementwise(program, argument, names)
        case ir.Spread(argument, _):
            yield from _elementwise(program, argument, names)
        case ir.Rename(argument, old, new):
            yield from _elementwise(program, argument, {old if n == new else n: x for n, x in names.items()})
        case ir.Relabel(argument, new_names):
            given = zip(argument.axes, new_names, strict=True)
            yield from _elementwise(program, argument, {a.name: names[n] for a, n in given})


def _start(program: Program, value: Value, axis: str) -> tuple[Size, Size] | None:
    """How long a vector of rows is of which a value's axis is a part, and where the part starts."""
    op = program.defined[value]
    match op:
        case ir.Cut(argument, whole, start, inner) if inner.name == axis:
            found = _start(program, argument, whole.name)
            return None if found is None else (found[0], found[1] + start)
        case ir.FromRows(_, _, _, Axis(_, size)) if axis == "x":
            return size, Size.of(0)
        case ir.Apply(_, arguments):
            return next((s for a in arguments if (s := _start(program, a, axis)) is not None), None)
        case ir.Spread(argument, _) if any(a.name == axis for a in argument.axes):
            return _start(program, argument, axis)
        case ir.Rename(argument, old, new):
            return _start(program, argument, old if axis == new else axis)
        case ir.Relabel(argument, names):
            return next(
                (_start(program, argument, a.name) for a, n in zip(argument.axes, names, strict=True) if n == axis),
                None,
            )
    return None
