"""How kernels are configured: how much of the state a program holds at once, its warps and stages, the rows of a chunk.

In: a `TilePlan`. Out: rows of an emitted module's table, and the rows of a chunk where the caller leaves it open. They
are chosen such that no kernel of the examples spills registers on sm_90 in half precision at K = V = 128, and few bytes
otherwise: benchmarks/kernels.py measures it. Refuses nothing.
"""

from __future__ import annotations

from flowc.schedule.tile_plan import TileKernel, TilePlan
from flowc.schedule.tiles import DecayApply, DecayDot
from flowc.semantics.size import ONE

MOST_KEYS = 256
"""The most rows of a state that a walk holds."""

ROWS, GATED_ROWS, LEAST_ROWS = 64, 32, 16
"""Rows of a chunk: what a warp group multiplies at once; fewer where gates over the state's rows take registers too;
the fewest that the matrix units take, where there are many such, and in float32, which is multiplied in three parts."""

MANY_GATED = 5

Tiling = tuple[int, int, int, int]
TILINGS: dict[str, tuple[Tiling, Tiling]] = {  # columns, rows, warps, stages: for half precision, and for float32
    "matrices": ((32, 32, 4, 1), (16, 32, 8, 1)),
    "walk": ((32, 64, 4, 2), (16, 32, 8, 1)),
    "columns": ((64, 64, 4, 2), (16, 16, 4, 1)),
    "rows": ((64, 64, 8, 1), (16, 32, 4, 1)),
    "matrices_backward": ((32, 32, 4, 1), (16, 32, 4, 1)),
    "walk_backward": ((32, 64, 8, 1), (16, 32, 8, 1)),
    "columns_backward": ((64, 64, 4, 1), (16, 32, 4, 1)),
    "rows_backward": ((32, 32, 8, 1), (16, 16, 8, 1)),
}
GATED = {"rows_backward": ((32, 64, 8, 1), (16, 32, 4, 1))}
SEVERAL = {"rows_backward": ((32, 16, 8, 1), (16, 16, 8, 1))}
"""The same where it differs: with gates over the state's rows, and with several rows per token."""


def tilings(plan: TilePlan) -> tuple[str, ...]:
    """Configurations as rows of a module's table."""
    rows = []
    for passed, end in ((plan.forward, ""), (plan.backward, "_backward")):
        for kernel in passed.kernels:
            half, single = tiling(kernel, role := kernel.name + end)
            rows += [(role, 2, *half), (role, 4, *single)]
    return tuple(repr(row) for row in rows)


def tiling(kernel: TileKernel, role: str) -> tuple[Tiling, Tiling]:
    """A kernel's configurations: for half precision, and for float32."""
    own = GATED if gated(kernel) else SEVERAL if _has_several(kernel) else TILINGS
    return own.get(role, TILINGS[role])


def gated(kernel: TileKernel) -> int:
    """How many primitives of a kernel have gates over the state's rows."""
    return sum(isinstance(s.op, DecayDot | DecayApply) for s in kernel.steps)


def _has_several(kernel: TileKernel) -> bool:
    return any(lane.over_rows and lane.frame != ONE for s in kernel.steps for lane in s.tile.lanes)


def chunk_tokens(plan: TilePlan, rows: int) -> int:
    """The tokens of a chunk in half precision, with `rows` rows per token, where nothing else is asked for."""
    half, _ = chunk_rows(plan)
    return max(1, half // (1 << (max(rows, 1) - 1).bit_length()))


def chunk_rows(plan: TilePlan) -> tuple[int, int]:
    """The rows of such a chunk, padding included: in half precision, and in float32."""
    most = max(gated(k) for k in (*plan.forward.kernels, *plan.backward.kernels))
    return (LEAST_ROWS if most >= MANY_GATED else GATED_ROWS if most else ROWS), LEAST_ROWS
