"""The rules of what runs over the tokens: scans, loops, and what a token leaves to the next.

In: cotangents of states per token, of what tokens begin with and of what the last one leaves. Out: those of what the
states are made of. Refuses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from flowc.chunk.adjoint_loop import Bars, backward
from flowc.chunk.builder import Builder
from flowc.chunk.ir import Earlier, Final, First, Later, Loop, Scan, Spread
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value


class ScanRules(ABC):
    """A part of the adjoint program's making."""

    build: Builder
    bars: dict[Value, list[Value]]
    last: dict[Value, Value]  # of a scan: the cotangent of what it carries on
    before: dict[Value, Value]  # of a scan: the cotangents of what each token begins with

    @abstractmethod
    def give(self, value: Value, bar: Value | None) -> None:
        """A contribution to a value's cotangent."""

    @abstractmethod
    def collected(self, value: Value) -> Value | None:
        """A value's cotangent."""

    @abstractmethod
    def summed(self, parts: list[Value]) -> Value:
        """Contributions added up."""

    @abstractmethod
    def lowered(self, function: str, number: int, *arguments: Value) -> Value:
        """The partial derivative of a function in one of its arguments."""

    @abstractmethod
    def adjoint(self, body: Program) -> Program:
        """The adjoint of a loop's body."""

    def scan(self, value: Value, op: Scan, bar: Value) -> None:
        """A scan's cotangents by the reverse scan, with its slopes as gates, of what reaches each token's beginning."""
        build = self.build
        before = build.add(Earlier(value, op.start))
        end, beside = self.last.pop(value), self.before.pop(value, None)
        given = build.apply("add", op.gate, before)
        match op.kind:
            case "linear":
                slope, share = op.gate, None
            case "max":
                slope, share = (self.lowered("max", number, given, op.value) for number in (0, 1))
            case _:
                pairs = (given, op.value), (op.value, given)
                slope, share = (build.apply("sigmoid", build.apply("sub", *pair)) for pair in pairs)
        through = self.summed([build.apply("mul", slope, bar), *([] if beside is None else [beside])])
        reached = build.add(Scan("linear", slope, through, end, reverse=True), f"{value.name}_before_bar")
        total = build.apply("add", bar, build.add(Later(reached, end)), name=f"{value.name}_all_bar")
        given_bar = build.apply("mul", slope, total, name=f"{value.name}_given_bar")
        self.give(op.gate, build.apply("mul", total, before) if op.kind == "linear" else given_bar)
        self.give(op.value, total if share is None else build.apply("mul", share, total))
        self.give(op.start, build.add(First(reached, end)))

    def shifted(self, value: Value, bar: Value) -> Value:
        """The cotangent of a value that the next token begins with, what its successors give added."""
        build = self.build
        end, beside = self.last.pop(value), self.before.pop(value, None) or self.nothing(value)
        start = next(n.op.start for n in build.nodes if isinstance(n.op, Final) and n.op.argument == value)
        self.give(start, build.add(First(beside, end)))
        self.bars[value] = [build.apply("add", bar, build.add(Later(beside, end)))]
        return self.bars[value][0]

    def nothing(self, value: Value) -> Value:
        """Zeros of a value's shape."""
        return self.build.add(Spread(self.build.number(0), value.axes), "", value.axes, Level.TOKEN)

    def loop(self, op: Loop) -> None:
        """The cotangents of what a loop is given, and of what it starts with."""
        build = self.build
        own = [n for n in build.nodes if isinstance(n.op, Loop) and n.op.together == op.together]
        states = [n.value for n in sorted(own, key=lambda n: n.op.number if isinstance(n.op, Loop) else 0)]
        left = tuple(self.collected(v) or self.nothing(v) for v in states)
        begun = tuple(self.before.pop(v, None) for v in states)
        bars = Bars(left, begun, tuple(self.last.pop(v) for v in states))
        given, starts = backward(build, op, states, bars, self.adjoint(op.body))
        for value, bar in (*given, *zip(op.starts, starts, strict=True)):
            self.give(value, bar)
