"""Building programs: nodes are shared where they are equal, axes and levels are inferred.

In: operations and Terms. Out: Values, and at the end a `Program` of what its results and carry need. Refuses nothing
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import assert_never

from flowc.algebra import term as terms
from flowc.algebra.term import Axis, Term
from flowc.chunk.ir import (
    Apply,
    Argument,
    At,
    AtAdjoint,
    Contract,
    Cut,
    Decay,
    DecayApply,
    DecayDot,
    DecayMatrix,
    Earlier,
    Element,
    Extent,
    Final,
    First,
    Flatten,
    FromRows,
    GateSums,
    GateSumsAdjoint,
    Head,
    Index,
    Inverse,
    Join,
    Largest,
    Later,
    Literal,
    Loop,
    MaskMatrix,
    Node,
    Op,
    Relabel,
    Rename,
    Scan,
    Solve,
    Spread,
    Sum,
    SumTokens,
    ToRows,
    Unflatten,
    operands,
)
from flowc.chunk.program import Carry, Program
from flowc.chunk.values import Level, Value
from flowc.semantics.size import ONE

RANK = "rank"
VECTORS = frozenset(("x", "x2", "k", "v"))


def ordered(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Axes in storage order: rows first, then rank, then vectors by name."""
    return tuple(sorted(set(axes), key=_order))


def _order(axis: Axis) -> tuple[int, bool, str]:
    bound = axis.name[:1] == "s" and axis.name[1:2].isdigit()  # the axis of a sum, as `algebra.leaves` names it
    kind = 1 if axis.name == RANK else 2 if bound or axis.name in VECTORS else 0
    return kind, axis.name.endswith("'"), axis.name


class Builder:
    """Collects nodes."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        """Start with nodes of another program, or none."""
        self.nodes: list[Node] = list(nodes)
        self._known = {(n.op, n.value.axes, n.value.level): n.value for n in self.nodes}
        self._ops: dict[Value, Op] = {n.value: n.op for n in self.nodes}

    def op(self, value: Value) -> Op:
        """What defines a value."""
        return self._ops[value]

    def add(self, op: Op, name: str = "", axes: tuple[Axis, ...] | None = None, level: Level | None = None) -> Value:
        """The value of `op`, made once; zeros of one shape, of a token or of a head, are two values."""
        inferred = infer_axes(op) if axes is None else axes
        rank = infer_level(op) if level is None else level
        known = self._known.get((op, inferred, rank))
        if known is not None:
            return known
        value = Value(len(self.nodes), name, inferred, rank, _is_sum(op))
        self.nodes.append(Node(value, op))
        self._known[op, inferred, rank] = value
        self._ops[value] = op
        return value

    def argument(self, name: str, role: str, axes: tuple[Axis, ...], level: Level) -> Value:
        """A tensor from outside."""
        return self.add(Argument(name, role), name, axes, level)

    def apply(self, function: str, *arguments: Value, name: str = "") -> Value:
        """An elementwise function; spreading that broadcasting does anyway is left out."""
        short = []
        for a in arguments:
            match self.op(a):
                case Spread(inner, _) if self._covered(a, inner, arguments):
                    short.append(inner)
                case _:
                    short.append(a)
        if function == "mul":
            for one, other in (short, short[::-1]):
                if self.op(one) == Literal(Fraction(1)):
                    return other
                if self.op(one) == Literal(Fraction(-1)):
                    return self.apply("neg", other, name=name)
        return self.add(Apply(function, tuple(short)), name)

    def _covered(self, spread: Value, inner: Value, arguments: tuple[Value, ...]) -> bool:
        rest = frozenset().union(*(a.axes for a in arguments if a is not spread)) | set(inner.axes)
        levels = max((a.level for a in arguments if a is not spread), default=Level.HEAD)
        return set(spread.axes) <= rest and (levels >= spread.level or inner.level == spread.level)

    def number(self, value: int | Fraction) -> Value:
        """A literal."""
        return self.add(Literal(Fraction(value)))

    def contract(self, left: Value, right: Value, axis: Axis, name: str = "") -> Value:
        """A product summed over one axis."""
        return self.add(Contract(left, right, axis), name)

    def rename(self, value: Value, old: str, new: str) -> Value:
        """The value with an axis renamed."""
        return self.add(Rename(value, old, new), value.name)

    def total(self, value: Value, axes: Iterable[Axis]) -> Value:
        """The sum over some of a value's axes."""
        kept = ordered(axes)
        return self.add(Sum(value, kept)) if kept else value

    def lower(self, term: Term, load: Callable[[Term], Value], name: str = "") -> Value:
        """A Term as nodes; `load` gives the value of a Load or ReadValue."""

        def go(t: Term) -> Value:
            match t:
                case terms.Constant(value):
                    return self.number(value)
                case terms.SizeValue(size):
                    return self.add(Extent(size))
                case terms.HeadValue(count):
                    return self.add(Head(count))
                case terms.IndexValue(axis):
                    return self.add(Index(axis))
                case terms.Load() | terms.ReadValue() | terms.ScanValue():
                    return load(t)
                case terms.Apply(function, arguments):
                    return self.apply(function, *(go(a) for a in arguments))
                case terms.Total(argument, axis):
                    return self.add(Sum(go(argument), (axis,)))
                case terms.Peak(argument, axis):
                    return self.add(Largest(go(argument), axis))
                case terms.Concat(parts, inner, axis):
                    joined = tuple(self.over(go(p), a) for p, a in zip(parts, inner, strict=True))
                    return self.add(Join(joined, inner, axis))
                case terms.Kron(left, right, (outer, fast), axis):
                    product = self.apply("mul", self.over(go(left), outer), self.over(go(right), fast))
                    return self.add(Flatten(product, (outer, fast), axis))
                case _:
                    assert_never(t)

        return self.named(go(term), name)

    def over(self, value: Value, *axes: Axis) -> Value:
        """The value, spread along axes that it lacks."""
        missing = [a for a in axes if a not in value.axes]
        return self.add(Spread(value, ordered((*value.axes, *axes)))) if missing else value

    def named(self, value: Value, name: str) -> Value:
        """The value under a name for readers, where it has none yet."""
        node = self.nodes[value.index]
        if not name or node.value.name:
            return node.value
        better = replace(value, name=name)
        self.nodes[value.index] = Node(better, node.op)
        self._known[node.op, node.value.axes, node.value.level] = better
        return better

    def program(self, results: Mapping[str, Value], carries: tuple[Carry, ...], adjoint: bool = False) -> Program:
        """The nodes that results and states need, in order."""
        needed: set[Value] = {*results.values(), *(v for c in carries for v in (c.before, c.after))}
        for node in reversed(self.nodes):
            if node.value in needed:
                needed.update(operands(node.op))
        nodes = tuple(n for n in self.nodes if n.value in needed)
        return Program(nodes, tuple(results.items()), carries, adjoint)


def _is_sum(op: Op) -> bool:
    return isinstance(op, (GateSums, At, AtAdjoint)) or (
        isinstance(op, (Apply, Rename, Sum)) and all(v.sums for v in operands(op)) and bool(operands(op))
    )


def infer_level(op: Op) -> Level:
    """The level of an operation's result."""
    match op:
        case ToRows() | MaskMatrix():
            return Level.CHUNK
        case FromRows():
            return Level.TOKEN
        case SumTokens():
            return Level.HEAD
        case _:
            return max((v.level for v in operands(op)), default=Level.HEAD)


def infer_axes(op: Op) -> tuple[Axis, ...]:
    """The axes of an operation's result, in storage order."""
    match op:
        case Literal() | Extent() | Head():
            return ()
        case Index(axis):
            return (axis,)
        case Apply(_, arguments):
            return ordered(a for v in arguments for a in v.axes)
        case Spread(_, axes):
            return axes
        case Relabel(argument, names):
            return ordered(Axis(n, a.size) for n, a in zip(names, argument.axes, strict=True))
        case Rename(argument, old, new):
            return tuple(Axis(new, a.size) if a.name == old else a for a in argument.axes)
        case Sum(argument, axes):
            return tuple(a for a in argument.axes if a not in axes)
        case Largest(argument, axis):
            return tuple(a for a in argument.axes if a != axis)
        case SumTokens(argument):
            return argument.axes
        case Element(source, _):
            return source.axes[1:]
        case Scan(start=other) | Earlier(start=other) | Final(start=other):
            return other.axes
        case Loop(starts=starts, number=number):
            return starts[number].axes
        case Later(argument, _) | First(argument, _):
            return argument.axes
        case Contract(left, right, axis):
            return tuple(a for a in (*left.axes, *right.axes) if a != axis)
        case Join(parts, inner, axis):
            free = (a for p, i in zip(parts, inner, strict=True) for a in p.axes if a != i)
            return ordered((*free, axis))
        case Cut(argument, axis, _, inner):
            return ordered((*(a for a in argument.axes if a != axis), inner))
        case Flatten(argument, inner, axis):
            return ordered((*(a for a in argument.axes if a not in inner), axis))
        case Unflatten(argument, inner, axis):
            return (*(a for a in argument.axes if a != axis), *inner)
        case MaskMatrix(mask):
            return mask_axes(mask.rows.axis, mask.columns.axis)
        case _:
            return _chunk_axes(op)


def mask_axes(rows: Axis, columns: Axis) -> tuple[Axis, Axis]:
    """Two row axes of one matrix: the second is marked, since a matrix may have the same rows twice."""
    return rows, Axis(columns.name + "'", columns.size)


def _chunk_axes(op: Op) -> tuple[Axis, ...]:
    match op:
        case ToRows(_, space, axis):
            return (space.axis,) if axis is None else (space.axis, axis)
        case FromRows(_, space, part, axis):
            ranks = (Axis(RANK, space.parts[part].size),) if space.parts[part].several else ()
            return (*ranks, *((Axis("x", axis.size),) if axis is not None else ()))
        case GateSums(gates, space):
            return (Axis("point", space.axis.size + ONE), *gates.axes[1:])
        case GateSumsAdjoint(sums, space):
            return (space.axis, *sums.axes[1:])
        case At(sums, _, space, _):
            return (*(() if space is None else (space.axis,)), *sums.axes[1:])
        case AtAdjoint(argument, gates, space, _):
            rest = argument.axes if space is None else argument.axes[1:]
            return (Axis("point", gates.axis.size + ONE), *rest)
        case Decay(upper, lower):
            return ordered((*upper.axes, *(lower.axes if lower is not None else ())))
        case DecayMatrix(_, _, mask) | DecayDot(_, _, _, _, mask):
            return mask_axes(mask.rows.axis, mask.columns.axis)
        case DecayApply(_, vectors, _, _, mask, transposed):
            rows = mask.columns.axis if transposed else mask.rows.axis
            return (rows, vectors.axes[1])
        case Solve(_, right, _):
            return right.axes
        case Inverse(matrix):
            return matrix.axes
        case _:
            raise TypeError(f"axes of {type(op).__name__} must be given")
