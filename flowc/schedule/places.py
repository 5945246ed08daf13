"""Where rows stand in a step, as far as kernels know it when they are printed.

In: spaces, positions and gates of a chunk program. Out: which gates come before a place, and which rows of its own
token a row sees. Refuses, as `Unsupported`, what depends on sizes or on the round of a repeat.
"""

from __future__ import annotations

from flowc.chunk.values import Mask, Part, Position, Space, Where
from flowc.schedule.tile_builder import Unsupported
from flowc.schedule.tiles import Within
from flowc.semantics.size import Size


def single(space: Space) -> Part:
    """The one part of a space."""
    if len(space.parts) != 1:
        raise Unsupported("several writes per token")
    return space.parts[0]


def comes_before(first: Position, second: Position) -> bool:
    """Whether the edit at `first` comes before the place `second`, in whatever round each of them is."""
    if first.stride and second.stride:
        raise Unsupported("a gate within a repeat")
    gap = second.start + Size.of(second.offset) - first.start - Size.of(first.offset)
    signs = {c > 0 for _, c in gap.terms}
    if len(signs) > 1:
        raise Unsupported("an order within a step that depends on sizes")
    return signs == {True}


def gates_before(gates: Space, space: Space, where: Where) -> tuple[bool, ...]:
    """For every gate of a step whether it comes before the place where a row of `space` reads or writes."""
    part = single(space)
    place = part.read if where is Where.READ else part.write
    found = []
    for gate in gates.parts:
        if gate.count is not None or gate.write is None or place is None:
            raise Unsupported("a gate within a repeat")
        found.append(comes_before(gate.write, place))
    return tuple(found)


def within(mask: Mask) -> Within:
    """Which rows of its own token a row sees."""
    row, column = single(mask.rows), single(mask.columns)
    read, write = row.read, column.write
    if read is None or write is None:
        raise Unsupported("a row without a place")
    if not (read.stride and write.stride):
        return Within.ALL if comes_before(write, read) else Within.NONE
    if row.rank is not None or row.count != column.count or write.offset < read.offset:
        raise Unsupported("rows of one repeat that see more than earlier rounds")
    return Within.EARLIER
