"""Model -> Recurrence, or the class that it has instead.

In: a checked `Model`. Out: a `Recurrence` in normal form for classes G and D, D' included; for every other model a
`Classification` with the span that decides it. Raises nothing for a legal model.
"""

from __future__ import annotations

from fractions import Fraction
from typing import assert_never

import sympy as sp

from flowc.algebra.classify import classify_states
from flowc.algebra.edits import GateEdit, RowEdit, Step, WriteEdit
from flowc.algebra.evaluate import Refusal
from flowc.algebra.extract import extract
from flowc.algebra.forms import Outside
from flowc.algebra.gates import is_positive, logarithm
from flowc.algebra.leaves import Leaves
from flowc.algebra.merge import merge
from flowc.algebra.recurrence import Classification, Gate, Read, Recurrence, Result, Row, Segment, Write
from flowc.algebra.side import Side
from flowc.algebra.term import (
    Apply,
    Axis,
    Concat,
    HeadValue,
    IndexValue,
    Load,
    SizeValue,
    Term,
    Total,
    axes_of,
    rename,
)
from flowc.semantics.model import Interval, Model
from flowc.semantics.words import words

GATE = Interval(Fraction(0), Fraction(1), low_open=True)
"""The range of most gates."""


def normalize(model: Model) -> Recurrence | Classification:
    """The normal form of a model, or why it has none."""
    several = classify_states(model)
    if several is not None:
        return several
    leaves = Leaves()
    state = model.states[0]
    row, column = Axis("i", state.shape.rows), Axis("j", state.shape.cols)
    try:
        step = extract(model, leaves)
        step = merge(step, leaves, row if step.side is Side.KEY else column)
        return _Freezer(model, leaves, row, column, step.side).recurrence(step)
    except Refusal as refusal:
        outside = refusal.outside
        return Classification(outside.class_name, outside.reason, refusal.span, outside.advice)


class _Freezer:
    def __init__(self, model: Model, leaves: Leaves, row: Axis, column: Axis, side: Side) -> None:
        self.model, self.leaves, self.row, self.column, self.side = model, leaves, row, column, side
        self.declared = {i.name: i.range for i in model.inputs}

    def recurrence(self, step: Step) -> Recurrence:
        segments = tuple(Segment(s.count, tuple(self.edit(e) for e in s.edits)) for s in step.segments)
        reads = tuple(Read(self.frozen(r.query, {"i": "x"}), r.point, r.rank, r.side) for r in step.reads)
        results = tuple(
            Result(o.name, self.frozen(o.value, {"i": "x", "j": "x2"}), o.shape, o.span) for o in step.outputs
        )
        classification, value = self.classify(segments), self.value_input(segments)
        return Recurrence(self.model, self.row, self.column, segments, reads, results, classification, value, self.side)

    def frozen(self, expr: sp.Expr, names: dict[str, str]) -> Term:
        return self.leaves.freeze(self.leaves.rename(expr, names))

    def edit(self, edit: GateEdit | WriteEdit) -> Gate | Write:
        match edit:
            case GateEdit():
                return self.gate(edit)
            case WriteEdit(rows):
                return Write(tuple(self.written(r) for r in rows))
            case _:
                assert_never(edit)

    def gate(self, edit: GateEdit) -> Gate:
        try:
            left, right = (None if e == 1 else logarithm(e, self.range) for e in (edit.left, edit.right))
        except Outside as outside:
            advised = Outside(outside.reason, outside.class_name, self.positive_gate(edit))
            raise Refusal(advised, edit.span) from None
        row = None if left is None else self.frozen(left, {"i": "x"})
        return Gate(row, None if right is None else self.frozen(right, {"j": "x"}), edit.span)

    def positive_gate(self, edit: GateEdit) -> str:
        """What to write for a gate that may be 0 or negative: ranges of inputs that have none, where those would do."""
        bare = {}
        for symbol in sorted(edit.left.free_symbols | edit.right.free_symbols, key=str):
            match self.leaves.term(symbol):
                case Load(name=name) if self.declared[name] is None:
                    bare[symbol] = name

        def assumed(symbol: sp.Symbol) -> Interval:
            return GATE if symbol in bare else self.range(symbol)

        if not bare or not all(is_positive(e, assumed) for e in (edit.left, edit.right)):
            return "write the gate as `exp(.)` or `sigmoid(.)`, or declare ranges that keep it above 0"
        named = words(self.model.source)
        unbounded = [i for i in self.model.inputs if i.name in bare.values()]
        wanted = " and ".join(named.declared(i, "in (0, 1]") for i in unbounded)
        return f"declare {wanted}, or write the gate as `exp(.)` or `sigmoid(.)`"

    def written(self, r: RowEdit) -> Row:
        own, other = {self.side.axis: "x"}, {self.side.other.axis: "x"}
        free = None if r.free == 0 else self.frozen(r.free, other)
        read = None if r.read == 0 else self.frozen(r.read, own)
        return Row(self.frozen(r.left, own), free, read, r.point, r.rank, r.span)

    def range(self, symbol: sp.Symbol) -> Interval:
        """What is known of a leaf's values."""
        match self.leaves.term(symbol):
            case Load(name=name):
                return self.declared[name] or Interval()
            case HeadValue() | IndexValue():
                return Interval(Fraction(0), None)
            case SizeValue():
                return Interval(Fraction(1), None)
            case Total(Apply("mul", (a, b)), _) if a == b:
                return Interval(Fraction(0), None)
            case Apply("exp", _):
                return Interval(Fraction(0), None, low_open=True)
            case _:
                return Interval()

    def classify(self, segments: tuple[Segment, ...]) -> Classification:
        edits = [e for s in segments for e in s.edits]
        rows = [r for e in edits if isinstance(e, Write) for r in e.rows]
        gates = [e for e in edits if isinstance(e, Gate)]
        reading = next((r for r in rows if r.read is not None), None)
        columns = next((g for g in gates if g.log_column is not None), None)
        across = columns if self.side is Side.KEY else next((g for g in gates if _over_rows(g)), None)
        if reading is None:
            span = gates[0].span if gates else rows[0].span if rows else self.model.states[0].span
            gate = "a gate on the value side" if columns else "gates of scalar or key side" if gates else "no gate"
            return Classification("G", f"no read of the state, {gate}", columns.span if columns else span)
        own, other = self.side.value, self.side.other.value
        if across is not None:
            return Classification("D'", f"reads on the {own} side, a gate on the {other} side", across.span)
        return Classification("D", f"reads of the state on the {own} side", reading.span)

    def value_input(self, segments: tuple[Segment, ...]) -> str:
        """The first input that is written along the state's columns; else the first with that size; else the first."""
        written: set[str] = set()
        for segment in segments:
            for edit in segment.edits:
                for r in edit.rows if isinstance(edit, Write) else ():
                    along = r.free if self.side is Side.KEY else r.left
                    written |= set() if along is None else _vectors(along)
        ordered = [i for i in self.model.inputs if not i.is_param]
        sized = [i.name for i in ordered if self.column.size in i.shape.sizes]
        return ([i.name for i in ordered if i.name in written] or sized or [ordered[0].name])[0]


def _over_rows(gate: Gate) -> bool:
    """Whether a gate differs along the state's rows."""
    return gate.log_row is not None and any(a.name == "x" for a in axes_of(gate.log_row))


def _vectors(term: Term) -> set[str]:
    """The inputs that run over the axis of a vector, not under a sum."""
    match term:
        case Load(name=name, axes=axes):
            return {name} if any(a.name == "x" for a in axes) else set()
        case Apply(arguments=arguments):
            return set().union(*(_vectors(a) for a in arguments))
        case Concat(parts=parts):
            return set().union(*(_vectors(rename(p, {a.name: "x"})) for p, a in zip(parts, term.inner, strict=True)))
        case _:
            return set()
