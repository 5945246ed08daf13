"""The interpreter of chunk programs over a certificate's numbers.

In: a forward or adjoint `Program`, its arguments by role and name, sizes, aggregations. Out: `Ran`: its results, the
states at the end and every value. Arrays are per head [H, *axes], per token [T, H, *axes], per chunk [T / C, H, *axes];
tokens past the last are zeros. Refuses, as `Uncertified`, a float that stands for no constant of the spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from flowc.algebra.term import Axis
from flowc.certify import functions
from flowc.certify.draw import Sizes
from flowc.certify.number import Number, Oracles
from flowc.certify.primitives import constant_of, primitive
from flowc.certify.rows import from_rows, joined, to_rows, zeros
from flowc.certify.scans import scanned
from flowc.chunk import ir
from flowc.chunk.ir import Op, operands
from flowc.chunk.program import Carry, Program, depths
from flowc.chunk.values import Level, Value

Given = dict[tuple[str, str], Number]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program gave: results by name, the states after the last chunk, all values."""

    results: dict[str, Number]
    states: dict[str, Number]
    values: dict[Value, Number]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a program runs on."""

    oracles: Oracles
    sizes: Sizes
    aggregations: tuple[str, ...]
    read_gates: set[str] = field(default_factory=set)  # log gates that were made of what was read from a state

    @property
    def chunks(self) -> int:
        """Chunks of a sequence."""
        return -(-self.sizes.length // self.sizes.chunk)

    @property
    def bound(self) -> dict[str, int]:
        """Every size by name, the chunk's among them."""
        return {**self.sizes.bound, "#C": self.sizes.chunk}


def run(program: Program, setting: Setting, given: Given, states: Mapping[str, Number]) -> Ran:
    """Run a program; `given` are arguments by (role, name), `states` [H, *] what is carried into the first chunk."""
    runner = Interpreter(setting, {**given, **_entering(program, states)})
    depth = depths(program)
    for number in range(1, max((depth[c.before] for c in program.walked), default=0) + 1):
        _ready(program, runner)
        _walk(program, [c for c in program.walked if depth[c.before] == number], runner, states)
    _ready(program, runner)
    results = {name: runner.whole(value) for name, value in program.results}
    scanned = {c.name: runner.values[c.after].moved(lambda x: x[0]) for c in program.carries if c.scanned}
    return Ran(results, {**runner.ended, **scanned}, runner.values)


def _entering(program: Program, states: Mapping[str, Number]) -> Given:
    """The scanned states, with one token, as arguments."""
    found: Given = {}
    for carry in (c for c in program.carries if c.scanned):
        op = program.defined[carry.before]
        if isinstance(op, ir.Argument):
            found[op.role, op.name] = states[carry.name].moved(lambda x: x[None])
    return found


def _ready(program: Program, runner: Interpreter) -> None:
    """Run what needs no state that was not walked yet."""
    states = {c.before for c in program.walked}
    for node in program.nodes:
        ready = node.value not in states and all(v in runner.values for v in operands(node.op))
        if ready and node.value not in runner.values:
            runner.run(node.value, node.op)


def _walked(program: Program, states: set[Value], known: Mapping[Value, Number]) -> list[ir.Node]:
    """The chunks' values that need these states and nothing else that is not there."""
    behind = set(states)
    found = []
    for node in program.nodes:
        needed = operands(node.op)
        ready = any(v in behind for v in needed) and all(v in behind or v in known for v in needed)
        if node.value in states or (ready and node.value.level is Level.CHUNK):
            behind.add(node.value)
            found.append(node)
    return found


def _walk(program: Program, carries: list[Carry], runner: Interpreter, states: Mapping[str, Number]) -> None:
    """Chunk by chunk; the values of all chunks are put together at the end."""
    walked = _walked(program, {c.before for c in carries}, runner.values)
    shapes = {c.name: states[c.name].shape for c in carries}  # a vector is walked as one column
    full = {c.name: (1, *runner.full(Level.HEAD, c.before.axes)) for c in carries}
    now = {c.before: states[c.name].moved(partial(np.reshape, shape=full[c.name])) for c in carries}
    found: dict[Value, dict[int, Number]] = {n.value: {} for n in walked}
    chunks = range(runner.setting.chunks)
    own = {n.value for n in walked}
    needed = {v for n in walked for v in operands(n.op) if v not in own} | ({c.after for c in carries} - own)
    for c in reversed(chunks) if program.adjoint else chunks:
        inner = Interpreter(runner.setting, runner.given, 1)
        inner.values = {v: _of_chunk(runner.values[v], v, c) for v in needed} | now
        for node in walked:
            if node.value not in now:
                inner.run(node.value, node.op)
            found[node.value][c] = inner.values[node.value]
        now = {carry.before: inner.values[carry.after] for carry in carries}
    for value, parts in found.items():
        runner.values[value] = joined([parts[c] for c in chunks], 0)
    runner.ended |= {c.name: now[c.before].moved(partial(np.reshape, shape=shapes[c.name])) for c in carries}


def _token(t: int, x: Any) -> Any:
    return x[t : t + 1]


def _of_chunk(number: Number, value: Value, c: int) -> Number:
    return number.moved(lambda x: x[c : c + 1]) if value.level is Level.CHUNK else number


class Interpreter:
    """Runs nodes; `values` are those that were run."""

    def __init__(self, setting: Setting, given: Mapping[tuple[str, str], Number], chunks: int | None = None) -> None:
        """Over all chunks, or `chunks` of them."""
        self.setting, self.given = setting, given
        self.oracles, self.bound = setting.oracles, setting.bound
        self.chunks = setting.chunks if chunks is None else chunks
        self.values: dict[Value, Number] = {}
        self.ended: dict[str, Number] = {}  # the states that were walked, after the last chunk
        self.loops: dict[tuple[object, ...], list[Number]] = {}  # the states of a loop after every token

    def lead(self, level: Level) -> tuple[int, ...]:
        """The axes before a value's own."""
        heads = self.setting.sizes.heads
        match level:
            case Level.HEAD:
                return (heads,)
            case Level.TOKEN:
                return (self.setting.sizes.length, heads)
            case Level.CHUNK:
                return (self.chunks, heads)

    def full(self, level: Level, axes: tuple[Axis, ...]) -> tuple[int, ...]:
        """The whole shape of a value."""
        return (*self.lead(level), *(a.size.value(self.bound) for a in axes))

    def whole(self, value: Value) -> Number:
        """A value in its whole shape."""
        shape = self.full(value.level, value.axes)
        return self.aligned(value, value.axes, value.level).moved(lambda x: np.broadcast_to(x, shape))

    def aligned(
        self, value: Value, axes: tuple[Axis, ...], level: Level, own: tuple[Axis, ...] | None = None
    ) -> Number:
        """A value with its axes where `axes` has them, length one elsewhere; `own` renames its axes first."""
        have = value.axes if own is None else own
        lead = len(self.lead(value.level))
        wanted = [a for a in axes if a in have]
        if len(wanted) != len(have):
            raise ValueError(f"{value.name or 'a value'} runs over {have}, where {axes} are expected")
        order = [*range(lead), *(lead + have.index(a) for a in wanted)]
        new = tuple(i + len(self.lead(level)) for i, a in enumerate(axes) if a not in have)
        front = (0,) * (len(self.lead(level)) - lead)

        def move(x: Any) -> Any:
            moved = np.transpose(x, order)
            for _ in front:
                moved = moved[None]
            for at in new:
                moved = np.expand_dims(moved, at)
            return moved

        return self.values[value].moved(move)

    def run(self, value: Value, op: Op) -> None:
        """Run a node."""
        found = self.number(value, op)
        expected = self.full(value.level, value.axes)
        if len(found.shape) != len(expected) or any(
            n not in (1, m) for n, m in zip(found.shape, expected, strict=True)
        ):
            raise ValueError(f"{value.name or 'a value'} has shape {found.shape}, not {expected}")
        self.values[value] = found if found.shape == expected else found.moved(lambda x: np.broadcast_to(x, expected))

    def number(self, value: Value, op: Op) -> Number:
        """What a node makes."""
        match op:
            case ir.Argument(name, role):
                return self.given[role, name]
            case ir.Literal(exact):
                return constant_of(self.oracles, exact, self.lead(Level.HEAD))
            case ir.Extent(size):
                return Number.fraction(self.oracles, size.value(self.bound), self.lead(Level.HEAD))
            case ir.Head(count):
                heads = self.setting.sizes.heads
                return self.exact([heads] * heads if count else list(range(heads)))
            case ir.Index(axis):
                one = list(range(axis.size.value(self.bound)))
                return self.exact([one] * self.setting.sizes.heads)
            case ir.Apply(function, arguments):
                return functions.value(function, *(self.aligned(a, value.axes, value.level) for a in arguments))
            case ir.Spread(argument, _):
                return self.aligned(argument, value.axes, value.level)
            case ir.Rename(argument, _, _):
                return self.values[argument]
            case ir.Relabel(argument, names):
                own = tuple(Axis(n, a.size) for n, a in zip(names, argument.axes, strict=True))
                return self.aligned(argument, value.axes, value.level, own)
            case ir.Sum(argument, axes):
                lead = len(self.lead(argument.level))
                return self.values[argument].total(tuple(lead + argument.axes.index(a) for a in axes))
            case ir.SumTokens(argument):
                return self.values[argument].total((0,))
            case ir.Contract(left, right, axis):
                axes = (*value.axes, axis)
                product = self.aligned(left, axes, value.level) * self.aligned(right, axes, value.level)
                return product.total((len(product.shape) - 1,))
            case ir.ToRows(parts, space, axis):
                numbers = [None if p is None else self.values[p] for p in parts]
                shape = self.full(Level.TOKEN, () if axis is None else (axis,))
                return to_rows(
                    self.oracles, numbers, space, self.setting.sizes, shape, [p.several for p in space.parts]
                )
            case ir.FromRows(argument, space, part, _):
                return from_rows(self.values[argument], space, part, self.setting.sizes)
            case ir.Loop(number=number):
                if op.together not in self.loops:
                    self.loops[op.together] = self.looped(op)
                return self.loops[op.together][number]
            case ir.Scan() | ir.Earlier() | ir.Final() | ir.Later() | ir.First():
                return scanned(op, [self.aligned(v, value.axes, Level.TOKEN) for v in operands(op)], self.setting)
            case _:
                return self.shaped(value, op)

    def looped(self, op: ir.Loop) -> list[Number]:
        """The states of a loop after every token, one token after another."""
        sizes = replace(self.setting.sizes, length=1)
        states = [self.values[s].moved(lambda x: x[:1]) for s in op.starts]
        found: list[list[Number]] = []
        tokens = range(self.setting.sizes.length)
        for t in reversed(tokens) if op.reverse else tokens:
            given: dict[tuple[str, str], Number] = {}
            for n, v in enumerate(op.given):
                role = "param" if v.level is Level.HEAD else "input"
                number = self.values[v]
                given[role, f"given{n}"] = number if role == "param" else number.moved(partial(_token, t))
            given |= {("carry", c.name): state for c, state in zip(op.body.carries, states, strict=True)}
            inner = Interpreter(replace(self.setting, sizes=sizes), given)
            for node in op.body.nodes:
                inner.run(node.value, node.op)
            states = [inner.values[c.after] for c in op.body.carries]
            found.append(states)
        return [joined(list(all_), 0) for all_ in zip(*(found[::-1] if op.reverse else found), strict=True)]

    def exact(self, values: list[Any]) -> Number:
        """Whole numbers."""
        return Number.whole(self.oracles, np.array(values))

    def shaped(self, value: Value, op: Op) -> Number:
        """Axes joined, cut, flattened, taken apart; elements; the largest entry; the primitives."""
        match op:
            case ir.Element(source, index):
                before = (slice(None),) * len(self.lead(source.level))
                return self.values[source].moved(lambda x: x[(*before, index)])
            case ir.Largest(argument, axis):
                at = len(self.lead(argument.level)) + argument.axes.index(axis)
                if self.values[argument].opaque:  # the shift cancels; what has no second evaluation is not shifted
                    return zeros(self.oracles, self.full(value.level, value.axes))
                chosen = np.expand_dims(self.values[argument].shadow.argmax(axis=at), at)
                return self.values[argument].moved(lambda x: np.take_along_axis(x, chosen, at).squeeze(at))
            case ir.Join(parts, inner, axis):
                return self.joined(value, parts, inner, axis)
            case ir.Cut(argument, axis, start, inner):
                at = len(self.lead(argument.level)) + argument.axes.index(axis)
                first = start.value(self.bound)
                kept = (*(slice(None),) * at, slice(first, first + inner.size.value(self.bound)))
                return self.reordered(argument, argument.axes, lambda x: x[kept], value, (axis, (inner,)))
            case ir.Flatten(argument, (a, b), axis):
                rest = tuple(x for x in argument.axes if x not in (a, b))
                moved = self.aligned(argument, (*rest, a, b), argument.level)
                flat = moved.moved(lambda x: x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]))
                return self.placed(flat, (*rest, axis), value)
            case ir.Unflatten(argument, (a, b), axis):
                rest = tuple(x for x in argument.axes if x != axis)
                sizes = a.size.value(self.bound), b.size.value(self.bound)
                last = self.aligned(argument, (*rest, axis), argument.level)
                return self.placed(last.moved(lambda x: x.reshape(*x.shape[:-1], *sizes)), (*rest, a, b), value)
            case _:
                return primitive(self.setting, self.values, op)

    def reordered(
        self, argument: Value, axes: tuple[Axis, ...], move: Any, value: Value, change: tuple[Axis, tuple[Axis, ...]]
    ) -> Number:
        """An argument moved, one of its axes replaced."""
        old, new = change
        made = tuple(b for a in axes for b in (new if a == old else (a,)))
        return self.placed(self.values[argument].moved(move), made, value)

    def placed(self, number: Number, axes: tuple[Axis, ...], value: Value) -> Number:
        """An array over `axes` in the order that the value has."""
        lead = len(self.lead(value.level))
        order = [*range(lead), *(lead + axes.index(a) for a in value.axes)]
        return number.moved(lambda x: np.transpose(x, order))

    def joined(self, value: Value, parts: tuple[Value, ...], inner: tuple[Axis, ...], axis: Axis) -> Number:
        """Parts one after another."""
        found = []
        for part, own in zip(parts, inner, strict=True):
            axes = tuple(own if a == axis else a for a in value.axes)
            shape = self.full(value.level, axes)
            number = self.aligned(part, axes, value.level)
            found.append(number.moved(partial(np.broadcast_to, shape=shape)))
        return joined(found, len(self.lead(value.level)) + value.axes.index(axis))
