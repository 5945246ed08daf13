"""Plan -> kernels: which values of a pass are made where, and what goes through memory in between.

In: a `Plan`. Out: a `TilePlan`, or `Missing`. Before the walk a kernel makes the matrices over rows that take more than
a product of loaded operands, or that the walk needs; the walk stores the states and what it alone can make; after it
one kernel makes what is per block of the state's columns, and one what is summed over them; one makes all gradients.
Everything else is made again where it is used: it costs less than its way through memory. Refuses, as `Missing`, what
`Lowering` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from flowc.chunk import ir
from flowc.chunk.builder import RANK
from flowc.chunk.derive import derive
from flowc.chunk.differentiate import differentiate
from flowc.chunk.values import GATES, Level, Value
from flowc.schedule.crossing import PRODUCTS, Crossing
from flowc.schedule.loops import sums_columns
from flowc.schedule.lowering import Lowering
from flowc.schedule.plan import Plan, Role
from flowc.schedule.schedule import solved, twin_key
from flowc.schedule.share import share_decays
from flowc.schedule.tile_builder import Unsupported, in_order
from flowc.schedule.tile_plan import Missing, Scratch, Store, TileKernel, TilePass, TilePlan, TorchPart
from flowc.schedule.tiles import KEY, SUB, VALUE, Fetch, Kind, Lane, Solve, Tile
from flowc.schedule.turned import is_turned, state_sizes, turned
from flowc.semantics.size import ONE, Size

Keys = frozenset[tuple[object, ...]]
"""What values share with their twins in the other pass."""


def cut(plan: Plan) -> TilePlan | Missing:
    """The kernels of a plan's two passes, of one state, or why there are none."""
    (memory,) = plan.recurrence.memories
    row, column = state_sizes(memory)
    primal, adjoint = plan.forward.program, solved(share_decays(differentiate(derive(plan.recurrence))))
    if is_turned(memory):
        primal, adjoint = turned(primal), turned(adjoint)
    try:
        early: Keys = frozenset()
        while True:
            forward = _Cutter(primal, row, column, frozenset(), {}, early=early)
            first = forward.run()
            left, names = first.names, forward.fetched
            kept = {twin_key(n): names[n.value] for n in forward.program.nodes if names.get(n.value) in left}
            backward = _Cutter(adjoint, row, column, frozenset(forward.names), kept, lower=forward.triangular)
            second = backward.run()
            more = _made_by_both(forward, backward) - early
            if not more:
                break
            early |= more
    except Unsupported as reason:
        return Missing((str(reason),))
    return TilePlan(first, second, tuple(backward.used), forward.step(), forward.fused(frozenset(backward.used)))


def _made_by_both(forward: _Cutter, backward: _Cutter) -> Keys:
    """What the kernel before the backward walk makes and that before the forward walk could have left, by its key."""
    there = [twin_key(n) for n in forward.program.nodes if n.value.name and n.value not in forward.dependent]
    own = {twin_key(n) for n in backward.program.nodes if n.value in backward.before and n.value.name}
    return frozenset(k for k in own if there.count(k) == 1) if forward.before else frozenset()


class _Cutter(Crossing):
    """Cuts one pass into kernels."""

    def run(self) -> TilePass:
        """The kernels in order; what they do not hold is made by torch operators before or after them."""
        while True:
            try:
                return self.attempt()
            except Unsupported as reason:
                first = next((v for v in reason.through if self.by_torch(v)), None)
                if first is None:
                    raise
                self.outside[first] = None

    def attempt(self) -> TilePass:
        """The kernels, if torch operators make `outside`."""
        self.cross()
        self.finished: dict[str, Value] = {}
        self.handed: dict[Value, str] = {}
        self.places: dict[Value, tuple[Size | None, dict[str, Lane | None]]] = {}
        kernels = [*self._matrices(), self._walk(), *self._results()]
        made = {s.name: s.tile.lanes for k in kernels for s in k.stores if s.fetched}
        values = {name: value for value, name in (self.fetched | self.handed).items()}
        own = tuple(Scratch(n, lanes, values[n]) for n, lanes in made.items())
        fetched = {s.op.name: s.tile.lanes for k in kernels for s in k.steps if isinstance(s.op, Fetch)}
        given = {self.fetched[v]: v for v in self.outside if self.fetched[v] in fetched}
        states = self.fetched[self.program.carries[0].before]
        assert fetched.keys() <= {*made, *self.used, *given, states}
        before = TorchPart.of(self.program, given, self.known(given))
        there = {*made, *self.used, *given, states}
        known = {v: n for v, n in self.fetched.items() if n in there}
        after = TorchPart.of(self.program, self.finished, {**known, **self.handed})
        if not self.program.adjoint:
            solved = {s.op.inverse for k in kernels for s in k.steps if isinstance(s.op, Solve)}
            kernels = _with_kept(kernels, {*fetched, *solved, *(() if after is None else after.fetched)})
        return TilePass(self.program, tuple(kernels), own, states, before, after)

    def known(self, given: Mapping[str, Value]) -> dict[Value, str]:
        """What torch operators before the kernels find in memory: what the forward pass kept."""
        return {v: n for v, n in self.twins.items() if n in self.used and n not in given}

    def step(self) -> TileKernel | None:
        """One token in one kernel: a chunk of it, with everything made where it is used."""
        if self.outside or self.finished:
            return None
        low = Lowering(self.program, self.row, self.column, {}, walks=True, single=True)
        try:
            state = low.build.spread(low.chunk(self.program.carries[0].after), (KEY, VALUE))
            results = [self._result(low, name, value) for name, value in self.program.results]
        except Unsupported:
            return None
        kernel = self._kernel("step", Role.WALK, low, (Store("", state, False), *results))
        return kernel if kernel.blocked else None

    def fused(self, kept: frozenset[str]) -> TileKernel | None:
        """The walk that makes the results as well; it stores what the backward pass uses of it, and nothing else."""
        if self.outside or self.finished:
            return None
        low = self._lowering((*self.walked, self.program.carries[0].before), walks=True)
        try:
            state = low.build.spread(low.chunk(self.program.carries[0].after), (KEY, VALUE))
            results = [self._result(low, name, value) for name, value in self.program.results]
        except Unsupported:
            return None
        own = [v for v in self.walked if self.fetched[v] in kept]
        stores = [self._store(low, v, kept=True) for v in own]
        first = Store(self.fetched[self.program.carries[0].before], state, False, kept=True)
        kernel = self._kernel("fused", Role.WALK, low, (first, *stores, *results))
        return kernel if kernel.blocked else None

    # -- kernels ------------------------------------------------------------------------------------------------------

    def _lowering(self, without: Iterable[Value] = (), walks: bool = False) -> Lowering:
        hidden = set(without)
        fetched = {v: n for v, n in self.fetched.items() if v not in hidden}
        return Lowering(self.program, self.row, self.column, fetched, walks, lower=self.triangular)

    def _store(self, low: Lowering, value: Value, kept: bool = False) -> Store:
        """A chunk's value for other kernels."""
        name = self.fetched[value]
        return Store(name, low.full(value), True, kept=kept, lower=name in self.triangular)

    def _matrices(self) -> list[TileKernel]:
        """The kernel before the walk."""
        if not self.before:
            return []
        low = self._lowering(self.before)
        stores = tuple(self._store(low, v) for v in self.before)
        return [self._kernel("matrices", Role.INTRA, low, stores)]

    def _walk(self) -> TileKernel:
        """The walk: the next state, then what only it can make."""
        low = self._lowering((*self.walked, self.program.carries[0].before), walks=True)
        state = low.build.spread(low.chunk(self.program.carries[0].after), (KEY, VALUE))
        stores = [Store(self.fetched[self.program.carries[0].before], state, False)]
        stores += [self._store(low, v) for v in self.walked]
        kernel = self._kernel("walk", Role.WALK, low, tuple(stores))
        if not kernel.blocked:
            raise Unsupported("a state whose columns depend on one another")
        return kernel

    def _results(self) -> list[TileKernel]:
        """The kernels after the walk: results per block of the state's columns, and those that are sums over them.

        Gradients are all made in one kernel: they are made of the same values.
        """
        kernels = []
        if self.program.adjoint:
            low = self._lowering(self.again)
            own = tuple(self._stores(low))
            return [self._kernel("gradients", Role.OUTPUT, low, own)] if own else []
        for name, blocked in (("columns", True), ("rows", False)):
            low = self._lowering()
            stores = [s for s in self._stores(low) if self._is_blocked(low, s.tile) == blocked]
            if stores:
                kernels.append(self._kernel(name, Role.OUTPUT, low, tuple(stores)))
        return kernels

    def _stores(self, low: Lowering) -> list[Store]:
        """Every result, or what torch operators make it of."""
        stores = []
        for name, value in self.program.results:
            try:
                stores.append(self._result(low, name, value))
            except Unsupported as reason:
                if any(self.by_torch(v) for v in reason.through):
                    raise
                self.finished[name] = value
                for part in self._parts(low, value, set()):
                    self.handed.setdefault(part, self.fresh(part))
        handed = [Store(n, low.build.spread(low.full(v), in_order(low.lanes(v))), True) for v, n in self.handed.items()]
        return [*stores, *handed]

    def _parts(self, low: Lowering, value: Value, seen: set[Value]) -> Iterator[Value]:
        """The values per chunk that kernels make of a result, as far down as they can."""
        if value in self.fetched or value in self.handed or value in seen:
            return
        seen.add(value)
        if value.level is Level.CHUNK and value not in self.deep[PRODUCTS] and value not in self.dependent:
            return
        if value.level is Level.CHUNK and not value.sums and {*GATES, "point"}.isdisjoint(a.name for a in value.axes):
            try:
                low.full(value)
            except Unsupported as reason:
                if any(self.by_torch(v) for v in reason.through):
                    raise
            else:
                yield value
                return
        for v in ir.operands(self.ops[value]):
            yield from self._parts(low, v, seen)

    def _result(self, low: Lowering, name: str, value: Value) -> Store:
        """A result per token, every axis on a lane; what is a sum over tokens is left to be summed."""
        frame, given = self._placed(value)
        lanes = dict(given)
        for axis in value.axes:
            if axis.name not in lanes:
                fits = [x for x in (VALUE, KEY) if low.sizes[x.kind] == axis.size and x not in lanes.values()]
                lanes[axis.name] = Lane(Kind.OTHER, axis.size) if self._cuts(value) or not fits else fits[0]
        tile = low.unsummed(value, frame or ONE, lanes)
        full = low.flat(in_order({Lane(Kind.ROW, frame or ONE), *(x for x in lanes.values() if x is not None)}))
        stored = tuple((a.size, lanes[a.name]) for a in value.axes)
        return Store(name, low.build.spread(tile, full), False, stored)

    def _placed(self, value: Value) -> tuple[Size | None, dict[str, Lane | None]]:
        """The frame and the lanes that the rows which a result is made of prescribe."""
        if value not in self.places:
            self.places[value] = self._place(value)
        return self.places[value]

    def _place(self, value: Value) -> tuple[Size | None, dict[str, Lane | None]]:
        op = self.ops[value]
        match op:
            case ir.FromRows(_, space, part, axis):
                lanes: dict[str, Lane | None] = {} if axis is None else {"x": KEY if axis.name == "k" else VALUE}
                if space.name in GATES:
                    return ONE, lanes
                return space.per_token, {**lanes, **({RANK: SUB} if space.parts[part].several else {})}
            case ir.Cut(argument, axis) | ir.Unflatten(argument, _, axis):
                rows, places = self._placed(argument)
                return rows, {n: x for n, x in places.items() if n != axis.name}
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

    def _cuts(self, value: Value) -> bool:
        """Whether a value per token is made of parts of vectors over the state's rows or columns."""
        parts = (v for v in ir.operands(self.ops[value]) if v.level is not Level.CHUNK)
        return isinstance(self.ops[value], ir.Cut | ir.Unflatten) or any(self._cuts(v) for v in parts)

    def _is_blocked(self, low: Lowering, tile: Tile) -> bool:
        return self.column == ONE or (VALUE in tile.lanes and not _sums_columns(low, (tile,)))

    def _kernel(self, name: str, role: Role, low: Lowering, stores: tuple[Store, ...]) -> TileKernel:
        steps = low.build.needed(s.tile for s in stores)
        stores = tuple(replace(s, tile=low.build.latest(s.tile)) for s in stores)
        tiles = tuple(s.tile for s in stores)
        one = self.column == ONE  # a block holds all columns
        blocked = one or (all(VALUE in t.lanes for t in tiles) and not _sums_columns(low, tiles))
        return TileKernel(name, role, steps, stores, blocked)


def _with_kept(kernels: list[TileKernel], fetched: set[str]) -> list[TileKernel]:
    """The kernels, with what the one before the walk stores for the backward pass alone told apart."""
    return [
        replace(k, stores=tuple(replace(s, kept=s.name not in fetched) for s in k.stores))
        if k.role is Role.INTRA
        else k
        for k in kernels
    ]


def _sums_columns(low: Lowering, tiles: Iterable[Tile]) -> bool:
    """Whether something is summed over the state's columns."""
    return any(sums_columns(s.op) for s in low.build.needed(tiles))
