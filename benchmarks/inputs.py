"""Random inputs of any spec, for benchmarks.

In: a `Model`, B, T and H, its dimensions. Out: tensors by name, `[B, T, H, *]` or `[H, *]` for params. Log gates and
params are float32, vectors over the state's rows have length one. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flowc.semantics.model import Input, Model

RANK = 2
"""Of dimensions called R, where nothing else is asked for."""


def sizes_of(model: Model, side: int, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """Every dimension: as the header or `given` has it, else R of `RANK` and all others of `side`."""
    return {d.name: d.value or (given or {}).get(d.name) or (RANK if d.name == "R" else side) for d in model.dimensions}


def drawn(
    model: Model, lead: Sequence[int], sizes: Mapping[str, int], dtype: torch.dtype, device: str = "cpu"
) -> dict[str, Tensor]:
    """Inputs for B, T, H of `lead`, the same ones every time."""
    rng = torch.Generator(device).manual_seed(0)
    return {i.name: _input(i, tuple(lead), sizes, dtype, rng) for i in model.inputs}


def _input(
    i: Input, lead: tuple[int, ...], sizes: Mapping[str, int], dtype: torch.dtype, rng: torch.Generator
) -> Tensor:
    own = (*(lead[-1:] if i.is_param else lead), *(s.value(sizes) for s in i.shape.sizes))
    if i.range is not None:
        x = torch.rand(own, generator=rng, device=rng.device)
        if i.range.low is None:
            return float(i.range.high or 0) - 0.2 * x
        return (float(i.range.low) + (0.05 + 0.9 * x) * float((i.range.high or 1) - i.range.low)).to(dtype)
    x = torch.randn(own, generator=rng, device=rng.device)
    if i.is_param:
        return 0.3 * x
    rows = any("K" in s.names for s in i.shape.sizes)
    return (x / x.norm(dim=-1, keepdim=True) if rows else x).to(dtype)
