"""How kernels are configured: how much of the state a program holds at once, its warps and stages, the rows of a chunk.

In: a `TilePlan`. Out: rows of an emitted module's table, and the rows of a chunk where the caller leaves it open. They
are chosen such that no kernel of the examples spills registers on sm_90 at K = V = 128 (tests/triton/test_offline.py).
Refuses nothing.
"""

from __future__ import annotations

from flowc.schedule.tile_plan import TilePlan
from flowc.schedule.tiles import DecayApply, DecayDot

MOST_KEYS = 256
"""The most rows of a state that a walk holds."""

ROWS, GATED_ROWS = 64, 32
"""Rows of a chunk: what a warp group multiplies at once; fewer where gates over the state's rows take registers too."""

Tiling = tuple[int, int, int, int]
TILINGS: dict[str, tuple[Tiling, Tiling]] = {  # columns, rows, warps, stages: for half precision, and for float32
    "matrices": ((32, 64, 4, 1), (16, 32, 2, 1)),
    "walk": ((32, 64, 4, 2), (16, 32, 2, 1)),
    "columns": ((64, 64, 4, 2), (16, 32, 2, 1)),
    "rows": ((64, 64, 8, 1), (16, 32, 2, 1)),
    "matrices_backward": ((32, 64, 4, 1), (16, 32, 2, 1)),
    "walk_backward": ((32, 64, 4, 1), (16, 32, 2, 1)),
    "columns_backward": ((64, 64, 4, 1), (16, 32, 2, 1)),
    "rows_backward": ((32, 64, 8, 1), (16, 32, 2, 1)),
}


def tilings() -> tuple[str, ...]:
    """Configurations as rows of a module's table."""
    rows = []
    for role, (half, single) in TILINGS.items():
        rows += [(role, 2, *half), (role, 4, *single)]
    return tuple(repr(row) for row in rows)


def chunk_tokens(plan: TilePlan, rows: int) -> int:
    """The tokens of such a chunk, with `rows` rows per token: what `_kernel_tokens` of an emitted module says."""
    return max(1, chunk_rows(plan) // (1 << (max(rows, 1) - 1).bit_length()))


def chunk_rows(plan: TilePlan) -> int:
    """The rows of a chunk, padding included, where neither a call nor an option says how many tokens it has."""
    kernels = (*plan.forward.kernels, *plan.backward.kernels)
    gated = any(isinstance(s.op, DecayDot | DecayApply) for k in kernels for s in k.steps)
    return GATED_ROWS if gated else ROWS
