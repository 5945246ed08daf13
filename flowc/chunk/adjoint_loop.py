"""The adjoint of a `Loop`: a loop from the last token to the first, of the adjoint of its body.

In: a loop and its states of all tokens, the cotangents of those and of what each token begins with, the adjoint of the
loop's body. Out: the cotangents of what the loop was given, for all tokens at once, and of what it starts with. Refuses
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flowc.chunk.builder import Builder
from flowc.chunk.ir import Argument, Earlier, First, Later, Loop, operands
from flowc.chunk.program import Carry, Program
from flowc.chunk.rewrite import replaced
from flowc.chunk.values import Level, Value

Known = Mapping[tuple[str, str], Value]


@dataclass(frozen=True, slots=True)
class Bars:
    """Cotangents: of states that every token leaves and begins with (None: none), and of those that the last leaves."""

    left: tuple[Value, ...]
    begun: tuple[Value | None, ...]
    ends: tuple[Value, ...]


def backward(
    build: Builder, loop: Loop, states: Sequence[Value], bars: Bars, adjoint: Program
) -> tuple[list[tuple[Value, Value]], list[Value]]:
    """Pairs of a given value and its cotangent; the cotangents of the states that the loop starts with."""
    befores = [build.add(Earlier(z, start)) for z, start in zip(states, loop.starts, strict=True)]
    program, given = _reverse(loop, befores, bars, adjoint)
    names = [c.name for c in loop.body.carries]
    reached = [
        build.add(Loop(program, given, bars.ends, number, reverse=True), f"{name}_reached")
        for number, name in enumerate(names)
    ]
    totals = [
        build.apply("add", left, build.add(Later(r, end)))
        for left, r, end in zip(bars.left, reached, bars.ends, strict=True)
    ]
    known = _named(loop.given) | _states(adjoint, names, befores, totals)
    found = inlined(build, adjoint, known, [value for _, value in adjoint.results])
    numbers = [int(name.removeprefix("given")) for name, _ in adjoint.results]
    pairs = [(loop.given[n], bar) for n, bar in zip(numbers, found, strict=True)]
    return pairs, [build.add(First(r, end)) for r, end in zip(reached, bars.ends, strict=True)]


def _reverse(loop: Loop, befores: Sequence[Value], bars: Bars, adjoint: Program) -> tuple[Program, tuple[Value, ...]]:
    """One token: what reaches its beginning, of what reaches the next one's; and what it is given."""
    build = Builder()
    given: list[Value] = []

    def argument(value: Value) -> Value:
        given.append(value)
        ((key, _),) = _named([value], len(given) - 1).items()
        return build.add(Argument(key[1], key[0]), value.name, value.axes, value.level)

    names = [c.name for c in loop.body.carries]
    known = {key: argument(value) for key, value in _named(loop.given).items()}
    own = [argument(before) for before in befores]
    later = [build.argument(n, "carry", s.axes, Level.TOKEN) for n, s in zip(names, loop.starts, strict=True)]
    totals = [build.apply("add", argument(left), r) for left, r in zip(bars.left, later, strict=True)]
    known |= _states(adjoint, names, own, totals)
    reached = inlined(build, adjoint, known, [c.after for c in adjoint.carries])
    after = [
        r if begun is None else build.apply("add", r, argument(begun))
        for r, begun in zip(reached, bars.begun, strict=True)
    ]
    carries = (Carry(name, r, build.over(a, *r.axes), True) for name, r, a in zip(names, later, after, strict=True))
    return build.program({}, tuple(carries)), tuple(given)


def _named(given: Iterable[Value], first: int = 0) -> dict[tuple[str, str], Value]:
    """What a loop is given, as its body's arguments."""
    return {
        ("param" if value.level is Level.HEAD else "input", f"given{number}"): value
        for number, value in enumerate(given, first)
    }


def _states(
    adjoint: Program, names: Sequence[str], befores: Sequence[Value], totals: Sequence[Value]
) -> dict[tuple[str, str], Value]:
    """The states and their cotangents, as an adjoint's arguments."""
    known = {("carry", name): before for name, before in zip(names, befores, strict=True)}
    for carry, total in zip(adjoint.carries, totals, strict=True):
        op = adjoint.defined[carry.before]
        assert isinstance(op, Argument)
        known[op.role, op.name] = total
    return known


def inlined(build: Builder, program: Program, known: Known, wanted: Sequence[Value]) -> list[Value]:
    """Values of a program, its nodes added to another's; `known` are its arguments by role and name."""
    moved: dict[Value, Value] = {}
    needed = set(wanted)
    for node in reversed(program.nodes):
        if node.value in needed:
            needed.update(operands(node.op))
    for node in (n for n in program.nodes if n.value in needed):
        if isinstance(node.op, Argument):
            moved[node.value] = known[node.op.role, node.op.name]
        else:
            moved[node.value] = build.add(replaced(node.op, moved), node.value.name, node.value.axes, node.value.level)
    return [moved[v] for v in wanted]
