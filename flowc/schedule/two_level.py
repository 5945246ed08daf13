"""Schedule two-level: the schedules of `predict`, and the one whose sequences are cut into segments.

In: as `predict`. Out: `schedules` and `reverse` with the `Segmented` model beside the others, which of them a call
takes, and the thresholds by which it finds that. Segments walk beside one another, as many as fill the device: first
for what each does to a state, then, from the states that `compose` makes of that, for everything. Refuses nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flowc.schedule import predict
from flowc.schedule.devices import Device
from flowc.schedule.predict import (
    HALF,
    MARGIN,
    SINGLE,
    Candidate,
    KernelModel,
    KernelTime,
    ScheduleModel,
    Shape,
    kernel_model,
    seconds,
    sides_of_state,
)
from flowc.schedule.staged import StagePlan
from flowc.schedule.tile_cost import TileCost, tile_length
from flowc.schedule.tile_plan import TileKernel

NAME = "two-level"
WARPS, COLUMNS, PART = 4, 16, 32
"""Of `compose`: warps, columns of a state in a program, rows of a flow that it multiplies at once."""

COUNTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of segments that thresholds tell apart."""

CHUNKS = tuple(round(2 ** (n / 4)) for n in range(8, 60))
"""Chunks of a sequence that they are looked for among."""


@dataclass(frozen=True, slots=True)
class Segmented:
    """A pass in segments: kernels that make what each does to a state (`first`), `compose`, then those of `inner`.

    A flow has `columns` of `keys` rows in memory, and is `dense` or factors of entries.
    """

    inner: ScheduleModel
    first: tuple[KernelModel, ...]
    keys: int
    values: int
    columns: int
    dense: bool

    @property
    def schedule(self) -> str:
        """Its name."""
        return NAME

    @property
    def tokens(self) -> int:
        """The tokens of a chunk."""
        return self.inner.tokens

    @property
    def kernels(self) -> tuple[KernelModel, ...]:
        """Those of the inner schedule."""
        return self.inner.kernels

    @property
    def device(self) -> Device:
        """What it runs on."""
        return self.inner.device

    def count(self, shape: Shape) -> int:
        """Into how many segments a call cuts a sequence, if it does."""
        walk = next(k for k in self.kernels if k.walks)
        programs = shape.walks * -(-self.values // walk.tiling[0])
        return min(max(2, self.device.processors // programs), -(-shape.length // self.tokens))

    def at(self, shape: Shape) -> Candidate:
        """Its launches."""
        chunks, count = -(-shape.length // self.tokens), self.count(shape)
        count = -(-chunks // -(-chunks // count))  # the last ones may be left over
        made = [k.at(shape, self.tokens, self.device, self.inner.width, count) for k in (*self.kernels, *self.first)]
        inner, first = made[: len(self.kernels)], made[len(self.kernels) :]
        walk = next(n for n, k in enumerate(self.kernels) if k.walks)
        states = shape.walks * count
        state, flow = 4 * self.keys * self.values * states, 4 * self.keys * self.columns * states
        first = [_moved(k, 0, state) if k.name != "flow" else _moved(k, flow * self.dense, flow) for k in first]
        inner[walk] = _moved(inner[walk], state, 0)
        return Candidate(
            NAME, self.tokens, (*inner[:walk], *first, self.compose(shape.walks, count, state, flow), *inner[walk:])
        )

    def compose(self, walks: int, count: int, state: int, flow: int) -> KernelTime:
        """The launch between them: `state` and `flow` are bytes of what all segments have in memory."""
        blocks = -(-self.values // COLUMNS)
        begin, flows = state // count, blocks if self.dense or self.columns == 1 else 1
        once = begin + state * (1 + self.dense) + flow  # what a program has stored it reads where it multiplies it
        turns = -(-tile_length(self.keys) // PART) if self.dense else 0
        dots = 2 * COLUMNS * blocks * tile_length(self.keys) ** 2 * count * walks if self.dense else 0
        read, distinct = once + (flows - 1) * flow, once + state
        cost = TileCost(dots=dots, read=read, written=state, distinct=distinct, between=distinct - begin)
        waits = count * ((2 + bool(turns)) * self.device.wait + turns * self.device.turn)
        time = seconds(cost, walks * blocks, waits, WARPS, self.device, SINGLE)
        held = 4 * (2 * COLUMNS * tile_length(self.keys) + PART * tile_length(self.keys) * self.dense)
        return KernelTime("compose", (COLUMNS, PART, WARPS, 1), walks * blocks, cost, held, time)


def _moved(time: KernelTime, read: int, written: int) -> KernelTime:
    """A launch that reads and writes so many bytes of states more."""
    more = TileCost(read=read, written=written, distinct=read + written, between=read + written)
    return replace(time, cost=time.cost + more)


Model = ScheduleModel | Segmented


def schedules(
    stages: Sequence[StagePlan], dimensions: Mapping[str, int], rows: int, device: Device, *, width: int = HALF,
    keep: bool = False, tokens: int | None = None,
) -> tuple[Model, ...]:  # fmt: skip
    """Those of `predict.schedules`, and the one in segments where there is one."""
    models = predict.schedules(stages, dimensions, rows, device, width=width, keep=keep, tokens=tokens)
    cuts = stages and stages[0].segments is not None
    return (*models, cut(models[-1], stages, dimensions)) if cuts else models


def cut(inner: ScheduleModel, stages: Sequence[StagePlan], dimensions: Mapping[str, int]) -> Segmented:
    """A forward pass in segments, which stores what a backward pass uses, whether one follows or not."""
    (stage,), family, width = stages, inner.device.family, inner.width
    kernels = predict.forward_kernels(stage, inner.schedule)
    made = tuple(kernel_model(k, stage, dimensions, inner.tokens, family, width) for k in kernels)
    assert stage.segments is not None
    parts = ((stage.segments.ends, False), (stage.segments.flow, True))
    return _segmented(replace(inner, kernels=made), stage, dimensions, parts)


def behind(
    stages: Sequence[StagePlan], dimensions: Mapping[str, int], models: Sequence[Model], device: Device,
    *, width: int = HALF,
) -> tuple[Model, ...]:  # fmt: skip
    """The backward passes after forward passes."""
    plain = {n: predict.reverse(stages, dimensions, n, device, width=width) for n in {m.tokens for m in models}}
    found: list[Model] = []
    for model in models:
        inner, own = plain[model.tokens], stages[0].segments if stages else None
        if isinstance(model, Segmented) and own is not None:
            found.append(_segmented(inner, stages[0], dimensions, ((own.begins, True),)))
        else:
            found.append(inner)
    return tuple(found)


def _segmented(
    inner: ScheduleModel, stage: StagePlan, dimensions: Mapping[str, int], parts: Sequence[tuple[TileKernel, bool]]
) -> Segmented:
    own, (keys, values) = stage.segments, sides_of_state(stage, dimensions)
    assert own is not None
    columns = own.columns(keys, values)
    made = []
    for kernel, adjoint in parts:
        across = columns if kernel.name == "flow" else None
        walk = replace(kernel, name="walk")
        model = kernel_model(
            walk, stage, dimensions, inner.tokens, inner.device.family, inner.width, False, adjoint, columns=across
        )
        made.append(replace(model, name=kernel.name))
    return Segmented(inner, tuple(made), keys, values, columns, own.dense)


def chosen(models: Sequence[Model], back: Sequence[Model], shape: Shape) -> Model:
    """What a call of a shape takes that leaves all open; `back` are the backward passes, if they follow."""
    plain = [m for m in models if isinstance(m, ScheduleModel)]
    for model in models:
        if isinstance(model, Segmented):
            count = model.count(shape)
            least = [n for most, n in thresholds(models, back) if count >= most]
            if least and -(-shape.length // model.tokens) >= least[-1]:
                return model
    return predict.chosen(plain, shape)


def thresholds(models: Sequence[Model], back: Sequence[Model]) -> tuple[tuple[int, int], ...]:
    """From so many segments on that fill the device, from how many chunks of a sequence on it is faster by `MARGIN`."""
    at = next((n for n, m in enumerate(models) if isinstance(m, Segmented)), None)
    if at is None:
        return ()
    model = models[at]
    assert isinstance(model, Segmented)
    per_walk = -(-model.values // next(k for k in model.kernels if k.walks).tiling[0])
    found: list[tuple[int, int]] = []

    def faster(shape: Shape) -> bool:
        passes = [models, back] if back else [models]
        times = [sum(m.at(shape).seconds for m in own) for own in zip(*passes, strict=True)]
        return bool(MARGIN * times.pop(at) <= min(times))

    for count in COUNTS:
        walks = model.device.processors // (count * per_walk)
        if walks == 0:
            break
        tried = [n for n in CHUNKS if n >= count]
        least = bisect_left(tried, True, key=lambda n: faster(Shape(1, n * model.tokens, walks)))
        if least < len(tried) and (not found or tried[least] < found[-1][1]):
            found.append((count, tried[least]))
    return tuple(found)
