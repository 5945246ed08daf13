"""The exact certificate: a chunk program and its adjoint against the step, over the integers modulo p = 2^61 - 1.

In: a `Model` and `Programs`. Out: `Certificate`: certified at these points, not certified for a reason, or off with the
first entry that differs. Refuses nothing: what cannot be computed is a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from flowc.certify import chunked, step
from flowc.certify.bound import degree_bound, edits_of
from flowc.certify.chunked import Setting
from flowc.certify.draw import Draw, Sizes
from flowc.certify.field import SMALL, Entries, P
from flowc.certify.number import Number, Redraw, Uncertified
from flowc.certify.staged import Staged
from flowc.chunk.aggregation import AGGREGATIONS
from flowc.chunk.ir import Solve
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value
from flowc.schedule.staged import KernelPlan
from flowc.semantics.model import Model

HEADS = 2
STATE_SIZES = ((7, 3, (4, 2)), (9, 4, (2, 5)))  # tokens, tokens in a chunk, dimensions of the state: all squares mod p
RANKS = (2, 1, 3)  # of dimensions that no state has, the first also at the second size
REDRAWS = 4
LARGEST = 64 * 64  # entries of a state that is still computed, in seconds
MOST_EDITS = 32  # writes and gates of a step, repeats written out, that are computed in seconds
WEAKEST = 1e-6  # error probability that is still worth a certificate


Tensors = dict[str, Entries]


@dataclass(frozen=True, slots=True)
class Programs:
    """What is certified; `saved` are the adjoint's arguments that the forward program makes, by name.

    `kernels` are the programs of kernels where those are others: of several states.
    """

    forward: Program
    backward: Program
    saved: tuple[tuple[str, Value], ...] = ()
    kernels: KernelPlan | None = None

    @property
    def scanned(self) -> frozenset[str]:
        """The states that are scanned."""
        return frozenset(c.name for c in self.forward.carries if c.scanned)

    @property
    def aggregations(self) -> tuple[str, ...]:
        """Those that make a difference."""
        solves = any(isinstance(n.op, Solve) for n in self.forward.nodes)
        return AGGREGATIONS if solves else AGGREGATIONS[:1]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first entry that differs, outputs before states before gradients, or what kept a program from running."""

    quantity: str
    place: str
    sizes: Sizes

    def __str__(self) -> str:
        """One line."""
        return f"{self.quantity} differs{self.place}, at {self.sizes}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was found on one spec. `reason`: why it is not certified; `oracles`: values of functions that were drawn."""

    name: str
    seed: int
    points: tuple[Sizes, ...]
    quantities: int
    degree: int
    oracles: int
    aggregations: tuple[str, ...]
    reason: str = ""
    mismatch: Mismatch | None = None

    @property
    def holds(self) -> bool:
        """Whether it is certified."""
        return not self.reason and self.mismatch is None

    @property
    def probability(self) -> float:
        """That a wrong program passes one point: roots of a polynomial, and oracles that met."""
        return (self.degree * SMALL + self.oracles**2) / P


def points_of(model: Model) -> Iterator[Sizes]:
    """Two sizes of the state; ranks 1 to 3 at the first. What the header fixes stays."""
    wide = {name for s in model.states for size in s.shape.sizes for name in size.names}
    ranked = any(d.name not in wide and d.value is None for d in model.dimensions)
    for number, (length, chunk, dimensions) in enumerate(STATE_SIZES):
        for rank in RANKS if ranked and number == 0 else RANKS[:1]:
            free = iter(dimensions)
            bound: dict[str, int] = {}
            for d in model.dimensions:
                drawn = next(free, dimensions[-1]) if d.name in wide else rank
                bound[d.name] = drawn if d.value is None else d.value
            sizes = Sizes(length, chunk, HEADS, tuple(bound.items()))
            entries = max(prod(n.value(bound) for n in s.shape.sizes) for s in model.states)
            if entries > LARGEST:
                raise Uncertified(f"the header fixes a state of {entries} entries, and at most {LARGEST} are computed")
            yield sizes


@np.errstate(all="ignore")  # shadows may overflow: they only decide
def certify(model: Model, programs: Programs, seed: int = 0) -> Certificate:
    """Compare at every point; the first difference or reason ends it."""
    points: list[Sizes] = []
    compared = degree = oracles = 0
    ways = programs.aggregations
    try:
        chosen = list(points_of(model))
    except Uncertified as refused:
        return Certificate(model.name, seed, (), 0, 0, 0, ways, str(refused))
    edits = max(edits_of(model, sizes) for sizes in chosen)
    if edits > MOST_EDITS:
        reason = f"a step of {edits:,} statements, repeats written out, and at most {MOST_EDITS} are computed"
        return Certificate(model.name, seed, (), 0, 0, 0, ways, reason)
    for number, sizes in enumerate(chosen):
        points.append(sizes)
        degree = max(degree, degree_bound(model, sizes))
        try:
            point, mismatch = _compared(model, programs, sizes, 1000 * seed + 10 * number)
        except Uncertified as refused:
            return Certificate(model.name, seed, tuple(points), 0, degree, oracles, ways, str(refused))
        compared, oracles = len(point.expected), max(oracles, len(point.draw.oracles.values))
        if mismatch is not None:
            return Certificate(model.name, seed, tuple(points), compared, degree, oracles, ways, "", mismatch)
    found = Certificate(model.name, seed, tuple(points), compared, degree, oracles, ways)
    if found.probability > WEAKEST:
        return replace(found, reason="exponents have factors of so many digits that the error bound says nothing")
    return found


@dataclass(frozen=True, slots=True)
class Point:
    """A draw, cotangents of outputs and final states, and what the step makes of them."""

    draw: Draw
    outputs: Tensors
    final: Tensors
    expected: Tensors

    @staticmethod
    def drawn(model: Model, sizes: Sizes, seed: int, scanned: frozenset[str] = frozenset()) -> Point:
        """Numbers on which every value of the step exists; `scanned` states are read entry by entry."""
        draw = Draw(model, sizes, seed, scanned)
        outs = {name: draw.integers(shape, P) for name, shape in step.output_shapes(draw).items()}
        ends = {name: draw.integers(s.shape, P) for name, s in draw.start.items()}
        made = step.run(draw, (outs, ends))
        return Point(draw, outs, ends, _named(made.outputs, made.final, made.gradients, made.start_gradients))

    def mismatch(self, programs: Programs) -> Mismatch | None:
        """The first difference; what keeps a program from running is one."""
        setting = Setting(self.draw.oracles, self.draw.sizes, programs.aggregations)
        try:
            found = _named(*_chunked(programs, self.draw, setting, self.outputs, self.final))
            first = _first(self.expected, found, self.draw)
            if first is None and programs.kernels is not None:
                found = _named(*_staged(programs.kernels, self.draw, setting, self.outputs, self.final))
                first = _first(self.expected, found, self.draw)
                first = first and replace(first, quantity=f"of kernels, {first.quantity}")
        except (ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
            return Mismatch("the chunk program", f": {error}", self.draw.sizes)
        if first is not None and setting.read_gates:
            # Factors of such a gate are added up before they are exponentiated, which numbers without a second
            # evaluation do not stand.
            raise Uncertified("a gate is made of several factors, some of them of what is read from a state")
        return first


def _compared(model: Model, programs: Programs, sizes: Sizes, seed: int) -> tuple[Point, Mismatch | None]:
    """A point and the mismatch if any; drawn anew where a value of the programs does not exist."""
    reason = ""
    for attempt in range(REDRAWS):
        point = Point.drawn(model, sizes, seed + attempt, programs.scanned)
        try:
            return point, point.mismatch(programs)
        except Redraw as redraw:
            reason = str(redraw)
    raise Uncertified(f"it has no exact form: every draw met {reason}")


def _chunked(
    programs: Programs, draw: Draw, setting: Setting, outs: Tensors, ends: Tensors
) -> tuple[Tensors, Tensors, Tensors, Tensors]:
    """Outputs, final state, gradients of inputs and params, gradient of the state at the start."""
    roles = {i.name: "param" if i.is_param else "input" for i in draw.model.inputs}
    given = {(roles[name], name): number for name, number in draw.inputs.items()}
    forward, backward = programs.forward, programs.backward
    ran = chunked.run(forward, setting, given, draw.start)
    outer = {("cotangent", name): _bare(draw, bar) for name, bar in outs.items()}
    kept = {("saved", name): ran.values[value] for name, value in programs.saved}
    carries = {("carry", c.name): ran.values[c.before] for c in forward.carries}
    bars = {name: _bare(draw, bar) for name, bar in ends.items()}
    back = chunked.run(backward, setting, {**given, **outer, **kept, **carries}, bars)
    outputs = {name: _spread(forward, name, number, outs[name].shape) for name, number in ran.results.items()}
    shapes = {name: number.shape for name, number in draw.inputs.items()}
    gradients = {name: _spread(backward, name, number, shapes[name]) for name, number in back.results.items()}
    return outputs, _values(ran.states), gradients, _values(back.states)


def _staged(
    plan: KernelPlan, draw: Draw, setting: Setting, outs: Tensors, ends: Tensors
) -> tuple[Tensors, Tensors, Tensors, Tensors]:
    """The same of kernels' programs, state after state."""
    assert plan.whole is not None
    roles = {i.name: "param" if i.is_param else "input" for i in draw.model.inputs}
    given = {(roles[name], name): number for name, number in draw.inputs.items()}
    bars, ending = ({name: _bare(draw, bar) for name, bar in of.items()} for of in (outs, ends))
    made = Staged(plan, plan.whole, setting, given, draw.start).made(bars, ending)
    shapes = {name: number.shape for name, number in draw.inputs.items()}
    outputs = {name: np.broadcast_to(x.value, outs[name].shape) for name, x in made.outputs.items()}
    gradients = {name: np.broadcast_to(x.value, shapes[name]) for name, x in made.gradients.items()}
    return outputs, _values(made.states), gradients, _values(made.starts)


def _spread(program: Program, name: str, number: Number, shape: tuple[int, ...]) -> Entries:
    """A result for every token and entry of its tensor: one that is a constant is given per head, without axes."""
    value = dict(program.results)[name]
    if value.level is not Level.HEAD or number.value.ndim == len(shape):
        return number.value
    heads = number.value if value.axes else number.value.reshape(-1, *(1,) * (len(shape) - 2))
    return np.broadcast_to(heads, shape)


def _bare(draw: Draw, values: Entries) -> Number:
    """A cotangent: its shadow decides nothing."""
    return Number(draw.oracles, values, np.ones(values.shape))


def _named(outputs: Tensors, final: Tensors, gradients: Tensors, start: Tensors) -> Tensors:
    """One namespace, as `flowc verify` shows it."""
    return {
        **outputs,
        **{f"{n}[T]": x for n, x in final.items()},
        **{f"d{n}": x for n, x in gradients.items()},
        **{f"d{n}[0]": x for n, x in start.items()},
    }


def _first(wanted: Tensors, found: Tensors, draw: Draw) -> Mismatch | None:
    params, sizes = {f"d{i.name}" for i in draw.model.inputs if i.is_param}, draw.sizes
    for name, truth in wanted.items():
        actual = found.get(name)
        if actual is None:
            if np.any(truth):
                return Mismatch(name, ": the program does not make it", sizes)
            continue
        if actual.shape != truth.shape:
            return Mismatch(name, f" in shape: {actual.shape}, not {truth.shape}", sizes)
        differs = np.argwhere((actual - truth) % P != 0)
        if len(differs):
            first = differs[0]
            if "[" in name or name in params:
                return Mismatch(name, f" first in head {first[0]}", sizes)
            t, head = first[:2]
            return Mismatch(name, f" first at step {t}, chunk {t // sizes.chunk}, head {head}", sizes)
    return None


def _values(states: dict[str, Number]) -> Tensors:
    return {name: number.value for name, number in states.items()}
