"""How long a plan's kernels would take on a device: by flops, bytes, what waits for what, and launches.

In: `StagePlan`s, sizes, a `Device`. Out: `ScheduleModel`s, one for every schedule of a pass, which tell what a `Shape`
takes, and from how many programs on a walk that makes the outputs as well is the faster one. A launch takes as long as
the slowest of its products, what goes through L2 and through memory; or, if longer, as long as its programs take where
a processor runs a few at a time: a program waits for memory once a chunk, unless it asks ahead (stages), and every
product waits for the one before it. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowc.chunk.cost import Sizes
from flowc.schedule.devices import REGISTERS, Device
from flowc.schedule.loops import splits_rows
from flowc.schedule.plan import Plan, Role
from flowc.schedule.room import room
from flowc.schedule.schedule import rows_per_token
from flowc.schedule.staged import StagePlan
from flowc.schedule.tile_cost import LEAST_TILE, TileCost, TileSizes, power_of_two, tile_cost, tile_length
from flowc.schedule.tile_plan import TileKernel
from flowc.schedule.tiles import KEY, VALUE, DecayApply, DecayDot, Inverse, Product, Solve, Total, tile_operands
from flowc.schedule.tilings import MOST_FUSED, NOMINAL_RANK, Tiling, chunk_rows, fused_rows, tiling
from flowc.schedule.turned import state_sizes

THREAD_REGISTERS = 255

HALF, SINGLE = 2, 4
SIDE = 128
LENGTH = 8192
"""Tokens at which schedules are compared."""

SHARE = 8
"""Programs are counted per so many processors, up to `MOST_SHARES` of them."""

MOST_SHARES = 64

MOST_SHORT = 64
"""Chunks that a sequence may have to be a short one."""

MARGIN = 1.1
"""How much slower it may be by what is assumed of waits: that it moves fewer bytes in fewer launches is counted."""


@dataclass(frozen=True, slots=True)
class Shape:
    """B sequences of T tokens with H value heads."""

    batch: int
    length: int
    heads: int

    @property
    def walks(self) -> int:
        """Sequences and heads."""
        return self.batch * self.heads


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A launch: how it is configured, its programs, its cost in all, bytes of tiles that a program holds."""

    name: str
    tiling: Tiling
    programs: int
    cost: TileCost
    held: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A schedule of a pass: the tokens of a chunk and its launches."""

    schedule: str
    tokens: int
    kernels: tuple[KernelTime, ...]

    @property
    def seconds(self) -> float:
        """Of all launches."""
        return sum(k.seconds for k in self.kernels)


@dataclass(frozen=True, slots=True)
class KernelModel:
    """A kernel at some sizes: what a chunk of a head costs, programs of a chunk or a walk, what waits for what."""

    name: str
    tiling: Tiling
    cost: TileCost
    programs: int
    turns: int
    walks: bool
    held: int

    def at(self, shape: Shape, tokens: int, device: Device, width: int, segments: int = 1) -> KernelTime:
        """Its launch, where every sequence is cut into so many segments."""
        chunks = -(-shape.length // tokens)
        cost, programs = self.cost.times(chunks * shape.walks), shape.walks * self.programs
        programs, each = (programs * segments, -(-chunks // segments)) if self.walks else (programs * chunks, 1)
        *_, warps, stages = self.tiling
        waits = each * ((device.wait if stages == 1 else 0.0) + self.turns * device.turn)
        time = seconds(cost, programs, waits, warps, device, width)
        return KernelTime(self.name, self.tiling, programs, cost, self.held, time)


@dataclass(frozen=True, slots=True)
class ScheduleModel:
    """A schedule of a pass at some sizes, on a device, in chunks of some tokens."""

    schedule: str
    tokens: int
    kernels: tuple[KernelModel, ...]
    device: Device
    width: int

    def at(self, shape: Shape) -> Candidate:
        """Its launches."""
        times = (k.at(shape, self.tokens, self.device, self.width) for k in self.kernels)
        return Candidate(self.schedule, self.tokens, tuple(times))


def nominal(plan: Plan) -> tuple[dict[str, int], int]:
    """Sizes where the header leaves them open, the state's sides of 128, and the rows of a token then."""
    sides = plan.recurrence.sides
    sizes = {d.name: d.value or (SIDE if d.name in sides else NOMINAL_RANK) for d in plan.recurrence.model.dimensions}
    return sizes, rows_per_token(plan.forward.program, Sizes(sizes, 1))


def schedules(
    stages: Sequence[StagePlan], dimensions: Mapping[str, int], rows: int, device: Device, *, width: int = HALF,
    keep: bool = False, tokens: int | None = None,
) -> tuple[ScheduleModel, ...]:  # fmt: skip
    """The schedules of a forward pass with `rows` rows a token; with `keep` a backward pass follows.

    In chunks of as many tokens as a call takes, if not of some (`tokens`).
    """
    held = all(tile_length(sides_of_state(s, dimensions)[0]) <= MOST_FUSED for s in stages)
    half, single = chunk_rows(stages)
    most = {"split": single if width == SINGLE else half if held else max(half // 2, LEAST_TILE)}
    fused = fused_rows(stages, device.family) if width == HALF else None
    if fused is not None and held:
        most["fused"] = fused
    found = []
    for name, own in most.items():
        chunk = tokens or max(1, own // power_of_two(max(rows, 1)))
        kernels = [(s, k) for s in stages for k in forward_kernels(s, name)]
        made = (kernel_model(k, s, dimensions, chunk, device.family, width, keep) for s, k in kernels)
        found.append(ScheduleModel(name, chunk, tuple(made), device, width))
    return tuple(found)


def reverse(
    stages: Sequence[StagePlan], dimensions: Mapping[str, int], tokens: int, device: Device, *, width: int = HALF
) -> ScheduleModel:
    """The backward pass, stage after stage from the end; it takes chunks of as many tokens as the forward pass did."""
    kernels = [(s, k) for s in reversed(stages) for k in s.cuts.backward.kernels]
    made = (kernel_model(k, s, dimensions, tokens, device.family, width, adjoint=True) for s, k in kernels)
    return ScheduleModel("backward", tokens, tuple(made), device, width)


def forward_kernels(stage: StagePlan, schedule: str) -> tuple[TileKernel, ...]:
    """The kernels of a stage's forward pass."""
    own, fused = stage.cuts.forward.kernels, stage.cuts.fused
    return own if schedule == "split" or fused is None else (*(k for k in own if k.role is Role.INTRA), fused)


def sides_of_state(stage: StagePlan, dimensions: Mapping[str, int]) -> tuple[int, int]:
    """The state's rows and columns as kernels see them."""
    (memory,) = stage.plan.recurrence.memories
    keys, values = (size.value(dimensions) for size in state_sizes(memory))
    return keys, values


def kernel_model(
    kernel: TileKernel, stage: StagePlan, dimensions: Mapping[str, int], tokens: int, family: str, width: int = HALF,
    keep: bool = True, adjoint: bool = False, aggregation: str | None = None, configured: Tiling | None = None,
    columns: int | None = None,
) -> KernelModel:  # fmt: skip
    """A kernel at some sizes, as it is configured for a family of devices if not otherwise (`configured`).

    `columns` are those of the state if it has not its own.
    """
    keys, values = sides_of_state(stage, dimensions)
    values = columns or values
    role = f"{kernel.name}{'_backward' if adjoint else ''}"
    own = configured or tiling(stage, role, family, tile_length(keys), tile_length(tokens))[width == SINGLE]
    block, part, *_ = own
    walks, split = kernel.role is Role.WALK, splits_rows(kernel)
    block, whole = min(block, tile_length(values)), tile_length(keys)
    part = min(whole if walks and not split else part, whole)
    asked = aggregation or stage.plan.options.aggregation
    at = TileSizes(dimensions, keys, values, tokens, block, part, "wy" if asked == "auto" else asked, width)
    programs = (at.blocks(VALUE) if kernel.blocked or walks else 1) * (at.blocks(KEY) if walks and split else 1)
    cost = tile_cost(kernel, at, keep)
    held = 4 * room(kernel, at)
    return KernelModel(stage.role(kernel, adjoint), own, cost, programs, depth(kernel, at), walks, held)


def seconds(cost: TileCost, programs: int, waits: float, warps: int, device: Device, width: int = HALF) -> float:
    """A launch of `programs` in each of which something waits for `waits` seconds."""
    room = max(1, REGISTERS // (THREAD_REGISTERS * 32 * warps))
    together = min(room, max(1.0, programs / device.processors))  # few programs have a processor each
    made, through = cost.dots / device.rate(width) + cost.entries / device.entries, cost.read + cost.written
    whole = max(made, through / device.cache, cost.distinct / device.bandwidth)
    waves = max(1.0, programs / (device.processors * together))  # no step from one to the next: they overlap
    busy = max(made, through / device.cache) * device.processors / programs
    return device.launch + max(whole, waves * (waits + together * busy))


def chosen(models: Sequence[ScheduleModel], shape: Shape) -> ScheduleModel:
    """What a call of a shape takes that leaves all open: what an emitted module finds by its table."""
    by_name = {m.schedule: m for m in models}
    if "fused" not in by_name:
        return by_name["split"]
    fused, least = by_name["fused"], least_programs(models)
    programs = shape.walks * next(k.programs for k in fused.kernels if k.walks)
    enough = least is not None and SHARE * programs >= least * fused.device.processors
    return fused if enough or shape.length <= short(models) * fused.tokens else by_name["split"]


def short(models: Sequence[ScheduleModel]) -> int:
    """Up to how many chunks the fused walk is the faster one however few programs there are: it has fewer launches."""
    by_name = {m.schedule: m for m in models}
    fused, split = by_name["fused"], by_name["split"]
    for chunks in range(1, MOST_SHORT + 1):
        shape = Shape(1, chunks * fused.tokens, 1)
        if fused.at(shape).seconds > split.at(shape).seconds:
            return chunks - 1
    return MOST_SHORT


def least_programs(models: Sequence[ScheduleModel]) -> int | None:
    """From how many programs for `SHARE` processors on the fused walk is as fast for long sequences, but for `MARGIN`.

    None: never, up to `MOST_SHARES`. Programs are those of the first walk.
    """
    by_name = {m.schedule: m for m in models}
    if "fused" not in by_name:
        return None
    fused, split = by_name["fused"], by_name["split"]
    per_walk = next(k.programs for k in fused.kernels if k.walks)
    found = None
    for share in range(MOST_SHARES, 0, -1):
        shape = Shape(1, LENGTH, max(1, share * fused.device.processors // (SHARE * per_walk)))
        if fused.at(shape).seconds > MARGIN * split.at(shape).seconds:
            break
        found = share
    return found


def depth(kernel: TileKernel, at: TileSizes) -> int:
    """The most products and sums of a kernel that wait for one another; of a walk, from one state to the next."""
    found: dict[int, int] = {}
    for step in kernel.steps:
        before = max((found.get(t.index, 0) for t in tile_operands(step.op)), default=0)
        found[step.tile.index] = before + _turns(step.op, at)
    return max((found.get(s.tile.index, 0) for s in kernel.stores), default=0)


def _turns(op: object, at: TileSizes) -> int:
    """How many products that wait for one another make an operation; substitution takes 16 rows at a time."""
    match op:
        case Product() | Total():
            return 1
        case DecayDot() | DecayApply():
            return 2  # of sums within halves, then of what lies on both sides; levels do not wait for one another
        case Inverse(matrix):
            blocks = at.rows(matrix.lanes[0].frame) // 16
            return 2 + 2 * (blocks.bit_length() - 1)
        case Solve(_, right, _):
            return 1 if at.aggregation != "signature" else 2 * (at.rows(right.lanes[0].frame) // 16)
        case _:
            return 0
