"""The Triton kernels of a plan: those of its state, or of every state's stage and what torch operators make between.

In: a `Plan`. Out: a `KernelPlan`, or `Missing`. Refuses, as `Missing`, what `cut` does for a stage, and states whose
reads need one another in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from flowc.algebra.stages import Interleaved, Stage, Stages, stages
from flowc.chunk.derive import derive
from flowc.chunk.differentiate import differentiate
from flowc.chunk.ir import Argument, Op, Scan, operands
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.options import Options
from flowc.schedule.plan import Plan
from flowc.schedule.schedule import schedule
from flowc.schedule.segments import SegmentKernels, segment_kernels
from flowc.schedule.stepped import StepPlan, TokenPlan, step_plan, token_plan
from flowc.schedule.tile_plan import Missing, TileKernel, TilePlan
from flowc.schedule.triton import cut


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A state's kernels; `stage` says what it takes of the whole, None where it is all there is.

    `segments` are those of a sequence's segments, where it is all there is and they can be had.
    """

    plan: Plan
    cuts: TilePlan
    stage: Stage | None
    suffix: str
    segments: SegmentKernels | None = None

    def role(self, kernel: TileKernel, adjoint: bool) -> str:
        """What a kernel is configured as."""
        return f"{kernel.name}{'_backward' if adjoint else ''}{self.suffix}"

    def kernels(self) -> Iterator[tuple[TileKernel, bool]]:
        """All kernels, and whether they are the adjoint's."""
        for passed, adjoint in ((self.cuts.forward, False), (self.cuts.backward, True)):
            yield from ((k, adjoint) for k in passed.kernels)
        if self.cuts.fused is not None:
            yield self.cuts.fused, False


@dataclass(frozen=True, slots=True)
class Whole:
    """What torch operators make of inputs, scans and reads: stages' inputs and outputs, and the adjoint of that.

    `kept` are the reads that the backward pass needs again: for cotangents, and for what stages take.
    """

    stages: Stages
    forward: Program
    adjoint: Program
    kept: frozenset[str]

    @staticmethod
    def of(split: Stages) -> Whole:
        """The whole of stages."""
        forward = derive(split.whole)
        adjoint, results = differentiate(forward), dict(forward.results)
        made = [results[label] for s in split.stages for name, label in s.given if name in s.made]
        values = {*needed(forward, made)}
        nodes = [*adjoint.nodes, *(n for n in forward.nodes if n.value in values)]
        reads = {name for s in split.stages for name in s.reads}
        kept = {n.op.name for n in nodes if isinstance(n.op, Argument) and n.op.name in reads}
        return Whole(split, forward, adjoint, frozenset(kept))


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """All stages in the order in which they run forward, none for scans; no `whole` where one state is all there is.

    Of a recurrence without products over a chunk there are no stages, but `tokens`. `step` is one token of all states.
    """

    stages: tuple[StagePlan, ...]
    whole: Whole | None
    tokens: TokenPlan | None = None
    step: StepPlan | None = None


def kernel_plan(plan: Plan) -> KernelPlan | Missing:
    """The kernels of a plan, or why there are none."""
    recurrence = plan.recurrence
    if not recurrence.memories:
        return KernelPlan((), None, token_plan(recurrence))
    if len(recurrence.memories) == 1 and not recurrence.scans:
        cuts = cut(plan)
        if isinstance(cuts, Missing):
            return cuts
        step = step_plan(recurrence)
        cuts = cuts if step is None else replace(cuts, step=None)
        alone = StagePlan(plan, cuts, None, "", segment_kernels(cuts, recurrence.memories[0]))
        return KernelPlan((alone,), None, step=step)
    try:
        split = stages(recurrence)
    except Interleaved as reason:
        return Missing((str(reason),))
    found = [_stage_plan(stage, plan.options) for stage in split.stages]
    refused = [p for p in found if isinstance(p, Missing)]
    if refused:
        return Missing(tuple(dict.fromkeys(r for p in refused for r in p.reasons)))
    made = tuple(p for p in found if isinstance(p, StagePlan))
    return KernelPlan(made, Whole.of(split), step=step_plan(recurrence))


def _stage_plan(stage: Stage, options: Options) -> StagePlan | Missing:
    plan = schedule(stage.recurrence, derive(stage.recurrence), options)
    cuts = cut(plan)
    return cuts if isinstance(cuts, Missing) else StagePlan(plan, cuts, stage, f"_{stage.number}")


def is_scan(op: Op) -> bool:
    """Whether an operation scans a state, and no cotangent of one."""
    return isinstance(op, Scan) and not op.reverse


def needed(program: Program, wanted: Iterable[Value], there: frozenset[str] = frozenset()) -> tuple[Value, ...]:
    """The values that some need, in order; scans that are `there` need nothing, unless they are wanted."""
    first = set(wanted)
    found = set(first)
    for node in reversed(program.nodes):
        made = is_scan(node.op) and node.value.name in there and node.value not in first
        if node.value in found and not made:
            found.update(operands(node.op))
    return tuple(n.value for n in program.nodes if n.value in found)
