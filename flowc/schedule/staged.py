"""The Triton kernels of a plan: those of its state, or of every state's stage and what torch operators make between.

In: a `Plan`. Out: a `KernelPlan`, or `Missing`. Where a stage's kernels cannot compute something of an input, the whole
computes it for them. Refuses, as `Missing`, what `cut` does for a stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowc.algebra.stages import Stage, Stages, stages
from flowc.chunk.derive import derive
from flowc.chunk.differentiate import differentiate
from flowc.chunk.program import Program
from flowc.options import Options
from flowc.schedule.plan import Plan
from flowc.schedule.schedule import schedule
from flowc.schedule.tile_plan import Missing, TileKernel, TilePlan
from flowc.schedule.triton import cut


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A state's kernels; `stage` says what it takes of the whole, None where it is all there is."""

    plan: Plan
    cuts: TilePlan
    stage: Stage | None
    suffix: str

    def role(self, kernel: TileKernel, adjoint: bool) -> str:
        """What a kernel is configured as."""
        return f"{kernel.name}{'_backward' if adjoint else ''}{self.suffix}"

    def kernels(self) -> Iterator[tuple[TileKernel, bool]]:
        """All kernels, and whether they are the adjoint's."""
        for passed, adjoint in ((self.cuts.forward, False), (self.cuts.backward, True)):
            yield from ((k, adjoint) for k in passed.kernels)


@dataclass(frozen=True, slots=True)
class Whole:
    """What torch operators make of inputs, scans and reads: stages' inputs and outputs, and the adjoint of that."""

    stages: Stages
    forward: Program
    adjoint: Program


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """All stages in the order in which they run forward, none for scans; no `whole` where one state is all there is."""

    stages: tuple[StagePlan, ...]
    whole: Whole | None


def kernel_plan(plan: Plan) -> KernelPlan | Missing:
    """The kernels of a plan, or why there are none."""
    recurrence = plan.recurrence
    if len(recurrence.memories) == 1 and not recurrence.scans:
        cuts = cut(plan)
        return cuts if isinstance(cuts, Missing) else KernelPlan((StagePlan(plan, cuts, None, ""),), None)
    plain: set[int] = set()
    while True:
        split = stages(recurrence, frozenset(plain))
        found = [_stage_plan(stage, plan.options) for stage in split.stages]
        refused = [(s, p) for s, p in zip(split.stages, found, strict=True) if isinstance(p, Missing)]
        if not refused:
            forward = derive(split.whole)
            whole = Whole(split, forward, differentiate(forward))
            return KernelPlan(tuple(p for p in found if isinstance(p, StagePlan)), whole)
        again = {s.number for s, _ in refused} - plain
        if not again:
            return Missing(tuple(dict.fromkeys(r for _, p in refused for r in p.reasons)))
        plain |= again


def _stage_plan(stage: Stage, options: Options) -> StagePlan | Missing:
    plan = schedule(stage.recurrence, derive(stage.recurrence), options)
    cuts = cut(plan)
    return cuts if isinstance(cuts, Missing) else StagePlan(plan, cuts, stage, f"_{stage.number}")
