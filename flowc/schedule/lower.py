"""Which matrices over the rows of a chunk are lower triangular: a row has entries of its own token and earlier ones.

In: a `Program`. Out: values over rows and columns of which memory holds the lower blocks alone. Refuses nothing.
"""

from __future__ import annotations

from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value


def lower_triangular(program: Program) -> frozenset[Value]:
    """Masked matrices, inverses of systems, and what is made of those entry by entry and is 0 with them."""
    found: set[Value] = set()
    for node in program.nodes:
        if _over_rows(node.value) and _lower(node.op, found):
            found.add(node.value)
    return frozenset(found)


def _over_rows(value: Value) -> bool:
    """Whether a value's axes are rows that read, then rows that write."""
    if value.level is not Level.CHUNK or len(value.axes) != 2:
        return False
    first, second = (a.name for a in value.axes)
    return second.endswith("'") and not first.endswith("'")


def _lower(op: ir.Op, lower: set[Value]) -> bool:
    match op:
        case ir.MaskMatrix() | ir.DecayMatrix() | ir.DecayDot() | ir.Inverse():
            return True
        case ir.Apply("mul", arguments):
            return any(v in lower for v in arguments)
        case ir.Apply("add" | "sub" | "neg", arguments):
            return all(v in lower for v in arguments)
        case _:
            return False
