"""Values of a chunk program as tiles, from a kernel's results backwards.

In: a `Program`, and which of its values other kernels store. Out: tiles of a `TileBuilder`. Refuses, as `Unsupported`,
what kernels do not hold: several writes of a token, vectors over anything but the state's rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.builder import RANK
from flowc.chunk.ir import Op
from flowc.chunk.values import GATES, Level, Mask, Space, Value, Where, per_token
from flowc.schedule import tiles
from flowc.schedule.places import gates_before, single, within
from flowc.schedule.tile_builder import Unsupported, in_order
from flowc.schedule.tiles import KEY, SUB, VALUE, Exponents, Kind, Lane, Tile, Within
from flowc.schedule.token_lowering import TokenLowering
from flowc.semantics.size import ONE, Size


class Lowering(TokenLowering):
    """One kernel's values as tiles."""

    # -- values per chunk ---------------------------------------------------------------------------------------------

    def lane(self, axis: Axis) -> Lane:
        """The lane of an axis of a chunk's value, by its name."""
        known = {"k": KEY, "v": VALUE}
        if axis.name in known:
            lane = known[axis.name]
            if axis.size != self.sizes[lane.kind]:
                raise Unsupported("vectors over another axis than the state's")
            return lane
        if axis.name in (*GATES, "point"):
            raise Unsupported("gate sums in memory")
        return Lane(Kind.COLUMN if axis.name.endswith("'") else Kind.ROW, per_token(axis.size))

    def lanes(self, value: Value) -> tuple[Lane, ...]:
        """The lanes of a chunk's value, in the order of its axes."""
        return tuple(self.lane(a) for a in value.axes)

    def chunk(self, value: Value) -> Tile:
        """A chunk's value; lanes along which it is constant may be missing."""
        if (value,) not in self.done:
            try:
                made = self.chunked(value, self.program.defined[value])
            except Unsupported as reason:
                reason.through.append(value)
                raise
            self.done[value,] = self.build.named(made, self.names[value])
        return self.done[value,]

    def full(self, value: Value) -> Tile:
        """A chunk's value with every lane of its axes."""
        return self.build.spread(self.chunk(value), in_order(self.lanes(value)))

    def chunked(self, value: Value, op: Op) -> Tile:
        """The tile of an operation per chunk."""
        build = self.build
        if value in self.fetched:
            name = self.fetched[value]
            return build.add(tiles.Fetch(name, name in self.lower), self.lanes(value))
        match op:
            case ir.Argument(_, "carry") if self.walks:
                return build.add(tiles.Carry(), (KEY, VALUE))
            case ir.Literal() | ir.Extent() | ir.Head():
                return self.token(value, ONE, {})
            case ir.Apply(function, arguments):
                return self.applied(
                    function, [self.chunk(a) if a.level is Level.CHUNK else self.token(a, ONE, {}) for a in arguments]
                )
            case ir.Spread(argument, _):
                return self.chunk(argument) if argument.level is Level.CHUNK else self.token(argument, ONE, {})
            case ir.Rename():
                return self.renamed(value)
            case ir.Sum(argument, axes):
                return build.totalled(self.full(argument), (self.lane(a) for a in axes))
            case ir.Contract(left, right, axis):
                return build.product(self.full(left), self.full(right), self.lane(axis), self.names[value])
            case ir.ToRows((part,), space, axis) if part is not None:
                single(space)
                lane = Lane(Kind.ROW, space.per_token)
                over = {} if axis is None else {"x": KEY if axis.name == "k" else VALUE}
                tile = self.token(part, space.per_token, {RANK: SUB, **over})
                tile = build.spread(tile, in_order((*tile.lanes, *over.values())))  # 0 past the state's sizes, too
                return build.masked(tile, lane, self.names[part])
            case ir.MaskMatrix(mask):
                return build.add(tiles.Seen(within(mask)), self.lanes(value))
            case ir.Inverse(matrix):
                return build.add(tiles.Inverse(self.full(matrix)), self.lanes(value))
            case ir.Solve(inverse, right, transposed):
                if inverse not in self.fetched:
                    return self.solved(inverse, self.full(right), transposed)
                return build.add(tiles.Solve(self.fetched[inverse], self.full(right), transposed), self.lanes(value))
            case _:
                return self.gated(value, op)

    def solved(self, inverse: Value, right: Tile, transposed: bool) -> Tile:
        """The solution of a system whose inverse is made here."""
        row, column = self.lanes(inverse)
        if self.single and row.frame == ONE:
            return right
        matrix = self.full(inverse)
        if transposed:
            matrix = self.build.add(tiles.Transposed(matrix), (row, column))
        return self.build.product(matrix, self.build.turned(right, Kind.COLUMN), column, "")

    def renamed(self, value: Value) -> Tile:
        """Rows called columns or columns rows; a matrix whose two exchange their names is transposed."""
        base, names = value, [a.name for a in value.axes]
        op = self.program.defined[base]
        while isinstance(op, ir.Rename) and base not in self.fetched:
            base = op.argument
            op = self.program.defined[base]
        tile = self.chunk(base)
        before = {a.name: i for i, a in enumerate(base.axes)}
        kinds = [Kind.COLUMN if n.endswith("'") else Kind.ROW for n in names]
        olds = [self.lane(a).kind for a in base.axes]
        pairs = [(old, new) for old, new in zip(olds, kinds, strict=True) if old in (Kind.ROW, Kind.COLUMN)]
        assert len(before) == len(names)
        if len(pairs) == 2:
            same = all(old is new for old, new in pairs)
            return tile if same else self.build.add(tiles.Transposed(self.full(base)), self.lanes(value))
        return self.build.turned(tile, pairs[0][1]) if pairs else tile

    # -- gates --------------------------------------------------------------------------------------------------------

    def gated(self, value: Value, op: Op) -> Tile:
        """The tile of a primitive with gates."""
        build = self.build
        match op:
            case ir.At(sums, gates, space, where):
                return self.at(sums, gates, space, where)
            case ir.Decay(upper, lower):
                return build.add(
                    tiles.Decay(self.chunk(upper), None if lower is None else self.chunk(lower)), self.lanes(value)
                )
            case ir.DecayMatrix(rows, columns, mask):
                second = build.turned(self.chunk(columns), Kind.COLUMN)
                return build.add(tiles.DecayMatrix(self.chunk(rows), second, within(mask)), self.lanes(value))
            case ir.DecayDot(left, right, upper, lower, mask):
                second = build.turned(self.full(right), Kind.COLUMN)
                exponents = self.exponents(upper, lower, mask)
                return build.add(tiles.DecayDot(self.full(left), second, exponents), self.lanes(value))
            case ir.DecayApply(weights, vectors, upper, lower, mask, transposed):
                inner = self.full(vectors) if transposed else build.turned(self.full(vectors), Kind.COLUMN)
                exponents = self.exponents(upper, lower, mask)
                made = tiles.DecayApply(self.full(weights), inner, exponents, transposed)
                if not transposed:
                    return build.add(made, self.lanes(value))
                tile = build.add(made, (Lane(Kind.COLUMN, mask.columns.per_token), made.exponents.lane))
                return build.turned(tile, Kind.ROW)
            case _:
                raise Unsupported(f"the operation {type(op).__name__}")

    def exponents(self, upper: Value, lower: Value, mask: Mask) -> Exponents:
        """What lies between the rows and the columns of a gated primitive over the state's rows or columns."""
        above, below = self.program.defined[upper], self.program.defined[lower]
        if not isinstance(above, ir.At) or not isinstance(below, ir.At):
            raise Unsupported("a decay between other things than places of a step")
        assert above.space is not None
        assert below.space is not None
        sums = self.program.defined[above.sums]
        assert isinstance(sums, ir.GateSums)
        read = gates_before(above.gates, above.space, above.where)
        written = gates_before(below.gates, below.space, below.where)
        sees, rows, columns = within(mask), above.space.per_token, below.space.per_token
        between = [r and not w for r, w in zip(read, written, strict=True)]
        gates = self.gates(sums.gates, ONE, [True] * len(read))
        assert gates is not None
        same = None if sees is Within.NONE else self.gates(sums.gates, columns, between)
        return Exponents(
            gates,
            self.gates(sums.gates, rows, read),
            self.gates(sums.gates, columns, [not w for w in written]),
            None if same is None else self.build.function("exp", (same,)),
            rows,
            columns,
            sees,
        )

    def gates(self, gates: Value, frame: Size, chosen: Sequence[bool]) -> Tile | None:
        """The sum of some of a step's log gates, over the tokens of a frame's rows."""
        logs = [log for log, c in zip(self.logs(gates, frame), chosen, strict=True) if c]
        return reduce(lambda x, y: self.build.function("add", (x, y)), logs) if logs else None

    def logs(self, gates: Value, frame: Size) -> list[Tile]:
        """The log gates of a step in order, each over the tokens of a frame's rows."""
        op = self.program.defined[gates]
        if not isinstance(op, ir.ToRows) or any(p.count is not None for p in op.space.parts):
            raise Unsupported("a gate within a repeat")
        lanes = (Lane(Kind.ROW, frame), *(() if op.axis is None else (self.lane(op.axis),)))
        over = {} if op.axis is None else {"x": self.lane(op.axis)}
        found = []
        self.exact = True
        try:
            for part in op.parts:
                assert part is not None
                log = self.build.masked(self.token(part, frame, over), lanes[0], "log_gate")
                found.append(self.build.spread(log, lanes))
        finally:
            self.exact = False
        return found

    def split(self, gates: Value, frame: Size) -> tuple[Tile, ...]:
        """The log gates of a step in base 2, each over the tokens of a frame's rows."""
        return tuple(self.build.add(tiles.Split(x), x.lanes, "gate", True) for x in self.logs(gates, frame))

    def at(self, sums: Value, gates: Space, space: Space | None, where: Where) -> Tile:
        """Gate sums where the rows of `space` stand, or at the chunk's end."""
        if space is not None:
            return self.sums_at(sums, space.per_token, gates_before(gates, space, where))
        op = self.program.defined[sums]
        assert isinstance(op, ir.GateSums)
        split = self.split(op.gates, ONE)
        return self.build.add(tiles.WholeSums(split), split[0].lanes[1:], "", True)

    def sums_at(self, sums: Value, frame: Size, before: tuple[bool, ...]) -> Tile:
        """Gate sums over the rows of a frame, with those of the own token's gates that come before."""
        op = self.program.defined[sums]
        assert isinstance(op, ir.GateSums)
        split = self.split(op.gates, frame)
        running = self.build.add(tiles.RunningSums(split), split[0].lanes, "sums", True)
        later = tuple(g for g, b in zip(split, before, strict=True) if not b)
        return running if not later else self.build.add(tiles.SumsBefore(running, later), running.lanes, "", True)

    def gate_gradient(self, op: ir.GateSumsAdjoint, gate: int) -> Tile:
        """The gradient of a step's log gate: all rows' that stand after it, of its own token and of later ones."""
        own: list[Tile] = []
        after: list[Tile] = []
        whole: list[Tile] = []

        def collect(value: Value, sign: int) -> None:
            match self.program.defined[value]:
                case ir.Apply("add", (left, right)):
                    collect(left, sign)
                    collect(right, sign)
                case ir.Apply("neg", (argument,)):
                    collect(argument, -sign)
                case ir.AtAdjoint(argument, gates, space, where):
                    tile = self.full(argument)
                    tile = tile if sign > 0 else self.build.function("neg", (tile,))
                    if space is None:
                        whole.append(tile)
                        return
                    if space.per_token != ONE:
                        lanes = tuple(Lane(x.kind) if x.over_rows else x for x in tile.lanes)
                        tile = self.build.add(tiles.PerToken(tile), lanes)
                    (own if gates_before(gates, space, where)[gate] else after).append(tile)
                case other:
                    raise Unsupported(f"the operation {type(other).__name__} on gate sums")

        collect(op.sums, 1)
        lanes = in_order((Lane(Kind.ROW), *(x for t in (*own, *after, *whole) for x in t.lanes)))
        return self.build.add(tiles.SuffixSums(tuple(own), tuple(after), tuple(whole)), lanes)
