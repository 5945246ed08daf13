"""Building tile programs: steps are shared where they are equal, products are arranged for tensor cores.

In: tile operations. Out: tiles, and the steps that some of them need, in order. Refuses a product whose operands are no
matrices, as `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from flowc.schedule.tiles import (
    Function,
    Lane,
    Load,
    Masked,
    Number,
    Product,
    Spread,
    Step,
    Tile,
    TileOp,
    Turned,
    tile_operands,
)


class Unsupported(Exception):
    """Something that Triton kernels cannot do yet; the message names it."""


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
                if isinstance(op, Product) and op.added is None and not op.turned and other.lanes == one.lanes:
                    return self.add(replace(op, added=other), lanes, called)
        return self.add(Function(name, arguments), lanes, called)

    def spread(self, tile: Tile, lanes: tuple[Lane, ...]) -> Tile:
        """The tile with all of `lanes`."""
        return tile if tile.lanes == lanes else self.add(Spread(tile), lanes, tile.name)

    def masked(self, tile: Tile, name: str) -> Tile:
        """The tile, 0 in rows past the sequence's end; a load is so already."""
        return tile if self.is_zero_past_end(tile) else self.add(Masked(tile), (Lane.ROW, *tile.lanes), name)

    def is_zero_past_end(self, tile: Tile) -> bool:
        """Whether the tile is 0 in rows past the sequence's end."""
        op = self.ops[tile]
        return isinstance(op, Masked) or (isinstance(op, Load) and not op.is_param)

    def turned(self, tile: Tile) -> Tile:
        """The tile with its rows called columns."""
        if Lane.ROW not in tile.lanes:
            return tile
        lanes = tuple(Lane.COLUMN if lane is Lane.ROW else lane for lane in tile.lanes)
        return self.add(Turned(tile), lanes, tile.name, tile.sums)

    # -- products -----------------------------------------------------------------------------------------------------

    def product(self, left: Tile, right: Tile, lane: Lane, name: str) -> Tile:
        """The sum of left times right over `lane`.

        Scalars that multiply rows of one operand move out of the product or to the other operand, so that an operand
        that is loaded, then scaled, is taken from memory as it is; that one stands on the left. Where both are
        computed, the left one has few rows: the chunk's or a block of columns, never the state's.
        """
        for tile in (left, right):
            if len(tile.lanes) != 2 or lane not in tile.lanes:
                raise Unsupported("a product with a vector")
        (first, ours), (second, theirs) = self.peeled(left), self.peeled(right)
        lanes = _lanes(left, right, lane)
        wide = Lane.KEY in left.lanes and lane is not Lane.KEY
        if not self.is_loaded(first) and (self.is_loaded(second) or wide):
            second, theirs = (second, theirs) if self.is_loaded(second) else (right, ())
            outer, moved = _divided(theirs, lane)
            out = self.add(Product(second, self.scaled(left, moved), lane, True, None), lanes)
        else:
            first, ours = (first, ours) if self.is_loaded(first) else (left, ())
            second, theirs = (second, theirs) if self.is_loaded(second) else (right, ())
            outer, moved = _divided((*ours, *theirs), lane)
            out = self.add(Product(first, self.scaled(second, moved), lane, False, None), lanes)
        for factor in outer:
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
        return isinstance(op, Load) or (isinstance(op, Turned) and self.is_loaded(op.argument))

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
                core, factors = self.peeled(argument)
                return self.turned(core), tuple(self.turned(f) for f in factors)
            case Masked(argument):
                core, factors = self.peeled(argument)
                if not self.is_zero_past_end(core):
                    return tile, ()
                return core, tuple(self.masked(f, f.name) if Lane.ROW in f.lanes else f for f in factors)
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
    outer = [tile for t in (left, right) for tile in t.lanes if tile is not lane]
    if outer != sorted(set(outer)):
        raise Unsupported(f"a product over {' and '.join(o.name.lower() for o in outer)}")
    return tuple(outer)
