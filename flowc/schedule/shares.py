"""Which axis of a token's program may be divided among programs that run beside one another.

In: the program of a token. Out: `Shares`: for every value which of its axes a program holds a block of, and whether it
has the value whole or only its part of a sum over all blocks; None where the programs would need one another. Refuses
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.ir import operands
from flowc.chunk.program import Program
from flowc.chunk.values import Value

Place = tuple[int, str]  # a value's number and the name of one of its axes
SUMS = ("add", "sub")
ADDED = (ir.Join, ir.Earlier, ir.Later, ir.Final, ir.First)
LINEAR = (ir.Spread, ir.Rename, ir.Relabel, ir.Sum, ir.SumTokens, ir.Join, ir.Cut, ir.Flatten, ir.Unflatten)


class Share(Enum):
    """What a program has of a value."""

    WHOLE = "whole"
    PART = "part"  # of a sum: that of its own block
    BLOCK = "block"


class _NeedsOthers(Exception):
    """A program would need what others have."""


@dataclass(frozen=True, slots=True)
class Shares:
    """`axes` are those that are divided, `shares` what a program has of each value, `first` what block 0 alone adds."""

    axes: frozenset[Place]
    shares: dict[Value, Share]
    first: frozenset[tuple[Value, int]]

    def split(self, value: Value, axis: Axis) -> bool:
        """Whether a program holds a block of an axis."""
        return (value.index, axis.name) in self.axes


def undivided(program: Program) -> Shares:
    """One program holds everything."""
    return Shares(frozenset(), dict.fromkeys((n.value for n in program.nodes), Share.WHOLE), frozenset())


def divided(program: Program, cotangent: Callable[[str], str], place: int) -> Shares | None:
    """Programs hold a block of the states' axis number `place`; `cotangent` names a state's cotangent."""
    names = [c.name for c in program.carries]
    states = {n.op.name: n.value for n in program.nodes if isinstance(n.op, ir.Argument) and n.op.role == "carry"}
    own = [v for name in names for v in (states.get(name), states.get(cotangent(name))) if v is not None]
    held = [v for v in own if len(v.axes) > place]
    sizes = {v.axes[place].size for v in held}
    if len(sizes) != 1:
        return None
    tied = _Ties(program)
    seeds = [(v.index, v.axes[place].name) for v in held]
    for seed in seeds[1:]:
        tied.tie(seeds[0], seed)
    axes = tied.among(seeds[0])
    if any(sum((n.value.index, a.name) in axes for a in n.value.axes) > 1 for n in program.nodes):
        return None
    try:
        return _Judge(program, axes).shares()
    except _NeedsOthers:
        return None


@dataclass(frozen=True, slots=True)
class View:
    """An input, param or cotangent, of a list one element, with the place in memory of every axis, by their names."""

    argument: ir.Argument
    element: int | None
    places: tuple[tuple[str, int], ...]


def views(program: Program) -> dict[Value, View]:
    """Inputs and params, and views of those: each is loaded with axes of its own."""
    found: dict[Value, View] = {}
    for node in program.nodes:
        match node.op:
            case ir.Argument(_, role) if role != "carry":
                found[node.value] = View(node.op, None, tuple((a.name, n) for n, a in enumerate(node.value.axes)))
            case ir.Element(source, index) if source in found:
                found[node.value] = View(found[source].argument, index, found[source].places[1:])
            case ir.Relabel(source, names) if source in found:
                of = found[source]
                known = {n: place for n, (_, place) in zip(names, of.places, strict=True)}
                places = tuple((a.name, known[a.name]) for a in node.value.axes)
                found[node.value] = View(of.argument, of.element, places)
    return found


def required(program: Program, results: Iterable[Value]) -> frozenset[Value]:
    """What a program makes or loads for some results; views of inputs are loaded, not made of one another."""
    loaded, found = views(program), set(results)
    for node in reversed(program.nodes):
        if node.value in found and node.value not in loaded:
            found.update(operands(node.op))
    return frozenset(found)


def has_tokens(program: Program) -> frozenset[Value]:
    """Values of which every token has its own, where a program scans over several."""
    found: set[Value] = set()
    for node in program.nodes:
        match node.op:
            case ir.Argument(_, role):
                every = role in ("input", "cotangent")
            case ir.Scan() | ir.Earlier() | ir.Later():
                every = True
            case ir.Final() | ir.First() | ir.SumTokens():
                every = False
            case _:
                every = any(v in found for v in operands(node.op))
        found |= {node.value} if every else set()
    return frozenset(found)


class _Ties:
    """Axes that are one and the same, entry by entry."""

    def __init__(self, program: Program) -> None:
        self.parent: dict[Place, Place] = {}
        self.places = [(n.value.index, a.name) for n in program.nodes for a in n.value.axes]
        loaded = views(program)
        for node in program.nodes:
            if node.value not in loaded:
                for one, other in _pairs(node.value, node.op):
                    self.tie(one, other)
        for carry in program.carries:
            for axis in carry.before.axes:
                self.tie((carry.before.index, axis.name), (carry.after.index, axis.name))

    def root(self, place: Place) -> Place:
        while place in self.parent:
            place = self.parent[place]
        return place

    def tie(self, one: Place, other: Place) -> None:
        first, second = self.root(one), self.root(other)
        if first != second:
            self.parent[first] = second

    def among(self, place: Place) -> frozenset[Place]:
        """All that are one with an axis."""
        root = self.root(place)
        return frozenset(p for p in self.places if self.root(p) == root)


def _pairs(value: Value, op: ir.Op) -> Iterator[tuple[Place, Place]]:
    """Axes of a node's operands and result that are the same."""
    match op:
        case ir.Relabel(argument, names):
            yield from (((argument.index, a.name), (value.index, n)) for a, n in zip(argument.axes, names, strict=True))
        case ir.Rename(argument, old, new):
            for a in argument.axes:
                yield (argument.index, a.name), (value.index, new if a.name == old else a.name)
        case ir.Element(source, _):
            yield from (((source.index, a.name), (value.index, a.name)) for a in source.axes[1:])
        case _:
            if isinstance(op, ir.Contract):
                yield (op.left.index, op.axis.name), (op.right.index, op.axis.name)
            for operand in operands(op):
                yield from (((operand.index, a.name), (value.index, a.name)) for a in operand.axes if a in value.axes)


class _Judge:
    """Goes through a program with a division of axes."""

    def __init__(self, program: Program, axes: frozenset[Place]) -> None:
        self.program, self.axes = program, axes
        self.found: dict[Value, Share] = {}
        self.first: set[tuple[Value, int]] = set()

    def shares(self) -> Shares:
        """What a program has of everything, as soon as states begin with what they end with."""
        parts: set[Value] = set()
        while True:
            self.found, self.first = dict.fromkeys(parts, Share.PART), set()
            for node in self.program.nodes:
                self.found.setdefault(node.value, self.share(node.value, node.op))
            more = {c.before for c in self.program.carries if self.found[c.after] is Share.PART} - parts
            if not more:
                break
            parts |= more
        for carry in self.program.carries:
            if self.found[carry.before] is Share.PART and self.found[carry.after] is Share.WHOLE:
                self.first.add((carry.after, 0))
        if any(self.found[c.before] is Share.PART for c in self.program.carries) and not self.program.adjoint:
            raise _NeedsOthers  # a state is no sum
        return Shares(self.axes, self.found, frozenset(self.first))

    def block(self, value: Value) -> bool:
        """Whether an axis of a value is divided."""
        return any((value.index, a.name) in self.axes for a in value.axes)

    def summed(self, argument: Value, axes: Iterable[Axis]) -> bool:
        """Whether a divided axis is summed over."""
        return any((argument.index, a.name) in self.axes for a in axes)

    def share(self, value: Value, op: ir.Op) -> Share:
        """What a program has of a node's result."""
        own = [self.found[v] for v in operands(op)]
        result = Share.BLOCK if self.block(value) else Share.WHOLE
        match op:
            case ir.Sum(argument, axes) if self.summed(argument, axes):
                return self.part(own, [Share.BLOCK])
            case ir.Contract(left, _, axis) if self.summed(left, (axis,)):
                return self.part(own, [Share.BLOCK])
            case ir.Largest(argument, axis) if self.summed(argument, (axis,)):
                raise _NeedsOthers
            case ir.Join(_, inner, axis) if self.summed(value, (axis,)) or any(
                self.summed(p, (a,)) for p, a in zip(op.parts, inner, strict=True)
            ):
                raise _NeedsOthers
            case ir.Cut(argument, axis) | ir.Unflatten(argument, _, axis) if self.summed(argument, (axis,)):
                raise _NeedsOthers
            case ir.Flatten(argument, inner, _) if self.summed(argument, inner):
                raise _NeedsOthers
        if Share.PART not in own:
            return result
        if result is Share.BLOCK:
            raise _NeedsOthers
        return self.linear(value, op, own)

    def part(self, own: list[Share], allowed: list[Share]) -> Share:
        """A part of a sum, of operands that are whole or in blocks."""
        if Share.PART in own or not any(s in allowed for s in own):
            raise _NeedsOthers
        return Share.PART

    def linear(self, value: Value, op: ir.Op, own: list[Share]) -> Share:
        """What is made of parts: parts, where it is linear in them."""
        if Share.BLOCK in own:
            raise _NeedsOthers
        several = isinstance(op, ADDED) or (isinstance(op, ir.Apply) and op.function in SUMS)
        scanned = isinstance(op, ir.Scan) and op.kind == "linear" and own[0] is Share.WHOLE
        if several or scanned:
            self.first |= {(value, n) for n, s in enumerate(own) if s is Share.WHOLE and n >= scanned}
            return Share.PART
        match op:
            case ir.Apply("neg"):
                return Share.PART
            case ir.Apply("mul") | ir.Contract() if own.count(Share.PART) == 1:
                return Share.PART
            case ir.Apply("div") if own[1] is Share.WHOLE:
                return Share.PART
            case _ if isinstance(op, LINEAR):
                return Share.PART
        raise _NeedsOthers
