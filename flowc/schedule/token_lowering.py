"""Values of a chunk program per token and per head as tiles.

In: a `Program`, and which of its values other kernels store. Out: tiles of a `TileBuilder`. Refuses, as `Unsupported`,
what kernels do not hold: vectors over anything but the state's rows and columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import product
from operator import add, mul, neg, sub

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.ir import Op
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Space, Value
from flowc.schedule import tiles
from flowc.schedule.places import single
from flowc.schedule.tile_builder import TileBuilder, Unsupported, in_order
from flowc.schedule.tiles import KEY, SUB, VALUE, Kind, Lane, Tile
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
Lanes = Mapping[str, Lane | None]  # by the names of a value's axes


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
    ) -> None:
        """Lower values of `program`; `fetched` are in memory under their names; a walk carries the state itself.

        `single`: the chunk is one token, so that of rows one per token none sees another.
        """
        self.program, self.fetched, self.walks, self.single = program, fetched, walks, single
        self.sizes = {Kind.KEY: row, Kind.VALUE: column}
        self.build = TileBuilder()
        self.done: dict[tuple[object, ...], Tile] = {}
        self.names = {n.value: n.value.name for n in program.nodes}

    # -- values per token ---------------------------------------------------------------------------------------------

    def token(self, value: Value, frame: Size, lanes: Lanes) -> Tile:
        """A value per token or head at every row of a frame; `lanes` says what runs over its axes."""
        over = {a.name: lanes.get(a.name, "missing") for a in value.axes}
        if "missing" in over.values():
            raise Unsupported("vectors over another axis than the state's")
        key = value, frame, tuple(over.items())
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
                return build.totalled(*self.whole(argument, axes, frame, lanes))
            case ir.Largest(argument, axis):
                return build.totalled(*self.whole(argument, (axis,), frame, lanes), largest=True)
            case ir.FromRows(argument, space, part, axis):
                if axis is not None and lanes["x"] != (KEY if axis.name == "k" else VALUE):
                    raise Unsupported("the state's rows and columns as one axis")
                return self.from_rows(argument, space, part, frame)
            case _:
                raise Unsupported(f"the operation {type(op).__name__}")

    def load(self, name: str, role: str, stored: tuple[tuple[Size, Lane | int | None], ...], row: tuple[Lane]) -> Tile:
        """An argument; each axis is as long as the lane that runs over it."""
        found: list[Lane] = [] if role == "param" else list(row)
        for size, lane in stored:
            if isinstance(lane, Lane):
                if size != self.sizes[lane.kind]:
                    raise Unsupported("inputs over another axis than the state's")
                found.append(lane)
            elif lane is SUB:
                found = list(row) + [x for x in found if not x.over_rows]
        return self.build.add(tiles.Load(name, role, stored), found)

    def whole(self, value: Value, axes: tuple[Axis, ...], frame: Size, lanes: Lanes) -> tuple[Tile, tuple[Lane, ...]]:
        """An operand with axes that are summed over, and their lanes: the state's rows or columns."""
        refused = Unsupported("a sum over another axis than the state's")
        choices = [[x for x in (KEY, VALUE) if self.sizes[x.kind] == a.size and x not in lanes.values()] for a in axes]
        for over in product(*choices):
            if len(set(over)) < len(over):
                continue
            try:
                tile = self.token(value, frame, {**lanes, **dict(zip((a.name for a in axes), over, strict=True))})
            except Unsupported as reason:
                refused = reason
                continue
            own = (Lane(Kind.ROW, frame),) if value.level is not Level.HEAD else ()
            return self.build.spread(tile, in_order((*tile.lanes, *own, *over))), over
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
        return self.build.function(function, tuple(found))
