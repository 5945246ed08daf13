"""Kernels of segments: what one does to the state, without anything else that it makes.

In: a `TilePlan` and the recurrence's `Memory`. Out: `SegmentKernels`, or None where there are none. A segment's flow
is affine in the state: S_end = M S_start + what it ends with from 0. The walk, less what it stores, makes the latter.
The adjoint walk takes S_end's cotangent to M^T of it plus what the outputs' cotangents add; with these 0, from the unit
matrix, or from ones where every entry has a factor of its own, it makes M^T itself. Refuses flows that mix entries and
have gates over the columns, which would need a matrix for every column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from flowc.algebra.recurrence import Memory, Write
from flowc.schedule.plan import Role
from flowc.schedule.tile_plan import Step, Store, TileKernel, TilePass, TilePlan
from flowc.schedule.tiles import (
    VALUE,
    DecayApply,
    DecayDot,
    Exponents,
    Fetch,
    Function,
    Load,
    Masked,
    Product,
    Solve,
    Spread,
    Tile,
    TileOp,
    Total,
    Transposed,
    Turned,
    tile_operands,
)


class Zero(Enum):
    """What is 0 throughout."""

    ZERO = 0


ZERO = Zero.ZERO


@dataclass(frozen=True, slots=True)
class SegmentKernels:
    """Walks that leave a state alone: forward from 0, backward to 0, and M^T of what they start with.

    `dense`: M is a matrix over the state's rows. Otherwise entries have factors, in all columns the same unless `wide`.
    """

    ends: TileKernel
    begins: TileKernel
    flow: TileKernel
    dense: bool
    wide: bool

    def columns(self, keys: int, values: int) -> int:
        """How many columns what `flow` starts with has."""
        return keys if self.dense else values if self.wide else 1


def segment_kernels(cuts: TilePlan, memory: Memory) -> SegmentKernels | None:
    """The kernels of one state's segments; none where torch operators make a part of a pass."""
    if cuts.by_torch:
        return None
    (forward, _), (backward, before) = (_at_walk(p) for p in (cuts.forward, cuts.backward))
    made = {s.name: without_cotangents(k, (s,)) for k in before for s in k.stores}
    flow = without_cotangents(backward, backward.stores[:1], {n for n, k in made.items() if k is ZERO})
    if not isinstance(flow, TileKernel) or any(isinstance(s.op, Fetch) and s.op.name in made for s in flow.steps):
        return None
    dense = any(
        row.read is not None for s in memory.segments for e in s.edits if isinstance(e, Write) for row in e.rows
    )
    wide = any(isinstance(s.op, Load | Fetch) and VALUE in s.tile.lanes for s in flow.steps)
    if dense and wide:
        return None
    ends, begins = (_alone(k, name) for k, name in ((forward, "ends"), (backward, "begins")))
    return SegmentKernels(ends, begins, _alone(flow, "flow"), dense, wide)


def _at_walk(passed: TilePass) -> tuple[TileKernel, tuple[TileKernel, ...]]:
    """The walk of a pass, and the kernels before it."""
    at = next(n for n, k in enumerate(passed.kernels) if k.role is Role.WALK)
    return passed.kernels[at], passed.kernels[:at]


def _alone(walk: TileKernel, name: str) -> TileKernel:
    """A walk that stores nothing of its chunks: nothing is kept where its cost is counted without."""
    (first, *_), needed, steps = walk.stores, {walk.stores[0].tile}, []
    for step in reversed(walk.steps):
        if step.tile in needed:
            steps.append(step)
            needed.update(tile_operands(step.op))
    return TileKernel(name, walk.role, tuple(reversed(steps)), (replace(first, kept=True),), walk.blocked)


def without_cotangents(
    kernel: TileKernel, stores: Sequence[Store], zeros: Set[str] = frozenset()
) -> TileKernel | Zero | None:
    """A kernel of the adjoint that makes some of its stores where cotangents, and in memory `zeros`, are 0.

    ZERO if all of these are; None where something else than sums and products takes a cotangent.
    """
    zero: set[Tile] = set()
    same: dict[Tile, Tile] = {}
    steps: list[Step] = []
    for step in kernel.steps:
        op = _with(step.op, same)
        left = ZERO if isinstance(op, Fetch) and op.name in zeros else _left(op, zero)
        if left is None:
            return None
        if left is ZERO:
            zero.add(step.tile)
        elif isinstance(left, Tile) and left.lanes == step.tile.lanes:
            same[step.tile] = left
        else:
            steps.append(Step(step.tile, Spread(left) if isinstance(left, Tile) else left))
    if all(s.tile in zero for s in stores):
        return ZERO
    made = tuple(replace(s, tile=same.get(s.tile, s.tile)) for s in stores if s.tile not in zero)
    return replace(kernel, steps=tuple(steps), stores=made)


def _left(op: TileOp, zero: set[Tile]) -> TileOp | Tile | Zero | None:
    """What an operation is where some tiles are 0: another one, a tile, or ZERO; None where that is not known."""
    there = [t in zero for t in tile_operands(op)]
    match op:
        case Load(_, role, _) if role == "cotangent":
            return ZERO
        case _ if not any(there):
            return op
        case Function("add", arguments):
            return _sum([a for a in arguments if a not in zero])
        case Function("sub", (left, right)):
            return ZERO if all(there) else left if right in zero else Function("neg", (right,))
        case Function("mul", _):
            return ZERO
        case Function("neg", _) | Function("div", (_, _)) if there[0]:
            return ZERO
        case Product(left, right, _, _, added) if left in zero or right in zero:
            return ZERO if added is None or added in zero else added
        case Product():
            return replace(op, added=None)
        case Solve() | Spread() | Turned() | Transposed() | Masked() | Total(_, _, False):
            return ZERO
        case DecayApply(left, right, _, _) | DecayDot(left, right, _) if left in zero or right in zero:
            return ZERO
    return None


def _sum(left: Sequence[Tile]) -> TileOp | Tile | Zero:
    return Function("add", tuple(left)) if len(left) > 1 else left[0] if left else ZERO


def _with(op: TileOp, tiles: Mapping[Tile, Tile]) -> TileOp:
    """An operation on other tiles."""

    def moved(x: Any) -> Any:
        match x:
            case Tile():
                return tiles.get(x, x)
            case tuple() as parts:
                return tuple(moved(p) for p in parts)
            case Exponents():
                return replace(x, **{f.name: moved(getattr(x, f.name)) for f in fields(x)})
        return x

    return replace(op, **{f.name: moved(getattr(op, f.name)) for f in fields(op)}) if tiles else op
