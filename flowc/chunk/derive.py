"""Recurrence -> chunk program.

In: a `Recurrence`. Out: the forward `Program`: a prelude per token, the algebra of every state over the rows of chunks
(`state_form`), scans of states entry by entry, an epilogue per token. States are made when another needs what it reads
of them. Refuses, as `Refusal`, what a state's form refuses.
"""

from __future__ import annotations

from fractions import Fraction

from flowc.algebra import term as terms
from flowc.algebra.recurrence import Recurrence
from flowc.algebra.term import Term
from flowc.chunk.builder import Builder
from flowc.chunk.inputs import loaded, renamed, result
from flowc.chunk.ir import (
    Earlier,
    Final,
    Literal,
    Scan,
)
from flowc.chunk.program import Carry, Program
from flowc.chunk.state_form import StateForm
from flowc.chunk.stepped import axes_of_state, stepped
from flowc.chunk.values import Level, Part, Space, Value


def derive(recurrence: Recurrence) -> Program:
    """The forward chunk program of a recurrence; its results are the outputs by name."""
    return _Derivation(recurrence).program()


class _Derivation:
    """The whole step: one memory after another, as their rows and queries need each other's reads."""

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        self.builder = Builder()
        self.inputs = {i.name: i for i in recurrence.model.inputs}
        self.memories = [StateForm(self, memory) for memory in recurrence.memories]
        self.reads: dict[int, Value] = {}
        self.scans = {s.state.name: s for s in recurrence.scans}
        self.scanned: dict[str, Carry] = {}
        self.spaces: dict[str, Space] = {}

    def program(self) -> Program:
        build = self.builder
        lowered = ((r, build.lower(r.value, self.load, name=r.name)) for r in self.recurrence.results)
        results = {r.name: result(build, value, r.shape, r.name) for r, value in lowered}
        found = {m.memory.state.name: m.carry() for m in self.memories}
        carries = tuple(found.get(s.name) or self.scan(s.name) for s in self.recurrence.model.states)
        return build.program(results, carries)

    def space(self, name: str, parts: tuple[Part, ...]) -> Space:
        """Rows under a name that no other rows have."""
        own, number = Space(name, parts), 1
        while self.spaces.setdefault(own.name, own) != own:
            number += 1
            own = Space(f"{name}{number}", parts)
        return own

    # -- scans --------------------------------------------------------------------------------------------------------

    def scan(self, name: str) -> Carry:
        """A state that is scanned over the tokens, and what it carries on."""
        if name not in self.scanned and self.recurrence.stepped is not None:
            self.scanned |= stepped(self.builder, self.recurrence.stepped, self.lowered)
        if name not in self.scanned:
            build, scan = self.builder, self.scans[name]
            axes = axes_of_state(scan.state)
            start = build.argument(name, "carry", axes, Level.TOKEN)
            gate, value = (build.lower(t, self.load) for t in (scan.gate, scan.value))
            if build.op(gate) == Literal(Fraction(0)) and scan.kind == "linear" and value.level is Level.TOKEN:
                values = build.over(value, *axes)  # what came before is not in it: a shift
            else:
                values = build.add(Scan(scan.kind, gate, value, start), name)
            self.scanned[name] = Carry(name, start, build.add(Final(values, start), f"{name}_next"), True)
        return self.scanned[name]

    def scan_value(self, name: str, previous: bool) -> Value:
        """A scanned state of every token, before it or after."""
        carry = self.scan(name)
        final = self.builder.op(carry.after)
        assert isinstance(final, Final)
        if not previous:
            return final.argument
        return self.builder.add(Earlier(final.argument, carry.before), f"{name}_before")

    def lowered(self, term: Term) -> Value:
        """A term of a token."""
        return self.builder.lower(term, self.load)

    # -- the prelude --------------------------------------------------------------------------------------------------

    def load(self, term: Term) -> Value:
        """An input, or what an output read."""
        match term:
            case terms.ReadValue(index, axes):
                if index not in self.reads:
                    read = self.recurrence.reads[index]
                    self.reads[index] = self.memories[read.memory].read(index, read)
                return renamed(self.builder, self.reads[index], axes)
            case terms.ScanValue(name, previous, axes):
                return renamed(self.builder, self.scan_value(name, previous), axes)
            case terms.Load(name, index, axes, _):
                return loaded(self.builder, self.inputs[name], index, axes)
            case _:
                raise TypeError(f"{term} is no leaf")
