"""What kernels of tiles cost, by going through their steps as they are printed.

In: a `TileKernel`, sizes, the length of a chunk. Out: `TileCost`s for one chunk of one head. Flops are those of
products on the matrix units (`tl.dot`), 2 per multiply-add, padding included: tiles are powers of two. Bytes are what
programs read and write of a chunk, entries that are masked not counted; what every program of a block of the state's
columns reads again is counted as often, though it may come from a cache. A number of a vector or a matrix takes
`TileSizes.width`, a number per row 4. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from flowc.schedule import tiles
from flowc.schedule.loops import loops
from flowc.schedule.tile_plan import Step, Store, TileKernel
from flowc.schedule.tiles import KEY, VALUE, Kind, Lane, Tile, Within
from flowc.semantics.size import Size

LEAST_TILE = 16
"""The fewest entries that a product may sum over."""


@dataclass(frozen=True, slots=True)
class TileCost:
    """Flops of products on the matrix units, bytes read and bytes written."""

    dots: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: TileCost) -> TileCost:
        """Both together."""
        return TileCost(self.dots + other.dots, self.read + other.read, self.written + other.written)

    def times(self, count: int) -> TileCost:
        """So many of it."""
        return TileCost(self.dots * count, self.read * count, self.written * count)


@dataclass(frozen=True, slots=True)
class TileSizes:
    """Dimensions by name, the state's two, the tokens of a chunk, the columns of a block, how systems are solved.

    `width` is how many bytes a number of a vector or a matrix takes.
    """

    dimensions: Mapping[str, int]
    keys: int
    values: int
    tokens: int
    block: int
    aggregation: str
    width: int = 2

    @property
    def blocks(self) -> int:
        """How many blocks the state's columns make."""
        return -(-self.values // self.block)

    def frame(self, rows: Size) -> int:
        """The rows of a token."""
        return rows.value(self.dimensions)

    def padded(self, lane: Lane) -> int:
        """The entries of a tile along a lane."""
        match lane.kind:
            case Kind.KEY:
                return tile_length(self.keys)
            case Kind.VALUE:
                return self.block
        return tile_length(self.tokens) * power_of_two(self.frame(lane.frame))

    def live(self, lane: Lane) -> int:
        """How many of them there are, in all blocks of the state's columns together."""
        match lane.kind:
            case Kind.KEY:
                return self.keys
            case Kind.VALUE:
                return self.values
        return self.tokens * self.frame(lane.frame)


def tile_length(size: int) -> int:
    """The length of a tile that holds `size` entries."""
    return max(LEAST_TILE, power_of_two(size))


def power_of_two(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


def tile_cost(kernel: TileKernel, at: TileSizes) -> TileCost:
    """The cost of a kernel, all blocks of the state's columns together."""
    total = TileCost()
    for steps, stores, every_block in _runs(kernel):
        count = at.blocks if every_block else 1
        for step in steps:
            total = total + TileCost(_dots(step, at) * count, _read(step, at, count))
        total = total + TileCost(written=sum(_bytes(s.tile.lanes, at, count) for s in stores))
    return total


def _runs(kernel: TileKernel) -> Iterator[tuple[Iterable[Step], Iterable[Store], bool]]:
    """Steps and stores that run together, and whether they do so for every block of the state's columns."""
    if kernel.blocked:
        yield kernel.steps, kernel.stores, True
        return
    for loop in loops(kernel):
        yield loop.before, loop.after, False
        yield (*loop.body, *loop.sums), loop.stores, True


def _bytes(lanes: tuple[Lane, ...], at: TileSizes, count: int) -> int:
    """The bytes of a tile that is read or written for each of `count` blocks."""
    width = at.width if len(lanes) > 1 or lanes in ((KEY,), (VALUE,)) else 4
    return prod(at.live(x) for x in lanes) * width * (1 if VALUE in lanes else count)


def _read(step: Step, at: TileSizes, count: int) -> int:
    match step.op:
        case tiles.Load() | tiles.Fetch():
            return _bytes(step.tile.lanes, at, count)
        case tiles.Solve():
            rows = at.live(step.tile.lanes[0])
            return (
                _read_by_substitution(rows) * 4 * count
                if at.aggregation == "signature"
                else rows * rows * at.width * count
            )
        case _:
            return 0


def _read_by_substitution(rows: int) -> int:
    """Blocks on the diagonal and below it."""
    whole, rest = divmod(rows, LEAST_TILE)
    below = LEAST_TILE * LEAST_TILE * whole * (whole - 1) // 2 + rest * LEAST_TILE * whole
    return below + whole * LEAST_TILE * LEAST_TILE + rest * rest


def _dots(step: Step, at: TileSizes) -> int:
    """The flops of a step's products for one block of the state's columns."""

    def product(*lanes: Lane) -> int:
        return 2 * prod(at.padded(lane) for lane in lanes)

    match step.op:
        case tiles.Product(left, right, lane, _, _):
            return product(lane, *(x for t in (left, right) for x in t.lanes if x != lane))
        case tiles.Inverse(matrix):
            rows = at.padded(matrix.lanes[0])
            first = {"wy": LEAST_TILE, "tensorinv": 1, "signature": rows}[at.aggregation]
            return 2 * (rows // first - 1).bit_length() * 2 * rows**3
        case tiles.Solve(_, right, _):
            row = right.lanes[0]
            if at.aggregation != "signature":
                return product(row, *right.lanes)
            blocks = at.padded(row) // LEAST_TILE
            return blocks * (1 + blocks) * 2 * LEAST_TILE**2 * at.padded(VALUE)
        case tiles.DecayDot(left, right, e):
            return _gated(left, right, KEY, e, at)
        case tiles.DecayApply(weights, _, e, _):
            return _gated(weights, None, KEY, e, at)
        case _:
            return 0


def _gated(left: Tile, right: Tile | None, key: Lane, e: tiles.Exponents, at: TileSizes) -> int:
    """One product for every level of halving, and one for what a row sees of its own token."""
    levels = tile_length(at.tokens).bit_length() - 1 + (e.within is not Within.NONE)
    rows = [x for t in (left, right) if t is not None for x in t.lanes if x.over_rows]
    return levels * 2 * prod(at.padded(lane) for lane in (*rows, key))
