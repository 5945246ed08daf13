"""How kernels are configured: how much of the state a program holds at once, its warps and stages, the rows of a chunk.

In: a `TilePlan`. Out: rows of an emitted module's table, and the rows of a chunk where the caller leaves it open. They
are chosen such that no kernel of the examples spills registers in half precision at K = V = 128 on any family of
devices, and few bytes elsewhere: benchmarks/kernels.py measures it. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowc.schedule.tile_plan import TileKernel, TilePlan
from flowc.schedule.tiles import DecayApply, DecayDot, DecayMatrix, Selected, Solve
from flowc.semantics.size import ONE

MOST_KEYS = 256
"""The most rows of a state that a walk holds."""

MOST_SPLIT = 128
"""The same of a walk whose programs can hold a block of rows each."""

ROWS = (64, 32, 16)
"""Rows of a chunk: what a warp group multiplies at once; fewer where gates or feature maps take registers too;
the fewest that the matrix units take, where there are many such, and in float32, which is multiplied in three parts."""

MOST_FUSED = 128
"""The most rows of a state that a walk holds which makes outputs as well."""

MANY_GATED = 5
"""Primitives with such gates in one kernel."""

Tiling = tuple[int, int, int, int]
TILINGS: dict[str, tuple[Tiling, Tiling]] = {  # columns, rows, warps, stages: for half precision, and for float32
    "matrices": ((32, 32, 4, 1), (16, 32, 8, 1)),
    "walk": ((32, 64, 4, 2), (16, 32, 8, 1)),
    "fused": ((32, 64, 8, 1), (16, 32, 8, 1)),
    "fused_solving": ((16, 64, 8, 1), (16, 32, 8, 1)),  # with gates between rows as well
    "columns": ((64, 64, 4, 2), (16, 16, 4, 1)),
    "rows": ((64, 64, 8, 1), (16, 32, 4, 1)),
    "matrices_backward": ((32, 32, 4, 1), (16, 32, 4, 1)),
    "walk_backward": ((32, 64, 8, 1), (16, 32, 8, 1)),
    "columns_backward": ((64, 64, 4, 1), (16, 32, 4, 1)),
    "rows_backward": ((32, 64, 8, 1), (16, 16, 4, 1)),
    "step": ((32, 64, 4, 1), (32, 32, 8, 1)),
}
ACROSS: dict[str, Tiling] = {"rows_backward": (32, 16, 8, 1)}
"""In half precision where outputs over the state's rows have gates: their gradients take registers as well."""

OTHERS: dict[str, dict[str, tuple[Tiling, Tiling, Tiling]]] = {  # with no, few, many gates over the state's rows
    "ampere": {
        "walk": ((32, 64, 4, 1),) * 3,
        "walk_backward": ((16, 64, 4, 1),) * 3,
        "rows_backward": ((32, 32, 8, 1), (32, 16, 8, 1), (32, 64, 8, 1)),
        "step": ((32, 64, 8, 1),) * 3,
    },
    "blackwell": {
        "walk_backward": ((32, 64, 4, 1),) * 3,
        "rows_backward": ((32, 32, 8, 1), (32, 64, 8, 1), (32, 64, 8, 1)),
    },
    "amd": {"rows_backward": ((32, 32, 8, 1),) * 3},
}
"""In half precision where it differs, by families of devices as an emitted module tells them apart.

A wavefront counts as two warps.
"""


def tilings(plan: TilePlan, suffix: str = "") -> tuple[str, ...]:
    """Configurations as rows of a module's table, those of a family before those of any; roles end in `suffix`."""
    kernels = {k.name: k for k in plan.forward.kernels} | {f"{k.name}_backward": k for k in plan.backward.kernels}
    own = {k.name: k for k in (plan.step, plan.fused) if k is not None}
    return tuple(repr((family, f"{role}{suffix}", *row)) for family, role, *row in _rows(plan, kernels | own))


def tiling(plan: TilePlan, role: str) -> tuple[Tiling, Tiling]:
    """The configuration of a role on devices that have none of their own, for half precision and for float32."""
    if role == "fused" and plan.fused is not None and any(isinstance(s.op, DecayMatrix) for s in plan.fused.steps):
        role = "fused" if not any(isinstance(s.op, Solve) for s in plan.fused.steps) else "fused_solving"
    half, single = TILINGS[role]
    across = any(k.name == "rows" and gated(k) for k in plan.forward.kernels)
    return (ACROSS.get(role, half) if across else half), single


def _rows(plan: TilePlan, kernels: dict[str, TileKernel]) -> Iterator[tuple[str | int, ...]]:
    for family, own in OTHERS.items():
        for role in (r for r in own if r in kernels):
            yield family, role, 2, *own[role][gated(kernels[role])]
    for role in kernels:
        half, single = tiling(plan, role)
        yield "any", role, 2, *half
        yield "any", role, 4, *single


def gated(kernel: TileKernel) -> int:
    """Whether no, few or many primitives of a kernel have gates over the state's rows: 0, 1 or 2."""
    count = sum(isinstance(s.op, DecayDot | DecayApply) for s in kernel.steps)
    return (count > 0) + (count >= MANY_GATED)


def chunk_tokens(plans: Sequence[TilePlan], rows: int) -> int:
    """The tokens of a chunk in half precision, with `rows` rows per token, where nothing else is asked for."""
    half, _ = chunk_rows(plans)
    return max(1, half // (1 << (max(rows, 1) - 1).bit_length()))


def chunk_rows(plans: Sequence[TilePlan]) -> tuple[int, int]:
    """The rows of such a chunk, padding included, that all states have: in half precision, and in float32."""
    kernels = [k for p in plans for k in (*p.forward.kernels, *p.backward.kernels)]
    most = max((max(gated(k), expands(k)) for k in kernels), default=0)
    return ROWS[most], ROWS[-1]


def fuses(plan: TilePlan) -> bool:
    """Whether outputs are made by the walk where nothing else is asked for: several rows a token spill."""
    if plan.fused is None:
        return False
    return all(lane.frame == ONE for s in plan.fused.steps for lane in s.tile.lanes if lane.over_rows)


def expands(kernel: TileKernel) -> bool:
    """Whether a kernel makes vectors of others, which takes registers as gates do."""
    return any(isinstance(s.op, Selected) for s in kernel.steps)
