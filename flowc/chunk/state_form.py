"""The chunk form of one state: its gate sums, rows, systems and reads (design/algebra.md section 3).

In: a `Memory` of a recurrence, and the derivation of the whole step. Out: the state after a chunk, and what outputs or
other states read of it. Refuses, as `Refusal`, reads with a vector gate on the other side.

    N = decay_dot(y, l)    Z = V' + E V_e + (Y . exp gr) S_0    U = (I - N)^{-1} Z
    O = (Q . exp gq) S_0 + P U + P_e V_e      S_C = exp(g_C) . S_0 + (L . exp(g_C - gl))^T U + (L_e ...)^T V_e

Reads of the value side are the same for S^T. What is read of the state is contracted on one side and runs over the
other. Gates of the other side, h, weigh what a read gives and what is written:

    O = ((Q . exp gq) S_0) . exp hq + decay_apply(P, U; hq, hl)
    S_C = exp(g_C) S_0 exp(h_C)^T + (L . exp(g_C - gl))^T (U . exp(h_C - hl))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Protocol

from flowc.algebra import term as terms
from flowc.algebra.forms import Point
from flowc.algebra.recurrence import Memory, Read, Row, Write
from flowc.algebra.side import Side
from flowc.algebra.term import Axis, Term
from flowc.chunk.builder import RANK, Builder
from flowc.chunk.gate_logs import gate_logs
from flowc.chunk.ir import (
    At,
    Decay,
    DecayApply,
    DecayDot,
    DecayMatrix,
    FromRows,
    GateSums,
    MaskMatrix,
    Solve,
    ToRows,
)
from flowc.chunk.program import Carry
from flowc.chunk.values import GATES, Level, Mask, Part, Position, Space, Value, Where
from flowc.semantics.model import Kind
from flowc.semantics.size import Size


class Step(Protocol):
    """What a state needs of the step that it is a part of."""

    builder: Builder

    def load(self, term: Term) -> Value:
        """An input, or what was read of a state."""
        ...

    def space(self, name: str, parts: tuple[Part, ...]) -> Space:
        """Rows under a name that no other rows have."""
        ...


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one kind: left factors, right sides, and where they stand among the gate sums."""

    space: Space
    left: Value
    right: Value | None
    read: _Scaled | None


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A vector per row, and the scalar per row that multiplies it (None: 1), where that is cheapest."""

    scale: Value | None
    vector: Value


class StateForm:
    """The chunk form of one state, made when something needs it."""

    def __init__(self, whole: Step, memory: Memory) -> None:
        """The form of `memory` as a part of `whole`."""
        self.whole, self.memory, self.builder, self.load = whole, memory, whole.builder, whole.load
        self.side = memory.side
        self.axes = {Side.KEY: Axis("k", memory.row.size), Side.VALUE: Axis("v", memory.column.size)}
        self.sums: dict[Side, tuple[Value, Space]] = {}
        self.made: tuple[list[tuple[_Rows, Value]], Value] | None = None

    def sources(self) -> tuple[list[tuple[_Rows, Value]], Value]:
        """What rows write, by kind, and the state at a chunk's start."""
        if self.made is None:
            state = self.builder.argument(self.memory.state.name, "carry", tuple(self.axes.values()), Level.CHUNK)
            self.gate_sums()
            solved = self.rows("row", reading=True)
            explicit = self.rows("write", reading=False)
            found = [] if solved is None else [(solved, self.solve(solved, explicit, state))]
            if explicit is not None and explicit.right is not None:
                found.append((explicit, explicit.right))
            self.made = found, state
        return self.made

    def carry(self) -> Carry:
        """The state before and after a chunk."""
        sources, state = self.sources()
        return Carry(self.memory.state.name, state, self.state_after(sources, state))

    # -- places in the step -------------------------------------------------------------------------------------------

    def position(self, segment: int, offset: int) -> Position:
        """Where an edit is in the step."""
        start = Size.of(0)
        for s in self.memory.segments[:segment]:
            start = start + Size.of(len(s.edits)) * (s.count or Size.of(1))
        here = self.memory.segments[segment]
        return Position(start, len(here.edits) if here.count is not None else 0, offset)

    def read_position(self, point: Point, segment: int) -> Position:
        """Where a point is: in the reader's own round if it stands in the same repeat."""
        at = self.position(point.segment, point.offset)
        return at if point.segment == segment else Position(at.start, 0, at.offset)

    # -- gates --------------------------------------------------------------------------------------------------------

    def gate_sums(self) -> None:
        """The cumulative sums of each side's log gates."""
        build = self.builder
        for side, gates in gate_logs(self.memory).items():
            parts, values = [], []
            for gate in gates:
                count = self.memory.segments[gate.segment].count
                parts.append(Part(gate.segment, count, None, self.position(gate.segment, gate.offset), None))
                logs = [build.apply("floor_log", build.lower(t, self.load), name="g") for t in gate.logs]
                values.append(reduce(lambda x, y: build.apply("add", x, y), logs))
            space = self.whole.space(GATES[side is not self.side], tuple(parts))
            axis = self.axes[side] if any(g.is_vector for g in gates) else None
            rows = tuple(self.part(v, p, axis) for v, p in zip(values, parts, strict=True))
            prefix = "" if side is self.side else "outer_"
            log_gates = build.add(ToRows(rows, space, axis), f"{prefix}log_gates")
            self.sums[side] = build.add(GateSums(log_gates, space), f"{prefix}sums"), space

    def weighing(self, side: Side) -> tuple[Side | None, Side | None]:
        """The sides whose gates weigh products over `side`, and what they leave; a scalar gate weighs the products."""
        other = side.other
        vector = {s for s, (sums, _) in self.sums.items() if len(sums.axes) > 1}
        inner = side if side in self.sums else other if other in self.sums and other not in vector else None
        return inner, other if other in vector else None

    def at(self, side: Side | None, space: Space | None, where: Where, name: str) -> Value | None:
        """The gate sums of a side where rows of `space` stand, or at the chunk's end; None for no gates."""
        if side is None:
            return None
        sums, gates = self.sums[side]
        return self.builder.add(
            At(sums, gates, space, where), f"{'g' if gates.name.startswith(GATES[0]) else 'h'}_{name}"
        )

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, name: str, reading: bool) -> _Rows | None:
        """The rows that read the state, or those that do not."""
        parts: list[Part] = []
        found: list[Row] = []
        for number, segment in enumerate(self.memory.segments):
            for offset, edit in enumerate(segment.edits):
                for row in edit.rows if isinstance(edit, Write) else ():
                    if (row.read is not None) != reading:
                        continue
                    at = None if row.point is None else self.read_position(row.point, number)
                    rank = None if row.rank is None else row.rank.size
                    parts.append(Part(number, segment.count, rank, self.position(number, offset), at))
                    found.append(row)
        if not parts:
            return None
        space = self.whole.space(name, tuple(parts))
        suffix = "" if reading else "_e"
        own, across = self.axes[self.side], self.axes[self.side.other]
        left = self.to_rows([r.left for r in found], space, own, "l" + suffix)
        free = [r.free for r in found]
        right = None if all(v is None for v in free) else self.to_rows(free, space, across, "v" + suffix)
        read = self.scaled([r.read for r in found], space, own, "y") if reading else None
        return _Rows(space, left, right, read)

    def to_rows(self, values: Sequence[Term | None], space: Space, axis: Axis | None, name: str) -> Value:
        """A term per part (None: zeros) as rows; a single vector is brought into rows apart from its scalars."""
        build = self.builder
        match values:
            case [terms.Apply("neg", (inner,))] if axis is None:
                return build.named(build.apply("neg", self.to_rows([inner], space, None, "")), name)
            case [value] if value is not None and axis is not None:
                scale, vector = _apart(value)
                if scale is not None:
                    scales = self.to_rows([scale], space, None, "")
                    return build.named(build.apply("mul", scales, self.to_rows([vector], space, axis, name)), name)
        pairs = zip(values, space.parts, strict=True)
        lowered = tuple(None if v is None else self.part(build.lower(v, self.load), p, axis) for v, p in pairs)
        return build.add(ToRows(lowered, space, axis), name)

    def scaled(self, values: Sequence[Term | None], space: Space, axis: Axis, name: str) -> _Scaled:
        """Rows of vectors with the scalars that multiply them apart."""
        match values:
            case [value] if value is not None:
                scale, vector = _apart(value)
                rows = self.to_rows([vector], space, axis, name)
                return _Scaled(None if scale is None else self.to_rows([scale], space, None, "scale"), rows)
            case _:
                return _Scaled(None, self.to_rows(values, space, axis, name))

    def part(self, value: Value, part: Part, axis: Axis | None) -> Value:
        """The value with every axis that its rows have."""
        ranks = (Axis(RANK, part.size),) if part.several else ()
        return self.builder.over(value, *ranks, *(() if axis is None else (Axis("x", axis.size),)))

    # -- the chunk ----------------------------------------------------------------------------------------------------

    def decay_dot(
        self, x: _Scaled, z: Value, gx: Value | None, gz: Value | None, mask: Mask, name: str, masked: bool = True
    ) -> Value:
        """The first primitive, for no gate (`masked` or not), a scalar gate, or a gate over what is summed."""
        build = self.builder
        rows = mask.columns.axis.name
        if gx is not None and gz is not None and len(gx.axes) > 1:
            dot = build.add(DecayDot(x.vector, z, gx, gz, mask), name if x.scale is None else name + "_dot")
            return dot if x.scale is None else build.apply("mul", x.scale, dot, name=name)
        dot = build.contract(x.vector, build.rename(z, rows, rows + "'"), x.vector.axes[-1])
        if x.scale is not None:
            dot = build.apply("mul", x.scale, build.named(dot, name + "_dot"))
        if not masked and gx is None:
            return build.named(dot, name)
        if gx is None or gz is None:
            return build.apply("mul", build.add(MaskMatrix(mask), "mask"), dot, name=name)
        weight = build.add(DecayMatrix(gx, gz, mask), "decay")
        return build.apply("mul", weight, dot, name=name)

    def decayed(self, value: _Scaled, upper: Value | None, lower: Value | None, name: str) -> Value:
        """The value times exp(upper - lower), scalars first."""
        build = self.builder
        weight = None if upper is None else build.add(Decay(upper, lower))
        if weight is None or value.scale is None:
            weight = value.scale if weight is None else weight
            return value.vector if weight is None else build.apply("mul", weight, value.vector, name=name)
        if len(weight.axes) > len(value.scale.axes):
            return build.apply("mul", weight, build.apply("mul", value.scale, value.vector), name=name)
        return build.apply("mul", build.apply("mul", weight, value.scale), value.vector, name=name)

    def applied(
        self, weights: Value, vectors: Value, hx: Value | None = None, hz: Value | None = None, mask: Mask | None = None
    ) -> Value:
        """Weighted rows, decayed by a gate over the vectors where there is one."""
        if hx is not None and hz is not None and mask is not None:
            return self.builder.add(DecayApply(weights, vectors, hx, hz, mask, False))
        rows = vectors.axes[0]
        primed = self.builder.rename(vectors, rows.name, rows.name + "'")
        return self.builder.contract(weights, primed, primed.axes[0])

    def solve(self, rows: _Rows, explicit: _Rows | None, state: Value) -> Value:
        """U: what the reading rows write."""
        build = self.builder
        assert rows.read is not None
        inner, _ = self.weighing(self.side)
        gr, gl = self.at(inner, rows.space, Where.READ, "read"), self.at(inner, rows.space, Where.WRITE, "write")
        matrix = self.decay_dot(rows.read, rows.left, gr, gl, Mask(rows.space, rows.space), "N")
        decayed = self.decayed(rows.read, gr, None, "y_decayed")
        reading = build.contract(decayed, state, self.axes[self.side])
        right = reading if rows.right is None else build.apply("add", rows.right, reading)
        if explicit is not None and explicit.right is not None:
            ge = self.at(inner, explicit.space, Where.WRITE, "write_e")
            seen = self.decay_dot(rows.read, explicit.left, gr, ge, Mask(rows.space, explicit.space), "E")
            right = build.apply("add", self.applied(seen, explicit.right), right)
        return build.add(Solve(matrix, build.named(right, "Z"), False), "U")

    def read(self, number: int, read: Read) -> Value:
        """What an output or another state reads, back per token: contracted on one side, left over the other."""
        build = self.builder
        sources, state = self.sources()
        rank = None if read.rank is None else read.rank.size
        part = Part(len(self.memory.segments), None, rank, None, self.read_position(read.point, -1))
        space = self.whole.space("query", (part,))
        contracted = self.axes[read.side]
        query = self.scaled([read.query], space, contracted, "q")
        inner, outer = self.weighing(read.side)
        gq, hq = self.at(inner, space, Where.READ, "query"), self.at(outer, space, Where.READ, "query")
        out = self.read_start(query, gq, hq, state)
        for rows, written in sources:
            mask = Mask(space, rows.space)
            gl, hl = self.at(inner, rows.space, Where.WRITE, "write"), self.at(outer, rows.space, Where.WRITE, "write")
            own = read.side is self.side
            over, left = (rows.left, written) if own else (written, rows.left)
            name = ("P" if own else "B") + ("" if rows.read is not None else "_e")
            weights = self.decay_dot(query, over, gq, gl, mask, name, masked=hq is None)
            out = build.apply("add", out, self.applied(weights, left, hq, hl, mask))
        found = build.add(FromRows(build.named(out, "O"), space, 0, self.axes[read.side.other]), f"read{number}")
        if self.memory.state.shape.kind is Kind.MATRIX:
            return found
        return build.total(found, [a for a in found.axes if a.name == "x"])  # the one column of a vector

    def read_start(self, query: _Scaled, gq: Value | None, hq: Value | None, state: Value) -> Value:
        """(Q . exp gq) S_0 . exp hq; scalar weights are multiplied after the product, without a copy of the queries."""
        build = self.builder
        contracted = query.vector.axes[-1]
        weights = [] if query.scale is None else [query.scale]
        if gq is not None and len(gq.axes) > 1:
            product = build.contract(self.decayed(query, gq, None, "q_decayed"), state, contracted)
            weights = []
        else:
            product = build.contract(query.vector, state, contracted)
            weights = weights if gq is None else [build.add(Decay(gq, None)), *weights]
        if weights:
            product = build.apply("mul", reduce(lambda x, y: build.apply("mul", x, y), weights), product)
        return product if hq is None else build.apply("mul", build.add(Decay(hq, None)), product)

    def state_after(self, sources: list[tuple[_Rows, Value]], state: Value) -> Value:
        """The state after a chunk."""
        build = self.builder
        inner, outer = self.weighing(self.side)
        last, outer_last = (self.at(side, None, Where.LAST, "last") for side in (inner, outer))
        for gates in (last, outer_last):
            if gates is not None and gates.axes:  # named, so that passes know it for the same
                build.named(build.add(Decay(gates, None)), "decay_chunk")
        total = self.decayed(_Scaled(None, self.decayed(_Scaled(None, state), last, None, "")), outer_last, None, "")
        for rows, written in sources:
            gl, hl = self.at(inner, rows.space, Where.WRITE, "write"), self.at(outer, rows.space, Where.WRITE, "write")
            left = self.decayed(_Scaled(None, rows.left), last, gl, "l_decayed")
            right = self.decayed(_Scaled(None, written), outer_last, hl, "u_decayed")
            pair = (left, right) if self.side is Side.KEY else (right, left)
            total = build.apply("add", total, build.contract(*pair, rows.space.axis))
        return build.named(total, "S_next")


def _apart(term: Term) -> tuple[Term | None, Term]:
    """The scalar factors of a product and the rest, which is a vector; (None, term) where there are none."""
    match term:
        case terms.Apply("mul", (a, b)) if not _is_vector(a) and _is_vector(b):
            scale, rest = _apart(b)
            return (a if scale is None else terms.Apply("mul", (a, scale))), rest
        case terms.Apply("neg", (inner,)):
            scale, rest = _apart(inner)
            return terms.Apply("neg", (terms.Constant(Fraction(1)) if scale is None else scale,)), rest
        case _:
            return None, term


def _is_vector(term: Term) -> bool:
    return any(a.name == "x" for a in terms.axes_of(term))
