"""The programs of several states' kernels, run one after another over a certificate's numbers.

In: a `KernelPlan` with a whole, numbers of inputs, states and cotangents. Out: outputs, final states, gradients, as the
program of all states gives them. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowc.certify.chunked import Given, Ran, Setting, run
from flowc.certify.number import Number
from flowc.chunk.differentiate import cotangent
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value
from flowc.schedule.schedule import saved_name
from flowc.schedule.staged import KernelPlan, StagePlan, Whole, needed

Numbers = dict[str, Number]


@dataclass(frozen=True, slots=True)
class Made:
    """Outputs, final states, gradients of inputs and params, those of the states at the start."""

    outputs: Numbers
    states: Numbers
    gradients: Numbers
    starts: Numbers


class Staged:
    """One draw on the programs of a kernel plan."""

    def __init__(
        self, plan: KernelPlan, whole: Whole, setting: Setting, given: Given, starts: Mapping[str, Number]
    ) -> None:
        """`given` are inputs and params by role and name, `starts` the states [H, *] before the first token."""
        self.plan, self.whole, self.setting, self.starts = plan, whole, setting, starts
        self.given: Given = dict(given)
        self.given |= {("carry", n): _token(starts[n]) for n in self.scanned}
        self.ran: dict[int, tuple[Given, Ran]] = {}

    @property
    def scanned(self) -> list[str]:
        """The states that are scanned."""
        return [c.name for c in self.whole.forward.carries]

    def made(self, bars: Numbers, ends: Mapping[str, Number]) -> Made:
        """Forward, then backward on cotangents of outputs and of final states."""
        outputs, states = self.forward()
        gradients, starts = self.backward(bars, ends)
        return Made(outputs, states, gradients, starts)

    def forward(self) -> tuple[Numbers, Numbers]:
        """Stage after stage on what the whole makes of inputs, scans and earlier reads."""
        forward, states = self.whole.forward, {}
        results = dict(forward.results)
        for number, planned in enumerate(self.plan.stages):
            stage = planned.stage
            assert stage is not None
            labels = {own: label for own, label in stage.given if own in stage.made}
            found = self.part(forward, {own: results[label] for own, label in labels.items()}, self.given)
            given = self.given | {("input", own): x for own, x in found.items()}
            state = _state(planned)
            ran = run(planned.plan.forward.program, self.setting, given, {state: self.starts[state]})
            self.ran[number] = given, ran
            states[state] = ran.states[state]
            self.given |= {("input", name): ran.results[name] for name in stage.reads}
        outputs = self.whole.stages.outputs
        wanted = {name: results[name] for name in outputs} | {f"{c.name} end": c.after for c in forward.carries}
        found = self.part(forward, wanted, self.given)
        states |= {name: _state_of(found[f"{name} end"]) for name in self.scanned}
        return {name: found[name] for name in outputs}, states

    def backward(self, bars: Numbers, ends: Mapping[str, Number]) -> tuple[Numbers, Numbers]:
        """The stages from the last, each on the cotangents of its reads; gradients of params add up."""
        adjoint = self.whole.adjoint
        results, starts = dict(adjoint.results), {}
        given: Given = self.given | {("cotangent", name): x for name, x in bars.items()}
        given |= {("carry", cotangent(name)): _token(ends[name]) for name in self.scanned}
        params: dict[str, list[Number]] = {}
        for number, planned in reversed(list(enumerate(self.plan.stages))):
            stage, state = planned.stage, _state(planned)
            assert stage is not None
            read_bars = self.part(adjoint, {name: results[name] for name in stage.reads}, given)
            taken, ran = self.ran[number]
            back = self.stage_backward(planned, taken, ran, read_bars, {state: ends[state]})
            starts[state] = back.states[state]
            for own, label in stage.given:
                if ("param", own) in self.given:
                    params.setdefault(own, []).append(back.results[own])
                else:
                    given["cotangent", label] = back.results[own]
        inputs = {name: v for name, v in results.items() if name not in self.reads()}
        wanted = inputs | {f"{c.name} start": c.after for c in adjoint.carries}
        found = self.part(adjoint, wanted, given)
        starts |= {name: _state_of(found[f"{name} start"]) for name in self.scanned}
        gradients = {name: found[name] for name in inputs}
        for name, parts in params.items():
            for part in parts:
                gradients[name] = gradients[name] + part if name in gradients else part
        return gradients, starts

    def stage_backward(
        self, planned: StagePlan, given: Given, ran: Ran, bars: Numbers, ends: Mapping[str, Number]
    ) -> Ran:
        """The adjoint of a stage, on what its forward program left."""
        plan = planned.plan
        kept = {("saved", saved_name(b)): ran.values[f] for f, b in plan.saved}
        carries = {("carry", c.name): ran.values[c.before] for c in plan.forward.program.carries}
        outer = {("cotangent", name): x for name, x in bars.items()}
        return run(plan.backward.program, self.setting, {**given, **kept, **carries, **outer}, ends)

    def reads(self) -> set[str]:
        """What the whole takes of stages."""
        return {name for s in self.plan.stages if s.stage is not None for name in s.stage.reads}

    def part(self, program: Program, wanted: Mapping[str, Value], given: Given) -> Numbers:
        """Some values of the whole, for every token."""
        nodes = {*needed(program, wanted.values())}
        own = Program(tuple(n for n in program.nodes if n.value in nodes), tuple(wanted.items()), ())
        found = run(own, self.setting, given, {}).results
        length = self.setting.sizes.length

        def timed(name: str, x: Number) -> Number:
            if wanted[name].level is not Level.HEAD or name in {n for role, n in self.given if role == "param"}:
                return x
            return x.moved(lambda y: y[None].repeat(length, 0))

        return {name: timed(name, x) for name, x in found.items()}


def _state(planned: StagePlan) -> str:
    (memory,) = planned.plan.recurrence.memories
    return memory.state.name


def _token(state: Number) -> Number:
    """A scanned state [H, *] as programs take it."""
    return state.moved(lambda x: x[None])


def _state_of(number: Number) -> Number:
    """A scanned state of the last token, or of the first."""
    return number.moved(lambda x: x[0])
