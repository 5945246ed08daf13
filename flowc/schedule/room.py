"""How much of its tiles a program holds at once, which is what its registers have to hold.

In: a `TileKernel` and sizes. Out: numbers of 32 bits. Tiles are held from where they are made to where they are last
read, loaded ones in their own type, states in float32; what a primitive makes on the way is estimated. Compared with
what ptxas takes for sm_90 (benchmarks/results/static.json) it is within a quarter for kernels of products alone; in
others, beyond what `tilings.ROOM` allows, kernels were seen to spill. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flowc.schedule import tiles
from flowc.schedule.loops import Levels, Loop, Part, nested
from flowc.schedule.plan import Role
from flowc.schedule.tile_cost import TileSizes, tile_length
from flowc.schedule.tile_plan import Step, Store, TileKernel
from flowc.schedule.tiles import Kind, Tile, TileOp, tile_operands

Moment = tuple[tuple[Step, ...], tuple[Tile, ...]]
"""What is made at once, and what is read for it."""


def room(kernel: TileKernel, at: TileSizes) -> int:
    """The most numbers that a program holds."""
    moments = list(_moments(nested(kernel)))
    last = {tile: n for n, (made, read) in enumerate(moments) for tile in (*(s.tile for s in made), *read)}
    if kernel.role is Role.WALK:
        last[kernel.stores[0].tile] = len(moments)
    held: dict[Tile, float] = {}
    most = 0.0
    for n, (made, _) in enumerate(moments):
        held |= {s.tile: _numbers(s.tile, at) * _width(s.op) for s in made}
        most = max(most, sum(held.values()) + sum(_beside(s.op, s.tile, at) for s in made))
        held = {tile: size for tile, size in held.items() if last[tile] > n}
    return round(most)


def _moments(parts: Iterable[Part]) -> Iterator[Moment]:
    """A program in order; what a loop sums up is held through it."""
    for part in parts:
        match part:
            case Step():
                yield (part,), tile_operands(part.op)
            case Store():
                yield (), (part.tile,)
            case Levels():
                yield part.steps, tuple(t for s in part.steps for t in tile_operands(s.op))
            case Loop():
                sums = [s for x in part.sums for s in (x.steps if isinstance(x, Levels) else (x,))]
                yield tuple(sums), ()
                yield from _moments(part.body)
                yield (), tuple(t for s in sums for t in tile_operands(s.op))


def _numbers(tile: Tile, at: TileSizes) -> int:
    """The entries of a tile."""
    count = 1
    for lane in tile.lanes:
        match lane.kind:
            case Kind.KEY:
                count *= at.part
            case Kind.VALUE:
                count *= at.block
            case Kind.OTHER:
                count *= tile_length(at.frame(lane.frame))
            case _:
                count *= at.rows(lane.frame)
    return count


def _width(op: TileOp) -> float:
    """How many numbers of 32 bits an entry takes: sums of gates are pairs."""
    match op:
        case tiles.Fetch() | tiles.Load():
            return 0.5
        case tiles.Split() | tiles.RunningSums() | tiles.SumsBefore():
            return 2.0
        case _:
            return 1.0


def _beside(op: TileOp, tile: Tile, at: TileSizes) -> float:
    """What is held while a step is made: rounded operands, differences of sums, operands with their gates."""
    match op:
        case tiles.Product(left, right):
            return 0.5 * (_numbers(left, at) + _numbers(right, at))
        case tiles.Solve(_, right):
            return 0.5 * (at.rows(right.lanes[0].frame) ** 2 + _numbers(right, at))
        case tiles.DecayMatrix():
            return 2 * _numbers(tile, at)
        case tiles.Inverse():
            return 2 * _numbers(tile, at)
        case tiles.DecayDot(left, right):
            return _numbers(left, at) + _numbers(right, at) + _numbers(tile, at)
        case tiles.DecayApply(weights, vectors):
            return 3 * (_numbers(weights, at) + _numbers(vectors, at) + _numbers(tile, at))
        case _:
            return 0.0
