"""The driver: one call per stage, each named by what goes in and what comes out.

In: a `Source` and `Options`. Out: a `Compilation` with every stage up to `stop_after`. Raises FlowError for errors in
the spec and for a recurrence that has no chunked form yet, ValueError for options that do not fit it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from flowc.algebra.evaluate import Refusal
from flowc.algebra.normalize import normalize
from flowc.algebra.numbers import NoFloat
from flowc.algebra.recurrence import Classification, Recurrence
from flowc.certify import Certificate, Programs, certify
from flowc.chunk.derive import derive
from flowc.chunk.program import Program
from flowc.diagnostics import Diagnostic, FlowError
from flowc.emit.artifact import Artifact
from flowc.emit.torch_module import emit
from flowc.options import Options
from flowc.schedule.plan import Plan
from flowc.schedule.schedule import saved_name, schedule
from flowc.schedule.staged import KernelPlan, kernel_plan
from flowc.schedule.tile_plan import Missing
from flowc.semantics.check import check
from flowc.semantics.model import Model
from flowc.source import Source
from flowc.syntax.parse import parse
from flowc.syntax.tree import Spec


class Stage(Enum):
    """Where to stop."""

    SPEC = "spec"
    MODEL = "model"
    RECURRENCE = "recurrence"
    CHUNK = "chunk"
    PLAN = "plan"
    MODULE = "module"


@dataclass(frozen=True)
class Compilation:
    """The stages of one compilation, each made when it is first asked for."""

    source: Source
    options: Options

    @cached_property
    def spec(self) -> Spec:
        """Text -> syntax tree."""
        return parse(self.source)

    @cached_property
    def model(self) -> Model:
        """Syntax tree -> names, shapes and sizes resolved."""
        return check(self.spec, self.source)

    @cached_property
    def classified(self) -> Recurrence | Classification:
        """Model -> normal form, or its class where it has none; FlowError for a number that no float holds."""
        try:
            return normalize(self.model)
        except NoFloat as error:
            advice = "write it so that no part of it is beyond 1e300 or closer to 0 than 1e-300"
            found = Diagnostic("F107", f"this comes to {error.reason}", advice, error.span or self.spec.span)
            raise FlowError(self.source, (found,)) from None

    @cached_property
    def recurrence(self) -> Recurrence:
        """The normal form; FlowError where there is none."""
        match self.classified:
            case Recurrence() as recurrence:
                return recurrence
            case Classification() as other:
                raise self.unsupported(other)

    @cached_property
    def chunk(self) -> Program:
        """Normal form -> chunk program."""
        try:
            return derive(self.recurrence)
        except Refusal as refusal:
            name, outside = self.recurrence.classification.name, refusal.outside
            raise self.unsupported(Classification(name, outside.reason, refusal.span, outside.advice)) from None

    @cached_property
    def plan(self) -> Plan:
        """Chunk program -> plan; ValueError for a backend that it has no kernels for."""
        plan = schedule(self.recurrence, self.chunk, self.options)
        if self.options.backend == "triton":
            match kernel_plan(plan):
                case Missing() as missing:
                    raise ValueError(f"{self.model.name}: {missing}")
                case KernelPlan():
                    pass
        return plan

    @cached_property
    def artifact(self) -> Artifact:
        """Plan -> module."""
        return emit(self.plan)

    @cached_property
    def programs(self) -> Programs:
        """Plan -> the programs that its kernels run, as the certificate takes them."""
        saved = tuple((saved_name(backward), forward) for forward, backward in self.plan.saved)
        kernels = kernel_plan(self.plan)
        several = isinstance(kernels, KernelPlan) and kernels.whole is not None
        own = kernels if isinstance(kernels, KernelPlan) and several else None
        return Programs(self.plan.forward.program, self.plan.backward.program, saved, own)

    def certify(self, seed: int = 0) -> Certificate:
        """Model and programs -> whether they are the same, exactly, at random points."""
        return certify(self.model, self.programs, seed)

    def stage(self, stage: Stage) -> object:
        """What a stage makes."""
        match stage:
            case Stage.SPEC:
                return self.spec
            case Stage.MODEL:
                return self.model
            case Stage.RECURRENCE:
                return self.recurrence
            case Stage.CHUNK:
                return self.chunk
            case Stage.PLAN:
                return self.plan
            case Stage.MODULE:
                return self.artifact

    def unsupported(self, found: Classification) -> FlowError:
        """The diagnostic of a recurrence without a compiled form."""
        advice = (
            found.advice or "classes G, D and M, vector states of class E and several states without a cycle compile"
        )
        return FlowError(
            self.source,
            (
                Diagnostic(
                    code="F601",
                    severity="error",
                    message=f"a recurrence of class {found.name} has no compiled form yet: {found.reason}",
                    help=f"{advice}; `flowc.reference.run(flowc.load(SPEC), INPUTS)` executes it step by step",
                    span=found.span,
                ),
            ),
        )


def compile_text(source: Source, options: Options, stop_after: Stage = Stage.MODULE) -> Compilation:
    """Compile a spec up to a stage."""
    compilation = Compilation(source, options)
    compilation.stage(stop_after)
    return compilation
