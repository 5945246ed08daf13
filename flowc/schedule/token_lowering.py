"""Values of a chunk program per token and per head as tiles.

In: a `Program`, and which of its values other kernels store. Out: tiles of a `TileBuilder`. Refuses, as `Unsupported`,
what kernels do not hold: tiles over more than two of rows, the state's rows, its columns and another vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import accumulate, product
from operator import add, mul, neg, sub

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.ir import Op
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Space, Value
from flowc.schedule import tiles
from flowc.schedule.features import Shared, moved, shared
from flowc.schedule.places import single
from flowc.schedule.tile_builder import TileBuilder, Unsupported, in_order
from flowc.schedule.tiles import KEY, SUB, VALUE, Change, Kind, Lane, Place, Tile, View
from flowc.semantics.size import ONE, Size

FUNCTIONS = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "pow", "exp", "log", "expm1", "log1p", "exprel", "sqrt", "rsqrt", "abs"),
        *("sigmoid", "logsigmoid", "softplus", "tanh", "sin", "cos", "relu", "silu", "gelu", "sign", "erf", "step"),
        *("max", "min", "clamp", "where", "lt", "le", "floor_log", "gate_log", "gate_log1p", "above_floor"),
        *("exprel_slope", "inverse_or_zero", "root"),
    )
)
EXACT: Mapping[str, Callable[..., Fraction]] = {"add": add, "sub": sub, "mul": mul, "neg": neg}
Lanes = Mapping[str, Place]  # by the names of a value's axes


class TokenLowering(ABC):
    """What a kernel makes of values per token; its chunk's values are another's."""

    def __init__(
        self,
        program: Program,
        row: Size,
        column: Size,
        fetched: Mapping[Value, str],
        walks: bool,
        single: bool = False,
        lower: frozenset[str] = frozenset(),
    ) -> None:
        """Lower values of `program`; `fetched` are in memory under their names; a walk carries the state itself.

        `lower` are those names of which memory holds the lower blocks.

        `single`: the chunk is one token, so that of rows one per token none sees another.
        """
        self.program, self.fetched, self.walks, self.single = program, fetched, walks, single
        self.lower = lower
        self.sizes = {Kind.KEY: row, Kind.VALUE: column}
        self.build = TileBuilder()
        self.done: dict[tuple[object, ...], Tile] = {}
        self.names = {n.value: n.value.name for n in program.nodes}
        self.exact = False  # log gates: what is loaded of a view is gathered, not rounded to the type of products

    # -- values per token ---------------------------------------------------------------------------------------------

    def token(self, value: Value, frame: Size, lanes: Lanes) -> Tile:
        """A value per token or head at every row of a frame; `lanes` says what runs over its axes."""
        over = {a.name: lanes.get(a.name, "missing") for a in value.axes}
        if "missing" in over.values():
            raise Unsupported("vectors over another axis than the state's")
        key = value, frame, tuple(over.items()), self.exact
        if key not in self.done:
            own = {a.name: lanes[a.name] for a in value.axes}
            made = self.per_token(value, self.program.defined[value], frame, own)
            self.done[key] = self.build.named(made, self.names[value])
        return self.done[key]

    def per_token(self, value: Value, op: Op, frame: Size, lanes: Lanes) -> Tile:
        """The tile of an operation per token or head."""
        build = self.build
        row = (Lane(Kind.ROW, frame),)
        match op:
            case ir.Argument(name, role):
                stored = tuple((a.size, lanes[a.name]) for a in value.axes)
                return self.load(name, role, stored, row)
            case ir.Element(source, index):
                first, *rest = source.axes
                defined = self.program.defined[source]
                if not isinstance(defined, ir.Argument):
                    raise Unsupported("an element of a list that is computed")
                inner = tuple((a.size, lanes[a.name]) for a in rest)
                return self.load(defined.name, defined.role, ((first.size, index), *inner), row)
            case ir.Literal(number):
                return build.add(tiles.Number(number), ())
            case ir.Extent(size):
                return build.add(tiles.Extent(size), ())
            case ir.Head(count):
                return build.add(tiles.HeadNumber(count), ())
            case ir.Index(axis) if lanes[axis.name] is SUB:
                return build.add(tiles.Number(Fraction(0)), ()) if frame == ONE else build.add(tiles.SubNumber(), row)
            case ir.Apply(function, arguments):
                return self.applied(function, [self.token(a, frame, lanes) for a in arguments])
            case ir.Spread(argument, _):
                return self.token(argument, frame, lanes)
            case ir.Rename(argument, old, new):
                return self.token(argument, frame, {**lanes, old: lanes[new]})
            case ir.Relabel(argument, names):
                return self.token(
                    argument, frame, {a.name: lanes[n] for a, n in zip(argument.axes, names, strict=True)}
                )
            case ir.Sum(argument, axes):
                gathered = shared(self.program, argument, axes, lanes)
                if gathered is not None:
                    return self.gathered(argument, gathered, frame, lanes)
                return build.totalled(*self.whole(argument, axes, frame, lanes))
            case ir.Largest(argument, axis):
                return build.totalled(*self.whole(argument, (axis,), frame, lanes), largest=True)
            case ir.Join() | ir.Flatten() | ir.Cut() | ir.Unflatten():
                return self.feature(op, frame, lanes)
            case ir.FromRows(argument, space, part, axis):
                own = None if axis is None else KEY if axis.name == "k" else VALUE
                place = None if own is None else lanes["x"]
                if place == own:
                    return self.from_rows(argument, space, part, frame)
                if own is None or not isinstance(place, View) or place.lane.kind is not Kind.OTHER:
                    raise Unsupported("the state's rows and columns as one axis")
                tile = self.from_rows(argument, space, part, frame)
                return self.selected(tile, place, own, place.lane)
            case _:
                raise Unsupported(f"the operation {type(op).__name__}")

    # -- vectors that are made of others ------------------------------------------------------------------------------

    def feature(self, op: ir.Join | ir.Flatten | ir.Cut | ir.Unflatten, frame: Size, lanes: Lanes) -> Tile:
        """Entries of a vector that is made of others, or of one that others are made of."""
        match op:
            case ir.Join(parts, inner, axis):
                place = lanes[axis.name]
                if not isinstance(place, Lane | View):
                    raise Unsupported("a list that is computed")
                starts = list(accumulate((a.size for a in inner), initial=Size.of(0)))
                own = {n: x for n, x in lanes.items() if n != axis.name}
                found = [
                    self.token(part, frame, {**own, a.name: View(place, Change.LESS, start)})
                    for part, a, start in zip(parts, inner, starts, strict=False)
                ]
                return self.joined(tuple(found), place, tuple(starts[1:-1]))
            case ir.Flatten(argument, (outer, fast), axis):
                over, within = (self.viewed(lanes[axis.name], c, fast.size) for c in (Change.OVER, Change.WITHIN))
                return self.token(argument, frame, {**lanes, outer.name: over, fast.name: within})
            case ir.Cut(argument, axis, start, inner):
                return self.token(
                    argument, frame, {**lanes, axis.name: self.viewed(lanes[inner.name], Change.ADD, start)}
                )
            case ir.Unflatten(argument, (outer, fast), axis):
                base = moved(lanes[outer.name], lanes[fast.name], fast.size)
                if base is None:
                    raise Unsupported("a vector over pairs in other places than the state's rows or columns")
                return self.token(argument, frame, {**lanes, axis.name: base})

    def viewed(self, place: Place, change: Change, size: Size) -> Lane | View:
        """A place with a changed index; what is taken from it and added again is one change, or none."""
        if not isinstance(place, Lane | View):
            raise Unsupported("a list that is computed")
        if change is Change.ADD and isinstance(place, View) and place.change is Change.LESS:
            rest = place.size - size
            return View(place.base, Change.LESS, rest) if rest != Size.of(0) else place.base
        return View(place, change, size)

    def joined(self, parts: tuple[Tile, ...], place: Lane | View, ends: tuple[Size, ...]) -> Tile:
        """Parts one after another."""
        lanes = in_order((place.lane, *(x for t in parts for x in t.lanes)))
        return self.build.add(tiles.Joined(parts, place, ends), self.flat(lanes))

    def gathered(self, value: Value, found: Shared, frame: Size, lanes: Lanes) -> Tile:
        """A sum over one of two factors that a vector's entries are pairs of, by going through that vector."""
        lane = self.lane_of(found.size)
        at = lane if found.start == Size.of(0) else View(lane, Change.LESS, found.start)
        over, within = (View(at, c, found.fast) for c in (Change.OVER, Change.WITHIN))
        places = (over, within) if found.outer_summed else (within, over)
        tile = self.token(value, frame, {**lanes, found.summed: places[0], found.kept: places[1]})
        nothing = self.build.add(tiles.Number(Fraction(0)), ())
        only = self.joined((nothing, tile, nothing), lane, (found.start, found.start + found.count))
        other = lanes[found.kept]
        assert isinstance(other, Lane)
        return self.selected(self.build.spread(only, in_order((Lane(Kind.ROW, frame), lane))), places[1], lane, other)

    def lane_of(self, size: Size) -> Lane:
        """The lane of the state's rows, or columns, that has a size."""
        for lane in (KEY, VALUE):
            if self.sizes[lane.kind] == size:
                return lane
        raise Unsupported("pairs over another axis than the state's")

    def selected(self, tile: Tile, view: View, lane: Lane, other: Lane) -> Tile:
        """A tile over `lane` as one over `other`: entries go where `view` says, or (a view of `other`) come from."""
        return self.build.product(tile, self.build.add(tiles.Selected(view), (lane, other)), lane, "")

    def flat(self, lanes: tuple[Lane, ...]) -> tuple[Lane, ...]:
        """The lanes, of which there are two at most where one is of another vector than the state's."""
        if len(lanes) > 2 and any(x.kind is Kind.OTHER for x in lanes):
            raise Unsupported("a vector over another axis than the state's for each of its rows or columns")
        return lanes

    def load(self, name: str, role: str, stored: tuple[tuple[Size, Place], ...], row: tuple[Lane]) -> Tile:
        """An argument; each axis is as long as the lane that runs over it.

        A view is made of the vector by a product with 0 and 1, which takes fewer registers than an address per entry.
        """
        view, entries = next(((p, size) for size, p in stored if isinstance(p, View)), (None, ONE))
        alone = (
            view is not None and view.lane.kind is not Kind.OTHER and not any(isinstance(p, Lane) for _, p in stored)
        )
        if view is not None and alone and not self.exact:
            other = Lane(Kind.OTHER, entries)
            whole = tuple((size, other if p is view else p) for size, p in stored)
            return self.selected(self.load(name, role, whole, row), view, other, view.lane)
        found: list[Lane] = [] if role == "param" else list(row)
        for size, place in stored:
            match place:
                case Lane(kind, frame):
                    if size != (frame if kind is Kind.OTHER else self.sizes[kind]):
                        raise Unsupported("inputs over another axis than the state's")
                    found.append(place)
                case View():
                    found.append(place.lane)
                case None:
                    found = list(row) + [x for x in found if not x.over_rows]
        return self.build.add(tiles.Load(name, role, stored), self.flat(in_order(found)))

    def whole(self, value: Value, axes: tuple[Axis, ...], frame: Size, lanes: Lanes) -> tuple[Tile, tuple[Lane, ...]]:
        """An operand with axes that are summed over, and their lanes: the state's rows or columns."""
        refused = Unsupported("a sum over another axis than the state's")
        taken = {x.lane for x in lanes.values() if isinstance(x, Lane | View)}
        choices = [
            [x for x in (KEY, VALUE) if self.sizes[x.kind] == a.size and x not in taken]
            + [Lane(Kind.OTHER, a.size)] * (not any(x.kind is Kind.OTHER for x in taken))
            for a in axes
        ]
        for over in product(*choices):
            if len(set(over)) < len(over):
                continue
            try:
                tile = self.token(value, frame, {**lanes, **dict(zip((a.name for a in axes), over, strict=True))})
            except Unsupported as reason:
                refused = reason
                continue
            own = (Lane(Kind.ROW, frame),) if value.level is not Level.HEAD else ()
            try:
                wide = self.flat(in_order((*tile.lanes, *own, *over)))
            except Unsupported as reason:
                refused = reason
                continue
            return self.build.spread(tile, wide), over
        raise refused

    def unsummed(self, value: Value, frame: Size, lanes: Lanes) -> Tile:
        """A result per token; of one per head that is linear in sums over tokens, what every token gives to it."""
        op = self.program.defined[value]
        match op:
            case ir.SumTokens(argument):
                return self.token(argument, frame, lanes)
            case ir.Relabel(argument, names) if value.level is Level.HEAD:
                return self.unsummed(
                    argument, frame, {a.name: lanes[n] for a, n in zip(argument.axes, names, strict=True)}
                )
            case ir.Apply(("add" | "neg") as function, arguments) if value.level is Level.HEAD:
                return self.applied(function, [self.unsummed(a, frame, lanes) for a in arguments])
            case ir.Apply("mul", (one, other)) if value.level is Level.HEAD:
                sums = [self.is_summed(v) for v in (one, other)]
                if sums == [True, True]:
                    raise Unsupported("a product of sums over tokens")
                parts = [
                    self.unsummed(v, frame, lanes) if s else self.token(v, frame, lanes)
                    for v, s in zip((one, other), sums, strict=True)
                ]
                return self.applied("mul", parts)
            case _ if value.level is Level.HEAD and self.is_summed(value):
                raise Unsupported(f"the operation {type(op).__name__} on a sum over tokens")
            case _:
                return self.token(value, frame, lanes)

    def is_summed(self, value: Value) -> bool:
        """Whether a sum over tokens went into a value."""
        op = self.program.defined[value]
        return isinstance(op, ir.SumTokens) or any(self.is_summed(v) for v in ir.operands(op) if v.level is Level.HEAD)

    def from_rows(self, argument: Value, space: Space, part: int, frame: Size) -> Tile:
        """Rows back per token."""
        op = self.program.defined[argument]
        if isinstance(op, ir.GateSumsAdjoint):
            if frame != ONE:
                raise Unsupported("a gate's gradient at every row")
            return self.gate_gradient(op, part)
        single(space)
        if space.per_token != frame:
            raise Unsupported("rows of several numbers per token together")
        return self.chunk(argument)

    @abstractmethod
    def chunk(self, value: Value) -> Tile:
        """A chunk's value."""

    @abstractmethod
    def gate_gradient(self, op: ir.GateSumsAdjoint, gate: int) -> Tile:
        """The gradient of a step's log gate."""

    def applied(self, function: str, found: list[Tile]) -> Tile:
        """An elementwise function of tiles; exact numbers are computed here."""
        if function not in FUNCTIONS:
            raise Unsupported(f"the function {function}")
        ops = [self.build.ops[t] for t in found]
        if function in EXACT and all(isinstance(op, tiles.Number) for op in ops):
            values = [op.value for op in ops if isinstance(op, tiles.Number)]
            return self.build.add(tiles.Number(EXACT[function](*values)), ())
        self.flat(in_order(x for t in found for x in t.lanes))
        return self.build.function(function, tuple(found))
