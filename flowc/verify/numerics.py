"""How much a compiled op loses in float32 and half precision, beside step-by-step execution in the same type.

In: an `Op`. Out: `Numerics`: for every type, length, kind of gate, keys and write strength and for every aggregation
the error of the quantity that loses most, and that of the op's step-by-step form in the same type. The truth is the
step-by-step form in float64 on the rounded inputs. Refuses nothing: an error above its limit is a loss that does not
hold.

An error is the RMS of the difference over the RMS of the truth, a gradient's over that of the largest gradient if that
is larger (the gradient of a gate is a difference of sums as large as the others), the largest of `SEEDS` draws. The
limit is `BAR` times what step-by-step execution loses, half a distance of neighbours of the type at least: what the
result alone is rounded by. Torch operators round nothing else to half precision.

A cell whose truth passes `LARGEST` in some sequence grew, and is not judged; neither is a quantity of which the loop
itself loses more than `LOST`, as where beta = 1 erases all that a gate has left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor

from flowc import reference
from flowc.chunk.aggregation import AGGREGATIONS
from flowc.runtime.op import Op
from flowc.semantics.model import Input, Kind, Model
from flowc.verify.cells import SEEDS, Cell, Drawer, Parts
from flowc.verify.draw import Sizes

BAR = 8
LENGTHS = (64, 1024, 8192)
LONGEST = 65536
WORST = 3
"""How many of the worst cells of `LENGTHS` run at `LONGEST`."""
DIFFERENTIATED = 1024
"""Up to this length gradients are judged too: a loop keeps every step for them."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST = {torch.float32: 2.0**50, torch.bfloat16: 2.0**50, torch.float16: 2.0**15}
LOST = 0.05
SIZES = Sizes(dimensions=(16, 8, 2, 2))

Quantities = dict[str, Tensor]
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Loss:
    """One cell in one type at one length with one aggregation: the quantity that loses most."""

    dtype: torch.dtype
    length: int
    cell: Cell
    aggregation: str
    quantity: str
    error: float
    stepwise: float

    @property
    def limit(self) -> float:
        """What the error may be."""
        return BAR * max(self.stepwise, torch.finfo(self.dtype).eps / 2)

    @property
    def ratio(self) -> float:
        """Its error over that of step-by-step execution, which counts as said above; infinite where it is no number."""
        return BAR * self.error / self.limit if self.error == self.error else math.inf

    @property
    def holds(self) -> bool:
        """Whether it is within the limit; NaN is not."""
        return self.ratio <= BAR


@dataclass(frozen=True, slots=True)
class Numerics:
    """All losses of one spec, cells that `grew`, quantities that the loop had `lost`, and two questions on bits.

    `repeatable`: two runs give the same; `independent`: a sequence has the same alone as among others.
    """

    name: str
    losses: tuple[Loss, ...]
    grew: int
    lost: int
    repeatable: bool
    independent: bool

    @property
    def holds(self) -> bool:
        """Whether every loss is within its limit and bits are what they should be."""
        return self.repeatable and self.independent and all(loss.holds for loss in self.losses)

    def rows(self) -> list[tuple[Loss, int]]:
        """The worst loss by type, length and kind of gate, in the order in which they ran, and of how many."""
        groups: dict[tuple[torch.dtype, int, str], list[Loss]] = {}
        for loss in self.losses:
            groups.setdefault((loss.dtype, loss.length, loss.cell.gate), []).append(loss)
        return [(max(losses, key=lambda loss: loss.ratio), len(losses)) for losses in groups.values()]


def numerics(
    op: Op, lengths: Iterable[int] = LENGTHS, longest: int | None = LONGEST, told: Told | None = None
) -> Numerics:
    """Judge `op` on the grid of `lengths`, its worst cells at `longest` too; `told` hears a line before every part."""
    runner = _Runner(op, told or (lambda line: None))
    losses: list[Loss] = []
    for length in lengths:
        for dtype in DTYPES:
            losses += runner.losses(runner.parts.cells(), length, dtype)
    if longest is not None:
        for loss in sorted(losses, key=lambda loss: -loss.ratio)[:WORST]:
            cells = [replace(loss.cell, seed=seed) for seed in range(SEEDS)]
            losses += runner.losses(cells, longest, loss.dtype, (loss.aggregation,))
    return Numerics(op.__name__, tuple(losses), runner.grew, runner.lost, *runner.bits())


class _Runner:
    """Runs one op and its step-by-step form on cells."""

    def __init__(self, op: Op, told: Told) -> None:
        self.op, self.told, self.grew, self.lost = op, told, 0, 0
        self.model: Model = op.compilation.model
        self.parts = Parts.of(op.compilation.recurrence)
        self.drawer = self.bounded(Drawer(op.compilation.recurrence, self.parts, SIZES))
        self.ways = AGGREGATIONS if op.compilation.plan.aggregations else AGGREGATIONS[:1]

    def bounded(self, drawer: Drawer) -> Drawer:
        """With the signs of what reads in updates such that a state grows the least."""
        reads: list[str] = sorted(self.parts.reads)
        if not reads:
            return drawer
        cells = [c for c in self.parts.cells() if c.seed == 0 and c.strength in (None, 1.0)]
        sets = chain.from_iterable(combinations(reads, n) for n in range(len(reads) + 1))

        def growth(turned: Iterable[str]) -> float:
            inputs = replace(drawer, turned=frozenset(turned)).inputs(cells, min(LENGTHS))
            _, final = self.op.reference(**inputs, output_final_state=True)
            return max(float(x.abs().max()) for x in (final if isinstance(final, tuple) else (final,)))

        return replace(drawer, turned=frozenset(min(list(sets), key=growth)))

    def losses(
        self, cells: list[Cell], length: int, dtype: torch.dtype, ways: tuple[str, ...] | None = None
    ) -> list[Loss]:
        """Of every cell and aggregation at one length in one type."""
        self.told(f"{self.op.__name__}: T {length}, {_name(dtype)}, step by step")
        types = {i.name: _type(i, dtype) for i in self.model.inputs}
        inputs = {n: x.to(types[n]) for n, x in self.drawer.inputs(cells, length).items()}
        truth = self.run(self.op.reference, {n: x.double() for n, x in inputs.items()}, length)
        stepwise = self.run(self.op.reference, inputs, length)
        grown = {c.place for at, c in enumerate(cells) if not _bounded(truth, at, LARGEST[dtype])}
        self.grew += len(grown)
        found, base = [], _errors(truth, stepwise)
        for way in ways or self.ways:
            self.told(f"{self.op.__name__}: T {length}, {_name(dtype)}, {way}")
            made = self.run(self.op, inputs, length, aggregation=way)
            errors = _errors(truth, made)
            for place in dict.fromkeys(c.place for c in cells if c.place not in grown):
                own = [at for at, cell in enumerate(cells) if cell.place == place]
                where = dtype, length, cells[own[0]], way
                losses = [Loss(*where, n, _worst(errors[n][own]), _worst(base[n][own])) for n in errors]
                judged = [loss for loss in losses if loss.stepwise <= LOST or not math.isfinite(loss.error)]
                self.lost += len(losses) - len(judged)
                found += [max(judged, key=lambda loss: loss.ratio)] if judged else []
        return found

    def run(self, form: Callable[..., Any], inputs: Quantities, length: int, **options: Any) -> Quantities:
        """Outputs and final state, up to `DIFFERENTIATED` tokens gradients of all but params, which sum over cells."""
        wanted = {i.name for i in self.model.inputs if not i.is_param} if length <= DIFFERENTIATED else set()
        leaves = {n: x.detach().requires_grad_(n in wanted) for n, x in inputs.items()}
        with torch.set_grad_enabled(bool(wanted)):
            result, final = form(**leaves, output_final_state=True, **options)
        names = [o.name for o in reference.outputs_of(self.model.statements)]
        outputs = dict(zip(names, result if isinstance(result, tuple) else (result,), strict=True))
        states = final if isinstance(final, tuple) else (final,)
        ends = {f"{s.name}[T]": x for s, x in zip(self.model.states, states, strict=True)}
        values = {**outputs, **ends}
        if not wanted:
            return values
        rng = torch.Generator().manual_seed(0)
        loss = sum(
            (x.double() * torch.randn(x.shape[1:], generator=rng, dtype=torch.float64)).sum() for x in values.values()
        )
        assert isinstance(loss, Tensor)
        names = [n for n in leaves if n in wanted]
        grads = torch.autograd.grad(loss, [leaves[n] for n in names], allow_unused=True)
        zeros = (torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(names, grads, strict=True))
        return {n: x.detach() for n, x in values.items()} | {f"d{n}": g for n, g in zip(names, zeros, strict=True)}

    def bits(self) -> tuple[bool, bool]:
        """Whether two runs give the same bits, and a sequence the same alone as among others."""
        self.told(f"{self.op.__name__}: bits")
        cells, length = self.parts.cells(), max(x for x in LENGTHS if x <= DIFFERENTIATED)
        inputs = {n: x.float() for n, x in self.drawer.inputs(cells, length).items()}
        params = {i.name for i in self.model.inputs if i.is_param}
        first, again = (self.run(self.op, inputs, length) for _ in range(2))
        independent = True
        for at in (0, len(cells) // 2, len(cells) - 1):
            alone = self.run(self.op, {n: x if n in params else x[at : at + 1] for n, x in inputs.items()}, length)
            independent &= all(_same(alone[n][0], first[n][at]) for n in first)
        return all(_same(first[n], again[n]) for n in first), independent


def _type(i: Input, dtype: torch.dtype) -> torch.dtype:
    """Vectors come in `dtype`; scalars, log gates and params stay in float32, as models hold them."""
    log = i.range is not None and i.range.high == 0
    return torch.float32 if log or i.is_param or i.shape.kind is Kind.SCALAR else dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _bounded(values: Quantities, at: int, largest: float) -> bool:
    """Whether every value of a sequence is a number, and not too large a one."""
    return all(bool(x[at].isfinite().all()) and bool((x[at].abs() <= largest).all()) for x in values.values())


def _errors(truth: Quantities, found: Quantities) -> dict[str, Tensor]:
    """By quantity the error of every sequence."""
    sizes = {n: _rms(x) for n, x in truth.items()}
    gradients = [size for n, size in sizes.items() if n.startswith("d")]
    largest = torch.stack(gradients).amax(0) if gradients else None
    errors = {}
    for name, x in truth.items():
        size = torch.maximum(sizes[name], largest) if largest is not None and name.startswith("d") else sizes[name]
        difference = _rms(found[name].double() - x)
        errors[name] = torch.where(difference == 0, 0.0, difference / size)
    return errors


def _rms(x: Tensor) -> Tensor:
    """Of every sequence."""
    return x.double().flatten(1).pow(2).mean(1).sqrt()


def _worst(errors: Tensor) -> float:
    """The largest of the seeds'; NaN if one is."""
    return float(errors.max())


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit by bit, so that NaN is itself and nothing else."""
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
