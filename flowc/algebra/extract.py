"""Extraction: the statements of a model with one matrix state, as a list of edits.

In: a `Model`. Out: a `Step`. Refuses, as `Refusal` with the deciding span, what is not affine in the state or has no
place in the normal form. The expression is read from the typed tree; nothing is parsed from text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

import sympy as sp

from flowc.algebra.edits import Extracted, GateEdit, OutputEdit, RowEdit, ScanEdit, Segment, Step, WriteEdit
from flowc.algebra.evaluate import Evaluator, Refusal
from flowc.algebra.forms import Calculus, Entrywise, Form, Outside, Point, Product, StateUse
from flowc.algebra.leaves import Leaves, divide, factors, product
from flowc.algebra.side import Side
from flowc.algebra.term import Axis
from flowc.semantics.model import Binary, Expr, Kind, Let, Model, Output, Repeat, Statement, StateRef, Update
from flowc.semantics.size import Size
from flowc.semantics.walk import flat
from flowc.source import Span


def extract(model: Model, leaves: Leaves, scanned: Iterable[str] = ()) -> Extracted:
    """The edits, scans and outputs of a model, each state's on the side where its updates read it.

    `scanned` are vector states that are scanned whatever uses them.
    """
    scanned = {s.name for s in model.states if s.shape.kind is Kind.SCALAR} | set(scanned)
    turned: set[str] = set()
    while True:
        try:
            return _Extraction(model, leaves, frozenset(scanned), frozenset(turned)).run()
        except Entrywise as found:
            scanned.add(found.state)
        except Refusal as refusal:
            if not isinstance(refusal.outside, OtherSide) or refusal.outside.state in turned:
                raise
            turned.add(refusal.outside.state)


class OtherSide(Outside):
    """A read of a state on the side across from the one that is extracted."""

    def __init__(self, reason: str, state: str) -> None:
        """Record why, and which state."""
        super().__init__(reason)
        self.state = state


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
    def __init__(self, model: Model, leaves: Leaves, scanned: frozenset[str], turned: frozenset[str]) -> None:
        self.model, self.leaves, self.turned = model, leaves, turned
        self.states = {s.name: s for s in model.states}
        self.calculus = Calculus(leaves, {s.name: s.shape for s in model.states if s.name not in scanned})
        self.evaluator = Evaluator(model, leaves, self.calculus)
        for name in scanned:
            self.evaluator.scanned[name] = self.evaluator.scan_leaf(name, self.states[name].shape, previous=True)
        self.edited = {name: [Segment(None)] for name in self.calculus.states}
        self.updates = Counter(s.state for s in flat(model.statements) if isinstance(s, Update))
        self.scans: list[ScanEdit] = []
        self.outputs: list[OutputEdit] = []
        self.state = model.states[0]
        self.have_read = set(turned)  # states that an update has read on their side

    @property
    def side(self) -> Side:
        """The side on which updates of the state read it."""
        return Side.VALUE if self.state.name in self.turned else Side.KEY

    @property
    def segments(self) -> list[Segment]:
        """Those of the state that is updated."""
        return self.edited[self.state.name]

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The state's rows and columns; a vector has one column."""
        return Axis("i", self.state.shape.rows), Axis("j", self.state.shape.cols)

    @property
    def row(self) -> Axis:
        """The axis of the side that is read of the state that is updated."""
        return self.axes[self.side is Side.VALUE]

    @property
    def column(self) -> Axis:
        """The axis of the other side."""
        return self.axes[self.side is Side.KEY]

    @property
    def now(self) -> Point:
        """The point of the state that is updated after all edits so far."""
        return Point(len(self.segments) - 1, len(self.segments[-1].edits))

    def run(self) -> Extracted:
        for statement in self.model.statements:
            self.statement(statement)
        reads = self.calculus.reads
        steps = tuple(
            Step(
                self.states[name],
                segments,
                [r for r in reads if r.state == name],
                Side.VALUE if name in self.turned else Side.KEY,
            )
            for name, segments in self.edited.items()
        )
        return Extracted(steps, tuple(self.scans), tuple(reads), tuple(self.outputs))

    def statement(self, statement: Statement) -> None:
        match statement:
            case Let(name, value, _):
                self.evaluator.bind(name, value)
            case Update(state, _, _) if state in self.evaluator.scanned:
                self.scan(statement)
            case Update(state, _, _):
                self.state = self.states[state]
                self.calculus.kept = frozenset((state,))
                self.update(statement)
                self.evaluator.now[state] = self.now
            case Output():
                self.output(statement)
            case Repeat(_, count, body, span):
                self.repeat(count, body, span)
            case _:
                assert_never(statement)
        self.calculus.kept = frozenset(self.calculus.states)

    def repeat(self, count: Size, body: tuple[Statement, ...], span: Span) -> None:
        if self.evaluator.rank is not None:
            raise Refusal(Outside("a repeat stands inside a repeat"), span)
        saved = dict(self.evaluator.lets)
        self.evaluator.rank = Axis("rank", count)
        written = {s.state for s in flat(body) if isinstance(s, Update)} & set(self.edited)
        self.opened(written, count)
        before = len(self.calculus.reads)
        for statement in body:
            self.statement(statement)
        rounds = {name: len(self.edited[name]) - 1 for name in written}
        if any(rounds.get(r.state) == r.point.segment for r in self.calculus.reads[before:]):
            raise Refusal(Outside("a repeat updates one state by what it reads of another that it updates"), span)
        self.evaluator.rank, self.evaluator.lets = None, saved
        self.opened(written, None)

    def opened(self, states: set[str], count: Size | None) -> None:
        """A new segment for each of these states."""
        for name in states:
            self.edited[name].append(Segment(count))
            self.evaluator.now[name] = Point(len(self.edited[name]) - 1, 0)

    def output(self, statement: Output) -> None:
        self.calculus.kept = frozenset()
        value = self.evaluator.plain(statement.value)
        self.outputs.append(OutputEdit(statement.name, value, statement.value.shape, statement.span))

    def scan(self, statement: Update) -> None:
        """An update of a state entry by entry; after its last one the state is a leaf of its own."""
        name, state = statement.state, self.states[statement.state]
        if self.evaluator.rank is not None:
            column = f"`{name} : {state.shape} x E` with E = 1 and read by `{name}[t] @ ones(E)`"
            advice = f"write it as a matrix with one column, {column}" if state.shape.kind is Kind.COLUMN else ""
            reason = f"a repeat updates {name}, which something uses entry by entry"
            raise Refusal(Outside(reason, advice=advice), statement.span)
        self.calculus.kept = frozenset()
        value = self.evaluator.plain(statement.value)
        self.updates[name] -= 1
        if self.updates[name]:
            self.evaluator.scanned[name] = value
            return
        before = self.evaluator.scan_leaf(name, state.shape, previous=True)
        after = self.evaluator.scan_leaf(name, state.shape, previous=False)
        self.scans.append(ScanEdit(state, before, after, value, statement.value.span))
        self.evaluator.scanned[name] = after

    # -- updates ------------------------------------------------------------------------------------------------------

    def update(self, statement: Update) -> None:
        """`S[t] = value` as a gate and a write."""
        form = self.form(statement.value)
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

    def form(self, e: Expr) -> Form:
        """An expression as a form in the state that is updated, others read."""
        form = self.evaluator.form(e)
        return self.evaluator.guarded(e.span, lambda: self.calculus.settled(form))

    def located(self, outside: Outside, statement: Update, others: list[Product]) -> Refusal:
        """A refusal with the span of the term at fault, where one term alone is."""
        sides = {p.state.row in {a.name for a in p.summed} for p in others if p.state is not None}
        if isinstance(outside, OtherSide) and (len(sides) > 1 or self.state.name in self.have_read):
            outside = Outside("it reads the state on both sides")
        for term in _terms(statement.value):
            form = self.form(term)
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
            form = self.form(term)
            if any(p.state and not p.delta and self.opens_both(p) for p in form.products):
                return self.factor(term).span
        return statement.span

    def factor(self, term: Expr) -> Expr:
        """Of a product of the state with something else, that; otherwise the term itself."""
        match term:
            case Binary(op="*" | "@", left=a, right=b):
                held = [self.form(x).holds_state for x in (a, b)]
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
            if (p.state.row, p.state.column) not in (("i", "j"), ("i", "")):
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
        return _Use(**{n: product(fs) for n, fs in groups.items()})

    def written(self, p: Product, span: Span) -> RowEdit:
        """A product without a gate's shape as one row: l (v + S^T y)^T, S transposed on the value side."""
        if p.delta:
            raise Outside("it adds an identity or diagonal matrix to the state")
        summed = {a.name: a for a in p.summed}
        contracted: frozenset[Axis] = frozenset()
        if p.state is not None:
            row, column = self.sides(p.state)
            if row not in summed and column in summed:
                raise OtherSide(f"it reads the state on its {self.side.other.value} side", self.state.name)
            if row in summed and column in summed:
                raise Outside("it reads the state down to a scalar")
            if column not in (self.column.name, ""):
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
        self.have_read.add(self.state.name)
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
