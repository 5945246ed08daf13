"""What a pass of one shape is predicted to take on a device, by every schedule, and which one a call takes.

In: a `Compilation`, a `Shape` with the state's sides, a `Device`. Out: `ShapeFacts`, as text or as JSON. Flops and
bytes are counted by the cost model, which tests hold to what kernels were seen to do; times are predictions. Refuses,
with ValueError, recurrences that have no kernels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from flowc.chunk.cost import Sizes
from flowc.compiler import Compilation
from flowc.report.accuracy import accuracy
from flowc.report.kernels import made_beside
from flowc.schedule import two_level
from flowc.schedule.candidates import by_rows, tuned_kernels
from flowc.schedule.devices import DEVICES, Device
from flowc.schedule.plan import Plan
from flowc.schedule.predict import (
    MARGIN,
    SHARE,
    Candidate,
    KernelTime,
    ScheduleModel,
    Shape,
    least_programs,
    short,
    sides_of_state,
)
from flowc.schedule.schedule import MOST_ROWS, rows_per_token
from flowc.schedule.staged import StagePlan, kernel_plan
from flowc.schedule.stepped import SCANNED_TOKENS
from flowc.schedule.tile_cost import power_of_two, tile_length
from flowc.schedule.tile_plan import Missing
from flowc.schedule.tilings import MOST_KEYS, NOMINAL_RANK
from flowc.schedule.token_cost import TokenSizes, predicted_tokens
from flowc.schedule.two_level import Model, Segmented, behind, chosen, schedules, thresholds

NAME = 24
HEADER = (
    f"    {'kernel':{NAME}}{'columns':>8}{'warps':>6}{'programs':>10}{'GFLOP':>9}{'MB':>9}{'MB by L2':>10}"
    f"{'kB held':>9}{'us':>13}"
)


@dataclass(frozen=True, slots=True)
class ShapeFacts:
    """The schedules of a forward pass, which of them is taken, and the words that say why.

    `backward` is the backward pass after each of them, if one follows; `beside` is what is not among their launches:
    what scans and torch operators make, in a launch or several each. `tuned` says of kernels that are configured by a
    table of `flowc tune` where that is from.
    """

    shape: Shape
    sizes: dict[str, int]
    device: Device
    keep: bool
    candidates: tuple[Candidate, ...]
    taken: str
    why: str
    backward: tuple[Candidate, ...] = ()
    beside: tuple[str, ...] = ()
    tuned: Mapping[str, str] = field(default_factory=dict)

    @property
    def candidate(self) -> Candidate:
        """What is taken."""
        return next(c for c in self.candidates if c.schedule == self.taken)

    @property
    def behind(self) -> Candidate | None:
        """The backward pass after it."""
        return self.backward[self.candidates.index(self.candidate)] if self.backward else None

    @property
    def seconds(self) -> float:
        """Of all launches of what is taken."""
        return self.candidate.seconds + (self.behind.seconds if self.behind else 0.0)


def predicted(compilation: Compilation, shape: str, device: str, keep: bool, as_json: bool) -> str:
    """What `flowc explain --shape B,T,H,K,V` prints; other dimensions may follow by name, as in R=4.

    Raises:
        ValueError: not five numbers, dimensions that the spec does not have, or what `shape_facts` refuses.
    """
    given, sides, others = shape_of(shape)
    found = shape_facts(compilation, given, sides, DEVICES[device], keep, others)
    return json.dumps(shape_record(found), indent=2) if as_json else shape_text(found)


def shape_of(text: str) -> tuple[Shape, tuple[int, int], dict[str, int]]:
    """What `--shape B,T,H,K,V` says: the state's rows and columns, and other dimensions by name.

    Raises:
        ValueError: not five numbers from 1.
    """
    parts = [part.partition("=") for part in text.split(",")]
    numbers = [_number(name) for name, given, _ in parts if not given]
    others = {name.strip(): _number(value) for name, given, value in parts if given}
    if len(numbers) != 5 or min(*numbers, *others.values()) < 1:
        raise ValueError(
            f"--shape {text}: it takes five numbers from 1, B,T,H,K,V, as in 8,4096,16,128,128; other dimensions"
            " follow by name, as in R=4"
        )
    batch, length, heads, *sides = numbers
    return Shape(batch, length, heads), (sides[0], sides[1]), others


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0


def shape_facts(
    compilation: Compilation, shape: Shape, sides: tuple[int, int], device: Device, keep: bool,
    others: Mapping[str, int] | None = None,
) -> ShapeFacts:  # fmt: skip
    """What is predicted for a state of `sides` rows and columns; `keep`: a backward pass follows.

    `others` are sizes of dimensions that neither the header nor the state's sides tell.

    Raises:
        ValueError: a recurrence without kernels, a chunk that they do not hold, a dimension that is not open.
    """
    plan = compilation.plan
    assert plan is not None
    found = kernel_plan(plan)
    name = plan.recurrence.model.name
    if isinstance(found, Missing):
        raise ValueError(f"{name}: {found}")
    sizes = sizes_at(plan, sides, others or {})
    if found.tokens is not None:
        tokens = SCANNED_TOKENS if found.tokens.rows else int(plan.chunk_sizes[0].choice)
        passes = (False, True) if keep else (False,)
        at = TokenSizes(sizes, tokens)
        only, *later = (predicted_tokens(found.tokens, at, shape, device, keep, adjoint) for adjoint in passes)
        why = "its kernels have no other"
        return ShapeFacts(shape, sizes, device, keep, (only,), only.schedule, why, tuple(later))
    rows, asked = rows_per_token(plan.forward.program, Sizes(sizes, 1)), plan.options
    _held(name, found.stages, sizes, rows, asked.chunk_size or 1)
    models = schedules(found.stages, sizes, rows, device, keep=keep)
    back = behind(found.stages, sizes, models, device) if keep else ()
    taken, why = _taken(models, back, shape, device, plan, rows)
    if asked.chunk_size is not None:
        models = schedules(found.stages, sizes, rows, device, keep=keep, tokens=asked.chunk_size)
        back = behind(found.stages, sizes, models, device) if keep else ()
    plain = [m for m in models if isinstance(m, ScheduleModel)]
    tuned = {m.schedule: tuned_kernels(m, found.stages, sizes, shape, keep, compilation.tuned) for m in plain}
    candidates, after = (
        tuple(by_rows(m, tuned.get(of.schedule, {})).at(shape) for of, m in zip(models, own, strict=False))
        for own in (models, back)
    )
    where = {role: str(row) for own in tuned.values() for role, (row, _) in own.items()}
    return ShapeFacts(shape, sizes, device, keep, candidates, taken, why, after, made_beside(found), where)


def _held(name: str, stages: Sequence[StagePlan], sizes: Mapping[str, int], rows: int, tokens: int) -> None:
    """Refuse what a call would not launch kernels for."""
    most = tile_length(tokens) * power_of_two(max(rows, 1))
    if most > MOST_ROWS:
        raise ValueError(f"{name}: {rows} rows a token make {most} rows a chunk, and kernels hold at most {MOST_ROWS}")
    keys = max(sides_of_state(s, sizes)[0] for s in stages)
    if keys > MOST_KEYS:
        raise ValueError(f"{name}: its state has {keys} rows, and kernels hold at most {MOST_KEYS}")


def _taken(
    models: Sequence[Model], back: Sequence[Model], shape: Shape, device: Device, plan: Plan, rows: int
) -> tuple[str, str]:
    """The schedule of a call, and why; `models` are in the chunks that a call takes by itself."""
    names, asked = {m.schedule: m for m in models}, plan.options
    if asked.schedule in names:
        return asked.schedule, "asked for"
    if asked.schedule == two_level.NAME:
        auto = _taken(models, back, shape, device, replace(plan, options=replace(asked, schedule="auto")), rows)
        return auto[0], f"only one state, all of whose passes kernels make, goes in segments; by auto: {auto[1]}"
    if asked.chunk_size is not None and "fused" in names and asked.schedule == "auto":
        room = tile_length(names["fused"].tokens * power_of_two(max(rows, 1)))
        if tile_length(asked.chunk_size) * power_of_two(max(rows, 1)) > room:
            return "split", f"a walk that makes the outputs has room for chunks of {room} rows"
    taken = chosen(models, back, shape)
    plain = [m for m in models if isinstance(m, ScheduleModel)]
    return taken.schedule, _segments(taken, models, back, shape) if isinstance(taken, Segmented) else _why(
        plain, shape, device
    )


def _segments(taken: Segmented, models: Sequence[Model], back: Sequence[Model], shape: Shape) -> str:
    """Why sequences are cut into segments."""
    count = taken.count(shape)
    least = [n for most, n in thresholds(models, back) if count >= most][-1]
    return (
        f"{count} segments of a sequence fill the device, and from {least * taken.tokens:,} tokens on walking them"
        f" beside one another is predicted to be faster by {MARGIN - 1:.0%}"
    )


def sizes_at(plan: Plan, sides: tuple[int, int], others: Mapping[str, int]) -> dict[str, int]:
    """Every dimension: the states' rows and columns and `others` as asked for, the rest as in `flowc explain`."""
    found: dict[str, int] = {}
    for state in plan.recurrence.model.states:
        for size, number in zip(state.shape.sizes, sides, strict=False):
            found |= {n: number for n in size.names if size.symbol and n not in found}
    dimensions = plan.recurrence.model.dimensions
    left = [d.name for d in dimensions if d.value is None and d.name not in found]
    if unknown := sorted(set(others) - set(left)):
        fixed = {d.name: f"the header has {d.name} = {d.value}" for d in dimensions if d.value is not None}
        why = [fixed.get(n, f"the first five have {n}") for n in unknown if n in {d.name for d in dimensions}]
        there = "; ".join(why) or f"there is {', '.join(left) or 'none'}"
        raise ValueError(f"--shape: {', '.join(unknown)} is no open dimension; {there}")
    return {d.name: d.value or (found | dict(others)).get(d.name, NOMINAL_RANK) for d in dimensions}


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
    """A table for every schedule, and for the backward pass after it."""
    shape, sizes = found.shape, ", ".join(f"{n} {v}" for n, v in found.sizes.items())
    after = "a backward pass follows" if found.keep else "no backward pass follows"
    lines = [f"B {shape.batch}, T {shape.length}, H {shape.heads}, {sizes} on {found.device.name}, forward; {after}"]
    for at, c in enumerate(found.candidates):
        mark = " <-" if c.schedule == found.taken else ""
        lines += _table(c, f"{c.schedule}: {c.tokens} tokens a chunk", mark)
        if found.backward:
            lines += _table(found.backward[at], f"backward after {c.schedule}", mark)
    if found.beside:
        lines.append(f"  beside them, counted nowhere, scans and torch operators make {', '.join(found.beside)}")
    if found.keep:
        again = next(c.seconds for c in found.candidates if c.schedule == found.taken)
        lines.append(
            f"  in all {1e3 * found.seconds:.3f} ms; save='recompute' keeps inputs alone and goes forward once more,"
            f" {1e3 * again:.3f} ms"
        )
    if found.taken != two_level.NAME:  # whose kernels keep the rules
        lines += [f"  {role} is configured as {where}" for role, where in found.tuned.items()]
    if not found.tuned:
        lines.append("  every kernel is configured by rule")
    return "\n".join([*lines, f"  {found.taken}: {found.why}", f"  predictions: {accuracy()}"])


def _table(c: Candidate, title: str, mark: str) -> list[str]:
    launches = f"{len(c.kernels)} launch{'es' if len(c.kernels) > 1 else ''}"
    return [f"  {title}, {launches}, {1e3 * c.seconds:.3f} ms{mark}", HEADER, *(_line(k) for k in c.kernels)]


def _line(k: KernelTime) -> str:
    columns, _, warps, _ = k.tiling
    distinct, through = k.cost.distinct / 1e6, (k.cost.read + k.cost.written) / 1e6
    flops = (k.cost.dots + k.cost.entries) / 1e9
    return (
        f"    {k.name:{NAME}}{columns:>8}{warps:>6}{k.programs:>10,}{flops:>9,.1f}{distinct:>9,.1f}"
        f"{through:>10,.1f}{k.held / 1024:>9,.0f}{1e6 * k.seconds:>13,.1f}"
    )


def shape_record(found: ShapeFacts) -> dict[str, object]:
    """The same as JSON shows it."""
    shape, records = found.shape, [_record(c) for c in found.candidates]
    if found.backward:
        records = [{**own, "backward": _record(c)} for own, c in zip(records, found.backward, strict=True)]
    return {
        "shape": {"B": shape.batch, "T": shape.length, "H": shape.heads, **found.sizes},
        "device": found.device.name,
        "backward": found.keep,
        "schedule": found.taken,
        "why": found.why,
        "seconds": found.seconds,
        "beside": list(found.beside),
        "configured": dict(found.tuned),
        "accuracy": asdict(accuracy()),
        "candidates": records,
    }


def _record(c: Candidate) -> dict[str, object]:
    return {
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
                "bytes_between_kernels": k.cost.between,
                "bytes_through_l2": k.cost.read + k.cost.written,
                "bytes_held": k.held,
                "seconds": k.seconds,
            }
            for k in c.kernels
        ],
    }
