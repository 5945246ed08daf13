"""The Triton kernels of a plan: what each stores and fetches, and what it costs.

In: a `Plan` and sizes. Out: `TritonFacts`, or why there are no kernels. Costs are per token and head in half
precision, with the chunk and the blocks that a call with no options takes; flops are those of `tl.dot`, padding
included. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from flowc.schedule.loops import splits_rows
from flowc.schedule.plan import Plan, Role
from flowc.schedule.predict import forward_kernels
from flowc.schedule.staged import KernelPlan, StagePlan, kernel_plan
from flowc.schedule.stepped import SCANNED_TOKENS
from flowc.schedule.tile_cost import TileCost, TileSizes, memory, power_of_two, tile_cost, tile_length
from flowc.schedule.tile_plan import Missing, TileKernel, TilePass
from flowc.schedule.tiles import KEY, VALUE, Fetch, Load, Solve
from flowc.schedule.tilings import chunk_rows, fused_rows, tiling
from flowc.schedule.turned import state_sizes

HEADER = f"  {'kernel':18}{'columns':>11}{'dot flops':>12}{'read':>8}{'written':>9}   fetches -> stores"


@dataclass(frozen=True, slots=True)
class TritonKernelFacts:
    """One kernel: how many of the state's columns a program holds at a time, whether it goes through all of them.

    `columns` is None where no column goes into it. `cost` is of a chunk of one head.
    """

    name: str
    columns: int | None
    through_all: bool
    cost: TileCost
    fetches: tuple[str, ...]
    stores: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TritonFacts:
    """The kernels in order, the tokens of a chunk, what is kept for the backward, and what torch operators make.

    `scans` are the states that a kernel of its own scans, which costs bytes alone and is not among `kernels`: all,
    where there are no others. `loops` are those that kernels take from token to token. `saved` says how many bytes each
    takes of a chunk; None where torch operators make it, or a stage reads it.
    """

    tokens: int
    kernels: tuple[TritonKernelFacts, ...]
    saved: Mapping[str, int | None]
    by_torch: tuple[str, ...]
    scans: tuple[str, ...]
    loops: tuple[str, ...] = ()


def triton_facts(plan: Plan, sizes: Mapping[str, int], rows: int) -> TritonFacts | Missing:
    """What a plan's kernels come to; `rows` per token of the system that is solved."""
    found = kernel_plan(plan)
    if isinstance(found, Missing):
        return found
    if found.tokens is not None:
        (size, *_) = plan.chunk_sizes
        states = tuple(s.name for s in plan.recurrence.model.states)
        if found.tokens.rows:
            return TritonFacts(SCANNED_TOKENS, (), _states(plan, sizes), (), states)
        return TritonFacts(int(size.choice), (), _states(plan, sizes), (), (), states)
    tokens = _tokens(found, rows) if plan.options.chunk_size is None else plan.options.chunk_size
    asked = plan.options.aggregation
    kernels: list[TritonKernelFacts] = []
    saved: dict[str, int | None] = {}
    for adjoint in (False, True):
        for stage in found.stages[::-1] if adjoint else found.stages:
            (memory,) = stage.plan.recurrence.memories
            keys, values = (size.value(sizes) for size in state_sizes(memory))
            at = TileSizes(sizes, keys, values, tokens, values, keys, "wy" if asked == "auto" else asked)
            kernels += _pass(stage, adjoint, at)
            saved |= {} if adjoint else _saved(stage, found, at)
    made = [_by_torch(s.cuts.backward if a else s.cuts.forward, a) for s in found.stages for a in (False, True)]
    by_torch = [name for part in made for names in part for name in names]
    scans = tuple(s.state.name for s in plan.recurrence.scans)
    return TritonFacts(tokens, tuple(kernels), saved, tuple(dict.fromkeys((*by_torch, *_whole(found)))), scans)


def _tokens(found: KernelPlan, rows: int) -> int:
    """The tokens of a chunk on the family of devices that others are told apart from."""
    fused, split = fused_rows(found.stages, "any"), chunk_rows(found.stages)[0]
    return max(1, (fused or split) // power_of_two(max(rows, 1)))


def _kernels(stage: StagePlan, adjoint: bool) -> tuple[TileKernel, ...]:
    """The kernels of a pass where there are programs enough, as `auto` has it."""
    schedule = "split" if fused_rows([stage], "any") is None else "fused"
    return stage.cuts.backward.kernels if adjoint else forward_kernels(stage, schedule)


def _saved(stage: StagePlan, found: KernelPlan, at: TileSizes) -> dict[str, int | None]:
    """What a stage keeps for the backward pass, and what of its reads is kept."""
    passed, kept = stage.cuts.forward, () if found.whole is None else found.whole.kept
    lanes = {s.name: s.lanes for s in passed.scratch} | {passed.states: (KEY, VALUE)}
    own = {name: memory(lanes[name], at) if name in lanes else None for name in stage.cuts.saved}
    return own | {n: None for n in (stage.stage.reads if stage.stage else ()) if n in kept}


def _states(plan: Plan, sizes: Mapping[str, int]) -> dict[str, int | None]:
    """The bytes of each state, as they are kept of every chunk."""
    return {s.name: 4 * prod(n.value(sizes) for n in s.shape.sizes) for s in plan.recurrence.model.states}


def _whole(found: KernelPlan) -> tuple[str, ...]:
    """What torch operators make beside stages: what those take, and the outputs."""
    if found.whole is None:
        return ()
    made = dict.fromkeys(n for s in found.stages if s.stage is not None for n in s.stage.made)
    return *made, *found.whole.stages.outputs


def made_beside(found: KernelPlan) -> tuple[str, ...]:
    """What a forward pass makes beside the kernels of its states: values that torch operators make, scanned states."""
    made = [n for s in found.stages for part in _by_torch(s.cuts.forward, adjoint=False) for n in part]
    scans = () if found.whole is None else found.whole.stages.whole.scans
    return tuple(dict.fromkeys((*(s.state.name for s in scans), *made, *_whole(found))))


def _pass(stage: StagePlan, adjoint: bool, at: TileSizes) -> Iterator[TritonKernelFacts]:
    passed = stage.cuts.backward if adjoint else stage.cuts.forward
    for kernel in _kernels(stage, adjoint):
        role = f"{kernel.name}{'_backward' if adjoint else ''}"
        most, _ = tiling(stage, role, "any", tile_length(at.keys), tile_length(at.tokens))
        block = min(most[0], power_of_two(at.values))
        whole = kernel.role is Role.WALK and not splits_rows(kernel)
        part = power_of_two(at.keys) if whole else min(most[1], power_of_two(at.keys))
        sizes = replace(at, block=block, part=part)
        stores = _stored(kernel, passed, adjoint)
        columns = block if _has_columns(kernel) else None
        reads = tuple(dict.fromkeys(_read(kernel)))
        cost = tile_cost(kernel, sizes)
        yield TritonKernelFacts(stage.role(kernel, adjoint), columns, not kernel.blocked, cost, reads, stores)


def _has_columns(kernel: TileKernel) -> bool:
    return any(VALUE in step.tile.lanes for step in kernel.steps)


def _read(kernel: TileKernel) -> Iterator[str]:
    """What a kernel reads: arguments by their names, cotangents as `o_bar`, what other kernels stored."""
    for step in kernel.steps:
        match step.op:
            case Load(name, role, _):
                yield f"{name}_bar" if role == "cotangent" else name
            case Fetch(name) | Solve(name, _, _):
                yield name


def _stored(kernel: TileKernel, passed: TilePass, adjoint: bool) -> tuple[str, ...]:
    """What a kernel stores; a walk's next state is carried, and where a chunk begins it is stored among the states."""
    walks = kernel.role is Role.WALK
    own = kernel.stores[1:] if walks else kernel.stores
    names = (s.name if s.fetched or not adjoint else f"{s.name}_bar" for s in own)
    return (passed.states, *names) if walks else tuple(names)


def _by_torch(passed: TilePass, adjoint: bool) -> tuple[list[str], list[str]]:
    """What torch operators make before the kernels and after them."""
    before = [] if passed.before is None else [name for name, _ in passed.before.made]
    after = [] if passed.after is None else [f"{name}_bar" if adjoint else name for name, _ in passed.after.made]
    return before, after


def triton_plan(plan: Plan) -> str:
    """The kernels as part of a plan: what runs over blocks of the state's columns, what is read and stored."""
    found = kernel_plan(plan)
    if isinstance(found, Missing):
        return f"  Triton: {found}"
    if found.tokens is not None:
        names = ", ".join(s.name for s in plan.recurrence.model.states)
        how = f"scan {names} over tiles of tokens" if found.tokens.rows else f"take {names} from token to token"
        return f"  Triton: tokens_forward and tokens_backward {how}"
    lines = []
    for title, adjoint in (("forward", False), ("backward", True)):
        lines.append(f"  Triton {title}")
        for stage in found.stages[::-1] if adjoint else found.stages:
            lines += _planned(stage, adjoint)
        scans = ", ".join(s.state.name for s in plan.recurrence.scans)
        lines += [f"    scan_kernel: {scans}"] if scans else []
        lines += [f"    torch operators make {', '.join(_whole(found))}"] if found.whole and not adjoint else []
    return "\n".join(lines)


def _planned(stage: StagePlan, adjoint: bool) -> list[str]:
    """The kernels of a stage's pass."""
    passed = stage.cuts.backward if adjoint else stage.cuts.forward
    before, after = _by_torch(passed, adjoint)
    lines = [f"    torch operators make {', '.join(before)}"] if before else []
    for kernel in _kernels(stage, adjoint):
        how = "a program per block of columns" if kernel.blocked else "a program goes through all columns"
        how = how if _has_columns(kernel) else "of no column"
        reads, stores = ", ".join(dict.fromkeys(_read(kernel))), _stored(kernel, passed, adjoint)
        lines += [
            f"    {stage.role(kernel, adjoint)}: {how}",
            f"      reads {reads}",
            f"      stores {', '.join(stores)}",
        ]
    return [*lines, *([f"    torch operators make {', '.join(after)}"] if after else [])]


def triton_lines(found: TritonFacts | Missing) -> list[str]:
    """The kernels as a table."""
    if isinstance(found, Missing):
        return [f"Triton kernels: none: {found}"]
    if found.loops:
        names = " and ".join(found.loops)
        return [
            f"Triton kernels: `_tokens_forward` takes {names} from token to token, from inputs to outputs, one program",
            "  per sequence, head and block of columns or rows if those are independent; `_tokens_backward` makes them",
            f"  again, {found.tokens} tokens at a time from the end, and all gradients; {names} are kept as often.",
        ]
    if not found.kernels:
        names = " and ".join(found.scans)
        return [
            f"Triton kernels: `_tokens_forward` scans {names} over {found.tokens} tokens at a time, from inputs to",
            "  outputs, one program per sequence, head and block of independent entries; `_tokens_backward`",
            f"  makes them again, and all gradients, from the end; {names} are kept every {found.tokens} tokens.",
        ]
    lines = [f"Triton kernels, per token and head, in half precision, {found.tokens} tokens a chunk", HEADER]
    for k in found.kernels:
        dots, read, written = (round(n / found.tokens) for n in (k.cost.dots, k.cost.read, k.cost.written))
        columns = "-" if k.columns is None else f"all by {k.columns}" if k.through_all else str(k.columns)
        text = f"  {k.name:18}{columns:>11}{dots:>12,}{read:>8,}{written:>9,}"
        lines.append(f"{text}   {', '.join(k.fetches)} -> {', '.join(k.stores)}")
    total = sum((k.cost for k in found.kernels), TileCost())
    dots, read, written = (round(n / found.tokens) for n in (total.dots, total.read, total.written))
    lines.append(f"  {'in all':29}{dots:>12,}{read:>8,}{written:>9,}")
    if any(k.name.startswith("fused") for k in found.kernels):
        lines.append(
            "  `fused` runs where it has half as many programs as the device has processors, or by schedule='fused';"
        )
        lines.append(
            "  else a walk that stores every chunk's state, and after it a kernel for all chunks at once ('split')"
        )
    if found.saved:
        lines += kept_lines(found)
    if found.scans:
        lines.append(f"  beside them `_scan_kernel`, forward and from the end: {', '.join(found.scans)}")
    if found.by_torch:
        lines.append(f"  made by torch operators before, between or after them: {', '.join(found.by_torch)}")
    return lines


def kept_lines(found: TritonFacts) -> list[str]:
    """What is kept, in bytes per token and head, and what it would take to make it again."""
    sizes = {n: None if b is None else round(b / found.tokens) for n, b in found.saved.items()}
    each = ", ".join(n if b is None else f"{n} {b:,}" for n, b in sizes.items())
    again = sum((k.cost for k in found.kernels if "backward" not in k.name), TileCost())
    dots, read = round(again.dots / found.tokens), round(again.read / found.tokens)
    return [
        f"  kept for the backward pass beside the inputs, bytes: {each}: {sum(filter(None, sizes.values())):,} in all;",
        f"  not kept, they would take a forward pass more: {dots:,} flops, {read:,} bytes read",
    ]


def triton_record(found: TritonFacts | Missing) -> dict[str, object]:
    """The kernels as JSON shows them."""
    if isinstance(found, Missing):
        return {"missing": list(found.reasons)}
    return {
        "chunk_size": found.tokens,
        "kernels": [
            {
                "kernel": k.name,
                "columns": k.columns,
                "through_all_columns": k.through_all and k.columns is not None,
                "dot_flops": round(k.cost.dots / found.tokens),
                "bytes_read": round(k.cost.read / found.tokens),
                "bytes_written": round(k.cost.written / found.tokens),
                "fetches": list(k.fetches),
                "stores": list(k.stores),
            }
            for k in found.kernels
        ],
        "saved": list(found.saved),
        "saved_bytes": {n: None if b is None else round(b / found.tokens) for n, b in found.saved.items()},
        "by_torch": list(found.by_torch),
        "scans": list(found.scans),
        "loops": list(found.loops),
    }
