"""Inputs within the ranges that a spec declares, hard cases among them.

In: a `Model`, sizes and a seed. Out: float64 tensors by name: log decays that are mostly mild and now and then -20,
vectors that the state is read with of length one and now and then repeated, everything else where its declaration
puts it. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowc.semantics.model import Binary, Expr, Input, InputRef, Interval, Kind, Model, Shape, StateRef, Update
from flowc.semantics.walk import flat, parts

STRONG = -20.0
"""A log decay that all but forgets: exp(-20) is 2e-9."""

STRONG_SHARE = 0.04
REPEATED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the drawn tensors are; `dimension` is given to each dimension that the header leaves open."""

    batch: int = 2
    length: int = 37
    heads: int = 2
    dimensions: tuple[int, ...] = (8, 6, 3, 5)

    def bound(self, model: Model) -> dict[str, int]:
        """A value for every dimension of `model`: its own, else the next of `dimensions`, the last over and over."""
        values: dict[str, int] = {}
        for dimension in model.dimensions:
            place = min(len(values), len(self.dimensions) - 1)
            values[dimension.name] = self.dimensions[place] if dimension.value is None else dimension.value
        return values


def draw_inputs(model: Model, sizes: Sizes, seed: int) -> dict[str, Tensor]:
    """Every input `[B, T, H, *shape]` and param `[H, *shape]` of `model`, float64."""
    rng = torch.Generator().manual_seed(seed)
    bound, read_with = sizes.bound(model), _read_with(model)
    lead = (sizes.batch, sizes.length, sizes.heads)
    return {
        i.name: _draw(i, (sizes.heads,) if i.is_param else lead, bound, i.name in read_with, rng) for i in model.inputs
    }


def draw_states(model: Model, sizes: Sizes, seed: int) -> dict[str, Tensor]:
    """A random start `[B, H, *shape]` for every state of `model`, float64."""
    rng = torch.Generator().manual_seed(seed)
    bound, lead = sizes.bound(model), (sizes.batch, sizes.heads)
    drawn = {state.name: _normal((*lead, *_axes(state.shape, bound)), rng) for state in model.states}
    vectors = {state.name for state in model.states if state.shape.kind is Kind.COLUMN}  # sums that others divide by
    return {name: x.abs() if name in vectors else x for name, x in drawn.items()}


def _draw(i: Input, lead: tuple[int, ...], bound: dict[str, int], is_key: bool, rng: torch.Generator) -> Tensor:
    shape = (*lead, *_axes(i.shape, bound))
    if i.range is not None:
        return _within(i.range, shape, rng)
    values = _normal(shape, rng)
    if i.is_param:
        return 0.3 * values
    return _keys(values, i.shape, rng) if is_key else values


def _within(interval: Interval, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Values of an interval: uniform inside a bounded one, exponential from the end of a half-bounded one."""
    uniform = 0.02 + 0.96 * torch.rand(shape, generator=rng, dtype=torch.float64)
    match interval.low, interval.high:
        case None, None:
            return _normal(shape, rng)
        case low, None if low is not None:
            return float(low) - torch.log(uniform)
        case None, high if high is not None:
            mild = float(high) + 0.3 * torch.log(uniform)
            strong = torch.rand(shape, generator=rng) < STRONG_SHARE
            return torch.where(strong, torch.full_like(mild, min(STRONG, float(high))), mild)
        case low, high if low is not None and high is not None:
            return float(low) + (float(high) - float(low)) * uniform
    raise AssertionError(interval)


def _keys(values: Tensor, shape: Shape, rng: torch.Generator) -> Tensor:
    """Columns of length one, some equal to the token's before: without that an inverse is never put to the test."""
    for t in range(1, values.shape[1]):
        if torch.rand((), generator=rng) < REPEATED_SHARE:
            values[:, t] = values[:, t - 1]
    axis = -2 if shape.kind is Kind.MATRIX else -1
    length: Tensor = values.norm(dim=axis, keepdim=True)
    return values / length


def _normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def _axes(shape: Shape, bound: dict[str, int]) -> tuple[int, ...]:
    return tuple(size.value(bound) for size in shape.sizes)


# -- which inputs the state is read with ------------------------------------------------------------------------------


def _read_with(model: Model) -> set[str]:
    """Vector and matrix inputs of updates in which a state is a factor of a matrix product.

    Left at their natural length they would make a state grow without bound, and no error could be told from growth.
    """
    wide = {i.name for i in model.inputs if i.shape.kind is not Kind.SCALAR}
    reads = [s.value for s in flat(model.statements) if isinstance(s, Update) and _reads(s.value)]
    return wide & {part.name for value in reads for part in parts(value) if isinstance(part, InputRef)}


def _reads(expr: Expr) -> bool:
    """Whether a state stands in a matrix product somewhere in `expr`."""
    products = (part for part in parts(expr) if isinstance(part, Binary) and part.op == "@")
    return any(isinstance(inner, StateRef) for product in products for inner in parts(product))
