"""The driver: one call per stage, each named by what goes in and what comes out.

In: a `Source` and `Options`. Out: a `Compilation` with every stage up to `stop_after`. Raises FlowError for errors in
the spec and for a recurrence that has no chunked form yet, ValueError for options that do not fit it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from flowc.algebra.evaluate import Refusal
from flowc.algebra.normalize import normalize, stepped
from flowc.algebra.numbers import NoFloat
from flowc.algebra.recurrence import Classification, Recurrence
from flowc.certify import Certificate, Programs, certify
from flowc.chunk.derive import derive
from flowc.chunk.gate_logs import gate_logs
from flowc.chunk.program import Program
from flowc.diagnostics import Diagnostic, FlowError
from flowc.emit.artifact import Artifact
from flowc.emit.torch_module import emit
from flowc.options import Options
from flowc.schedule.plan import Plan
from flowc.schedule.schedule import saved_name, schedule
from flowc.schedule.staged import KernelPlan, kernel_plan
from flowc.schedule.tile_plan import Missing
from flowc.schedule.tuned import Tuned
from flowc.semantics.cautions import warnings
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
    """The stages of one compilation, each made when it is first asked for.

    `tuned` are configurations that `flowc tune` found for this spec.
    """

    source: Source
    options: Options
    tuned: tuple[Tuned, ...] = ()

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
            found = normalize(self.model)
            refused = found if isinstance(found, Classification) else self._without_chunks(found)
            return found if refused is None else stepped(self.model, refused)
        except NoFloat as error:
            advice = "write it so that no part of it is beyond 1e300 or closer to 0 than 1e-300"
            beyond = Diagnostic("F107", f"this comes to {error.reason}", advice, error.span or self.spec.span)
            raise FlowError(self.source, (beyond,)) from None

    def _without_chunks(self, recurrence: Recurrence) -> Classification | None:
        """Why a normal form has no chunk program, if it has none."""
        try:
            for memory in recurrence.memories:
                gate_logs(memory)
        except Refusal as refusal:
            name, outside = recurrence.classification.name, refusal.outside
            return Classification(name, outside.reason, refusal.span, outside.advice)
        return None

    @cached_property
    def recurrence(self) -> Recurrence:
        """The normal form; FlowError where there is none."""
        match self.classified:
            case Recurrence() as recurrence:
                return recurrence
            case Classification() as other:
                raise self.unsupported(other)

    @cached_property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The model's, and what a user would not expect of how it is compiled; the model's alone where it is not."""
        own = warnings(self.model)
        try:
            found = self.recurrence
        except FlowError:
            return own
        if found.stepped is None:
            return own
        # token by token a gate's gradient is no quotient, whatever the gate
        return (*(w for w in own if w.code != "W202"), self._by_token(found.classification))

    def _by_token(self, found: Classification) -> Diagnostic:
        message = f"class {found.name} is taken token by token, which is slower than in chunks: {found.reason}"
        advice = found.advice or "`flowc explain` tells what it costs; classes G, D and M run in chunks"
        return Diagnostic("W204", message, advice, found.span, "warning")

    @cached_property
    def chunk(self) -> Program:
        """Normal form -> chunk program."""
        return derive(self.recurrence)

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
        return emit(self.plan, self.tuned)

    @property
    def spec_hash(self) -> str:
        """What modules and tables know the spec by."""
        return hashlib.sha256(self.model.canonical.encode()).hexdigest()

    def configured(self, tuned: tuple[Tuned, ...]) -> Compilation:
        """The same with these configurations; the stages that are made do not go by them, up to the module."""
        made = Compilation(self.source, self.options, tuned)
        vars(made).update({n: v for n, v in vars(self).items() if n not in ("tuned", "artifact")})
        return made

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
        advice = found.advice or "classes G, D and M run in chunks"
        return FlowError(
            self.source,
            (
                Diagnostic(
                    code="F601",
                    severity="error",
                    message=f"a recurrence of class {found.name} has no compiled form: {found.reason}",
                    help=f"{advice}; `flowc.reference.run(flowc.load(SPEC), INPUTS)` executes it step by step",
                    span=found.span,
                ),
            ),
        )


def compile_text(
    source: Source, options: Options, stop_after: Stage = Stage.MODULE, tuned: tuple[Tuned, ...] = ()
) -> Compilation:
    """Compile a spec up to a stage, its kernels as they are `tuned`."""
    compilation = Compilation(source, options, tuned)
    compilation.stage(stop_after)
    return compilation
