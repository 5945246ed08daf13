"""A recurrence of several states as recurrences of one each, and what lies between them.

In: a `Recurrence`. Out: `Stages`: for every matrix or walked vector a recurrence whose inputs are those of the whole
and what the whole makes for it, and whose outputs are what others read of it; and the whole, which makes these of
inputs, scans and reads, and at last the outputs. Refuses, as `Interleaved`, states whose reads need one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce

from flowc.algebra.recurrence import Gate, Memory, Read, Recurrence, Result, Row, Segment, Write
from flowc.algebra.term import (
    Apply,
    Axis,
    Concat,
    Kron,
    Load,
    Peak,
    ReadValue,
    ScanValue,
    Term,
    Total,
    axes_of,
    parts,
)
from flowc.semantics.model import Input, Kind, Model, Shape
from flowc.source import Span

RANK = "rank"


@dataclass(frozen=True, slots=True)
class Stage:
    """One state. `made` are the inputs that the whole makes; `reads` its outputs, which the whole takes as inputs.

    `given` are the results of the whole that are its inputs, by their names here: those it makes, and those of the spec
    that it uses as they are.
    """

    recurrence: Recurrence
    number: int
    made: tuple[str, ...]
    given: tuple[tuple[str, str], ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stages:
    """The whole, with scans but no other state, and its stages in an order in which they can run.

    Of the whole's results `outputs` are the recurrence's own; the others are what stages are given.
    """

    whole: Recurrence
    outputs: tuple[str, ...]
    stages: tuple[Stage, ...]


class Interleaved(Exception):
    """States of which each needs a read of the others that needs a read of it: no order of whole states runs them."""

    def __init__(self, names: list[str]) -> None:
        """Note the states."""
        super().__init__(f"states whose reads need one another in turn: {', '.join(names)}")


def stages(recurrence: Recurrence) -> Stages:
    """The stages of a recurrence."""
    return _Stages(recurrence).run()


class _Stages:
    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        model = recurrence.model
        self.taken = (
            {i.name for i in model.inputs} | {s.name for s in model.states} | {d.name for d in model.dimensions}
        )
        self.results: list[Result] = []
        self.made: dict[Term, tuple[str, tuple[Axis, ...]]] = {}  # the same for all stages that take it
        self.read_axes = dict(self._reads())
        self.reads = {n: self.fresh(f"read_{self.state_of(r)}") for n, r in enumerate(recurrence.reads)}

    def run(self) -> Stages:
        parts = {n: self.part(n, memory) for n, memory in enumerate(self.recurrence.memories)}
        outside = {leaf.index for t in self._outside() for leaf in _leaves(t) if isinstance(leaf, ReadValue)}
        found = {n: self.stage(own, part, outside) for n, (own, part) in parts.items()}
        needs = {n: self.needed(memory) - {n} for n, memory in enumerate(self.recurrence.memories)}
        order: list[Stage] = []
        while found:
            ready = [n for n in found if not needs[n] & found.keys()]
            if not ready:
                raise Interleaved([self.recurrence.memories[n].state.name for n in found])
            order += [found.pop(n) for n in ready]
        model = self.recurrence.model
        scanned = {s.state.name for s in self.recurrence.scans}
        reads = tuple(self.read_input(n, r) for n, r in enumerate(self.recurrence.reads) if n in outside)
        whole = replace(
            self.recurrence,
            model=replace(
                model, inputs=(*model.inputs, *reads), states=tuple(s for s in model.states if s.name in scanned)
            ),
            memories=(),
            scans=tuple(
                replace(s, gate=self.outside(s.gate), value=self.outside(s.value)) for s in self.recurrence.scans
            ),
            reads=(),
            results=tuple(replace(r, value=self.outside(r.value)) for r in (*self.recurrence.results, *self.results)),
        )
        return Stages(whole, tuple(r.name for r in self.recurrence.results), tuple(order))

    def fresh(self, wanted: str) -> str:
        """A name that nothing else has."""
        while wanted in self.taken:
            wanted += "_"
        self.taken.add(wanted)
        return wanted

    def state_of(self, read: Read) -> str:
        return self.recurrence.memories[read.memory].state.name

    # -- what is read -------------------------------------------------------------------------------------------------

    def _reads(self) -> Iterator[tuple[int, tuple[Axis, ...]]]:
        """The axes of every read that something uses, named as inputs store them."""
        for term in self._terms():
            for leaf in _leaves(term):
                if isinstance(leaf, ReadValue):
                    yield leaf.index, _stored(leaf.axes, self.recurrence.reads[leaf.index].rank is not None)

    def _terms(self) -> Iterator[Term]:
        for memory in self.recurrence.memories:
            yield from _memory_terms(memory)
        for scan in self.recurrence.scans:
            yield from (scan.gate, scan.value)
        yield from (r.query for r in self.recurrence.reads)
        yield from (r.value for r in self.recurrence.results)

    def _outside(self) -> Iterator[Term]:
        """The terms of the whole."""
        yield from self.made
        for scan in self.recurrence.scans:
            yield from (scan.gate, scan.value)
        yield from (r.value for r in self.recurrence.results)

    def read_input(self, number: int, read: Read) -> Input:
        """A read as an input of the whole."""
        span = self.recurrence.memories[read.memory].state.span
        return _input(self.reads[number], self.read_axes[number], span)

    def outside(self, term: Term) -> Term:
        """A term of the whole: what is read of a state is an input."""
        match term:
            case ReadValue(index, axes):
                return Load(self.reads[index], None, axes, False)
            case _:
                return _rebuilt(term, self.outside)

    def needed(self, memory: Memory) -> set[int]:
        """The memories that one needs reads of, through scans too."""
        scans = {s.state.name: s for s in self.recurrence.scans}
        number = self.recurrence.memories.index(memory)
        waiting = [*_memory_terms(memory), *(r.query for r in self.recurrence.reads if r.memory == number)]
        found: set[int] = set()
        seen: set[str] = set()
        while waiting:
            for leaf in _leaves(waiting.pop()):
                match leaf:
                    case ReadValue(index, _):
                        found.add(self.recurrence.reads[index].memory)
                    case ScanValue(name, _, _) if name not in seen:
                        seen.add(name)
                        waiting += [scans[name].gate, scans[name].value]
        return found

    # -- one state ----------------------------------------------------------------------------------------------------

    def part(self, number: int, memory: Memory) -> tuple[_Given, tuple[tuple[Segment, ...], tuple[Read, ...]]]:
        """The edits and reads of one memory, in terms of what it is given."""
        own = _Given(self, number, memory)
        segments = tuple(Segment(s.count, tuple(own.edit(e) for e in s.edits)) for s in memory.segments)
        reads = (self.recurrence.reads[at] for at in own.reads)
        return own, (segments, tuple(replace(r, memory=0, query=own.term(r.query)) for r in reads))

    def stage(self, own: _Given, part: tuple[tuple[Segment, ...], tuple[Read, ...]], outside: set[int]) -> Stage:
        """The recurrence of one memory, whose results are the reads that are needed `outside`."""
        memory, (segments, reads) = own.memory, part
        results = tuple(
            Result(self.reads[at], ReadValue(local, axes), _shape(axes), memory.state.span)
            for local, (at, axes) in enumerate((at, self.read_axes[at]) for at in own.reads)
            if at in outside
        )
        model = self.recurrence.model
        inputs = tuple(_input(name, axes, memory.state.span) for name, axes in own.made.values())
        self.results += own.results(model)
        recurrence = replace(
            self.recurrence,
            model=replace(model, inputs=(*model.inputs, *inputs), states=(memory.state,)),
            memories=(replace(memory, segments=segments),),
            scans=(),
            reads=reads,
            results=results,
        )
        made = tuple(name for name, _ in own.made.values())
        return Stage(recurrence, own.number, made, tuple(own.given.items()), tuple(r.name for r in results))


class _Given:
    """What a stage takes from outside."""

    def __init__(self, whole: _Stages, number: int, memory: Memory) -> None:
        self.whole, self.number, self.memory = whole, number, memory
        self.made: dict[Term, tuple[str, tuple[Axis, ...]]] = {}
        self.given: dict[str, str] = {}
        of_own = (at for at, r in enumerate(whole.recurrence.reads) if r.memory == number and at in whole.read_axes)
        self.reads = {at: local for local, at in enumerate(of_own)}  # its own, as the stage numbers them

    def edit(self, edit: Gate | Write) -> Gate | Write:
        match edit:
            case Gate(row, column, span):
                return Gate(row and self.term(row), column and self.term(column), span)
            case Write(rows):
                return Write(tuple(self.row(r) for r in rows))

    def row(self, row: Row) -> Row:
        left, free, read = (None if t is None else self.term(t) for t in (row.left, row.free, row.read))
        assert left is not None
        return replace(row, left=left, free=free, read=read)

    def term(self, term: Term) -> Term:
        """The term, with what the whole makes in the place of factors that the stage cannot; its own reads stay."""
        match term:
            case ReadValue(index, axes) if index in self.reads:
                return ReadValue(self.reads[index], axes)
            case Apply("mul"):
                return self.product(_factors(term))
            case Apply("neg", arguments):
                return Apply("neg", tuple(self.term(a) for a in arguments))
            case _ if self.own(term):
                return _rebuilt(term, self.term)
            case _ if _depends(term):
                return self.made_by_whole(term)
        for leaf in _leaves(term):
            if isinstance(leaf, Load):
                self.given[leaf.name] = f"{self.number} {leaf.name}"
        return term

    def product(self, factors: list[Term]) -> Term:
        """A product; vectors over the axes of one that the whole makes are multiplied there, once for all kernels."""
        given = [frozenset(axes_of(f)) for f in factors if _depends(f) and not self.own(f)]
        there = [f for f in factors if frozenset(axes_of(f)) in given and axes_of(f) and not self.own(f)]
        found = [self.term(f) for f in factors if f not in there]
        for axes in dict.fromkeys(frozenset(axes_of(f)) for f in there):
            found.append(self.made_by_whole(reduce(_times, (f for f in there if frozenset(axes_of(f)) == axes))))
        return reduce(_times, found)

    def own(self, term: Term) -> bool:
        """Whether a term holds what is read of the stage's state."""
        return any(isinstance(leaf, ReadValue) and leaf.index in self.reads for leaf in _leaves(term))

    def made_by_whole(self, term: Term) -> Load:
        """An input for a term."""
        if term not in self.whole.made:
            axes = _stored(tuple(axes_of(term)), any(a.name == RANK for a in axes_of(term)))
            self.whole.made[term] = self.whole.fresh(f"given{len(self.whole.made)}"), axes
        name, axes = self.made[term] = self.whole.made[term]
        self.given[name] = f"{self.number} {name}"
        own = sorted(axes_of(term), key=lambda a: (a.name != RANK, a.name))
        return Load(name, None, tuple(own), False)

    def results(self, model: Model) -> Iterator[Result]:
        """The results of the whole that are this stage's inputs per token; a param's gradients are added up at last."""
        span = self.memory.state.span
        for term, (name, axes) in self.made.items():
            yield Result(self.given[name], term, _shape(axes), span)
        for i in (i for i in model.inputs if i.name in self.given and not i.is_param):
            names = (RANK, "x", "x2") if i.shape.items is not None else ("x", "x2")
            axes = tuple(Axis(n, s) for n, s in zip(names, i.shape.sizes, strict=False))
            yield Result(self.given[i.name], Load(i.name, None, axes, i.is_param), i.shape, span)


def _memory_terms(memory: Memory) -> Iterator[Term]:
    for edit in (e for s in memory.segments for e in s.edits):
        match edit:
            case Gate(row, column, _):
                yield from (t for t in (row, column) if t is not None)
            case Write(rows):
                yield from (t for r in rows for t in (r.left, r.free, r.read) if t is not None)


def _factors(term: Term) -> list[Term]:
    """The factors of a product, of products in it too."""
    if isinstance(term, Apply) and term.function == "mul":
        return [f for argument in term.arguments for f in _factors(argument)]
    return [term]


def _times(one: Term, other: Term) -> Term:
    return Apply("mul", (one, other))


def _leaves(term: Term) -> Iterator[Term]:
    inner = parts(term)
    if not inner:
        yield term
    for part in inner:
        yield from _leaves(part)


def _depends(term: Term) -> bool:
    """Whether a term holds what another state makes."""
    return any(isinstance(leaf, ReadValue | ScanValue) for leaf in _leaves(term))


def _rebuilt(term: Term, change: Callable[[Term], Term]) -> Term:
    """The term with its parts changed."""
    match term:
        case Apply(function, arguments):
            return Apply(function, tuple(change(a) for a in arguments))
        case Total(argument, axis):
            return Total(change(argument), axis)
        case Peak(argument, axis):
            return Peak(change(argument), axis)
        case Concat(joined, inner, axis):
            return Concat(tuple(change(p) for p in joined), inner, axis)
        case Kron(left, right, inner, axis):
            return Kron(change(left), change(right), inner, axis)
        case _:
            return term


def _stored(axes: tuple[Axis, ...], ranked: bool) -> tuple[Axis, ...]:
    """Axes in the order and by the names that inputs store them: over a rank first, then over a vector."""
    rank = [a for a in axes if a.name == RANK] if ranked else []
    rank = rank or ([axes[0]] if ranked else [])
    return (*(Axis(RANK, a.size) for a in rank), *(Axis("x", a.size) for a in axes if a not in rank))


def _shape(axes: tuple[Axis, ...]) -> Shape:
    rank = next((a.size for a in axes if a.name == RANK), None)
    vector = next((a.size for a in axes if a.name == "x"), None)
    return Shape(Kind.SCALAR, items=rank) if vector is None else Shape(Kind.COLUMN, vector, items=rank)


def _input(name: str, axes: tuple[Axis, ...], span: Span) -> Input:
    return Input(name, _shape(axes), False, None, span)
