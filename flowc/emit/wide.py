"""Which values the torch target computes in float64 where all else is float32.

In: a program, and the values that are none of them. Out: the wide ones. Refuses nothing.
See docs/decisions/0017: a system's matrix, whose roundings add up where keys repeat; gradients of gate sums,
which cancel.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value


def wide_values(program: Program, narrow: frozenset[Value]) -> frozenset[Value]:
    """Products of a system's matrix, a row's sums in gradients of gate sums, and what a chunk makes of both."""
    systems = (n.op.matrix for n in program.nodes if isinstance(n.op, ir.Inverse))
    sums = (n.op.argument for n in program.nodes if isinstance(n.op, ir.AtAdjoint))
    wide = _sources(program, systems, (ir.Contract, ir.DecayDot)) | _sources(program, sums, (ir.Sum,))
    wide -= narrow
    for node in program.nodes:
        carried = node.value.level is Level.CHUNK and isinstance(node.op, (ir.Apply, ir.Sum, ir.AtAdjoint, ir.Rename))
        if carried and node.value not in narrow and any(v in wide for v in ir.operands(node.op)):
            wide.add(node.value)
    return frozenset(wide)


def _sources(program: Program, starts: Iterable[Value], kinds: tuple[type[ir.Op], ...]) -> set[Value]:
    """The first values of these kinds that elementwise functions of a chunk's values lead back to."""
    found, seen, open_ = set(), set(), list(starts)
    while open_:
        value = open_.pop()
        if value in seen or value.level is not Level.CHUNK:
            continue
        seen.add(value)
        op = program.defined[value]
        if isinstance(op, kinds):
            found.add(value)
        elif isinstance(op, (ir.Apply, ir.Rename)):
            open_ += ir.operands(op)
    return found
