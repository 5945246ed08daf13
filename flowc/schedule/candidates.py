"""What a kernel could take instead of what rules give it, the most promising first.

In: a `Site`, which is a kernel at some sizes on a device. Out: `Candidate`s by predicted time. Left out are those whose
tiles take more numbers than a program has registers, and those that come to the same tiles as one before them. Refuses
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from flowc.schedule.devices import Device
from flowc.schedule.predict import (
    THREAD_REGISTERS,
    KernelModel,
    ScheduleModel,
    Shape,
    forward_kernels,
    kernel_model,
    sides_of_state,
)
from flowc.schedule.staged import StagePlan
from flowc.schedule.tile_plan import TileKernel
from flowc.schedule.tilings import Tiling
from flowc.schedule.tuned import LENGTHS, STAGES, WARPS, Place, Tuned, nearest
from flowc.schedule.two_level import Model, Segmented

WARP = 32


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration and what a launch is predicted to take by it, in seconds."""

    tiling: Tiling
    seconds: float


@dataclass(frozen=True, slots=True)
class Site:
    """A kernel, its stage, whether it is the adjoint's, and all that its time goes by."""

    kernel: TileKernel
    stage: StagePlan
    adjoint: bool
    dimensions: Mapping[str, int]
    tokens: int
    shape: Shape
    device: Device
    width: int
    keep: bool

    @property
    def role(self) -> str:
        """What the kernel is configured as."""
        return self.stage.role(self.kernel, self.adjoint)

    @property
    def rule(self) -> Candidate:
        """What rules give it."""
        return self._timed(self.model())

    def place(self, device: str) -> Place:
        """Where a row of a device would hold for it."""
        family, shape = self.device.family, self.shape
        state = sides_of_state(self.stage, self.dimensions)
        return Place.of(family, device, self.role, self.width, state, self.tokens, shape.length, shape.walks)

    def model(self, tiling: Tiling | None = None) -> KernelModel:
        """Its model by a configuration, or by the rules."""
        return kernel_model(
            self.kernel, self.stage, self.dimensions, self.tokens, self.device.family, self.width, self.keep,
            self.adjoint, configured=tiling,
        )  # fmt: skip

    def _timed(self, made: KernelModel) -> Candidate:
        return Candidate(made.tiling, made.at(self.shape, self.tokens, self.device, self.width).seconds)

    def candidates(self) -> tuple[Candidate, ...]:
        """All others, the fastest by prediction first."""
        rule = self.model()
        seen, found = {_tiles(rule)}, []
        columns, rows = ((own, *(n for n in LENGTHS if n != own)) for own in rule.tiling[:2])
        for tiling in product(columns, rows, WARPS, STAGES):
            made = self.model(tiling)
            if _tiles(made) not in seen and made.held <= 4 * WARP * tiling[2] * THREAD_REGISTERS:
                found.append(self._timed(made))
            seen.add(_tiles(made))
        return tuple(sorted(found, key=lambda c: (c.seconds, c.tiling)))


def _tiles(made: KernelModel) -> tuple[object, ...]:
    """What a configuration comes to at the sizes at hand."""
    return made.cost, made.programs, made.turns, made.held, made.tiling[2:]


def sites(
    stages: Sequence[StagePlan], schedule: str, dimensions: Mapping[str, int], tokens: int, shape: Shape,
    device: Device, width: int, keep: bool,
) -> tuple[list[Site], list[Site]]:  # fmt: skip
    """The kernels of a forward pass by a schedule, and of the backward pass; `keep`: that follows."""
    sizes = dimensions, tokens, shape, device, width
    forward = [Site(k, s, False, *sizes, keep) for s in stages for k in forward_kernels(s, schedule)]
    return forward, [Site(k, s, True, *sizes, keep) for s in reversed(stages) for k in s.cuts.backward.kernels]


def tuned_kernels(
    model: ScheduleModel, stages: Sequence[StagePlan], dimensions: Mapping[str, int], shape: Shape, keep: bool,
    rows: Sequence[Tuned],
) -> dict[str, tuple[Tuned, KernelModel]]:  # fmt: skip
    """The rows that a call takes for kernels of a schedule and of the backward pass, by role, and their models."""
    both = sites(stages, model.schedule, dimensions, model.tokens, shape, model.device, model.width, keep)
    return {s.role: (row, s.model(row.tiling)) for some in both for s in some if (row := row_for(s, rows)) is not None}


def by_rows(model: Model, tuned: Mapping[str, tuple[Tuned, KernelModel]]) -> Model:
    """The same schedule, its kernels as rows configure them; of one in segments as rules do."""
    if isinstance(model, Segmented):
        return model
    return replace(model, kernels=tuple(tuned[k.name][1] if k.name in tuned else k for k in model.kernels))


def row_for(site: Site, rows: Sequence[Tuned]) -> Tuned | None:
    """What a call takes for a kernel on a device that is known by a part of its name, as `h200` is."""
    known = site.device.name
    device = next((r.device for r in rows if r.family == site.device.family and known in r.device.lower()), known)
    return nearest(rows, site.place(device))
