"""Whether a recurrence that is taken token by token has a kernel for its loop.

In: a `Plan` of one. Out: `Missing` with what its loops hold that kernels do not, or None. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from flowc.chunk import ir
from flowc.schedule.plan import Plan
from flowc.schedule.tile_plan import Missing

HELD = (
    ir.Argument, ir.Literal, ir.Extent, ir.Head, ir.Index, ir.Apply, ir.Spread, ir.Rename, ir.Relabel, ir.Sum,
    ir.Largest, ir.Contract,
)  # fmt: skip
MOST_AXES = 2


def loops(plan: Plan) -> Iterator[ir.Loop]:
    """The loops of a plan's two passes, forward and backward, once each."""
    found: dict[bool, ir.Loop] = {}
    for passed in (plan.forward, plan.backward):
        for node in passed.program.nodes:
            if isinstance(node.op, ir.Loop) and node.op.number == 0:
                found.setdefault(node.op.reverse, node.op)
    yield from found.values()


def missing_loops(plan: Plan) -> Missing | None:
    """Why there are no kernels for a plan's loops, if there are none."""
    reasons: dict[str, None] = {}
    for loop in loops(plan):
        for node in loop.body.nodes:
            if not isinstance(node.op, HELD):
                reasons[f"{type(node.op).__name__.lower()} of vectors within a token"] = None
            elif len(node.value.axes) > MOST_AXES:
                reasons["a tensor of three axes within a token"] = None
    return Missing(tuple(reasons)) if reasons else None
