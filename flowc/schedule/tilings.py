"""How kernels are configured: how much of the state a program holds at once, its warps and stages, the rows of a chunk.

In: a `StagePlan`. Out: rows of an emitted module's table, by how many rows a state has and tokens a chunk, and the rows
of a chunk where the caller leaves it open. They are chosen such that few kernels of the examples spill registers in
half precision: benchmarks/static.py compiles them, tests/triton/test_static.py lists those that do. A walk that makes
outputs takes the configuration that is predicted to be fastest among those for which its tiles leave `ROOM`. Refuses
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flowc.schedule.plan import Role
from flowc.schedule.room import room
from flowc.schedule.staged import StagePlan
from flowc.schedule.tile_cost import TileSizes, power_of_two
from flowc.schedule.tile_plan import TileKernel, TilePlan
from flowc.schedule.tiles import DecayApply, DecayDot, Selected, Solve

MOST_KEYS = 256
"""The most rows of a state that a walk holds."""

ROWS = (64, 32, 16)
"""Rows of a chunk: what a warp group multiplies at once; fewer where gates or feature maps take registers too;
the fewest that the matrix units take, where there are many such, and in float32, which is multiplied in three parts."""

MOST_FUSED = 128
"""The most rows of a state that a walk holds which makes outputs as well."""

FUSED = ((64, 8), (32, 4), (32, 8), (16, 4), (16, 8))
"""Columns and warps of such a walk, the fastest first where programs are many: the time goes with how many all columns
need, since each reads keys and queries again, and a processor runs two of 4 warps beside one another."""

ROOM = {
    "any": {(64, 8): 204, (32, 4): 205, (32, 8): 146, (16, 4): 205, (16, 8): 150},
    "ampere": {(64, 8): 0, (32, 4): 132, (32, 8): 95, (16, 4): 132, (16, 8): 95},
}
"""The most numbers that a thread may hold by `room`: beyond these, walks with outputs were seen to spill."""

PIPELINED = {"ampere": 1, "amd": 1}
"""Stages of such walks, 2 elsewhere: what is loaded ahead lies in shared memory, of which these have less."""

AHEAD = {"ampere": 152}
"""The most numbers by `room` of a walk with states alone that asks ahead there all the same: beyond, some spill."""

SMALL = {(64, 8): 127}
"""The same in chunks of less than 64 rows, whose products are no warp group's: Triton repeats some of them."""

KEYS = (64, 128, 256)
"""Rows of a state that configurations tell apart."""

TOKENS = (32, 256)
"""Tokens of a chunk that they tell apart; those beyond the first take what is right for 64."""

NOMINAL_RANK = 2
"""Sizes that the header leaves open, other than the state's."""

MANY_GATED = 5
"""Primitives with such gates in one kernel."""

MANY_BEFORE = 3
"""The same before the walk, where an inverse is beside them."""

Tiling = tuple[int, int, int, int]
"""Columns, rows, warps, stages; a walk holds all rows, or so many where its programs can have a block of them each."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a role takes in half precision, where all holds that is said.

    `family` of devices; `gated`: its kernel has no, few or many primitives with gates over the state's rows (0 - 2);
    `long`: more rows a chunk than the first of `TOKENS`; `wide`: more rows of the state than `MOST_FUSED`; `several`:
    states have kernels each, whose vectors between them are float32; `across`: outputs over the state's rows have
    gates; `alone`: no kernel runs before the walk; `solves`: the kernel solves a system; `makes`: it makes vectors.
    """

    role: str
    tiling: Tiling
    family: str = ""
    gated: tuple[int, ...] = (0, 1, 2)
    long: bool = False
    wide: bool = False
    several: bool = False
    across: bool = False
    alone: bool = False
    solves: bool = False
    makes: bool = False


GATED = (1, 2)
RULES = (  # the last one that holds is taken; a wavefront counts as two warps
    Rule("matrices", (32, 32, 4, 1)),
    Rule("matrices", (32, 64, 4, 1), gated=GATED),
    Rule("walk", (32, 128, 4, 2)),
    Rule("fused", (16, 64, 8, 1)),
    Rule("columns", (64, 64, 4, 2)),
    Rule("rows", (64, 64, 8, 1)),
    Rule("matrices_backward", (32, 32, 4, 1)),
    Rule("walk_backward", (32, 128, 8, 1)),
    Rule("gradients_backward", (32, 64, 8, 1)),
    Rule("gradients_backward", (64, 64, 8, 1), gated=GATED),
    Rule("gradients_backward", (32, 16, 8, 1), across=True),  # their gradients take registers as well
    Rule("step", (32, 64, 4, 1)),
    Rule("matrices", (32, 16, 4, 1), "ampere", gated=GATED),
    Rule("walk", (32, 128, 4, 1), "ampere"),
    Rule("walk_backward", (16, 128, 4, 1), "ampere"),
    Rule("rows", (64, 32, 8, 1), "ampere", several=True),
    Rule("gradients_backward", (32, 32, 8, 1), "ampere", gated=(0,)),
    Rule("gradients_backward", (32, 16, 8, 1), "ampere", gated=(1,)),
    Rule("gradients_backward", (32, 64, 8, 1), "ampere", gated=(2,)),
    Rule("step", (32, 64, 8, 1), "ampere"),
    Rule("walk", (32, 128, 4, 1), "blackwell"),
    Rule("walk_backward", (32, 128, 4, 1), "blackwell"),
    Rule("gradients_backward", (32, 32, 8, 1), "blackwell", gated=(0,)),
    Rule("gradients_backward", (32, 32, 8, 1), "amd"),
    Rule("matrices", (32, 32, 8, 1), long=True),
    Rule("matrices", (32, 32, 8, 1), gated=(1,), long=True),
    Rule("matrices", (32, 16, 8, 1), "blackwell", gated=(0,), long=True),
    Rule("matrices", (32, 16, 8, 1), "ampere", gated=(1,), long=True),
    Rule("matrices", (32, 16, 4, 1), gated=(2,), long=True),
    Rule("columns", (64, 64, 4, 2), long=True),
    Rule("columns", (32, 32, 8, 1), gated=GATED, long=True),
    Rule("rows", (64, 64, 8, 1), long=True),
    Rule("rows", (32, 32, 8, 1), gated=GATED, long=True),
    Rule("rows", (32, 16, 8, 1), "ampere", gated=GATED, long=True),
    Rule("columns", (64, 64, 8, 1), "amd", gated=(0,), long=True),
    Rule("matrices", (32, 16, 8, 2), "ampere", long=True, several=True),
    Rule("columns", (32, 32, 4, 1), several=True),
    Rule("columns", (32, 32, 8, 1), "blackwell", several=True),
    Rule("step", (32, 64, 8, 1), wide=True),
    Rule("step", (16, 64, 8, 1), wide=True, alone=True),
    Rule("walk", (16, 128, 4, 2), wide=True),
    Rule("walk", (16, 128, 4, 1), "ampere", wide=True),
    Rule("walk", (16, 128, 8, 2), several=True, solves=True),
    *(Rule("walk", (16, 128, 8, 1), family, several=True, solves=True) for family in ("ampere", "blackwell", "amd")),
    Rule("gradients_backward", (32, 64, 8, 1), gated=GATED, several=True),
    Rule("gradients_backward", (32, 32, 8, 1), gated=(0,), several=True),
    Rule("walk", (64, 64, 4, 2), makes=True),
    Rule("walk", (32, 64, 4, 1), "ampere", makes=True),
    Rule("walk", (32, 64, 4, 1), "blackwell", makes=True),
)

SINGLE: dict[str, Tiling] = {
    "matrices": (16, 32, 8, 1),
    "walk": (16, 128, 8, 1),
    "fused": (16, 32, 8, 1),
    "columns": (16, 16, 4, 1),
    "rows": (16, 32, 4, 1),
    "matrices_backward": (16, 32, 4, 1),
    "walk_backward": (16, 128, 8, 1),
    "gradients_backward": (16, 16, 4, 1),
    "step": (32, 32, 8, 1),
}
"""In float32."""

FAMILIES = ("ampere", "blackwell", "amd", "any")
"""Of devices, as an emitted module tells them apart; `any` are all others."""


def tilings(stage: StagePlan) -> tuple[str, ...]:
    """Configurations as rows of a module's table, those of a family before those of any, the smallest sizes first.

    A row says up to how many rows of the state and tokens of a chunk it goes.
    """
    return tuple(repr((family, f"{role}{stage.suffix}", *row)) for family, role, *row in _rows(stage))


def _rows(stage: StagePlan) -> Iterator[tuple[str | int, ...]]:
    roles = [role for _, role in _roles(stage.cuts)]
    for family in FAMILIES:
        for role in roles:
            own = {(k, t): tiling(stage, role, family, k, t)[0] for k in KEYS for t in TOKENS}
            default = {at: tiling(stage, role, "any", *at)[0] for at in own}
            if family == "any" or own != default:
                yield from ((family, role, 2, *at, *row) for at, row in _fewest(own).items())
    for role in roles:
        yield "any", role, 4, KEYS[-1], TOKENS[-1], *tiling(stage, role)[1]


def _fewest(own: dict[tuple[int, int], Tiling]) -> dict[tuple[int, int], Tiling]:
    """The same choices by fewer rows: the first that holds a pair of sizes says what is chosen for it."""
    kept = dict(own)
    for at in own:
        fewer = {other: row for other, row in kept.items() if other != at}
        if all(_first(fewer, sizes) == row for sizes, row in own.items()):
            kept = fewer
    return kept


def _first(rows: dict[tuple[int, int], Tiling], sizes: tuple[int, int]) -> Tiling | None:
    """The first row that holds both sizes."""
    return next((row for at, row in rows.items() if sizes[0] <= at[0] and sizes[1] <= at[1]), None)


def _roles(plan: TilePlan) -> Iterator[tuple[TileKernel, str]]:
    """Kernels and what they are configured as."""
    yield from ((k, k.name) for k in plan.forward.kernels)
    yield from ((k, f"{k.name}_backward") for k in plan.backward.kernels)
    yield from ((k, k.name) for k in (plan.step, plan.fused) if k is not None)


def tiling(
    stage: StagePlan, role: str, family: str = "any", keys: int = MOST_FUSED, tokens: int = ROWS[0]
) -> tuple[Tiling, Tiling]:
    """The configuration of a role on a family of devices, for half precision and for float32.

    For states of up to so many rows, and chunks of up to so many tokens.
    """
    kernel = next(k for k, r in _roles(stage.cuts) if r == role)
    tokens = min(tokens * _rank(stage), ROWS[0])
    if role == "fused" and (found := fitting(stage, family, keys, tokens)) is not None:
        return found, SINGLE[role]
    across = any(k.name == "rows" and gated(k) for k in stage.cuts.forward.kernels)
    alone = not any(k.role is Role.INTRA for k in stage.cuts.forward.kernels)
    holds = (
        rule.role == role
        and rule.family in ("", family)
        and gated(kernel) in rule.gated
        and rule.long <= (tokens > TOKENS[0])
        and rule.wide <= (keys > MOST_FUSED)
        and rule.several <= (stage.stage is not None)
        and rule.across <= across
        and rule.alone <= alone
        and rule.solves <= any(isinstance(s.op, Solve) for s in kernel.steps)
        and rule.makes <= expands(kernel)
        for rule in RULES
    )
    found = [rule.tiling for rule, held in zip(RULES, holds, strict=True) if held][-1]
    if role == "walk" and family in AHEAD and keys <= MOST_FUSED and stage.stage is None:
        columns, rows, warps, _ = found
        at = _at(stage, keys, columns, tokens)
        found = found if room(kernel, at) > 32 * warps * AHEAD[family] else (columns, rows, warps, 2)
    return found, SINGLE[role]


def fitting(stage: StagePlan, family: str, keys: int, rows: int) -> Tiling | None:
    """The fastest configuration that a walk with outputs has room for in chunks of so many rows, if there is one.

    Of several states none was seen to have it.
    """
    kernel = stage.cuts.fused
    if kernel is None or keys > MOST_FUSED or stage.stage is not None:
        return None
    limits = ROOM.get(family, ROOM["any"])
    for columns, warps in FUSED:
        at = _at(stage, keys, columns, rows)
        most = limits[columns, warps]
        most = most if rows >= ROWS[0] else min(most, SMALL.get((columns, warps), most))
        if room(kernel, at) <= 32 * warps * most:
            return columns, 64, warps, PIPELINED.get(family, 2)
    return None


def _at(stage: StagePlan, keys: int, columns: int, rows: int) -> TileSizes:
    """A walk's sizes in blocks of so many columns and chunks of so many rows."""
    return TileSizes(_nominal(stage), keys, columns, max(1, rows // _rank(stage)), columns, keys, "wy")


def _nominal(stage: StagePlan) -> dict[str, int]:
    """Every dimension; those that the header leaves open matter where they are no side of the state."""
    return {d.name: d.value or NOMINAL_RANK for d in stage.plan.recurrence.model.dimensions}


def _rank(stage: StagePlan) -> int:
    """The most rows that a token takes in a tile."""
    steps = stage.cuts.fused.steps if stage.cuts.fused is not None else ()
    frames = {lane.frame for s in steps for lane in s.tile.lanes if lane.over_rows}
    return max((power_of_two(frame.value(_nominal(stage))) for frame in frames), default=1)


def gated(kernel: TileKernel) -> int:
    """Whether no, few or many primitives of a kernel have gates over the state's rows: 0, 1 or 2."""
    count = sum(isinstance(s.op, DecayDot | DecayApply) for s in kernel.steps)
    return (count > 0) + (count >= (MANY_BEFORE if kernel.role is Role.INTRA else MANY_GATED))


def chunk_rows(stages: Sequence[StagePlan]) -> tuple[int, int]:
    """The rows of a chunk where the caller leaves it open, padding included, in half precision and in float32."""
    kernels = [k for s in stages for k in (*s.cuts.forward.kernels, *s.cuts.backward.kernels)]
    most = max((max(gated(k), expands(k)) for k in kernels), default=0)
    return ROWS[most], ROWS[-1]


def fused_rows(stages: Sequence[StagePlan], family: str) -> int | None:
    """The same in half precision with outputs made by walks: the most that all have room for; None: there is none."""
    most, _ = chunk_rows(stages)
    fits = (n for n in ROWS if n <= most and all(fitting(s, family, MOST_FUSED, n) for s in stages))
    return next(fits, None)


def expands(kernel: TileKernel) -> bool:
    """Whether a kernel makes vectors of others, which takes registers as gates do."""
    return any(isinstance(s.op, Selected) for s in kernel.steps)
