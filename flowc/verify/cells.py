"""What a numerics table is made of: kinds of gates, keys and write strengths, and inputs that have them.

In: a `Recurrence`, cells, a length. Out: float64 tensors by name, one sequence per cell. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from flowc.algebra.recurrence import Gate, Recurrence, Write
from flowc.algebra.term import Load
from flowc.semantics.model import Input, Kind
from flowc.verify.draw import Sizes

GATES = ("0", "mild", "-20", "-inf", "mixed")
"""Log decays: none, -1 to 0, -20, -inf, and -20 in one token of five with -0.001 in the others."""
RAW = {"0": -8.0, "mild": None, "-20": 8.0, "-inf": 30.0, "mixed": None}
"""What inputs are that a gate is a function of, where it has no log gate: normal, or this; `mixed`: 8 and -8."""
KEYS = ("unit", "repeated", "near", "alternating")
"""Keys of length one: drawn for every token, all equal, all equal but for noise of 0.1, two in turn."""
STRENGTHS = (0.0, 1.0, 2.0)
SEEDS = 3
NOISE = 0.1


@dataclass(frozen=True, slots=True)
class Cell:
    """One sequence's gates, keys and write strength; what a recurrence does not have is empty."""

    gate: str
    keys: str
    strength: float | None
    seed: int

    @property
    def place(self) -> tuple[str, str, float | None]:
        """What the seeds of a cell share."""
        return self.gate, self.keys, self.strength

    def __str__(self) -> str:
        """As a table shows it."""
        strength = "" if self.strength is None else f"beta {self.strength:g}"
        return ", ".join(x for x in (f"g {self.gate}" if self.gate else "", self.keys, strength) if x)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the inputs of a recurrence are for, by name."""

    log_gates: frozenset[str]
    raw_gates: frozenset[str]
    keys: tuple[frozenset[str], ...]  # what states are read and written with, by the rows that they are factors of
    reads: frozenset[str]  # of those, what only reads in an update
    strengths: frozenset[str]

    @staticmethod
    def of(recurrence: Recurrence) -> Parts:
        """From its normal form."""
        inputs = {i.name: i for i in recurrence.model.inputs if not i.is_param}
        edits = recurrence.edits
        rows = [row for edit in edits if isinstance(edit, Write) for row in edit.rows]
        gates = {n for edit in edits if isinstance(edit, Gate) for n in _loads(edit)} & inputs.keys()
        logs = {n for n in gates if _is_log(inputs[n])}
        free = {n for n, i in inputs.items() if i.range is None and i.shape.kind is not Kind.SCALAR} - gates
        left = {n for row in rows for n in _loads(row.left)} & free
        reads = {n for row in rows if row.read is not None for n in _loads(row.read)} & free
        keys: list[frozenset[str]] = []
        for row in rows:
            own = frozenset({*_loads(row.left), *_loads(row.read)} & free)
            met = [k for k in keys if k & own]
            keys = [k for k in keys if not k & own] + ([own.union(*met)] if own else [])
        strengths = {n for n, i in inputs.items() if _is_bounded(i)} - gates
        raw = {n for n in gates - logs if inputs[n].range is None}
        sets = [frozenset(names) for names in (logs, raw, reads - left, strengths)]
        return Parts(sets[0], sets[1], tuple(keys), sets[2], sets[3])

    def cells(self) -> list[Cell]:
        """All of them, the seeds of one after another."""
        gates = GATES if self.log_gates or self.raw_gates else ("",)
        strengths = STRENGTHS if self.strengths else (None,)
        keys = KEYS if self.keys else ("",)
        return [Cell(*place, seed) for place in product(gates, keys, strengths) for seed in range(SEEDS)]


def _loads(part: Any) -> Iterator[str]:
    """The inputs that a part of a recurrence loads."""
    if isinstance(part, Load):
        yield part.name
    elif is_dataclass(part) and not isinstance(part, type):
        for f in fields(part):
            yield from _loads(getattr(part, f.name))
    elif isinstance(part, tuple):
        for item in part:
            yield from _loads(item)


def _is_log(i: Input) -> bool:
    return i.range is not None and i.range.high == 0


def _is_bounded(i: Input) -> bool:
    return i.range is not None and i.range.low is not None and i.range.high is not None


@dataclass(frozen=True, slots=True)
class Drawer:
    """Draws the inputs of cells. `turned` are reads that keep a state bounded when their sign is turned."""

    recurrence: Recurrence
    parts: Parts
    sizes: Sizes
    turned: frozenset[str] = frozenset()

    def inputs(self, cells: list[Cell], length: int) -> dict[str, Tensor]:
        """Every input `[cells, length, 1, *]` and param `[1, *]`, float64; a cell's are its own."""
        drawn = [self._cell(cell, length) for cell in cells]
        params = {i.name for i in self.recurrence.model.inputs if i.is_param}
        return {n: drawn[0][n] if n in params else torch.stack([d[n] for d in drawn]) for n in drawn[0]}

    def _cell(self, cell: Cell, length: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(cell.seed)
        bound = self.sizes.bound(self.recurrence.model)
        made: dict[str, Tensor] = {}
        for at, i in enumerate(self.recurrence.model.inputs):
            axes = [size.value(bound) for size in i.shape.sizes]
            own = torch.Generator().manual_seed(1000 + at) if i.is_param else rng
            shape = (1, *axes) if i.is_param else (length, 1, *axes)
            made[i.name] = self._input(i, cell, shape, own)
        return made

    def _input(self, i: Input, cell: Cell, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        normal = torch.randn(shape, generator=rng, dtype=torch.float64)
        uniform = torch.rand(shape, generator=rng, dtype=torch.float64)
        if i.name in self.parts.log_gates:
            return _log_gate(cell.gate, uniform)
        if i.name in self.parts.raw_gates:
            return _raw_gate(cell.gate, normal, uniform)
        if i.name in self.parts.strengths:
            return torch.full(shape, cell.strength or 0.0, dtype=torch.float64)
        if i.range is not None and i.range.low is not None and i.range.high is not None:
            return float(i.range.low) + float(i.range.high - i.range.low) * uniform
        stream = next((at for at, names in enumerate(self.parts.keys) if i.name in names), None)
        if stream is not None:  # one for a row's factors: what is read is what is written
            own = torch.Generator().manual_seed(100 * (stream + 1) + cell.seed)
            shared = torch.randn(shape, generator=own, dtype=torch.float64)
            return (-1 if i.name in self.turned else 1) * _keys(cell.keys, shared, i.shape.kind)
        return 0.3 * normal if i.is_param else normal


def _log_gate(kind: str, uniform: Tensor) -> Tensor:
    match kind:
        case "0":
            return torch.zeros_like(uniform)
        case "mild":
            return -uniform
        case "mixed":
            return torch.where(uniform < 0.2, -20.0, uniform.new_tensor(-0.001))
        case _:
            return torch.full_like(uniform, float(kind))


def _raw_gate(kind: str, normal: Tensor, uniform: Tensor) -> Tensor:
    value = RAW[kind]
    if value is not None:
        return torch.full_like(normal, value)
    return torch.where(uniform < 0.2, 8.0, -8.0).to(normal.dtype) if kind == "mixed" else normal


def _keys(kind: str, normal: Tensor, shape: Kind) -> Tensor:
    first = normal[:1]
    match kind:
        case "repeated":
            normal = first.expand_as(normal)
        case "near":
            normal = first + NOISE * normal
        case "alternating":
            odd = (torch.arange(len(normal)) % 2).reshape(-1, *[1] * (normal.dim() - 1))
            normal = torch.where(odd == 1, normal[-1:], first)
    axis = -2 if shape is Kind.MATRIX else -1
    unit: Tensor = normal / normal.norm(dim=axis, keepdim=True)
    return unit
