"""Plan -> kernels: which values of a pass are made where, and what goes through memory in between.

In: a `Plan`. Out: a `TilePlan`, or `Missing`. Before the walk a kernel makes the matrices over rows that take more than
a product of loaded operands, or that the walk needs; the walk stores the states and what it alone can make; after it
one kernel makes what is per block of the state's columns, and one what is summed over them. Everything else is made
again where it is used: it costs less than its way through memory. Refuses, as `Missing`, what `Lowering` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, count

from flowc.chunk import ir
from flowc.chunk.builder import RANK
from flowc.chunk.derive import derive
from flowc.chunk.differentiate import differentiate
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value
from flowc.schedule.lowering import Lowering
from flowc.schedule.plan import Plan, Role
from flowc.schedule.schedule import solved, twin_key
from flowc.schedule.share import share_decays
from flowc.schedule.tile_builder import Unsupported
from flowc.schedule.tile_plan import Missing, Scratch, Store, TileKernel, TilePass, TilePlan
from flowc.schedule.tiles import KEY, SUB, VALUE, Fetch, Kind, Lane, Product, Tile, TileOp, Total
from flowc.semantics.size import ONE, Size

PRODUCTS = (ir.Contract, ir.DecayDot, ir.DecayApply, ir.Inverse)
DEAR = (ir.DecayDot, ir.DecayApply, ir.Inverse)


MOST_KEYS = 256


def tilings() -> tuple[str, ...]:
    """Configurations as rows of a module's table."""
    rows = []
    for role, (wide, single) in TILINGS.items():
        rows += [(role, 2, MOST_KEYS, 512, *wide), (role, 4, MOST_KEYS, 512, *single)]
    return tuple(repr(row) for row in rows)


TILINGS = {
    "matrices": ((32, 4, 1), (16, 8, 1)),
    "walk": ((32, 4, 2), (16, 8, 1)),
    "columns": ((64, 4, 2), (16, 8, 1)),
    "rows": ((64, 8, 1), (16, 8, 1)),
    "matrices_backward": ((32, 4, 1), (16, 8, 1)),
    "walk_backward": ((32, 4, 1), (16, 8, 1)),
    "columns_backward": ((64, 4, 1), (16, 8, 1)),
    "rows_backward": ((32, 8, 1), (16, 8, 1)),
}


def cut(plan: Plan) -> TilePlan | Missing:
    """The kernels of a plan's two passes, or why there are none."""
    row, column = plan.recurrence.row.size, plan.recurrence.column.size
    names: set[str] = set()
    try:
        forward = _Cutter(plan.forward.program, row, column, names, {})
        first = forward.run()
        adjoint = solved(share_decays(differentiate(derive(plan.recurrence))))
        kept = {twin_key(n): forward.fetched[n.value] for n in forward.program.nodes if n.value in forward.fetched}
        backward = _Cutter(adjoint, row, column, names, kept)
        second = backward.run()
    except Unsupported as reason:
        return Missing((str(reason),))
    return TilePlan(first, second, tuple(backward.used))


@dataclass
class _Cutter:
    """Cuts one pass. `kept` are values that the forward pass stored, by what they share with their twins here."""

    program: Program
    row: Size
    column: Size
    names: set[str]
    kept: Mapping[tuple[object, ...], str]
    fetched: dict[Value, str] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    before: dict[Value, None] = field(default_factory=dict)
    walked: dict[Value, None] = field(default_factory=dict)

    def run(self) -> TilePass:
        """The kernels in order."""
        program = self.program
        self.ops = program.defined
        start, after = program.carry
        self.dependent = self._dependent()
        self.needed = self._needed((after,))
        self.twins = self._twins()
        self.deep = {c: self._holding(c) for c in (PRODUCTS, DEAR)}
        self.across = self._across()
        self.fetched[start] = self._fresh(start)
        self._visit(after, Role.WALK)
        for _, value in program.results:
            self._visit(value, Role.OUTPUT)
        kernels = [*self._matrices(), self._walk(), *self._results()]
        fetched = {s.op.name: s.tile.lanes for k in kernels for s in k.steps if isinstance(s.op, Fetch)}
        made = {s.name: s.tile.lanes for k in kernels for s in k.stores if s.fetched}
        own = tuple(Scratch(n, lanes) for n, lanes in made.items())
        states = self.fetched[start]
        assert fetched.keys() <= {*made, *self.used, states}
        return TilePass(tuple(kernels), own, states)

    def _fresh(self, value: Value) -> str:
        """A name in memory."""
        base = value.name or "t"
        name = next(n for n in chain((base,), (f"{base}{i}" for i in count(2))) if n not in self.names)
        self.names.add(name)
        return name

    # -- what goes through memory -------------------------------------------------------------------------------------

    def _dependent(self) -> set[Value]:
        found = {self.program.carry[0]}
        for node in self.program.nodes:
            if any(v in found for v in ir.operands(node.op)):
                found.add(node.value)
        return found

    def _needed(self, values: Iterable[Value]) -> set[Value]:
        found = set(values)
        for node in reversed(self.program.nodes):
            if node.value in found:
                found.update(ir.operands(node.op))
        return found

    def _holding(self, kinds: tuple[type, ...]) -> set[Value]:
        """The values that an operation of some kind went into."""
        found: set[Value] = set()
        for node in self.program.nodes:
            made = isinstance(node.op, kinds) or any(v in found for v in ir.operands(node.op))
            if made and node.value not in self.twins:
                found.add(node.value)
        return found

    def _across(self) -> set[Value]:
        """The values that a sum over the state's columns went into: no program of one block of them can make those."""
        found: set[Value] = set()
        for node in self.program.nodes:
            match node.op:
                case ir.Contract(_, _, axis):
                    sums = axis.name == "v"
                case ir.Sum(argument, axes):
                    sums = any(
                        a.name == "v" or (argument.level is not Level.CHUNK and a.size == self.column) for a in axes
                    )
                case ir.Largest(_, axis):
                    sums = axis.size == self.column
                case _:
                    sums = False
            made = sums or any(v in found for v in ir.operands(node.op))
            if made and node.value not in self.twins:
                found.add(node.value)
        return found

    def _twins(self) -> dict[Value, str]:
        """The values that the forward pass stored."""
        found: dict[str, list[Value]] = {}
        for node in self.program.nodes:
            name = self.kept.get(twin_key(node)) if node.value.name else None
            if name is not None and node.value.level is Level.CHUNK:
                found.setdefault(name, []).append(node.value)
        return {values[0]: name for name, values in found.items() if len(values) == 1}

    def _visit(self, value: Value, role: Role) -> None:
        """Note what a kernel that needs `value` fetches, and what the kernels that store it do."""
        if value in self.fetched:
            return
        if value in self.twins:
            self.fetched[value] = self.twins[value]
            self.used[self.twins[value]] = None
            return
        if value.level is Level.CHUNK and self._stored(value, role):
            self.fetched[value] = self._fresh(value)
            walks = value in self.dependent
            (self.walked if walks else self.before)[value] = None
            role = Role.WALK if walks else Role.INTRA
        for v in ir.operands(self.ops[value]):
            self._visit(v, role)

    def _stored(self, value: Value, role: Role) -> bool:
        """Whether a kernel of some role fetches a value that it needs, and does not make it again."""
        axes = [a.name for a in value.axes]
        if value in self.dependent:
            made = value in self.needed and value in self.deep[PRODUCTS]
            return made and role is Role.OUTPUT and axes != ["k", "v"]
        op = self.ops[value]
        matrix = len(axes) == 2 and not {"k", "v"} & set(axes)
        if isinstance(op, ir.Rename) or role is Role.INTRA:
            return False
        if role is Role.WALK:
            across = value in self.across and axes != ["k", "v"]
            return across or (matrix and value in self.deep[PRODUCTS])
        return matrix and value in self.deep[DEAR]

    # -- kernels ------------------------------------------------------------------------------------------------------

    def _lowering(self, without: Iterable[Value] = (), walks: bool = False) -> Lowering:
        hidden = set(without)
        fetched = {v: n for v, n in self.fetched.items() if v not in hidden}
        return Lowering(self.program, self.row, self.column, fetched, walks)

    def _matrices(self) -> list[TileKernel]:
        """The kernel before the walk."""
        if not self.before:
            return []
        low = self._lowering(self.before)
        stores = tuple(Store(self.fetched[v], low.full(v), True) for v in self.before)
        return [self._kernel("matrices", Role.INTRA, low, stores)]

    def _walk(self) -> TileKernel:
        """The walk: the next state, then what only it can make."""
        low = self._lowering((*self.walked, self.program.carry[0]), walks=True)
        state = low.build.spread(low.chunk(self.program.carry[1]), (KEY, VALUE))
        stores = [Store(self.fetched[self.program.carry[0]], state, False)]
        stores += [Store(self.fetched[v], low.full(v), True) for v in self.walked]
        kernel = self._kernel("walk", Role.WALK, low, tuple(stores))
        if not kernel.blocked:
            raise Unsupported("a state whose columns depend on one another")
        return kernel

    def _results(self) -> list[TileKernel]:
        """The kernels after the walk: results per block of the state's columns, and those that are sums over them."""
        kernels = []
        for name, blocked in (("columns", True), ("rows", False)):
            low = self._lowering()
            stores = []
            for result, value in self.program.results:
                store = self._result(low, result, value)
                if self._is_blocked(low, store.tile) == blocked:
                    stores.append(store)
            if stores:
                kernels.append(self._kernel(name, Role.OUTPUT, low, tuple(stores)))
        return kernels

    def _result(self, low: Lowering, name: str, value: Value) -> Store:
        """A result per token, every axis on a lane; what is a sum over tokens is left to be summed."""
        frame, lanes = self._placed(value)
        for axis in value.axes:
            if axis.name not in lanes:
                fits = [x for x in (VALUE, KEY) if low.sizes[x.kind] == axis.size and x not in lanes.values()]
                if not fits:
                    raise Unsupported("a result over another axis than the state's")
                lanes[axis.name] = fits[0]
        tile = low.unsummed(value, frame or ONE, lanes)
        full = tuple(sorted({Lane(Kind.ROW, frame or ONE), *(x for x in lanes.values() if x is not None)}))
        stored = tuple((a.size, lanes[a.name]) for a in value.axes)
        return Store(name, low.build.spread(tile, full), False, stored)

    def _placed(self, value: Value) -> tuple[Size | None, dict[str, Lane | None]]:
        """The frame and the lanes that the rows which a result is made of prescribe."""
        op = self.ops[value]
        match op:
            case ir.FromRows(_, space, part, axis):
                lanes: dict[str, Lane | None] = {} if axis is None else {"x": KEY if axis.name == "k" else VALUE}
                if space.name == "gate":
                    return ONE, lanes
                return space.per_token, {**lanes, **({RANK: SUB} if space.parts[part].several else {})}
        frame: Size | None = None
        found: dict[str, Lane | None] = {}
        for operand in ir.operands(op):
            if operand.level is Level.CHUNK:
                continue
            inner, over = self._placed(operand)
            if isinstance(op, ir.Relabel):
                names = dict(zip((a.name for a in operand.axes), op.names, strict=True))
                over = {names[n]: lane for n, lane in over.items()}
            if isinstance(op, ir.Rename):
                over = {op.new if n == op.old else n: lane for n, lane in over.items()}
            if frame is not None and inner not in (None, frame):
                raise Unsupported("rows of several numbers per token together")
            frame = inner or frame
            if any(found.get(n, lane) != lane for n, lane in over.items()):
                raise Unsupported("the state's rows and columns as one axis")
            found |= over
        return frame, {n: lane for n, lane in found.items() if n in {a.name for a in value.axes}}

    def _is_blocked(self, low: Lowering, tile: Tile) -> bool:
        return VALUE in tile.lanes and not _sums_columns(low, (tile,))

    def _kernel(self, name: str, role: Role, low: Lowering, stores: tuple[Store, ...]) -> TileKernel:
        steps = low.build.needed(s.tile for s in stores)
        stores = tuple(Store(s.name, low.build.latest(s.tile), s.fetched, s.stored) for s in stores)
        tiles = tuple(s.tile for s in stores)
        blocked = all(VALUE in t.lanes for t in tiles) and not _sums_columns(low, tiles)
        return TileKernel(name, role, steps, stores, blocked)


def _sums_columns(low: Lowering, tiles: Iterable[Tile]) -> bool:
    """Whether something is summed over the state's columns."""
    return any(sums_columns(s.op) for s in low.build.needed(tiles))


def sums_columns(op: TileOp) -> bool:
    """Whether an operation sums over the state's columns."""
    return isinstance(op, Product | Total) and op.lane == VALUE
