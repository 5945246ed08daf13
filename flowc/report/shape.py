"""What a forward pass of one shape is predicted to take on a device, by every schedule, and which one a call takes.

In: a `Compilation`, a `Shape` with the state's sides, a `Device`. Out: `ShapeFacts`, as text or as JSON. Flops and
bytes are counted by the cost model, which tests hold to what kernels were seen to do; times are predictions. Refuses,
with ValueError, recurrences that have no kernels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from flowc.chunk.cost import Sizes
from flowc.compiler import Compilation
from flowc.report.kernels import made_beside
from flowc.schedule.devices import DEVICES, Device
from flowc.schedule.plan import Plan
from flowc.schedule.predict import (
    MARGIN,
    SHARE,
    Candidate,
    KernelTime,
    ScheduleModel,
    Shape,
    chosen,
    least_programs,
    schedules,
    short,
)
from flowc.schedule.schedule import rows_per_token
from flowc.schedule.staged import kernel_plan
from flowc.schedule.stepped import SCANNED_TOKENS
from flowc.schedule.tile_plan import Missing
from flowc.schedule.tilings import NOMINAL_RANK
from flowc.schedule.token_cost import TokenSizes, predicted_tokens

HEADER = (
    f"    {'kernel':16}{'columns':>8}{'warps':>6}{'programs':>10}{'GFLOP':>9}{'MB':>9}{'MB by L2':>10}{'kB held':>9}"
    f"{'us':>9}"
)


@dataclass(frozen=True, slots=True)
class ShapeFacts:
    """The schedules of a forward pass, which of them is taken, and the words that say why.

    `beside` is what is not among their launches: what scans and torch operators make, in a launch or several each.
    """

    shape: Shape
    sizes: dict[str, int]
    device: Device
    keep: bool
    candidates: tuple[Candidate, ...]
    taken: str
    why: str
    beside: tuple[str, ...] = ()


def predicted(compilation: Compilation, shape: str, device: str, keep: bool, as_json: bool) -> str:
    """What `flowc explain --shape B,T,H,K,V` prints.

    Raises:
        ValueError: not five numbers, or what `shape_facts` refuses.
    """
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in shape.split(",")]
    if len(numbers) != 5 or min(numbers) < 1:
        raise ValueError(f"--shape {shape}: it takes five numbers from 1, B,T,H,K,V, as in 8,4096,16,128,128")
    batch, length, heads, keys, values = numbers
    found = shape_facts(compilation, Shape(batch, length, heads), (keys, values), DEVICES[device], keep)
    return json.dumps(shape_record(found), indent=2) if as_json else shape_text(found)


def shape_facts(
    compilation: Compilation, shape: Shape, sides: tuple[int, int], device: Device, keep: bool
) -> ShapeFacts:
    """What is predicted for a state of `sides` rows and columns; `keep`: a backward pass follows.

    Raises:
        ValueError: a recurrence without kernels.
    """
    plan = compilation.plan
    assert plan is not None
    found = kernel_plan(plan)
    name = plan.recurrence.model.name
    if isinstance(found, Missing):
        raise ValueError(f"{name}: {found}")
    sizes = _sizes(plan, sides)
    if found.tokens is not None:
        tokens = SCANNED_TOKENS if found.tokens.rows else int(plan.chunk_sizes[0].choice)
        only = predicted_tokens(found.tokens, TokenSizes(sizes, tokens), shape, device, keep)
        return ShapeFacts(shape, sizes, device, keep, (only,), only.schedule, "its kernels have no other")
    models = schedules(found.stages, sizes, rows_per_token(plan.forward.program, Sizes(sizes, 1)), device, keep=keep)
    taken = chosen(models, shape).schedule
    candidates, why = tuple(m.at(shape) for m in models), _why(models, shape, device)
    return ShapeFacts(shape, sizes, device, keep, candidates, taken, why, made_beside(found))


def _sizes(plan: Plan, sides: tuple[int, int]) -> dict[str, int]:
    """Every dimension: the states' rows and columns as asked for, others as in `flowc explain`."""
    found: dict[str, int] = {}
    for state in plan.recurrence.model.states:
        for size, number in zip(state.shape.sizes, sides, strict=False):
            found |= {n: number for n in size.names if size.symbol and n not in found}
    return {d.name: d.value or found.get(d.name, NOMINAL_RANK) for d in plan.recurrence.model.dimensions}


def _why(models: Sequence[ScheduleModel], shape: Shape, device: Device) -> str:
    """Why a schedule is taken."""
    if len(models) == 1:
        return "a walk that makes the outputs has no room for this state"
    least, fused = least_programs(models), models[1]
    if shape.length <= short(models) * fused.tokens:
        return f"up to {short(models) * fused.tokens:,} tokens fewer launches are faster"
    if least is None:
        return f"the walk that makes the outputs is slower with up to 8 programs a processor, by over {MARGIN - 1:.0%}"
    programs = shape.walks * next(k.programs for k in fused.kernels if k.walks)
    side = "at least" if SHARE * programs >= least * device.processors else "fewer than"
    most = f"{least / SHARE * device.processors:,.0f}"
    return (
        f"{programs:,} programs are {side} the {most} from which on the walk that makes the outputs is predicted to be"
        f" as fast, but for {MARGIN - 1:.0%}"
    )


def shape_text(found: ShapeFacts) -> str:
    """A table for every schedule."""
    shape, sizes = found.shape, ", ".join(f"{n} {v}" for n, v in found.sizes.items())
    after = "a backward pass follows" if found.keep else "no backward pass follows"
    lines = [f"B {shape.batch}, T {shape.length}, H {shape.heads}, {sizes} on {found.device.name}, forward; {after}"]
    for c in found.candidates:
        mark = " <-" if c.schedule == found.taken else ""
        launches = f"{len(c.kernels)} launch{'es' if len(c.kernels) > 1 else ''}"
        lines.append(f"  {c.schedule}: {c.tokens} tokens a chunk, {launches}, {1e3 * c.seconds:.3f} ms{mark}")
        lines += [HEADER, *(_line(k) for k in c.kernels)]
    if found.beside:
        lines.append(f"  beside them, counted nowhere, scans and torch operators make {', '.join(found.beside)}")
    return "\n".join([*lines, f"  {found.taken}: {found.why}"])


def _line(k: KernelTime) -> str:
    columns, _, warps, _ = k.tiling
    distinct, through = k.cost.distinct / 1e6, (k.cost.read + k.cost.written) / 1e6
    flops = (k.cost.dots + k.cost.entries) / 1e9
    return (
        f"    {k.name:16}{columns:>8}{warps:>6}{k.programs:>10,}{flops:>9,.1f}{distinct:>9,.1f}"
        f"{through:>10,.1f}{k.held / 1024:>9,.0f}{1e6 * k.seconds:>9,.1f}"
    )


def shape_record(found: ShapeFacts) -> dict[str, object]:
    """The same as JSON shows it."""
    return {
        "shape": {"B": found.shape.batch, "T": found.shape.length, "H": found.shape.heads, **found.sizes},
        "device": found.device.name,
        "backward": found.keep,
        "schedule": found.taken,
        "why": found.why,
        "beside": list(found.beside),
        "candidates": [
            {
                "schedule": c.schedule,
                "chunk_size": c.tokens,
                "launches": len(c.kernels),
                "seconds": c.seconds,
                "kernels": [
                    {
                        "kernel": k.name,
                        "columns": k.tiling[0],
                        "warps": k.tiling[2],
                        "stages": k.tiling[3],
                        "programs": k.programs,
                        "dot_flops": k.cost.dots,
                        "other_flops": k.cost.entries,
                        "distinct_bytes": k.cost.distinct,
                        "bytes_through_l2": k.cost.read + k.cost.written,
                        "bytes_held": k.held,
                        "seconds": k.seconds,
                    }
                    for k in c.kernels
                ],
            }
            for c in found.candidates
        ],
    }
