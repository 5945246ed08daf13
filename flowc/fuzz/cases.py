"""What an op is run on: how large, of which gates and keys, in which types and layouts.

In: a `Model` and a `Case`. Out: float64 inputs and states by name, and the type that each comes in. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowc.semantics.model import Input, Kind, Model

HALVES = (torch.float16, torch.bfloat16)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Roles:
    """What inputs are for, where their names do not tell; `gates` is how many log gates a token adds up."""

    units: tuple[str, ...] = ()  # vectors of length one
    strengths: tuple[str, ...] = ()  # how much of a delta is written
    shared: tuple[str, ...] = ()  # vectors that may have fewer heads than the values
    gates: int = 1


@dataclass(frozen=True)
class Case:
    """What to run an op on."""

    batch: int = 2
    length: int = 23
    heads: int = 2
    sizes: tuple[int, ...] = (5, 4, 3, 2)  # of the dimensions that the header leaves open, in order
    chunk: int | None = 7
    gate: str = "mild"  # zero | mild | strong | mixed | never
    keys: str = "random"  # random | repeated | near | alternating
    beta: float | None = None  # None: drawn from (0, 1)
    start: bool = True
    aggregation: str = "auto"
    layout: str = "contiguous"  # contiguous | strided | expanded (strides of 0)
    wide: bool = True  # gates, scalars and params are float32 where vectors are in half precision
    group: int = 1
    seed: int = 0
    roles: Roles | None = None  # None: by the names of the inputs


def sizes_of(model: Model, case: Case) -> dict[str, int]:
    """A value for every dimension."""
    free = [d.name for d in model.dimensions if d.value is None]
    fixed = {d.name: d.value for d in model.dimensions if d.value is not None}
    return fixed | dict(zip(free, case.sizes, strict=False))


def draw(model: Model, case: Case) -> Tensors:
    """Float64 inputs by name."""
    rng = torch.Generator().manual_seed(case.seed)
    return {i.name: _laid_out(_drawn(i, model, case, rng), i, case) for i in model.inputs}


def draw_states(model: Model, case: Case) -> Tensors:
    """A float64 start by name; vectors are sums of what is positive, which others divide by."""
    rng = torch.Generator().manual_seed(case.seed + 1)
    sizes, found = sizes_of(model, case), {}
    for s in model.states:
        shape = (case.batch, case.heads, *(n.value(sizes) for n in s.shape.sizes))
        x = torch.randn(shape, generator=rng, dtype=torch.float64)
        found[s.name] = x.abs() if s.shape.kind is Kind.COLUMN else x
    return found


def _drawn(i: Input, model: Model, case: Case, rng: torch.Generator) -> torch.Tensor:
    axes = [size.value(sizes_of(model, case)) for size in i.shape.sizes]
    heads = case.heads // case.group if shares_heads(i, case) else case.heads
    shape = (heads, *axes) if i.is_param else (case.batch, case.length, heads, *axes)
    normal = torch.randn(shape, generator=rng, dtype=torch.float64)
    uniform = torch.rand(shape, generator=rng, dtype=torch.float64)
    if i.is_param:
        below = i.range is not None and i.range.high == 0
        return -uniform if below else 0.1 + 0.8 * uniform if i.range else 0.3 * normal
    if i.range and i.range.high == 0:
        return _gate(uniform, case.gate)
    if is_strength(i, case):
        return uniform if case.beta is None else torch.full_like(uniform, case.beta)
    if i.range and i.range.low is not None and i.range.high is not None:
        low, high = float(i.range.low), float(i.range.high)
        return low + (high - low) * uniform
    return _keys(normal, i, case) if is_key(i, case) else normal


def is_strength(i: Input, case: Case) -> bool:
    """Whether it is a write strength, which `case.beta` decides."""
    if case.roles is not None:
        return i.name in case.roles.strengths
    return i.range is not None or i.name.startswith("beta")


def shares_heads(i: Input, case: Case | None = None) -> bool:
    """Query and key inputs, which may have fewer heads than the values."""
    shared = case.roles.shared if case is not None and case.roles is not None else ("q", "k")
    return not i.is_param and i.name in shared and i.shape.kind is Kind.COLUMN


def is_key(i: Input, case: Case) -> bool:
    """Whether its vectors have length one."""
    if case.roles is not None:
        return i.name in case.roles.units
    return i.name[0] in "kabpABCD" and i.shape.kind is not Kind.SCALAR


def _gate(uniform: torch.Tensor, kind: str) -> torch.Tensor:
    match kind:
        case "zero":
            return torch.zeros_like(uniform)
        case "mild":
            return -uniform
        case "strong":
            return torch.full_like(uniform, -20.0)
        case "mixed":
            return torch.where(uniform < 0.2, -20.0, -0.001)
        case "never":
            return torch.where(uniform < 0.1, -torch.inf, -uniform)
    raise ValueError(kind)


def _keys(normal: torch.Tensor, i: Input, case: Case) -> torch.Tensor:
    """Vectors of length one (half that where a matrix factor writes), alike over time and over a list as asked."""
    if case.keys != "random" and normal.shape[1]:
        first = normal[:, :1]
        match case.keys:
            case "repeated":
                normal = first.expand_as(normal)
            case "near":
                normal = first + 0.1 * normal
            case "alternating":
                odd = (torch.arange(normal.shape[1]) % 2).reshape(1, -1, *[1] * (normal.dim() - 2))
                normal = torch.where(odd == 1, normal[:, -1:], first)
    axis = -2 if i.shape.kind is Kind.MATRIX else -1
    unit: torch.Tensor = normal / normal.norm(dim=axis, keepdim=True)
    return -0.5 * unit if case.roles is None and i.name in "bB" else unit


def _laid_out(x: torch.Tensor, i: Input, case: Case) -> torch.Tensor:
    if case.layout == "expanded" and not i.is_param and case.length:
        # Gates and scalars over the tokens. Vectors over the heads: the roundings of equal tokens do not walk randomly.
        over_tokens = i.shape.kind is Kind.SCALAR or (i.range is not None and i.range.high == 0)
        return x[:, :1].expand_as(x) if over_tokens else x[:, :, :1].expand_as(x)
    if case.layout == "strided":
        return torch.stack((x, x + 1), -1)[..., 0].mT.contiguous().mT if x.dim() > 1 else x
    return x


def type_of(i: Input, case: Case, dtype: torch.dtype) -> torch.dtype:
    """What an input comes in where vectors come in `dtype`."""
    narrow = i.shape.kind is not Kind.SCALAR and not i.is_param and not is_log_gate(i)
    return torch.float32 if dtype in HALVES and case.wide and not narrow else dtype


def is_log_gate(i: Input) -> bool:
    """Whether it is declared to be at most 0."""
    return not i.is_param and i.range is not None and i.range.high == 0
