"""Extraction: the statements of a model with one matrix state, as a list of edits.

In: a `Model`. Out: a `Step`. Refuses, as `Refusal` with the deciding span, what is not affine in the state or has no
place in the normal form. The expression is read from the typed tree; nothing is parsed from text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

import sympy as sp

from flowc.algebra.edits import GateEdit, OutputEdit, RowEdit, Segment, Step, WriteEdit
from flowc.algebra.evaluate import Evaluator, Refusal
from flowc.algebra.forms import Calculus, Outside, Point, Product, StateUse
from flowc.algebra.leaves import Leaves, divide, factors
from flowc.algebra.side import Side
from flowc.algebra.term import Axis
from flowc.semantics.model import Binary, Expr, Let, Model, Output, Repeat, State, Statement, StateRef, Update
from flowc.semantics.size import Size
from flowc.source import Span


def extract(model: Model, leaves: Leaves) -> Step:
    """The edits and outputs of a model with a single matrix state, on the side where its updates read it."""
    try:
        return _Extraction(model, leaves, Side.KEY).run()
    except Refusal as refusal:
        if not isinstance(refusal.outside, OtherSide):
            raise
    return _Extraction(model, leaves, Side.VALUE).run()


class OtherSide(Outside):
    """A read of the state on the side across from the one that is extracted."""


@dataclass(frozen=True, slots=True)
class _Use:
    """One product of an update that holds the state, its factors sorted by the axes they run over.

    Left factors run over the side that is read, right ones over the other.
    """

    left: sp.Expr
    right: sp.Expr
    read: sp.Expr
    scalar: sp.Expr
    mixed: sp.Expr


class _Extraction:
    def __init__(self, model: Model, leaves: Leaves, side: Side) -> None:
        self.model, self.leaves, self.side = model, leaves, side
        self.state: State = model.states[0]
        self.calculus = Calculus(leaves)
        self.evaluator = Evaluator(model, leaves, self.calculus)
        self.segments = [Segment(None)]
        self.outputs: list[OutputEdit] = []
        axes = Axis("i", self.state.shape.rows), Axis("j", self.state.shape.cols)
        self.row, self.column = axes if side is Side.KEY else axes[::-1]
        self.has_read = side is Side.VALUE  # an update has read the state on this side

    @property
    def now(self) -> Point:
        """The point after all edits so far."""
        return Point(len(self.segments) - 1, len(self.segments[-1].edits))

    def run(self) -> Step:
        for statement in self.model.statements:
            self.statement(statement)
        return Step(self.segments, self.calculus.reads, self.outputs, self.side)

    def statement(self, statement: Statement) -> None:
        self.evaluator.now = self.now
        match statement:
            case Let(name, value, _):
                self.evaluator.bind(name, value)
            case Update():
                self.update(statement)
            case Output():
                self.output(statement)
            case Repeat(_, count, body, span):
                self.repeat(count, body, span)
            case _:
                assert_never(statement)

    def repeat(self, count: Size, body: tuple[Statement, ...], span: Span) -> None:
        if self.evaluator.rank is not None:
            raise Refusal(Outside("a repeat stands inside a repeat"), span)
        saved = dict(self.evaluator.lets)
        self.segments.append(Segment(count))
        self.evaluator.rank = Axis("rank", count)
        for statement in body:
            self.statement(statement)
        self.evaluator.rank, self.evaluator.lets = None, saved
        self.segments.append(Segment(None))

    def output(self, statement: Output) -> None:
        self.calculus.reading = self.state.shape
        try:
            value = self.evaluator.plain(statement.value)
        finally:
            self.calculus.reading = None
        self.outputs.append(OutputEdit(statement.name, value, statement.value.shape, statement.span))

    # -- updates ------------------------------------------------------------------------------------------------------

    def update(self, statement: Update) -> None:
        """`S[t] = value` as a gate and a write."""
        form = self.evaluator.form(statement.value)
        gates = [p for p in form.products if p.state and not p.delta and self.opens_both(p)]
        others = [p for p in form.products if p not in gates]
        try:
            rows = [self.written(q, statement.span) for p in others for q in self.separated(p)]
            gate = self.gate(gates, self.gate_span(statement))
        except Outside as outside:
            raise self.located(outside, statement, others) from None
        edits = self.segments[-1].edits
        if (gate.left, gate.right) != (1, 1):
            edits.append(gate)
        rows = [self.past_gates(row) for row in rows]
        if rows:
            edits.append(WriteEdit(tuple(rows)))

    def located(self, outside: Outside, statement: Update, others: list[Product]) -> Refusal:
        """A refusal with the span of the term at fault, where one term alone is."""
        sides = {p.state.row in {a.name for a in p.summed} for p in others if p.state is not None}
        if isinstance(outside, OtherSide) and (len(sides) > 1 or self.has_read):
            outside = Outside("it reads the state on both sides")
        for term in _terms(statement.value):
            form = self.evaluator.form(term)
            try:
                for p in form.products:
                    if p.state and not p.delta and self.opens_both(p):
                        self.gate([p], term.span)
                    else:
                        for q in self.separated(p):
                            self.written(q, term.span)
            except Outside:
                return Refusal(outside, self.factor(term).span)
        return Refusal(outside, statement.span)

    def gate_span(self, statement: Update) -> Span:
        """The gate of the first term that has the state in a gate's place."""
        for term in _terms(statement.value):
            form = self.evaluator.form(term)
            if any(p.state and not p.delta and self.opens_both(p) for p in form.products):
                return self.factor(term).span
        return statement.span

    def factor(self, term: Expr) -> Expr:
        """Of a product of the state with something else, that; otherwise the term itself."""
        match term:
            case Binary(op="*" | "@", left=a, right=b):
                held = [self.evaluator.form(x).holds_state for x in (a, b)]
                plain = isinstance(b if held[1] else a, StateRef)
                return (a if held[1] else b) if held.count(True) == 1 and plain else term
            case _:
                return term

    def separated(self, p: Product) -> list[Product]:
        """The product, or where its factors mix rows and columns, what it is a sum of."""
        contracted = frozenset(a for a in p.summed if p.state is not None and a.name == self.sides(p.state)[0])
        if p.delta or self.sorted_factors(p.coefficient, contracted).mixed == 1:
            return [p]
        return [replace(p, coefficient=c) for c in sp.Add.make_args(sp.expand_mul(p.coefficient))]

    def sides(self, state: StateUse) -> tuple[str, str]:
        """The state's axes: that of the side that is read, and the other."""
        return (state.row, state.column) if self.side is Side.KEY else (state.column, state.row)

    def opens_both(self, p: Product) -> bool:
        """Whether both of the state's axes are axes of the result."""
        assert p.state is not None
        summed = {a.name for a in p.summed}
        return p.state.row not in summed and p.state.column not in summed

    def gate(self, products: list[Product], span: Span) -> GateEdit:
        if not products:
            raise Outside("it drops the old state, a gate that is 0")
        for p in products:
            assert p.state is not None
            if (p.state.row, p.state.column) != ("i", "j"):
                raise Outside("it adds the transposed state")
            if p.summed:
                raise Outside("its gate is a matrix product")
            if p.state.point != self.now:
                raise Outside("it builds on an earlier state than the latest")
        total = sp.Add(*(p.coefficient for p in products))
        if total == 0:
            raise Outside("it drops the old state, a gate that is 0")
        parts = self.sorted_factors(total, frozenset())
        if parts.mixed != 1:
            raise Outside("its gate is a matrix that is no outer product of two vectors", "E")
        rows, columns = (parts.left, parts.right) if self.side is Side.KEY else (parts.right, parts.left)
        return GateEdit(rows * parts.scalar, columns, span)

    def sorted_factors(self, expr: sp.Expr, contracted: frozenset[Axis]) -> _Use:
        """Factors by axes: own side left, other side right, contracted ones read, none scalar; the rest mixed."""
        groups: dict[str, list[sp.Expr]] = {n: [] for n in ("left", "right", "read", "scalar", "mixed")}
        for factor in factors(expr):
            axes = self.leaves.axes(factor)
            touched = [self.row in axes, self.column in axes, bool(contracted & axes)]
            if sum(touched) > 1:
                groups["mixed"].append(factor)
            else:
                groups[("left", "right", "read")[touched.index(True)] if any(touched) else "scalar"].append(factor)
        return _Use(**{n: sp.Mul(*fs) for n, fs in groups.items()})

    def written(self, p: Product, span: Span) -> RowEdit:
        """A product without a gate's shape as one row: l (v + S^T y)^T, S transposed on the value side."""
        if p.delta:
            raise Outside("it adds an identity or diagonal matrix to the state")
        summed = {a.name: a for a in p.summed}
        contracted: frozenset[Axis] = frozenset()
        if p.state is not None:
            row, column = self.sides(p.state)
            if row not in summed and column in summed:
                raise OtherSide(f"it reads the state on its {self.side.other.value} side")
            if row in summed and column in summed:
                raise Outside("it reads the state down to a scalar")
            if column != self.column.name:
                across = "rows" if self.side is Side.KEY else "columns"
                raise Outside(f"it writes what it reads into the state's {across}")
            contracted = frozenset((summed[row],))
        use = self.sorted_factors(p.coefficient, contracted)
        ranks = [a for a in p.summed if a not in contracted]
        if len(ranks) > (self.evaluator.rank is None):
            raise Outside("a factor has more than one rank axis")
        if use.mixed != 1:
            dense = "a dense matrix multiplies the state" if p.state else "it writes a matrix of full rank"
            raise Outside(dense)
        if p.state is not None and use.right != 1:
            raise Outside(f"it weighs what it reads by a {self.side.other.value}-side vector")
        return self.row_of(use, p, contracted, ranks, span)

    def row_of(self, use: _Use, p: Product, contracted: frozenset[Axis], ranks: list[Axis], span: Span) -> RowEdit:
        names = {a.name: "rank" for a in ranks} | {a.name: self.row.name for a in contracted}
        left, right, read, scalar = (self.leaves.rename(e, names) for e in (use.left, use.right, use.read, use.scalar))
        if left.could_extract_minus_sign():
            left, scalar = -left, -scalar
        rank = Axis("rank", ranks[0].size) if ranks else None
        if p.state is None:
            return RowEdit(left, scalar * right, sp.S.Zero, None, rank, span)
        self.has_read = True
        return RowEdit(left, sp.S.Zero, scalar * read, p.state.point, rank, span)

    def past_gates(self, row: RowEdit) -> RowEdit:
        """A gate written inside a read is dropped and the read moved past it."""
        point, read = row.point, row.read
        while point is not None:
            edits = self.segments[point.segment].edits
            gate = edits[point.offset] if point.offset < len(edits) else None
            if not isinstance(gate, GateEdit) or self.column in self.leaves.axes(gate.left * gate.right):
                break
            rest = divide(read, gate.left * gate.right)
            if rest is None:
                break
            point, read = Point(point.segment, point.offset + 1), rest
        return RowEdit(row.left, row.free, read, point, row.rank, row.span)


def _terms(e: Expr) -> list[Expr]:
    """What an expression adds up."""
    match e:
        case Binary(op="+" | "-", left=a, right=b):
            return [*_terms(a), *_terms(b)]
        case _:
            return [e]
