"""The adjoint of a chunk program, by reverse-mode differentiation of its nodes.

In: a forward `Program`. Out: its adjoint `Program`: arguments are those of the forward, the state at each chunk's
start, and the cotangents of the results (`NAME`, role cotangent) and of the carried state; results are the gradients
of every input and param; its carry is the state's cotangent, from the chunk's end to its start. Nothing here knows a
recurrence: there is one rule per operation.
"""

from __future__ import annotations

from fractions import Fraction
from typing import assert_never

from flowc.algebra.derivatives import partial
from flowc.algebra.term import Axis, Load, Term
from flowc.chunk.adjoint_scans import ScanRules
from flowc.chunk.builder import Builder
from flowc.chunk.ir import (
    Apply,
    Argument,
    At,
    AtAdjoint,
    Contract,
    Cut,
    Decay,
    DecayApply,
    DecayDot,
    DecayMatrix,
    Earlier,
    Element,
    Extent,
    Final,
    First,
    Flatten,
    FromRows,
    GateSums,
    GateSumsAdjoint,
    Head,
    Index,
    Inverse,
    Join,
    Largest,
    Later,
    Literal,
    Loop,
    MaskMatrix,
    Op,
    Relabel,
    Rename,
    Scan,
    Solve,
    Spread,
    Sum,
    SumTokens,
    ToRows,
    Unflatten,
    operands,
)
from flowc.chunk.program import Carry, Program
from flowc.chunk.rewrite import renumbered
from flowc.chunk.values import Level, Value
from flowc.semantics.size import Size


def cotangent(state: str) -> str:
    """What a state's cotangent is called as an argument: no name of a spec."""
    return f"{state} bar"


def differentiate(program: Program) -> Program:
    """The adjoint program of a forward chunk program."""
    return _Adjoint(program).program()


class _Adjoint(ScanRules):
    def __init__(self, forward: Program) -> None:
        self.forward = forward
        nodes, self.moved = renumbered(forward.nodes)
        self.build = Builder(nodes)
        self.bars: dict[Value, list[Value]] = {}
        self.logs: dict[Value, list[Value]] = {}  # of exp(x): cotangents of x, where the product is at hand
        self.elements: dict[Value, dict[int, Value]] = {}
        self.last: dict[Value, Value] = {}  # of a scan: the cotangent of what it carries on
        self.before: dict[Value, Value] = {}  # of a scan: the cotangents of what each token begins with
        self.active = self._active()

    def _active(self) -> set[Value]:
        """Values that depend on an input, a param or the state."""
        found: set[Value] = set()
        for node in self.build.nodes:
            if isinstance(node.op, Argument) or any(v in found for v in operands(node.op)):
                found.add(node.value)
        return found

    def program(self) -> Program:
        build = self.build
        primal = list(build.nodes)
        ends = [(c, self.moved[c.before], self.moved[c.after]) for c in self.forward.carries]
        for name, forward_value in self.forward.results:
            value = self.moved[forward_value]
            self.give(value, build.argument(name, "cotangent", value.axes, Level.TOKEN))
        carried = [
            build.add(Argument(cotangent(c.name), "carry"), f"{c.name}_bar", after.axes, after.level)
            for c, _, after in ends
        ]
        for (_, _, after), end in zip(ends, carried, strict=True):
            self.give(after, end)
        for node in reversed(primal):
            bar = self.collected(node.value)
            if bar is not None and node.value.name and not isinstance(node.op, Argument | Rename | Relabel):
                bar = build.named(bar, f"{node.value.name}_bar")
            beside = (self.logs, self.elements, self.last, self.before)
            if bar is not None or any(node.value in known for known in beside):
                self.rule(node.value, node.op, bar)
        results = {}
        for node in primal:
            match node.op:
                case Argument(name, role) if role in ("input", "param"):
                    results[name] = self.gradient(node.value, name)
        carries = tuple(
            Carry(c.name, bar, self.gradient(before, f"{c.name}_bar_next"), c.scanned)
            for (c, before, _), bar in zip(ends, carried, strict=True)
        )
        return build.program(results, carries, adjoint=True)

    def gradient(self, value: Value, name: str) -> Value:
        """The collected cotangent of an argument; zero where nothing depends on it."""
        bar = self.collected(value)
        if bar is None:
            bar = self.build.add(Spread(self.build.number(0), value.axes), axes=value.axes, level=value.level)
        return self.build.named(bar, name if name.endswith("_next") else name + "_bar")

    # -- collecting ---------------------------------------------------------------------------------------------------

    def give(self, value: Value, bar: Value | None) -> None:
        """A contribution to the cotangent of `value`, reduced to its axes and level."""
        if bar is None or value not in self.active:
            return
        self.bars.setdefault(value, []).append(self.reduced(bar, value))

    def give_log(self, value: Value, bar: Value) -> None:
        """A contribution to the cotangent of the exponent of `value`."""
        if value in self.active:
            self.logs.setdefault(value, []).append(self.reduced(bar, value))

    def reduced(self, bar: Value, value: Value) -> Value:
        """Summed over what `value` was broadcast along."""
        build = self.build
        missing = [a for a in value.axes if a not in bar.axes]
        if missing:
            bar = build.add(Spread(bar, value.axes))
        bar = build.total(bar, [a for a in bar.axes if a not in value.axes])
        if value.level is Level.HEAD and bar.level is Level.TOKEN:
            bar = build.add(SumTokens(bar))
        return bar

    def collected(self, value: Value) -> Value | None:
        parts = self.bars.pop(value, [])
        if not parts:
            return None
        total = self.summed(parts)
        self.bars[value] = [total]
        return total

    def summed(self, parts: list[Value]) -> Value:
        total = parts[0]
        for part in parts[1:]:
            total = self.build.apply("add", total, part)
        return total

    # -- rules --------------------------------------------------------------------------------------------------------

    def rule(self, value: Value, op: Op, bar: Value | None) -> None:
        """Give `bar`'s share to every operand of a node."""
        build = self.build
        if not isinstance(op, Scan | Loop) and (value in self.last or value in self.before):
            bar = self.shifted(value, bar or self.nothing(value))  # what only the next token reads has no other
        if bar is None:
            self.unreached(value, op)
            return
        match op:
            case Argument():
                self.listed(value)
            case Literal() | Extent() | Head() | Index() | MaskMatrix() | Largest():
                pass
            case Apply():
                self.elementwise(value, op, bar)
            case Element(source, index):
                self.elements.setdefault(source, {})[index] = bar
            case Spread(argument, _):
                self.give(argument, bar)
            case Rename(argument, old, new):
                self.give(argument, build.rename(bar, new, old))
            case Relabel(argument, names):
                back = {n: a.name for n, a in zip(names, argument.axes, strict=True)}
                self.give(argument, build.add(Relabel(bar, tuple(back[a.name] for a in bar.axes))))
            case Sum(argument, _):
                self.give(argument, build.add(Spread(bar, argument.axes)))
            case SumTokens(argument):
                self.give(argument, bar)
            case Contract():
                self.contracted(op, bar)
            case Join(parts, inner, axis):
                self.joined(parts, inner, axis, bar)
            case Flatten(argument, inner_pair, axis):
                self.give(argument, build.add(Unflatten(bar, inner_pair, axis)))
            case ToRows(parts, space, axis):
                for number, part in enumerate(parts):
                    if part is not None and part in self.active:
                        self.give(part, build.add(FromRows(bar, space, number, axis)))
            case FromRows(argument, space, number, axis):
                rows = tuple(bar if i == number else None for i in range(len(space.parts)))
                self.give(argument, build.add(ToRows(rows, space, axis)))
            case Scan():
                self.scan(value, op, bar)
            case Loop(number=number):
                if number == 0:  # the last of its loop to be reached
                    self.loop(op)
            case Earlier(argument, _):
                self.before[argument] = bar
            case Final(argument, _):
                self.last[argument] = bar
            case _:
                self.gated(value, op, bar)

    def unreached(self, value: Value, op: Op) -> None:
        """The rule of a node whose own cotangent is 0, of what else was found for it."""
        match op:
            case Decay() | DecayMatrix():
                self.exponential(value, op, None)
            case Argument():
                self.listed(value)
            case Scan():
                self.scan(value, op, self.nothing(value))
            case Loop(number=number):
                if number == 0:
                    self.loop(op)

    def adjoint(self, body: Program) -> Program:
        """The adjoint of a loop's body."""
        return differentiate(body)

    def gated(self, value: Value, op: Op, bar: Value) -> None:
        """The rules of the primitives."""
        build = self.build
        match op:
            case GateSums(gates, space):
                self.give(gates, build.add(GateSumsAdjoint(bar, space)))
            case At(sums, gates, space, where):
                self.give(sums, build.add(AtAdjoint(bar, gates, space, where)))
            case Decay() | DecayMatrix():
                self.exponential(value, op, bar)
            case DecayDot(left, right, upper, lower, mask):
                left_bar = build.add(DecayApply(bar, right, upper, lower, mask, False))
                right_bar = build.add(DecayApply(bar, left, upper, lower, mask, True))
                self.give(left, left_bar)
                self.give(right, right_bar)
                self.give(upper, build.apply("mul", left, left_bar))
                self.give(lower, build.apply("neg", build.apply("mul", right, right_bar)))
            case DecayApply(weights, vectors, upper, lower, mask, False):
                vectors_bar = build.add(DecayApply(weights, bar, upper, lower, mask, True))
                self.give(weights, build.add(DecayDot(bar, vectors, upper, lower, mask)))
                self.give(vectors, vectors_bar)
                self.give(upper, build.apply("mul", bar, value))
                self.give(lower, build.apply("neg", build.apply("mul", vectors, vectors_bar)))
            case Solve(matrix, right, transposed):
                right_bar = build.add(Solve(matrix, bar, not transposed), "Z_bar")
                self.give(right, right_bar)
                rows = matrix.axes[0].name
                primed = build.rename(value, rows, rows + "'")
                self.give(matrix, build.contract(right_bar, primed, value.axes[1], "N_bar"))
            case SumTokens() | Cut() | Unflatten() | GateSumsAdjoint() | AtAdjoint() | DecayApply() | Inverse():
                raise TypeError(f"{type(op).__name__} occurs in adjoint programs only")
            case Later() | First():
                raise TypeError(f"{type(op).__name__} occurs in adjoint programs only")
            case _:
                raise TypeError(f"no rule for {type(op).__name__}")

    def listed(self, value: Value) -> None:
        """A list input used element by element: its gradient from theirs."""
        elements = self.elements.pop(value, None)
        if elements is None:
            return
        build, items = self.build, value.axes[0]
        one = Axis("s99", Size.of(1))  # sums of a spec do not nest so deep
        zero = build.add(Spread(build.number(0), value.axes[1:]), axes=value.axes[1:], level=value.level)
        count = items.size.constant
        last = max(elements) + 1
        parts = [build.over(elements.get(i, zero), one) for i in range(last)]
        inner = [one] * last
        if count is None or count > last:
            rest = Axis("s98", items.size - Size.of(last))
            parts.append(build.add(Spread(build.number(0), (rest, *value.axes[1:])), level=value.level))
            inner.append(rest)
        self.give(value, build.add(Join(tuple(parts), tuple(inner), items), axes=value.axes))

    def elementwise(self, value: Value, op: Apply, bar: Value) -> None:
        """The chain rule; a product with an exponential gives the exponent its cotangent times the product."""
        build = self.build
        for number, argument in enumerate(op.arguments):
            if argument not in self.active:
                continue
            whole = argument.axes == value.axes and isinstance(build.op(argument), (Decay, DecayMatrix))
            if op.function == "mul" and whole:
                self.give_log(argument, build.apply("mul", bar, value))
                continue
            slope = self.slope(op, number)
            if slope is not None:
                self.give(argument, build.apply("mul", slope, bar))

    def slope(self, op: Apply, number: int) -> Value | None:
        """The partial derivative as a value; None where it is 0."""
        value = self.lowered(op.function, number, *op.arguments)
        return None if self.build.op(value) == Literal(Fraction(0)) else value

    def lowered(self, function: str, number: int, *arguments: Value) -> Value:
        """The partial derivative of a function in one of its arguments."""

        def load(t: Term) -> Value:
            assert isinstance(t, Load)
            return arguments[int(t.name)]

        return self.build.lower(partial(function, number, len(arguments)), load)

    def exponential(self, value: Value, op: Decay | DecayMatrix, bar: Value | None) -> None:
        """exp(upper - lower): the exponents' cotangents."""
        build = self.build
        parts = self.logs.pop(value, [])
        if bar is not None:
            parts.append(build.apply("mul", bar, value))
        exponent = self.summed(parts)
        match op:
            case Decay(upper, lower):
                self.give(upper, exponent)
                if lower is not None:
                    self.give(lower, build.apply("neg", self.reduced(exponent, lower)))
            case DecayMatrix(rows, columns, mask):
                self.give(rows, exponent)
                primed = mask.columns.axis.name + "'"
                over = build.total(exponent, [a for a in exponent.axes if a.name != primed])
                self.give(columns, build.apply("neg", build.rename(over, primed, mask.columns.axis.name)))
            case _:
                assert_never(op)

    def contracted(self, op: Contract, bar: Value) -> None:
        """A product's cotangents are products, their axes in the operand's order."""
        for one, other in ((op.left, op.right), (op.right, op.left)):
            if one not in self.active:
                continue
            shared = [a for a in other.axes if a != op.axis]
            if not shared:
                self.give(one, self.build.apply("mul", bar, other))
                continue
            assert len(shared) == 1
            pair = (other, bar) if one.axes[0] == op.axis else (bar, other)
            self.give(one, self.build.contract(*pair, shared[0]))

    def joined(self, parts: tuple[Value, ...], inner: tuple[Axis, ...], axis: Axis, bar: Value) -> None:
        start = Size.of(0)
        for part, own in zip(parts, inner, strict=True):
            self.give(part, self.build.add(Cut(bar, axis, start, own)))
            start = start + own.size
