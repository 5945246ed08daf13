"""Model -> Recurrence, or the class that it has instead.

In: a checked `Model`. Out: a `Recurrence` in normal form for classes G and D, D' included; for every other model a
`Classification` with the span that decides it. Raises nothing for a legal model.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from functools import partial
from typing import assert_never

import sympy as sp

from flowc.algebra.classify import classify_states
from flowc.algebra.edits import Extracted, GateEdit, RowEdit, ScanEdit, Step, WriteEdit
from flowc.algebra.evaluate import Refusal
from flowc.algebra.extract import extract
from flowc.algebra.forms import Outside, StateRead
from flowc.algebra.gates import is_positive, logarithm
from flowc.algebra.leaves import Leaves
from flowc.algebra.merge import merge
from flowc.algebra.recurrence import (
    Classification,
    Gate,
    Memory,
    Read,
    Recurrence,
    Result,
    Row,
    Scan,
    Segment,
    Stepped,
    Write,
)
from flowc.algebra.scans import Step as ScanStep
from flowc.algebra.scans import scanned, shares
from flowc.algebra.side import Side
from flowc.algebra.stepping import step_by_step
from flowc.algebra.term import (
    Apply,
    Axis,
    Concat,
    HeadValue,
    IndexValue,
    Kron,
    Load,
    ReadValue,
    ScanValue,
    SizeValue,
    Term,
    Total,
    axes_of,
    parts,
    reads_state,
    rename,
)
from flowc.semantics.model import Interval, Kind, Model, State
from flowc.semantics.words import words

GATE = Interval(Fraction(0), Fraction(1), low_open=True)
"""The range of most gates."""


def normalize(model: Model) -> Recurrence | Classification:
    """The normal form of a model, or why it has none."""
    several = classify_states(model)
    if several is not None:
        return several
    vectors = [s.name for s in model.states if s.shape.kind is Kind.COLUMN]
    try:
        try:
            return _normalized(model)
        except Refusal:
            if not vectors:
                raise
            with suppress(Refusal):
                return _normalized(model, vectors)
            raise
    except Refusal as refusal:
        outside = refusal.outside
        return Classification(outside.class_name, outside.reason, refusal.span, outside.advice)


def stepped(model: Model, found: Classification) -> Recurrence | Classification:
    """The step of a model that has no normal form, `found` says why, taken token by token; or why not even that."""
    leaves = Leaves()
    try:
        return _Freezer(model, leaves).stepped(step_by_step(model, leaves), found)
    except Refusal as refusal:
        reason = "; and ".join(dict.fromkeys((found.reason, refusal.outside.reason)))
        return Classification(found.name, reason, refusal.span, refusal.outside.advice)


def _normalized(model: Model, scanned: Iterable[str] = ()) -> Recurrence:
    """The normal form, vector states `scanned` entry by entry even where they need not be."""
    leaves = Leaves()
    return _Freezer(model, leaves).recurrence(extract(model, leaves, scanned))


class _Freezer:
    def __init__(self, model: Model, leaves: Leaves) -> None:
        self.model, self.leaves = model, leaves
        self.side = Side.KEY  # of the state that is frozen
        self.declared = {x.name: x.range for some in (model.inputs, model.states) for x in some}
        self.steps: list[ScanStep] = []  # of scans, their axes named as scans have them

    def recurrence(self, found: Extracted) -> Recurrence:
        self.scans = scans = tuple(self.scan(s) for s in found.scans)
        steps = [merge(step, self.leaves, _rows(step.state, step.side)) for step in found.steps]
        memories = tuple(self.memory(step) for step in steps)
        merged = {step.state.name: iter(step.reads) for step in steps}
        order = {step.state.name: number for number, step in enumerate(steps)}
        reads = tuple(self.read(next(merged[r.state]), order[r.state]) for r in found.reads)
        results = tuple(
            Result(o.name, self.frozen(o.value, {"i": "x", "j": "x2"}), o.shape, o.span) for o in found.outputs
        )
        return Recurrence(
            self.model,
            memories,
            scans,
            reads,
            results,
            self.classify(memories, scans),
            self.value_input(memories, {reads[n].memory for r in results for n in _read_in(r.value)}),
        )

    def stepped(self, found: Extracted, classification: Classification) -> Recurrence:
        """States and outputs, entry by entry."""
        places = {"i": "x", "j": "x2"}
        assigned = tuple((s.state, self.frozen(s.value, places)) for s in found.scans)
        own = {s.name for s in self.model.states}
        after = Stepped(tuple(s for s, _ in assigned if s.name in own), assigned)
        results = tuple(Result(o.name, self.frozen(o.value, places), o.shape, o.span) for o in found.outputs)
        matrices = [term for state, term in assigned if state.shape.kind is Kind.MATRIX]
        timed = [i.name for i in self.model.inputs if not i.is_param]
        added = [name for term in matrices for name in timed if name in _added(term, "x2")]
        written = [name for term in matrices for name in timed if name in _over(term, "x2")]
        value = next(iter((*added, *written)), timed[0])
        return Recurrence(self.model, (), (), (), results, classification, value, after)

    def memory(self, step: Step) -> Memory:
        shape, self.side = step.state.shape, step.side
        segments = tuple(Segment(s.count, tuple(self.edit(e) for e in s.edits)) for s in step.segments)
        return Memory(step.state, Axis("i", shape.rows), Axis("j", shape.cols), segments, step.side)

    def read(self, read: StateRead, memory: int) -> Read:
        return Read(memory, self.frozen(read.query, {"i": "x"}), read.point, read.rank, read.side)

    def scan(self, found: ScanEdit) -> Scan:
        try:
            if any(_holds(self.leaves.term(s), found.state) for s in found.value.free_symbols - {found.before}):
                raise Outside("an entry of its next value needs other entries")
            kind, gate, value = scanned(found.value, found.before, self.range)
        except Outside as outside:
            raise Refusal(outside, found.span) from None
        self.steps.append(ScanStep(kind, gate, value, found.before, found.after))
        return Scan(found.state, kind, self.frozen(gate, {"i": "x"}), self.frozen(value, {"i": "x"}), found.span)

    def frozen(self, expr: sp.Expr, names: dict[str, str]) -> Term:
        expr = self.leaves.rename(expr, names)
        for step in self.steps if any(self.is_after(s) for s in expr.free_symbols) else ():
            for axis in ("i", "j", "x", "x2"):
                expr = shares(expr, step.moved(partial(self.leaves.rename, names={"i": axis})))
        return self.leaves.freeze(expr)

    def is_after(self, symbol: sp.Symbol) -> bool:
        """Whether a leaf is a scanned state after the token."""
        match self.leaves.term(symbol):
            case ScanValue(previous=previous):
                return not previous
            case _:
                return False

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
            case Load(name=name) | ScanValue(name, True):
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

    def classify(self, memories: tuple[Memory, ...], scans: tuple[Scan, ...]) -> Classification:
        if len(self.model.states) > 1:
            names = ", ".join(s.name for s in self.model.states)
            span = self.model.states[1].span
            return Classification("M", f"several states ({names}), none of which needs another that needs it", span)
        if scans:
            (scan,) = scans
            if scan.kind == "linear" and scan.state.shape.kind is not Kind.SCALAR:
                return Classification("E", "a vector state with an elementwise gate", scan.span)
            return Classification("A", f"a {scan.kind} scan of a {scan.state.shape.kind.value} state", scan.span)
        edits = [e for s in memories[0].segments for e in s.edits]
        rows = [r for e in edits if isinstance(e, Write) for r in e.rows]
        gates = [e for e in edits if isinstance(e, Gate)]
        reading = next((r for r in rows if r.read is not None), None)
        columns = next((g for g in gates if g.log_column is not None), None)
        side = memories[0].side
        across = columns if side is Side.KEY else next((g for g in gates if _over_rows(g)), None)
        if reading is None:
            span = gates[0].span if gates else rows[0].span if rows else self.model.states[0].span
            gate = "a gate on the value side" if columns else "gates of scalar or key side" if gates else "no gate"
            return Classification("G", f"no read of the state, {gate}", columns.span if columns else span)
        own, other = side.value, side.other.value
        if across is not None:
            return Classification("D'", f"reads on the {own} side, a gate on the {other} side", across.span)
        return Classification("D", f"reads of the state on the {own} side", reading.span)

    def value_input(self, memories: tuple[Memory, ...], read: set[int]) -> str:
        """The first input that is written along a matrix's columns; else the first with that size; else the first.

        Of several matrices it is the first that outputs read, then the last: others are read on the way there.
        """
        ordered = [i for i in self.model.inputs if not i.is_param]
        numbers = [*sorted(read), *(n for n in reversed(range(len(memories))) if n not in read)]
        for memory in (memories[n] for n in numbers if memories[n].state.shape.kind is Kind.MATRIX):
            written: set[str] = set()
            for edit in (e for segment in memory.segments for e in segment.edits):
                for r in edit.rows if isinstance(edit, Write) else ():
                    along = r.free if memory.side is Side.KEY else r.left
                    written |= set() if along is None else _vectors(along)
            sized = [i.name for i in ordered if memory.column.size in i.shape.sizes]
            found = [i.name for i in ordered if i.name in written] or sized
            if found:
                return found[0]
        written = set().union(*(_factors(s.value) for s in self.scans if s.kind == "linear"))
        return next((i.name for i in ordered if i.name in written), ordered[0].name)


def _factors(term: Term) -> set[str]:
    """The inputs that a sum of products has as they are, not within a function."""
    match term:
        case Load(name=name):
            return {name}
        case Apply("add" | "sub" | "mul" | "neg", arguments):
            return set().union(*(_factors(a) for a in arguments))
        case _:
            return set()


def _read_in(term: Term) -> set[int]:
    """The reads that a term holds."""
    own = {term.index} if isinstance(term, ReadValue) else set()
    return own.union(*(_read_in(part) for part in parts(term)))


def _holds(term: Term, state: State) -> bool:
    """Whether a scanned state, as it was before the token, is in a term."""
    if isinstance(term, ScanValue):
        return term.name == state.name and term.previous
    return any(_holds(part, state) for part in parts(term))


def _rows(state: State, side: Side) -> Axis:
    """The axis of the side that updates of a state read."""
    return Axis("i", state.shape.rows) if side is Side.KEY else Axis("j", state.shape.cols)


def _over_rows(gate: Gate) -> bool:
    """Whether a gate differs along the state's rows."""
    return gate.log_row is not None and any(a.name == "x" for a in axes_of(gate.log_row))


def _added(term: Term, axis: str) -> set[str]:
    """The inputs over an axis in what is added to a state: no gates of it."""
    match term:
        case _ if not reads_state(term):
            return _over(term, axis)
        case Apply("mul" | "div", arguments):
            held = [a for a in arguments if reads_state(a) and isinstance(a, Apply)]
            return set().union(*(_added(a, axis) for a in held))
        case Apply(_, arguments):
            return set().union(*(_added(a, axis) for a in arguments))
        case _:
            return set()


def _over(term: Term, axis: str) -> set[str]:
    """The inputs that run over an axis, as they are or within a function."""
    own = {term.name} if isinstance(term, Load) and axis in [a.name for a in term.axes] else set()
    return own.union(*(_over(part, axis) for part in parts(term)))


def _vectors(term: Term) -> set[str]:
    """The inputs that run over the axis of a vector, not under a sum."""
    match term:
        case Load(name=name, axes=axes):
            return {name} if any(a.name == "x" for a in axes) else set()
        case Apply(arguments=arguments):
            return set().union(*(_vectors(a) for a in arguments))
        case Concat(joined, inner, _):
            return set().union(*(_vectors(rename(p, {a.name: "x"})) for p, a in zip(joined, inner, strict=True)))
        case Kron(left, right, inner):
            pairs = zip((left, right), inner, strict=True)
            return set().union(*(_vectors(rename(p, {a.name: "x"})) for p, a in pairs))
        case _:
            return set()
