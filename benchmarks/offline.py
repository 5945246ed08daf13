"""Emitted kernels compiled without a GPU: every launch of a call, its registers, spills and what its products are.

In: an emitted module and the inputs of its spec. Out: a `Launch` for every kernel that a call and its backward would
run, found by running the launcher on tensors without storage, and what a compiler makes of one for a target. Refuses
to work under TRITON_INTERPRET, where nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from flowc.chunk.cost import Sizes
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.schedule.schedule import rows_per_token
from flowc.schedule.tile_cost import power_of_two
from flowc.semantics.model import Input, Model
from flowc.source import Source
from flowc.tune.offline import (
    FAMILIES,
    NUMBERS,
    TARGETS,
    Launch,
    Made,
    Recorder,
    left_operands,
    make,
    recorded,
    special,
    trapped,
)

__all__ = [
    "FAMILIES",
    "NUMBERS",
    "TARGETS",
    "Launch",
    "Made",
    "Recorder",
    "launches",
    "left_operands",
    "make",
    "recorded",
    "special",
    "stubbed",
    "table",
    "token_rows",
    "trapped",
]

LENGTH, HEADS = 4096, 4
SEGMENTS = ("_ends", "_begins", "_flow", "_compose")
"""Kernels that only schedule two-level launches."""

FEATURES = 16  # the size of which features are made


@contextmanager
def stubbed(module: ModuleType) -> Iterator[None]:
    """A module whose kernels do nothing, on the CPU: what they would write is not there."""
    with recorded(module, "any"):
        for name in [n for n, v in vars(module).items() if isinstance(v, Recorder)]:
            setattr(module, name, _Stub())
        yield


class _Stub:
    """A kernel that does nothing."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return _nothing


def _nothing(*_: Any, **__: Any) -> None:
    """A launch."""


def launches(
    module: ModuleType, model: Model, target: str, keys: int, values: int, dtype: torch.dtype,
    rows: int | None = None, **options: Any,
) -> list[Launch]:  # fmt: skip
    """The launches of a call, of its backward and of a step on a target; dimensions that no state has are 2.

    Rows of states are `keys`, columns `values`; dimensions of which rows are a polynomial (features) are 16. Gates and
    params are float32, everything else is of `dtype`. `rows`: of a chunk, which otherwise the module chooses.
    """
    sizes: dict[str, int] = {}
    for state in model.states:
        for size, number in zip(state.shape.sizes, (keys, values), strict=False):
            sizes |= {n: number if size.symbol else FEATURES for n in size.names if n not in sizes}
    sizes = {d.name: d.value or sizes.get(d.name, 2) for d in model.dimensions}
    given = {i.name: _empty(i, sizes, dtype) for i in model.inputs}
    if rows is not None:
        options["chunk_size"] = max(1, rows // token_rows(model, sizes))
    with recorded(module, FAMILIES[target]) as found:
        for trained in (False, True):
            with torch.set_grad_enabled(trained):
                getattr(module, model.name)(**given, **options, schedule="auto")
        kept = [launch for launch in found if launch.name.startswith("_fused")]
        for schedule in ("two-level", "split"):
            found.clear()
            result = getattr(module, model.name)(**given, output_final_state=True, **options, schedule=schedule)
            flat = [x for part in result for x in (part if isinstance(part, tuple) else (part,)) if x.requires_grad]
            torch.autograd.grad(flat, list(given.values()), [torch.empty_like(x) for x in flat], allow_unused=True)
            kept += [launch for launch in found if schedule == "split" or launch.name in SEGMENTS]
        found[:] = kept
        with torch.no_grad():
            module.step(**{i.name: given[i.name] if i.is_param else given[i.name][:, 0] for i in model.inputs})
    return found


def step_launches(module: ModuleType, given: Mapping[str, Any]) -> list[Launch]:
    """The launches of a step of what `pooled` makes, after the first one: tables of indices are there."""
    with recorded(module, "any") as found:
        module.step(**given)
        found.clear()
        module.step(**given)
    return found


def pooled(model: Model, sizes: Mapping[str, int], state: torch.dtype, turned: bool = False) -> dict[str, Any]:
    """Arguments of a step on pools of 9 slots, B 2, H 4, without storage; `turned`: as [V, K] in memory."""
    found: dict[str, Any] = {}
    for i in model.inputs:
        lead = (4,) if i.is_param else (2, 4)
        shape = (*lead, *(s.value(sizes) for s in i.shape.sizes))
        found[i.name] = torch.empty(shape, dtype=torch.bfloat16, device="meta")
    pools = []
    for declared in model.states:
        own = [s.value(sizes) for s in declared.shape.sizes]
        pool = torch.empty((9, 4, *(own[::-1] if turned else own)), dtype=state, device="meta")
        pools.append(pool.transpose(2, -1) if turned and len(own) == 2 else pool)
    slots = torch.ones(2, dtype=torch.long, device="meta")
    return found | {"state": tuple(pools) if len(pools) > 1 else pools[0], "state_indices": slots}


def token_rows(model: Model, sizes: Mapping[str, int]) -> int:
    """The rows of a token in tiles: a power of two."""
    plan = compile_text(Source(model.name, model.source.text), Options(), Stage.PLAN).plan
    assert plan is not None
    return power_of_two(rows_per_token(plan.forward.program, Sizes(sizes, 1)))


def _empty(i: Input, sizes: Mapping[str, int], dtype: torch.dtype) -> torch.Tensor:
    wide = i.is_param or (i.range is not None and i.range.high == 0)
    shape = (HEADS, *(s.value(sizes) for s in i.shape.sizes))
    if not i.is_param:
        shape = (1, LENGTH, *shape)
    return torch.empty(shape, dtype=torch.float32 if wide else dtype, device="meta", requires_grad=True)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns."""
    shown = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in shown)
