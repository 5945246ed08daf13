"""Inputs on which a chunk program rounds nothing, what its values are there, and what an emitted module makes of them.

Vectors and strengths are small whole numbers, most of them 0; gates are 1 but for few tokens of a chunk, which halve.
All sums and products of the program are then fractions that float32 holds, so that no order of summation, no tile and
no aggregation may show: what the module makes is the same number, or it is wrong. The program's values are the shadows
of the certificate's interpreter, in float64. Log gates themselves are multiples of log 2, which is no float: they and
their sums are not compared, what exp makes of them is. float32's log 2 ends in three zero bits, so that its multiples
up to 8 are exact, and exp of them is off by 8 * 2e-9, less than float32 shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from unittest import mock

import numpy as np
import torch

from flowc.certify import chunked, functions
from flowc.certify.chunked import Ran, Setting
from flowc.certify.draw import Sizes
from flowc.certify.number import Number, Oracles, Redraw, Uncertified
from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import CHUNK_LENGTH, Level, Value, per_token
from flowc.semantics.model import Input, Model

LENGTH, CHUNK, HEADS = 45, 20, 2  # rows in two blocks of 16, a last chunk that is not full
HALVINGS = 2  # tokens of a chunk at which a gate halves
LOG2 = math.log(2)
SNAP = 1e-12  # by how much exp of a multiple of log 2 is off in float64, at most


class Inexact(Exception):
    """No draw on which the program rounds nothing; the message says what rounds."""


@dataclass(frozen=True)
class Exact:
    """A draw, float64 by name as an op takes it, and what a model's programs make of it."""

    sizes: Sizes
    inputs: dict[str, torch.Tensor]
    start: dict[str, torch.Tensor]
    cotangents: list[torch.Tensor]
    setting: Setting
    given: dict[tuple[str, str], Number]
    forward: Ran
    backward: Ran


# -- drawing ----------------------------------------------------------------------------------------------------------


def _drawn(i: Input, shape: tuple[int, ...], density: float, mostly: float, rng: np.random.Generator) -> np.ndarray:
    """Values of an input, [T, H, *] or [H, *]; a log gate's count halvings."""
    low, high = (None, None) if i.range is None else (i.range.low, i.range.high)
    if high == 0 or (low is not None and high is not None):
        few = np.zeros(shape, dtype=bool)
        for first in range(0, shape[0], CHUNK):
            part = few[first : first + CHUNK]
            chosen = rng.integers(0, len(part), (HALVINGS, *part.shape[1:]))
            np.put_along_axis(part, chosen, True, 0)
        return np.where(few, -1.0, 0.0) if high == 0 else np.where(few, 0.5, mostly)
    signs = rng.integers(0, 2, shape) * 2.0 - 1
    return np.where(rng.random(shape) < density, signs, 0.0)


def _number(oracles: Oracles, i: Input, values: np.ndarray) -> Number:
    """A draw as the interpreter has it."""
    exact = Number.constant(oracles, _fractions(values))
    if i.range is None or i.range.high != 0:
        return exact
    return Number(oracles, exact.value, values * LOG2, lambda: exact.exponent)


def _fractions(values: np.ndarray) -> np.ndarray:
    made = np.empty(values.shape, dtype=object)
    made.flat = [Fraction(float(x)) for x in values.flat]
    return made


def exact(
    model: Model,
    programs: tuple[Program, Program, tuple],
    bound: dict[str, int],
    ways: tuple[str, ...],
    turned: bool = False,
) -> Exact:
    """The densest of some draws on which nothing is rounded; `turned` programs are of the transposed state."""
    reason = ""
    for seed, (density, mostly) in enumerate((d, m) for d in (0.5, 0.25, 0.1) for m in (1.0, 0.0)):
        sizes = Sizes(LENGTH, CHUNK, HEADS, tuple(bound.items()))
        try:
            found = _made(model, programs, sizes, ways, (density, mostly), np.random.default_rng(seed), turned)
        except (Redraw, Uncertified) as refused:
            reason = str(refused)
            continue
        reason = rounds(found.forward, programs[0]) or rounds(found.backward, programs[1])
        if not reason:
            return found
    raise Inexact(reason)


def _made(model, programs, sizes, ways, how, rng, turned) -> Exact:
    oracles = Oracles(0)
    shapes = {i.name: [n.value(sizes.bound) for n in i.shape.sizes] for i in model.inputs}
    arrays = {
        i.name: _drawn(i, (HEADS, *shapes[i.name]) if i.is_param else (LENGTH, HEADS, *shapes[i.name]), *how, rng)
        for i in model.inputs
    }
    start = {
        s.name: rng.integers(-1, 2, (HEADS, *(n.value(sizes.bound) for n in s.shape.sizes))).astype(float)
        for s in model.states
    }
    roles = {i.name: "param" if i.is_param else "input" for i in model.inputs}
    given = {(roles[i.name], i.name): _number(oracles, i, arrays[i.name]) for i in model.inputs}
    setting = Setting(oracles, sizes, ways)
    forward, backward, saved = programs
    with halvings():
        ran = chunked.run(forward, setting, given, _numbers(oracles, start, turned))
        bars = [rng.integers(-1, 2, number.shape).astype(float) for number in ran.results.values()]
        ends = {n: rng.integers(-1, 2, x.shape).astype(float) for n, x in start.items()}
        outer = {
            ("cotangent", n): Number.constant(oracles, _fractions(bar))
            for n, bar in zip(ran.results, bars, strict=True)
        }
        given |= outer | {("carry", c.name): ran.values[c.before] for c in forward.carries}
        kept = {("saved", name): ran.values[value] for name, value in saved}
        back = chunked.run(backward, setting, given | kept, _numbers(oracles, ends, turned))
    if turned:
        ran, back = (replace(r, states={n: x.moved(_transposed) for n, x in r.states.items()}) for r in (ran, back))
    floats = {n: LOG2 * x if _is_log(model, n) else x for n, x in arrays.items()}
    params = {i.name for i in model.inputs if i.is_param}
    tensors = {n: torch.tensor(x) if n in params else torch.tensor(x)[None] for n, x in floats.items()}
    cotangents = [torch.tensor(bar)[None] for bar in (*bars, *ends.values())]
    starts = {n: torch.tensor(x)[None] for n, x in start.items()}
    return Exact(sizes, tensors, starts, cotangents, setting, given, ran, back)


def _numbers(oracles: Oracles, arrays: dict[str, np.ndarray], turned: bool) -> dict[str, Number]:
    """States as the interpreter has them."""
    own = {n: _transposed(x) if turned else x for n, x in arrays.items()}
    return {n: Number.constant(oracles, _fractions(x)) for n, x in own.items()}


def _transposed(state: np.ndarray) -> np.ndarray:
    return np.swapaxes(state, -1, -2)


def _is_log(model: Model, name: str) -> bool:
    return next(i.range is not None and i.range.high == 0 for i in model.inputs if i.name == name)


@contextmanager
def halvings() -> Iterator[None]:
    """exp of a multiple of log 2 as the power of two that it is; numbers that tie are equal, and not drawn again."""
    plain = functions.exp_of_shadow

    def snapped(shadow: np.ndarray) -> np.ndarray:
        found = plain(shadow)
        with np.errstate(all="ignore"):
            power = 2.0 ** np.round(np.log2(found))
        return np.where(np.abs(found - power) <= SNAP * power, power, found)

    def compared(a: Number, b: Number, compare: Callable[..., np.ndarray]) -> Number:
        return Number.whole(a.oracles, np.asarray(compare(a.shadow, b.shadow)))

    with mock.patch.multiple(functions, exp_of_shadow=snapped, decided=compared):
        yield


# -- what rounds, and what can be compared ----------------------------------------------------------------------------


def logs(program: Program) -> set[Value]:
    """Log gates and what is made of them, up to where exp makes a decay of it."""
    found: set[Value] = set()
    for node in reversed(program.nodes):
        match node.op:
            case ir.Apply("exp", (argument,)):
                found.add(argument)
            case ir.Decay(upper, lower):
                found |= {upper} | ({lower} - {None})
            case ir.DecayMatrix(rows, columns):
                found |= {rows, columns}
            case ir.DecayDot(_, _, upper, lower) | ir.DecayApply(_, _, upper, lower):
                found |= {upper, lower}
        if node.value in found:
            found.update(ir.operands(node.op))
    return found


def rounds(ran: Ran, program: Program) -> str:
    """What makes the first value that float32 does not hold; nothing if it holds them all."""
    hidden = logs(program)
    carried = {c.before for c in program.carries}  # last, which the others make
    for node in sorted(program.nodes, key=lambda n: n.value in carried):
        shadow = ran.values[node.value].shadow
        with np.errstate(over="ignore"):
            held = np.array_equal(shadow, shadow.astype(np.float32).astype(np.float64))
        if not held and node.value not in hidden:
            return node.op.function if isinstance(node.op, ir.Apply) else type(node.op).__name__
    return ""


def live(value: Value, number: Number, bound: dict[str, int]) -> Iterator[tuple[slice, ...]]:
    """The places of a value per chunk that belong to tokens of the sequence, chunk by chunk."""
    for c in range(number.shape[0]):
        tokens = min(LENGTH - c * CHUNK, CHUNK)
        places = [slice(c, c + 1), slice(None)]
        for axis in value.axes:
            if CHUNK_LENGTH.names <= axis.size.names:
                places.append(slice(0, tokens * per_token(axis.size).value(bound)))
            else:
                places.append(slice(None))
        yield tuple(places)


def differs(value: Value, found: torch.Tensor, exact: Exact, ran: Ran) -> bool:
    """Whether what a module made of a value per chunk is anything else."""
    number = ran.values[value]
    expected = torch.tensor(number.shadow)
    found = found.double().expand(expected.shape)
    return any(not torch.equal(found[at], expected[at]) for at in live(value, number, exact.setting.bound))


def comparable(value: Value, program: Program) -> bool:
    """A value per chunk, no log gate, and not what an aggregation keeps of a system, which is its own affair."""
    return (
        value.level is Level.CHUNK and value not in logs(program) and not isinstance(program.defined[value], ir.Inverse)
    )
