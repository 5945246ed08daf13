"""Building tile programs: steps are shared where they are equal, products are arranged for tensor cores.

In: tile operations. Out: tiles, and the steps that some of them need, in order. Refuses a product whose operands are no
matrices, as `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from functools import reduce

from flowc.chunk.values import Value
from flowc.schedule.tile_plan import Step
from flowc.schedule.tiles import (
    KEY,
    VALUE,
    Fetch,
    Function,
    Kind,
    Lane,
    Load,
    Masked,
    Number,
    Product,
    Spread,
    Tile,
    TileOp,
    Total,
    Turned,
    tile_operands,
)


class Unsupported(Exception):
    """Something that Triton kernels do not hold; `through` are the values that it is part of, the inner ones first."""

    def __init__(self, message: str) -> None:
        """Say what it is."""
        super().__init__(message)
        self.through: list[Value] = []


def in_order(lanes: Iterable[Lane]) -> tuple[Lane, ...]:
    """Lanes as a tile stores them."""
    return tuple(sorted(set(lanes)))


class TileBuilder:
    """Collects steps."""

    def __init__(self) -> None:
        """Start with none."""
        self.steps: list[Step] = []
        self._known: dict[tuple[TileOp, tuple[Lane, ...]], Tile] = {}
        self.ops: dict[Tile, TileOp] = {}

    def add(self, op: TileOp, lanes: Iterable[Lane], name: str = "", sums: bool = False) -> Tile:
        """The tile of `op`, made once."""
        key = op, in_order(lanes)
        if key in self._known:
            return self._known[key]
        tile = Tile(len(self.steps), name, key[1], sums)
        self.steps.append(Step(tile, op))
        self._known[key] = tile
        self.ops[tile] = op
        return tile

    def function(self, name: str, arguments: tuple[Tile, ...], called: str = "") -> Tile:
        """An elementwise function; an added product becomes its accumulator."""
        lanes = in_order(lane for a in arguments for lane in a.lanes)
        if name == "add":
            for one, other in (arguments, arguments[::-1]):
                op = self.ops[one]
                free = isinstance(op, Product) and op.added is None and not op.turned and op.lane != VALUE
                if isinstance(op, Product) and free and other.lanes == one.lanes:
                    return self.add(replace(op, added=other), lanes, called)
        return self.add(Function(name, arguments), lanes, called)

    def spread(self, tile: Tile, lanes: tuple[Lane, ...]) -> Tile:
        """The tile with all of `lanes`."""
        return tile if tile.lanes == lanes else self.add(Spread(tile), lanes, tile.name)

    def masked(self, tile: Tile, row: Lane, name: str) -> Tile:
        """The tile over rows, 0 past the sequence's end and the state's sizes; a load is so already."""
        lanes = in_order((row, *tile.lanes))
        return tile if self.is_zero_outside(tile) else self.add(Masked(self.spread(tile, lanes)), lanes, name)

    def is_zero_outside(self, tile: Tile) -> bool:
        """Whether the tile is 0 in rows past the sequence's end and past the state's sizes."""
        op = self.ops[tile]
        rows = tile.lane(Kind.ROW) is not None
        return isinstance(op, Masked) or (isinstance(op, Load | Fetch) and rows and not is_per_head(op))

    def turned(self, tile: Tile, kind: Kind) -> Tile:
        """The tile with its rows called columns (`kind` COLUMN) or its columns rows."""
        other = Kind.ROW if kind is Kind.COLUMN else Kind.COLUMN
        if tile.lane(other) is None:
            return tile
        match self.ops[tile]:
            case Turned(argument):
                return argument
        lanes = tuple(replace(lane, kind=kind) if lane.kind is other else lane for lane in tile.lanes)
        return self.add(Turned(tile), lanes, tile.name, tile.sums)

    def totalled(self, tile: Tile, lanes: Iterable[Lane], largest: bool = False) -> Tile:
        """The sum, or the maximum, over lanes."""
        for lane in sorted(set(lanes), reverse=True):
            exchanged = None if largest or lane != VALUE else self.exchanged(tile)
            tile = exchanged or self.add(Total(tile, lane, largest), tuple(x for x in tile.lanes if x != lane))
        return tile

    def exchanged(self, tile: Tile) -> Tile | None:
        """A sum over the state's columns of a product over its rows, x . (l S), as one over its rows, l . (S x).

        So that no program goes through all rows again for every block of columns.
        """
        op = self.ops[tile]
        if not isinstance(op, Function) or op.name != "mul":
            return None
        for one, other in (op.arguments, op.arguments[::-1]):
            if len(other.lanes) != 2 or self.sums_rows(other):
                continue
            terms = self.terms(one)
            sums = [self.sum_of_rows(term, other) for term in terms]
            if any(sums):
                parts = (
                    made or self.totalled(self.spread(self.function("mul", (term, other)), tile.lanes), (VALUE,))
                    for term, made in zip(terms, sums, strict=True)
                )
                return reduce(lambda x, y: self.function("add", (x, y)), parts)
        return None

    def sum_of_rows(self, product: Tile, other: Tile) -> Tile | None:
        """What `exchanged` makes of a product over the state's rows, times numbers and vectors, and another factor."""
        core, factors = self.peeled(product)
        made = self.ops[core]
        if not isinstance(made, Product) or made.lane != KEY or made.added is not None:
            return None
        state, left = sorted((made.left, made.right), key=lambda t: VALUE not in t.lanes)
        if VALUE not in state.lanes or VALUE in left.lanes:
            return None
        scaled = self.scaled(other, tuple(f for f in factors if VALUE in f.lanes))
        total = self.totalled(self.function("mul", (left, self.product(scaled, state, VALUE, ""))), (KEY,))
        for factor in factors:
            total = total if VALUE in factor.lanes else self.function("mul", (factor, total))
        return total

    def terms(self, tile: Tile) -> list[Tile]:
        """What a tile is the sum of."""
        match self.ops[tile]:
            case Function("add", (one, other)):
                return [*self.terms(one), *self.terms(other)]
            case Product(_, _, _, _, Tile() as added) as op:
                return [self.add(replace(op, added=None), tile.lanes), *self.terms(added)]
        core, factors = self.peeled(tile)
        terms = self.terms(core) if factors else [tile]
        return [self.scaled(term, factors) for term in terms] if len(terms) > 1 else [tile]

    def sums_rows(self, tile: Tile) -> bool:
        """Whether a sum over the state's rows went into a tile."""
        return any(isinstance(s.op, Product | Total) and s.op.lane == KEY for s in self.needed((tile,)))

    # -- products -----------------------------------------------------------------------------------------------------

    def product(self, left: Tile, right: Tile, lane: Lane, name: str) -> Tile:
        """The sum of left times right over `lane`.

        Scalars that multiply rows of one operand move out of the product or to the other operand, so that an operand
        that is loaded, then scaled, is taken from memory as it is; that one stands on the left. Where both are
        computed, the left one has few rows: the chunk's or a block of columns, never the state's.
        """
        outer = [tile.lanes for tile in (left, right)]
        if any(len(lanes) != 2 for lanes in outer):
            return self.named(self.totalled(self.function("mul", (left, right)), (lane,)), name)
        if _lanes(left, right, lane) != in_order(_lanes(left, right, lane)):
            left, right = right, left
        lanes = _lanes(left, right, lane)
        if lanes != in_order(lanes):
            raise Unsupported(f"a product over {' and '.join(x.kind.name.lower() for x in lanes)}")
        (first, ours), (second, theirs) = self.peeled(left), self.peeled(right)
        wide = left.lane(Kind.KEY) is not None and lane is not KEY
        if not self.is_loaded(first) and (self.is_loaded(second) or wide):
            second, theirs = (second, theirs) if self.is_loaded(second) else (right, ())
            outside, moved = _divided(theirs, lane)
            out = self.add(Product(second, self.scaled(left, moved), lane, True, None), lanes)
        else:
            first, ours = (first, ours) if self.is_loaded(first) else (left, ())
            second, theirs = (second, theirs) if self.is_loaded(second) else (right, ())
            outside, moved = _divided((*ours, *theirs), lane)
            out = self.add(Product(first, self.scaled(second, moved), lane, False, None), lanes)
        for factor in outside:
            out = self.add(Function("mul", (factor, out)), out.lanes)
        return self.named(out, name)

    def scaled(self, tile: Tile, factors: tuple[Tile, ...]) -> Tile:
        """The tile times vectors along one of its lanes."""
        for factor in factors:
            tile = self.add(Function("mul", (factor, tile)), tile.lanes)
        return tile

    def is_loaded(self, tile: Tile) -> bool:
        """Whether a tile is in memory as it is needed."""
        op = self.ops[tile]
        return isinstance(op, Load | Fetch) or (isinstance(op, Turned) and self.is_loaded(op.argument))

    def peeled(self, tile: Tile) -> tuple[Tile, tuple[Tile, ...]]:
        """What is left of a product of a matrix with numbers and vectors, and those."""
        match self.ops[tile]:
            case Function("mul", (one, other)):
                for factor, rest in ((one, other), (other, one)):
                    if rest.lanes == tile.lanes and set(factor.lanes) < set(tile.lanes):
                        core, factors = self.peeled(rest)
                        return core, (*factors, factor)
                return tile, ()
            case Function("neg", (argument,)):
                core, factors = self.peeled(argument)
                return core, (*factors, self.add(Number(Fraction(-1)), ()))
            case Turned(argument):
                kind = Kind.COLUMN if tile.lane(Kind.COLUMN) is not None else Kind.ROW
                core, factors = self.peeled(argument)
                return self.turned(core, kind), tuple(self.turned(f, kind) for f in factors)
            case Masked(argument):
                core, factors = self.peeled(argument)
                row = core.lane(Kind.ROW)
                if row is None or not self.is_zero_outside(core):
                    return tile, ()
                return core, tuple(self.masked(f, row, f.name) if row in f.lanes else f for f in factors)
            case _:
                return tile, ()

    # -- the end ------------------------------------------------------------------------------------------------------

    def named(self, tile: Tile, name: str) -> Tile:
        """The tile under a name for readers, where it has none yet."""
        known = self.steps[tile.index].tile
        if not name or known.name:
            return known
        self.steps[tile.index] = Step(replace(known, name=name), self.ops[known])
        return self.steps[tile.index].tile

    def latest(self, tile: Tile) -> Tile:
        """The tile under the name that it has by now."""
        return self.steps[tile.index].tile

    def needed(self, tiles: Iterable[Tile]) -> tuple[Step, ...]:
        """The steps that `tiles` need, in order."""
        wanted = set(tiles)
        for step in reversed(self.steps):
            if step.tile in wanted:
                wanted.update(tile_operands(step.op))
        return tuple(s for s in self.steps if s.tile in wanted)

    def computed_products(self, steps: Iterable[Step]) -> bool:
        """Whether a product of matrices has a left operand that is computed."""
        return any(isinstance(s.op, Product) and not self.is_loaded(s.op.left) for s in steps)


def _divided(factors: tuple[Tile, ...], lane: Lane) -> tuple[tuple[Tile, ...], tuple[Tile, ...]]:
    """Factors that leave a product, and those along the lane that is summed over."""
    return tuple(f for f in factors if lane not in f.lanes), tuple(f for f in factors if lane in f.lanes)


def _lanes(left: Tile, right: Tile, lane: Lane) -> tuple[Lane, ...]:
    """The lanes of a product."""
    return tuple(x for t in (left, right) for x in t.lanes if x != lane)


def is_per_head(op: TileOp) -> bool:
    """Whether a load is the same for every token."""
    return isinstance(op, Load) and op.role == "param"
