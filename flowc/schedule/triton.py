"""Cutting a forward pass into Triton kernels.

In: a `Plan`. Out: a `TilePlan`: a walk over chunks that carries the state and stores it at every chunk's start, and an
output kernel over all chunks at once; each computes again what it needs of the prelude. Refuses, as `Missing` with
every reason, what has no kernels yet: systems of reads, gates over vectors, several rows per token, and what is not
elementwise before and after.
"""

from __future__ import annotations

from fractions import Fraction

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.ir import Op
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Mask, Position, Space, Value, Where
from flowc.schedule import tiles
from flowc.schedule.plan import Plan, Role
from flowc.schedule.tile_builder import TileBuilder, Unsupported
from flowc.schedule.tiles import Lane, Missing, Tile, TileKernel, TilePlan, Tiling
from flowc.semantics.size import Size

FUNCTIONS = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "pow", "exp", "log", "expm1", "log1p", "exprel", "sqrt", "rsqrt", "abs"),
        *("sigmoid", "logsigmoid", "softplus", "tanh", "sin", "cos", "relu", "silu", "gelu", "sign", "erf", "step"),
        *("max", "min", "clamp", "where", "lt", "le", "floor_log", "gate_log", "gate_log1p"),
    )
)
GATE = "gate"
MOST_KEYS = 256
MOST_ROWS = 256
# Configurations that spill no register on sm_90 (tests/triton): 16-bit operands on tensor cores with chunks near 64
# tokens; float32 ones as sums of products, whose output kernel spills from 128 rows of a state on.
TOKENS = ((2, 64), (4, 16))
SINGLE = Tiling(4, MOST_ROWS, MOST_KEYS, 16, 8, 1)
TILINGS = {
    Role.WALK: (Tiling(2, MOST_ROWS, MOST_KEYS, 32, 4, 2), SINGLE),
    Role.OUTPUT: (Tiling(2, MOST_ROWS, 128, 64, 4, 2), Tiling(2, MOST_ROWS, MOST_KEYS, 64, 8, 2), SINGLE),
}
# Kernels that hold more than queries, keys and values need more registers.
CROWDED = (Tiling(2, MOST_ROWS, 64, 64, 4, 2), Tiling(2, MOST_ROWS, MOST_KEYS, 64, 8, 2), SINGLE)
# Where a left operand is computed: fewer than 64 rows of every product, or two warps, so that none is a warp group's,
# which may go wrong with its left operand in registers (design/performance.md).
COMPUTED_TOKENS = ((2, 32), (4, 16))
COMPUTED = (
    Tiling(2, 32, 128, 32, 4, 1),
    Tiling(2, 32, MOST_KEYS, 32, 8, 1),
    Tiling(2, MOST_ROWS, MOST_KEYS, 16, 2, 1),
    SINGLE,
)


def cut(plan: Plan) -> TilePlan | Missing:
    """The kernels of a plan's forward pass, or why there are none."""
    program = plan.forward.program
    reasons = tuple(dict.fromkeys(r for n in program.nodes for r in _refused(n.op)))
    if reasons:
        return Missing(reasons)
    row, column = plan.recurrence.row.size, plan.recurrence.column.size
    try:
        walk = _Lowering(program, row, column)
        state = walk.tile(program.carry[1], (Lane.KEY, Lane.VALUE))
        output = _Lowering(program, row, column)
        results = tuple((name, output.result(value)) for name, value in program.results)
        kernels = walk.kernel(Role.WALK, (("state", state),)), output.kernel(Role.OUTPUT, results)
        tokens = COMPUTED_TOKENS if any(k.tilings[0].rows < MOST_ROWS for k in kernels) else TOKENS
        return TilePlan(*kernels, tokens, MOST_KEYS)
    except Unsupported as reason:
        return Missing((str(reason),))


def _refused(op: Op) -> tuple[str, ...]:
    """What of an operation no kernel does, in words."""
    match op:
        case ir.Solve() | ir.Inverse():
            return ("a triangular system (reads of the state)",)
        case ir.DecayDot() | ir.DecayApply():
            return ("gates over the state's rows (a vector gate)",)
        case ir.ToRows(_, space, _) | ir.FromRows(_, space, _, _):
            several = len(space.parts) > 1 and space.name != GATE
            ranked = any(p.count is not None or p.rank is not None for p in space.parts)
            return ("several rows per token (a rank, a repeat or two writes)",) if several or ranked else ()
        case ir.Join() | ir.Cut() | ir.Flatten() | ir.Unflatten():
            return ("concat and kron",)
        case ir.Element():
            return ("inputs that are lists",)
        case ir.Index():
            return ("the index of a repeat",)
        case ir.Apply(function, _) if function not in FUNCTIONS:
            return (f"the function {function}",)
        case _:
            return ()


class _Lowering:
    """One kernel's values as tiles, from its results backwards."""

    def __init__(self, program: Program, row: Size, column: Size) -> None:
        self.program, self.row, self.column = program, row, column
        self.build = TileBuilder()
        self.done: dict[tuple[Value, tuple[Lane, ...]], Tile] = {}
        self.gates: tuple[Tile, ...] = ()
        self.names = {n.value: n.value.name for n in program.nodes}

    def kernel(self, role: Role, results: tuple[tuple[str, Tile], ...]) -> TileKernel:
        """The kernel that makes `results`."""
        steps = self.build.needed(tile for _, tile in results)
        held = sum(isinstance(s.op, tiles.Load) and len(s.tile.lanes) == 2 for s in steps)
        products = sum(isinstance(s.op, tiles.Product) for s in steps)
        crowded = max(held, products) > 3 or any(isinstance(s.op, tiles.Total) for s in steps)
        if self.build.computed_products(steps):
            return TileKernel(role, steps, results, COMPUTED[1:] if crowded else COMPUTED)
        return TileKernel(role, steps, results, CROWDED if crowded and role is Role.OUTPUT else TILINGS[role])

    def result(self, value: Value) -> Tile:
        """An output: per token, over the state's columns."""
        if value.level is not Level.TOKEN or [a.size for a in value.axes] != [self.column]:
            raise Unsupported("an output that is no vector over the state's columns")
        return self.build.spread(self.tile(value, (Lane.VALUE,)), (Lane.ROW, Lane.VALUE))

    # -- lanes --------------------------------------------------------------------------------------------------------

    def chunk_lanes(self, value: Value) -> tuple[Lane, ...]:
        """The lanes of a chunk's value, by the names of its axes."""
        known = {"k": Lane.KEY, "v": Lane.VALUE}
        return tuple(known.get(a.name, Lane.COLUMN if a.name.endswith("'") else Lane.ROW) for a in value.axes)

    def operand(self, value: Value, lanes: dict[str, Lane]) -> Tile:
        """An operand whose axes are its user's, by name."""
        if value.level is Level.CHUNK:
            return self.tile(value, self.chunk_lanes(value))
        return self.tile(value, tuple(lanes[a.name] for a in value.axes))

    def whole(self, value: Value, axes: tuple[Axis, ...], lanes: dict[str, Lane]) -> Tile:
        """An operand that is summed over axes: those have to be whole, which the state's rows are."""
        if any(a.size != self.row for a in axes):
            raise Unsupported("a sum over another axis than the state's rows")
        tile = self.operand(value, {**lanes, **{a.name: Lane.KEY for a in axes}})
        own = (Lane.ROW,) if value.level is not Level.HEAD else ()
        return self.build.spread(tile, tuple(sorted({*tile.lanes, *own, Lane.KEY})))

    # -- values -------------------------------------------------------------------------------------------------------

    def tile(self, value: Value, lanes: tuple[Lane, ...]) -> Tile:
        """A value, `lanes` saying what its axes are in this kernel; rows come with its level."""
        if (value, lanes) not in self.done:
            named = dict(zip((a.name for a in value.axes), lanes, strict=True))
            made = self.lowered(value, self.program.defined[value], named)
            self.done[value, lanes] = self.build.named(made, self.names[value])
        return self.done[value, lanes]

    def lowered(self, value: Value, op: Op, lanes: dict[str, Lane]) -> Tile:
        build = self.build
        match op:
            case ir.Argument() | ir.Literal() | ir.Extent() | ir.Head():
                return self.source(value, op, lanes)
            case ir.Apply(function, arguments):
                found = tuple(self.operand(a, lanes) for a in arguments)
                return self.power(*found) if function == "pow" else build.function(function, found)
            case ir.Spread(argument, _):
                return self.operand(argument, lanes)
            case ir.Rename(argument, old, new) if value.level is Level.CHUNK:
                turned = new.endswith("'") and not old.endswith("'")
                tile = self.tile(argument, self.chunk_lanes(argument))
                return build.turned(tile) if turned else tile
            case ir.Rename(argument, old, new):
                return self.tile(argument, tuple(lanes[new if a.name == old else a.name] for a in argument.axes))
            case ir.Relabel(argument, names):
                return self.tile(argument, tuple(lanes[n] for n in names))
            case ir.Sum(argument, axes):
                tile = self.whole(argument, axes, lanes)
                return build.add(tiles.Total(tile, False), tile.lanes[:-1])
            case ir.Largest(argument, axis):
                tile = self.whole(argument, (axis,), lanes)
                return build.add(tiles.Total(tile, True), tile.lanes[:-1])
            case ir.Contract(left, right, axis):
                (lane,) = (b for a, b in zip(left.axes, self.chunk_lanes(left), strict=True) if a == axis)
                first, second = (self.full(v) for v in (left, right))
                return build.product(first, second, lane, self.names[value])
            case _:
                return self.chunked(op, lanes)

    def full(self, value: Value) -> Tile:
        """A chunk's value with every lane of its axes."""
        lanes = self.chunk_lanes(value)
        return self.build.spread(self.tile(value, lanes), tuple(sorted(lanes)))

    def source(self, value: Value, op: ir.Argument | ir.Literal | ir.Extent | ir.Head, lanes: dict[str, Lane]) -> Tile:
        build = self.build
        match op:
            case ir.Argument(_, "carry"):
                return build.add(tiles.Carry(), (Lane.KEY, Lane.VALUE))
            case ir.Argument(name, role):
                if len(value.axes) > 1:
                    raise Unsupported("inputs that are matrices")
                sizes = {Lane.KEY: self.row, Lane.VALUE: self.column}
                if any(sizes[lanes[a.name]] != a.size for a in value.axes):
                    raise Unsupported("inputs over another axis than the state's")
                own = () if role == "param" else (Lane.ROW,)
                return build.add(tiles.Load(name, role == "param"), (*own, *lanes.values()))
            case ir.Literal(number):
                return build.add(tiles.Number(number), ())
            case ir.Extent(size):
                return build.add(tiles.Extent(size), ())
            case ir.Head(count):
                return build.add(tiles.HeadNumber(count), ())

    def power(self, base: Tile, exponent: Tile) -> Tile:
        """A power that is exact on a device: of an exact number, or by a small whole number or a half."""
        halves = self.build.ops[exponent]
        exact = isinstance(halves, tiles.Number) and (2 * halves.value).denominator == 1 and abs(halves.value) <= 8
        number = self.build.ops[base]
        positive = isinstance(number, tiles.Extent) or (isinstance(number, tiles.Number) and number.value > Fraction(0))
        if not exact and not positive:
            raise Unsupported("a power of a tensor by anything but a small whole number or a half")
        return self.build.function("pow", (base, exponent))

    # -- rows and gates -----------------------------------------------------------------------------------------------

    def chunked(self, op: Op, lanes: dict[str, Lane]) -> Tile:
        build = self.build
        match op:
            case ir.ToRows((part,), _, axis) if part is not None:
                own = () if axis is None else (Lane.KEY if axis.name == "k" else Lane.VALUE,)
                return build.masked(self.tile(part, own), self.names[part])
            case ir.FromRows(argument, _, _, axis):
                if axis is None or set(lanes.values()) != {Lane.VALUE}:
                    raise Unsupported("what was read of the state, summed over its columns")
                return self.tile(argument, self.chunk_lanes(argument))
            case ir.MaskMatrix(mask):
                return build.add(tiles.Seen(_same(mask)), (Lane.ROW, Lane.COLUMN))
            case ir.GateSums(gates, _):
                return build.add(tiles.RunningSums(self.split(gates)), (Lane.ROW,), "sums", True)
            case ir.At(sums, gates, space, where):
                return self.at(sums, gates, space, where)
            case ir.Decay(upper, lower):
                high = self.tile(upper, self.chunk_lanes(upper))
                low = None if lower is None else self.tile(lower, self.chunk_lanes(lower))
                return build.add(tiles.Decay(high, low), (*high.lanes, *(() if low is None else low.lanes)))
            case ir.DecayMatrix(rows, columns, mask):
                first, second = (self.tile(v, self.chunk_lanes(v)) for v in (rows, columns))
                second = build.turned(second)
                return build.add(tiles.DecayMatrix(first, second, _same(mask)), (Lane.ROW, Lane.COLUMN))
            case _:
                raise Unsupported(f"the operation {type(op).__name__}")

    def split(self, gates: Value) -> tuple[Tile, ...]:
        """The log gates of a step in order, each over the chunk's rows."""
        op = self.program.defined[gates]
        assert isinstance(op, ir.ToRows)
        if op.axis is not None:
            raise Unsupported("gates over the state's rows (a vector gate)")
        logs = [self.build.masked(self.tile(p, ()), "log_gate") for p in op.parts if p is not None]
        return tuple(self.build.add(tiles.Split(log), (Lane.ROW,), "gate", True) for log in logs)

    def at(self, sums: Value, gates: Space, space: Space | None, where: Where) -> Tile:
        """Gate sums where the rows of `space` stand, or at the chunk's end."""
        op = self.program.defined[sums]
        assert isinstance(op, ir.GateSums)
        split = self.split(op.gates)
        if space is None:
            return self.build.add(tiles.WholeSums(split), (), "", True)
        (part,) = space.parts
        place = _number(part.read if where is Where.READ else part.write)
        later = tuple(g for g, p in zip(split, gates.parts, strict=True) if _number(p.write) >= place)
        running = self.tile(sums, (Lane.ROW,))
        return running if not later else self.build.add(tiles.SumsBefore(running, later), (Lane.ROW,), "", True)


def _same(mask: Mask) -> bool:
    """Whether a row of the same token is written before it is read."""
    (read,), (write,) = mask.rows.parts, mask.columns.parts
    return _number(write.write) < _number(read.read)


def _number(position: Position | None) -> int:
    """A place in a step without repeats."""
    assert position is not None
    constant = (position.start + Size.of(position.offset)).constant
    assert constant is not None
    return constant
