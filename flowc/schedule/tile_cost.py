"""What kernels of tiles cost, by going through their steps as they are printed.

In: a `TileKernel`, sizes, the length of a chunk. Out: `TileCost`s for one chunk of one head. Flops are those of
products on the matrix units (`tl.dot`), 2 per multiply-add, padding included: tiles are powers of two. Bytes are what
programs read and write of a chunk, entries that are masked not counted; what every program of a block of the state's
columns reads again is counted as often, though it may come from a cache: those go through L2, of `distinct` ones every
address counts once. A number of a vector or a matrix takes `TileSizes.width`, a number per row 4; between kernels,
vectors are in float32. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import assert_never

from flowc.schedule import tiles
from flowc.schedule.loops import Levels, Loop, Part, looped, nested, splits_rows
from flowc.schedule.tile_plan import Step, Store, TileKernel
from flowc.schedule.tiles import KEY, VALUE, Exponents, Kind, Lane, Within
from flowc.semantics.size import Size

LEAST_TILE = 16
"""The fewest entries that a product may sum over."""


@dataclass(frozen=True, slots=True)
class TileCost:
    """Flops of products on the matrix units, bytes read and bytes written, and the distinct ones of a launch.

    Of those `between` are in memory that kernels leave for others. `entries` are operations on entries of tiles, where
    they count: in kernels without products.
    """

    dots: int = 0
    read: int = 0
    written: int = 0
    distinct: int = 0
    entries: int = 0
    between: int = 0

    def __add__(self, other: TileCost) -> TileCost:
        """Both together."""
        return TileCost(*(a + b for a, b in zip(self.numbers, other.numbers, strict=True)))

    def times(self, count: int) -> TileCost:
        """So many of it."""
        return TileCost(*(count * n for n in self.numbers))

    @property
    def numbers(self) -> tuple[int, ...]:
        """All in order."""
        return self.dots, self.read, self.written, self.distinct, self.entries, self.between


@dataclass(frozen=True, slots=True)
class TileSizes:
    """Dimensions by name, the state's two, the tokens of a chunk, columns and rows of a block, how systems are solved.

    `width` is how many bytes a number of a vector or a matrix takes.
    """

    dimensions: Mapping[str, int]
    keys: int
    values: int
    tokens: int
    block: int
    part: int
    aggregation: str
    width: int = 2

    def blocks(self, lane: Lane) -> int:
        """How many blocks the state's rows or columns make."""
        return -(-self.keys // self.part) if lane == KEY else -(-self.values // self.block)

    def frame(self, rows: Size) -> int:
        """The rows of a token, or a size."""
        return rows.value(self.dimensions)

    def rows(self, frame: Size) -> int:
        """The rows of a tile over those of a frame."""
        return tile_length(self.tokens) * power_of_two(self.frame(frame))

    def live(self, lane: Lane) -> int:
        """How many entries there are along a lane, in all blocks together."""
        match lane.kind:
            case Kind.KEY:
                return self.keys
            case Kind.VALUE:
                return self.values
            case Kind.OTHER:
                return self.frame(lane.frame)
        return self.tokens * self.frame(lane.frame)


def tile_length(size: int) -> int:
    """The length of a tile that holds `size` entries."""
    return max(LEAST_TILE, power_of_two(size))


def power_of_two(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


def tile_cost(kernel: TileKernel, at: TileSizes, keep: bool = True) -> TileCost:
    """The cost of a kernel, all blocks of the state together; `keep`: what a backward pass uses of it is stored."""
    own = frozenset({VALUE} if kernel.blocked else ()) | frozenset({KEY} if splits_rows(kernel) else ())
    count = _Counter(at, own | looped(kernel))
    unwritten = 0 if keep else sum(count.stored(s, frozenset()) for s in kernel.stores if s.kept)
    between = count.between(kernel) - unwritten
    found = count.parts(nested(kernel), own)
    written, distinct = found.written - unwritten, count.outside(kernel) + between
    return replace(found, written=written, distinct=distinct, between=between)


def memory(lanes: tuple[Lane, ...], at: TileSizes) -> int:
    """The bytes that a tile takes in memory for a chunk."""
    return _Counter(at, frozenset()).scratch(lanes, frozenset())


@dataclass(frozen=True, slots=True)
class _Counter:
    """Goes through parts that stand `within` blocks of some lanes; lanes in `blocks` are gone through in blocks."""

    at: TileSizes
    blocks: frozenset[Lane]

    def parts(self, parts: Iterable[Part], within: frozenset[Lane]) -> TileCost:
        """The cost of all."""
        return sum((self.part(p, within) for p in parts), TileCost())

    def part(self, part: Part, within: frozenset[Lane]) -> TileCost:
        """The cost of one, in all blocks together."""
        match part:
            case Step():
                return TileCost(self.dots(part, within), self.read(part, within))
            case Store():
                return TileCost(written=self.stored(part, within))
            case Levels():
                gated = sum(self.dots(s, within, part.near) for s in part.steps)
                return TileCost(self.halves(part, within) + gated)
            case Loop():
                inner = within | {part.lane}
                return self.parts((*part.sums, *part.body), inner)
            case _:
                assert_never(part)

    def outside(self, kernel: TileKernel) -> int:
        """The bytes of inputs that a kernel reads and of results that it writes, once."""
        found: dict[tuple[str, str], int] = {}
        for step in kernel.steps:
            if isinstance(step.op, tiles.Load):
                tokens = self.at.tokens if any(lane.over_rows for lane in step.tile.lanes) else 1
                entries = tokens * prod(self.at.frame(size) for size, _ in step.op.stored)
                found[step.op.role, step.op.name] = entries * self.width(step.tile.lanes)
        written = sum(self.stored(s, frozenset()) for s in kernel.stores if not (s.fetched or s.kept))
        return sum(found.values()) + written

    def between(self, kernel: TileKernel) -> int:
        """The bytes of what other kernels left that it reads, and of what it leaves for them, once."""
        found: dict[str, int] = {}
        for step in kernel.steps:
            match step.op:
                case tiles.Fetch(name) | tiles.Solve(name, _, _):
                    found[name] = self.read(step, frozenset())
        return sum(found.values()) + sum(self.stored(s, frozenset()) for s in kernel.stores if s.fetched or s.kept)

    def again(self, lanes: Iterable[Lane], within: frozenset[Lane]) -> int:
        """How often something over some lanes is done: for every block that it is not part of."""
        return prod(self.at.blocks(lane) for lane in within - set(lanes))

    def padded(self, lane: Lane) -> int:
        """The entries of tiles along a lane, in all blocks together."""
        match lane.kind:
            case Kind.KEY:
                return self.at.part * self.at.blocks(KEY) if KEY in self.blocks else tile_length(self.at.keys)
            case Kind.VALUE:
                return self.at.block * self.at.blocks(VALUE)
            case Kind.OTHER:
                return tile_length(self.at.frame(lane.frame))
        return self.at.rows(lane.frame)

    def product(self, lanes: Iterable[Lane], within: frozenset[Lane]) -> int:
        """The flops of a product over some lanes, the one that is summed over with the rest."""
        lanes = tuple(lanes)
        return 2 * prod(self.padded(lane) for lane in lanes) * self.again(lanes, within)

    def bytes(self, lanes: tuple[Lane, ...], within: frozenset[Lane], width: int) -> int:
        """The bytes of a tile that is read or written, of numbers of `width` bytes."""
        return prod(self.at.live(x) for x in lanes) * width * self.again(lanes, within)

    def stored(self, store: Store, within: frozenset[Lane]) -> int:
        """The bytes that a store writes."""
        lanes = store.tile.lanes
        if not store.fetched:
            return self.bytes(lanes, within, self.width(lanes))
        return self.lower(lanes, within) if store.lower else self.scratch(lanes, within)

    def lower(self, lanes: tuple[Lane, ...], within: frozenset[Lane]) -> int:
        """The bytes of a lower triangular matrix: of rows whose token is that of a block of columns, or a later one."""
        row, column = (self.at.frame(lane.frame) for lane in lanes)
        padded, entries = power_of_two(column), 0
        for start in range(0, self.at.tokens * padded, LEAST_TILE):
            own = range(start, min(start + LEAST_TILE, self.at.tokens * padded))
            entries += sum(n % padded < column for n in own) * row * (self.at.tokens - start // padded)
        return entries * self.at.width * self.again(lanes, within)

    def scratch(self, lanes: tuple[Lane, ...], within: frozenset[Lane]) -> int:
        """The bytes of a tile that one kernel leaves for others: matrices are in the type of products."""
        return self.bytes(lanes, within, self.at.width if len(lanes) > 1 else 4)

    def width(self, lanes: tuple[Lane, ...]) -> int:
        """The bytes of a number of an input or a result over some lanes."""
        return self.at.width if len(lanes) > 1 or lanes in ((KEY,), (VALUE,)) else 4

    def read(self, step: Step, within: frozenset[Lane]) -> int:
        """The bytes that a step reads."""
        match step.op:
            case tiles.Load(_, _, stored) if any(isinstance(place, tiles.View) for _, place in stored):
                own = prod(self.at.frame(size) for size, place in stored if place is not tiles.SUB)
                entries = own * prod(self.at.live(lane) for lane in step.tile.lanes if lane.over_rows)
                return entries * self.at.width * self.again(step.tile.lanes, within)
            case tiles.Load():
                return self.bytes(step.tile.lanes, within, self.width(step.tile.lanes))
            case tiles.Fetch(_, lower):
                lanes = step.tile.lanes
                return self.lower(lanes, within) if lower else self.scratch(lanes, within)
            case tiles.Solve():
                rows, again = self.at.live(step.tile.lanes[0]), self.again((), within)
                width = 4 if self.at.aggregation == "signature" else self.at.width
                return _lower_blocks(rows) * width * again
            case _:
                return 0

    def dots(self, step: Step, within: frozenset[Lane], near: bool = False) -> int:
        """The flops of a step's products; `near`: those of gated ones within 16 rows are of 16 rows each."""
        match step.op:
            case tiles.Product(left, right, lane, _, _):
                return self.product((lane, *(x for t in (left, right) for x in t.lanes if x != lane)), within)
            case tiles.Inverse(matrix):
                merged = self.at.aggregation != "signature"
                return _merges(self.at.rows(matrix.lanes[0].frame)) if merged else 0
            case tiles.Solve(_, right, _):
                rows = right.lanes[0]
                if self.at.aggregation != "signature":
                    return self.product((rows, *right.lanes), within)
                blocks = self.padded(rows) // LEAST_TILE
                return blocks * (1 + blocks) * 2 * LEAST_TILE**2 * self.padded(VALUE)
            case tiles.DecayDot(left, right, e):
                return self.gated(e, (*left.lanes, *right.lanes), within, near)
            case tiles.DecayApply(weights, _, e, _):
                return self.gated(e, (*weights.lanes, e.lane), within, near)
            case _:
                return 0

    def gated(self, e: Exponents, lanes: tuple[Lane, ...], within: frozenset[Lane], near: bool) -> int:
        """One product for every level of halving, and one for what rows see of their own token, if it has several."""
        own = 0 if e.single else e.within is not Within.NONE
        tokens = tile_length(self.at.tokens)
        levels, each = tokens.bit_length() - 1, self.product(dict.fromkeys(lanes), within)
        if not near:
            return (levels + own) * each
        first = LEAST_TILE.bit_length() - 1  # the levels of 16 rows
        return first * each * LEAST_TILE // tokens + (levels - first + own) * each

    def halves(self, levels: Levels, within: frozenset[Lane]) -> int:
        """The products of sums over the tokens of halves, in float32; otherwise these are differences of sums."""
        e, tokens = levels.exponents, tile_length(self.at.tokens)
        if self.at.width != 4:
            return 0
        rows = sum(self.at.rows(frame) for frame in {e.rows, e.columns})
        return (tokens.bit_length() - 1) * 2 * rows * tokens * self.padded(e.lane) * self.again((e.lane,), within)


def _merges(rows: int) -> int:
    """The flops of merging the inverses of blocks in pairs, two products for each, from blocks of 16 on."""
    sizes = [LEAST_TILE << n for n in range(rows.bit_length()) if LEAST_TILE << n < rows]
    return sum(rows // (2 * size) * 2 * 2 * size**3 for size in sizes)


def _lower_blocks(rows: int) -> int:
    """The entries of blocks of 16 rows on the diagonal and below it."""
    whole, rest = divmod(rows, LEAST_TILE)
    below = LEAST_TILE * LEAST_TILE * whole * (whole - 1) // 2 + rest * LEAST_TILE * whole
    return below + whole * LEAST_TILE * LEAST_TILE + rest * rest
