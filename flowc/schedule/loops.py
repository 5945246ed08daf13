"""How a program goes through the state's rows and columns that it does not hold whole: loops over blocks of them.

In: a `TileKernel`. Out: its `Part`s in order. What is summed over rows or columns is accumulated in a loop; what needs
such a sum before it goes through them again comes in a further loop, which makes again what it needs of each block.
A loop over columns stands inside one over rows where its sums are per row. A loop accumulates few tiles, and what can
be made of them is made before the next one begins, so that registers suffice. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from flowc.schedule.plan import Role
from flowc.schedule.tile_plan import Step, Store, TileKernel
from flowc.schedule.tiles import (
    KEY,
    VALUE,
    DecayApply,
    DecayDot,
    Exponents,
    Inverse,
    Lane,
    Product,
    Tile,
    TileOp,
    Total,
    Within,
    tile_operands,
)

MOST_SUMS = 4
"""The matrices that a loop accumulates at once."""

MOST_BEFORE = 2
"""The same in the kernel before the walk, which has an inverse beside them; it reads its vectors again for the next."""

MOST_SQUARE = 1
"""Those of rows by rows in a kernel with gated primitives, whose chunks are short: Triton puts all warps along one side
where a loop has two products, and repeats such a matrix for most of them."""

MOST_GATED = 2
"""The gated primitives that are made at once."""


@dataclass(frozen=True, slots=True)
class Most:
    """The matrices that a loop of a kernel accumulates at once, and those of rows by rows among them."""

    sums: int
    squares: int

    @classmethod
    def of(cls, kernel: TileKernel) -> Most:
        """What a kernel has room for."""
        sums = MOST_BEFORE if kernel.role is Role.INTRA else MOST_SUMS
        gated = any(isinstance(step.op, DecayDot | DecayApply) for step in kernel.steps)
        return cls(sums, MOST_SQUARE if gated else sums)


@dataclass(frozen=True, slots=True)
class Levels:
    """Gated primitives with the same gates between rows, made together level by level; see `templates/triton/support`.

    `exponents` are without what rows see of their own token, which may differ.
    """

    exponents: Exponents
    steps: tuple[Step, ...]

    @property
    def near(self) -> bool:
        """Whether levels of up to 16 rows are made of products of 16 rows each."""
        return self.exponents.single and all(isinstance(s.op, DecayDot) for s in self.steps)


@dataclass(frozen=True, slots=True)
class Loop:
    """What is done for every block along a lane; `sums` are accumulated after it."""

    lane: Lane
    sums: tuple[Step | Levels, ...]
    body: tuple[Part, ...]

    @property
    def nests(self) -> bool:
        """Whether further loops stand in it."""
        return any(isinstance(part, Loop | Levels) for part in (*self.body, *self.sums))


Part = Step | Store | Levels | Loop


def nested(kernel: TileKernel) -> tuple[Part, ...]:
    """The parts of a kernel, in order."""
    return tuple(_Level(kernel.steps, kernel.stores, looped(kernel), frozenset(), Most.of(kernel)).parts())


def looped(kernel: TileKernel) -> frozenset[Lane]:
    """The lanes along which a program of the kernel goes in blocks, one after another.

    The state's rows are held whole in a walk, and where sums over them are per column, which would go through all rows
    for every block of columns, but for results that are so themselves.
    """
    lanes = frozenset() if kernel.blocked or kernel.role is Role.WALK else frozenset({VALUE})
    whole = any(summed(s.op) == KEY and VALUE in s.tile.lanes for s in kernel.steps)
    whole = whole and not any(VALUE in s.tile.lanes for s in kernel.stores)
    return lanes if kernel.role is Role.WALK or (whole and lanes) else lanes | {KEY}


def summed(op: TileOp) -> Lane | None:
    """The lane that an operation sums over."""
    match op:
        case Product() | Total():
            return op.lane
        case DecayDot(_, _, exponents):
            return exponents.lane
        case _:
            return None


def splits_rows(kernel: TileKernel) -> bool:
    """Whether a walk's programs can hold a block of the state's rows each: none needs a sum over them."""
    own = all(KEY in store.tile.lanes for store in kernel.stores)
    return kernel.role is Role.WALK and own and not any(summed(step.op) == KEY for step in kernel.steps)


def sums_columns(op: TileOp) -> bool:
    """Whether an operation sums over the state's columns."""
    return summed(op) == VALUE


class _Level:
    """Steps and stores that stand inside loops along `within`, among loops along further `lanes`."""

    def __init__(
        self,
        steps: tuple[Step, ...],
        stores: tuple[Store, ...],
        lanes: frozenset[Lane],
        within: frozenset[Lane],
        most: Most,
        wanted: frozenset[Tile] = frozenset(),
    ) -> None:
        """Find what each step waits for; `wanted` is what the loop around it takes of it."""
        self.steps, self.stores, self.lanes, self.within, self.wanted = steps, stores, lanes, within, wanted
        self.most = most
        self.known = {s.tile: s for s in steps}
        self.order = {s.tile: at for at, s in enumerate(steps)}
        self.waits: dict[Tile, frozenset[Tile]] = {}  # tiles made by loops or levels here that a step needs
        for step in steps:
            operands = [t for t in tile_operands(step.op) if t in self.known]
            found = [self.waits[t] | ({t} if self.apart(step, self.known[t]) else set()) for t in operands]
            self.waits[step.tile] = frozenset().union(*found)
        self.left = [s for s in steps if self.made(s)]
        self.unstored = list(stores)
        self.there: set[Tile] = set()

    # -- what is where ------------------------------------------------------------------------------------------------

    def outer(self, tile: Tile) -> frozenset[Lane]:
        """The lanes of loops that a tile has yet to be in."""
        return frozenset(tile.lanes) & self.lanes - self.within

    def over(self, step: Step) -> Lane | None:
        """The lane of the loop here that makes a step."""
        lane = summed(step.op)
        return lane if lane in self.lanes - self.within and not self.outer(step.tile) else None

    def leveled(self, step: Step) -> bool:
        """Whether a step is made level by level here."""
        return isinstance(step.op, DecayDot | DecayApply) and not self.over(step) and not self.outer(step.tile)

    def made(self, step: Step) -> bool:
        """Whether a loop or levels here make a step."""
        return self.over(step) is not None or self.leveled(step)

    def apart(self, step: Step, operand: Step) -> bool:
        """Whether an operand is made by a loop or levels before a step's own: a loop goes on with a sum it adds to."""
        alone = self.over(step) is not None and self.over(step) == self.over(operand)
        return self.made(operand) and not (alone and added(step) == operand.tile)

    def ready(self, tile: Tile) -> bool:
        """Whether everything that a tile waits for is there."""
        return self.waits.get(tile, frozenset()) <= self.there

    # -- parts --------------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[Part]:
        """All of it: what waits for nothing is stored first, then loops and levels in turn."""
        if not self.left and not any(self.outer(s.tile) for s in self.stores):
            yield from self.steps
            yield from self.stores
            return
        yield from self.stored()
        while self.left or self.unstored:
            part, made, stores = self.following()
            yield from self.fetched(self.operands(part, made))
            yield part
            self.there.update(s.tile for s in made)
            self.left = [s for s in self.left if s not in made]
            self.unstored = [s for s in self.unstored if s not in stores]
            yield from self.consumed(inverts=False)
            yield from self.consumed(inverts=True)
            yield from self.stored()
        yield from self.fetched(self.wanted)

    def following(self) -> tuple[Part, list[Step], list[Store]]:
        """What comes next, the steps that it makes and its stores: levels, then columns, then rows."""
        ready = [s for s in self.left if self.ready(s.tile)]
        for levels in _levels(s for s in ready if self.leveled(s)):
            return levels, list(levels.steps), []
        for lane in (VALUE, KEY):
            sums = _few([s for s in ready if self.over(s) == lane], self.most)
            stores = [s for s in self.unstored if self.ready(s.tile) and self.outermost(s.tile) == lane]
            early = [s for s in sums if _is_matrix(s.tile) and not self.nests(s, lane)]
            if early and (stores or any(self.nests(s, lane) for s in sums)):
                sums, stores = early, []
            sums = self.begun(sums)
            if sums or stores:
                taken = {t for s in sums for t in tile_operands(s.op)}
                body = tuple(_needed((s for s in self.steps if self.outer(s.tile)), taken | {s.tile for s in stores}))
                inside = _Level(body, tuple(stores), self.lanes, self.within | {lane}, self.most, frozenset(taken))
                inner = tuple(inside.parts())
                plain = [s for s in sums if not isinstance(s.op, DecayDot)]
                gated = _levels(s for s in sums if isinstance(s.op, DecayDot))
                return Loop(lane, (*plain, *gated), inner), sums, stores
        raise AssertionError("something waits for itself")

    def begun(self, sums: list[Step]) -> list[Step]:
        """The sums of a loop without those that go on with one that is not there."""
        found: list[Step] = []
        for step in sums:
            first = added(step)
            made = first in self.known and self.made(self.known[first])
            if not made or first in self.there or first in [f.tile for f in found]:
                found.append(step)
        return found

    def nests(self, step: Step, lane: Lane) -> bool:
        """Whether a sum along a lane takes others, along a further lane, of every block."""
        inside = _needed((s for s in self.steps if self.outer(s.tile)), set(tile_operands(step.op)))
        return any(summed(s.op) in self.lanes - self.within - {lane} for s in inside)

    def outermost(self, tile: Tile) -> Lane | None:
        """The lane of the outermost loop that a tile has yet to be in."""
        lanes = self.outer(tile)
        return None if not lanes else KEY if KEY in lanes else VALUE

    def operands(self, part: Part, made: Iterable[Step]) -> set[Tile]:
        """The tiles from outside that a part reads."""
        found = {t for s in made for t in tile_operands(s.op)}
        match part:
            case Loop():
                for inner in part.body:
                    found |= self.operands(inner, inner.steps if isinstance(inner, Levels) else ())
                for step in part.sums:
                    found |= self.operands(step, ())
            case Levels():
                found |= {t for s in part.steps for t in tile_operands(s.op)}
            case Step():
                found |= set(tile_operands(part.op))
            case Store():
                found.add(part.tile)
        return found

    def fetched(self, tiles: Iterable[Tile]) -> Iterator[Step]:
        """The steps here that some tiles take and that are not there yet."""
        found: dict[Tile, Step] = {}
        waiting = list(tiles)
        while waiting:
            step = self.known.get(waiting.pop())
            if step is None or step.tile in found or step.tile in self.there:
                continue
            if not self.outer(step.tile) and not self.made(step):
                found[step.tile] = step
                waiting.extend(tile_operands(step.op))
        for step in sorted(found.values(), key=lambda s: self.order[s.tile]):
            self.there.add(step.tile)
            yield step

    def consumed(self, inverts: bool) -> Iterator[Step]:
        """What can be made of what is there, where that takes no more room: it is the last to read something.

        An inverse takes the most room of all on the way: it comes when all else is made.
        """
        again = True
        while again:
            again = False
            uses = self.uses()
            for step in self.steps:
                if step.tile in self.there or self.outer(step.tile) or self.made(step):
                    continue
                if not self.waits[step.tile] or not self.ready(step.tile):
                    continue
                last = any(_is_matrix(t) and uses.get(t, 0) == 1 for t in tile_operands(step.op) if t in self.there)
                if (last or not _is_matrix(step.tile)) and (inverts or not isinstance(step.op, Inverse)):
                    yield from self.fetched({step.tile})
                    again = True
                    break

    def uses(self) -> Mapping[Tile, int]:
        """How many steps and stores that are yet to come read each tile."""
        found: dict[Tile, int] = {}
        for step in self.steps:
            if step.tile not in self.there:
                for tile in set(tile_operands(step.op)):
                    found[tile] = found.get(tile, 0) + 1
        for store in self.unstored:
            found[store.tile] = found.get(store.tile, 0) + 1
        return found

    def stored(self) -> Iterator[Part]:
        """The stores here for which everything is there."""
        for store in [s for s in self.unstored if not self.outer(s.tile) and self.ready(s.tile)]:
            if store.tile in self.known and self.made(self.known[store.tile]) and store.tile not in self.there:
                continue
            yield from self.fetched({store.tile})
            yield store
            self.unstored.remove(store)


def _few(sums: list[Step], most: Most) -> list[Step]:
    """The first of some sums that a loop accumulates; one that goes on with another takes no room of its own."""
    found: list[Step] = []
    for step in sums:
        matrices = [s for s in found if _is_matrix(s.tile) and added(s) not in {f.tile for f in found}]
        gated = [s for s in matrices if isinstance(s.op, DecayDot)]
        squares = [s for s in matrices if _is_square(s)]
        full = len(matrices) >= most.sums or (isinstance(step.op, DecayDot) and len(gated) >= MOST_GATED)
        full = full or (_is_square(step) and len(squares) >= most.squares)
        if added(step) in {s.tile for s in found} or not (_is_matrix(step.tile) and full):
            found.append(step)
    return found


def added(step: Step) -> Tile | None:
    """What a product is added to."""
    return step.op.added if isinstance(step.op, Product) else None


def _is_square(step: Step) -> bool:
    """Whether a step is a product of rows by rows."""
    return isinstance(step.op, Product) and len(step.tile.lanes) > 1 and all(x.over_rows for x in step.tile.lanes)


def _is_matrix(tile: Tile) -> bool:
    return len(tile.lanes) > 1


def _levels(steps: Iterable[Step]) -> Iterator[Levels]:
    """Gated primitives by their gates, few at a time."""
    found: dict[Exponents, list[Step]] = {}
    for step in steps:
        assert isinstance(step.op, DecayDot | DecayApply)
        found.setdefault(replace(step.op.exponents, within=Within.NONE, same=None), []).append(step)
    for exponents, made in found.items():
        for first in range(0, len(made), MOST_GATED):
            yield Levels(exponents, tuple(made[first : first + MOST_GATED]))


def _needed(steps: Iterable[Step], wanted: set[Tile]) -> list[Step]:
    """The steps that some tiles take, in order."""
    found = []
    for step in reversed(tuple(steps)):
        if step.tile in wanted:
            found.append(step)
            wanted.update(tile_operands(step.op))
    return found[::-1]
