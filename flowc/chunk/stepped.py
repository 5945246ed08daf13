"""States that are taken from token to token: programs of one token.

In: a recurrence that is `stepped`. Out: for torch operators a `Carry` for every state of a `Loop`, whose program has
what its states need of a token as arguments: numbers and vectors are made for all tokens at once, matrices only where
they are inputs, so that nothing of the state's size is made per token but the states. For kernels `token_program`: all
of a token, from inputs to outputs. Refuses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce

from flowc.algebra import term as terms
from flowc.algebra.recurrence import Recurrence, Stepped
from flowc.algebra.term import Apply, Axis, Load, ScanValue, Term, Total, axes_of, reads_state
from flowc.chunk.builder import Builder, ordered
from flowc.chunk.inputs import loaded, renamed, result
from flowc.chunk.ir import Argument, Final, Loop, Spread
from flowc.chunk.program import Carry, Program
from flowc.chunk.values import Level, Value
from flowc.semantics.model import Input, State

Lower = Callable[[Term], Value]


def stepped(build: Builder, found: Stepped, lower: Lower) -> dict[str, Carry]:
    """What every state carries on; `lower` makes a term without states for all tokens."""
    starts = tuple(build.argument(s.name, "carry", axes_of_state(s), Level.TOKEN) for s in found.states)
    body = _LoopBody(found, lower)
    program = body.build.program({}, body.carries())
    loops = [Loop(program, tuple(body.given), starts, number) for number in range(len(starts))]
    values = [build.add(op, s.name) for op, s in zip(loops, found.states, strict=True)]
    return {
        s.name: Carry(s.name, start, build.add(Final(value, start), f"{s.name}_next"), True)
        for s, start, value in zip(found.states, starts, values, strict=True)
    }


def token_program(recurrence: Recurrence) -> Program:
    """One token of a recurrence that is `stepped`: of its inputs and states the outputs and the next states."""
    assert recurrence.stepped is not None
    body = _TokenBody(recurrence.stepped, recurrence.model.inputs)
    carries = {c.name: c for c in body.carries()}
    results = {r.name: result(body.build, body.lower(r.value), r.shape, r.name) for r in recurrence.results}
    return body.build.program(results, tuple(carries[s.name] for s in recurrence.model.states))


def axes_of_state(state: State) -> tuple[Axis, ...]:
    """A state's axes, as those of a value per token."""
    return tuple(Axis(n, size) for n, size in zip(("x", "x2"), state.shape.sizes, strict=False))


class _Body(ABC):
    """What happens at one token."""

    def __init__(self, found: Stepped) -> None:
        self.found = found
        self.build = Builder()
        self.before = {
            s.name: self.build.argument(s.name, "carry", axes_of_state(s), Level.TOKEN) for s in found.states
        }
        self.after: dict[str, Value] = {}

    @abstractmethod
    def leaf(self, term: Term) -> Value | None:
        """What is not made of its parts."""

    def carries(self) -> tuple[Carry, ...]:
        """Every state before the token and after it."""
        for state, term in self.found.assigned:
            value = self.build.over(self.lower(term), *axes_of_state(state))
            if value.level is Level.HEAD:  # of params alone: every token has it
                value = self.build.add(Spread(value, value.axes), state.name, level=Level.TOKEN)
            self.after[state.name] = self.build.named(value, f"{state.name}_next")
        return tuple(Carry(name, before, self.after[name], True) for name, before in self.before.items())

    def lower(self, term: Term) -> Value:
        """A term of one token."""
        leaf = self.leaf(term)
        if leaf is not None:
            return leaf
        match term:
            case ScanValue(name, previous, axes):
                return renamed(self.build, self.before[name] if previous else self.after[name], axes)
            case Apply(function, arguments):
                return self.build.apply(function, *(self.lower(a) for a in arguments))
            case Total(argument, axis):
                return self.total(argument, axis)
            case _:
                return self.build.lower(term, self.lower)

    def total(self, term: Term, axis: Axis) -> Value:
        """A sum over an axis: a product of matrices where its factors share no other axis."""
        turned = _state_first(term, axis)
        if turned is not None:
            return self.lower(turned)
        groups: list[list[Value]] = []
        outside: list[Value] = []
        for value in (self.lower(f) for f in _factors(term)):
            if axis not in value.axes:
                outside.append(value)
                continue
            own = {a for a in value.axes if a != axis}
            met = [g for g in groups if own & {a for v in g for a in v.axes}]
            groups = [g for g in groups if g not in met] + [[v for g in met for v in g] + [value]]
        made = [reduce(lambda x, y: self.build.apply("mul", x, y), g) for g in groups]
        made.sort(key=lambda v: len(v.axes), reverse=True)
        total = self.contracted(made, axis)
        return reduce(lambda x, y: self.build.apply("mul", x, y), outside, total)

    def contracted(self, factors: Sequence[Value], axis: Axis) -> Value:
        """The sum over an axis of factors that share no other."""
        build = self.build
        matrices = [v for v in factors if len(v.axes) > 1]
        vectors = [v for v in factors if len(v.axes) == 1]
        if len(matrices) > 1:
            matrices[0] = reduce(lambda x, y: build.apply("mul", x, y), (matrices[0], *vectors))
            vectors = []
        vector = reduce(lambda x, y: build.apply("mul", x, y), vectors) if vectors else None
        pair = [*matrices, *([] if vector is None else [vector])]
        if len(pair) != 2 or any(len(v.axes) > 2 for v in pair):
            whole = reduce(lambda x, y: build.apply("mul", x, y), pair)
            return build.total(whole, (axis,))
        left, right = pair
        rest = tuple(a for v in (left, right) for a in v.axes if a != axis)
        if rest != ordered(rest):
            left, right = right, left
        return build.contract(left, right, axis)


class _LoopBody(_Body):
    """What happens to the states; what holds none is made beforehand."""

    def __init__(self, found: Stepped, lower: Lower) -> None:
        super().__init__(found)
        self.lower_outside = lower
        self.given: dict[Value, str] = {}  # what is made beforehand, and what the program calls it

    def leaf(self, term: Term) -> Value | None:
        """What holds no state; of matrices, inputs."""
        if reads_state(term) or (len(axes_of(term)) > 1 and not isinstance(term, Load)):
            return None
        if isinstance(term, terms.Constant | terms.SizeValue):
            return self.build.lower(term, self.lower)
        outside = self.lower_outside(term)
        name = self.given.setdefault(outside, f"given{len(self.given)}")
        role = "param" if outside.level is Level.HEAD else "input"
        return self.build.add(Argument(name, role), outside.name, outside.axes, outside.level)


class _TokenBody(_Body):
    """All that happens."""

    def __init__(self, found: Stepped, inputs: Sequence[Input]) -> None:
        super().__init__(found)
        self.inputs = {i.name: i for i in inputs}

    def leaf(self, term: Term) -> Value | None:
        """An input."""
        return loaded(self.build, self.inputs[term.name], term.index, term.axes) if isinstance(term, Load) else None


def _state_first(term: Term, axis: Axis) -> Total | None:
    """The sum over an axis of (A B^T) S as A (B^T S), if it is one, so that no matrix of rows by rows is made."""
    factors = _factors(term)
    state = [f for f in factors if reads_state(f) and axis in axes_of(f)]
    for made in factors:
        if not (state and isinstance(made, Total) and not reads_state(made) and axis in axes_of(made)):
            continue
        inner = _factors(made.argument)
        own, left = ([f for f in inner if (axis in axes_of(f)) == has] for has in (True, False))
        if own and left:
            others = [f for f in factors if f is not made]
            near = [*own, *(f for f in others if axis in axes_of(f))]
            far = [*left, *(f for f in others if axis not in axes_of(f))]
            return Total(_product([*far, Total(_product(near), axis)]), made.axis)
    return None


def _product(factors: Sequence[Term]) -> Term:
    return reduce(lambda x, y: Apply("mul", (x, y)), factors)


def _factors(term: Term) -> list[Term]:
    """What a term is the product of."""
    match term:
        case Apply("mul", (left, right)):
            return [*_factors(left), *_factors(right)]
        case _:
            return [term]
