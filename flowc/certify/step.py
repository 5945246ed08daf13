"""One head of a Model, token by token, over a certificate's numbers, with gradients in reverse mode.

In: a checked `Model`, before any normal form, and a `Draw`. Out: `StepResults`: outputs, final states and the gradient
of every input, param and state, exact in the field. It shares no code with algebra, chunk, schedule or emit; what it
shares with the chunk program's side is the arithmetic and the values of elementwise functions. Draws a token again
whose numbers have no value. Refuses, as `Uncertified`, what never has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, assert_never

import numpy as np

from flowc.certify.draw import Draw
from flowc.certify.field import Entries
from flowc.certify.number import Number, Redraw, Uncertified
from flowc.certify.tape import Tape, Traced
from flowc.certify.vectors import VECTORS, constant
from flowc.semantics.functions import EPS
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    HeadNumber,
    InputRef,
    Kind,
    Let,
    LetRef,
    LoopNumber,
    Negate,
    Output,
    Repeat,
    Shape,
    SizeNumber,
    Statement,
    StateRef,
    Transpose,
    Update,
)
from flowc.semantics.model import Number as Literal
from flowc.semantics.walk import flat

FIRST_DRAWS = 16  # of a head's first token before its params are drawn again, which may be why it has no value
TOKEN_DRAWS = 256
HEAD_DRAWS = 32

OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "<": "lt", "<=": "le"}
SWAPPED = {">": "lt", ">=": "le"}


@dataclass(frozen=True, slots=True)
class StepResults:
    """Values by name: outputs [T, H, *shape], final states [H, *shape], gradients as what they belong to."""

    outputs: dict[str, Entries]
    final: dict[str, Entries]
    gradients: dict[str, Entries]
    start_gradients: dict[str, Entries]


Cotangents = tuple[dict[str, Entries], dict[str, Entries]]


def run(draw: Draw, cotangents: Cotangents) -> StepResults:
    """Run the model of a draw; `cotangents` are those of outputs and of final states."""
    heads = [head_of(draw, head) for head in range(draw.sizes.heads)]
    for number, head in enumerate(heads):
        outs, ends = cotangents
        seeds = [(x, _matrix(outs[n][t, number], x)) for n, xs in head.outputs.items() for t, x in enumerate(xs)]
        seeds += [(x, _matrix(ends[n][number], x)) for n, x in head.states.items()]
        head.tape.gradients(seeds)
    tokens, params = {}, {}
    for i in draw.model.inputs:
        at = [h.inputs[i.name] for h in heads]
        if i.is_param:
            params[i.name] = _stacked([_bar(h[0]) for h in at], draw.inputs[i.name].shape)
        else:
            rows = [_bar(h[t]) for t in range(draw.sizes.length) for h in at]
            tokens[i.name] = _stacked(rows, draw.inputs[i.name].shape)
    starts = {n: _stacked([_bar(h.start[n]) for h in heads], s.shape) for n, s in draw.start.items()}
    outputs = {
        n: _stacked([h.outputs[n][t].number.value for t in range(draw.sizes.length) for h in heads], outs[n].shape)
        for n in outs
    }
    final = {n: _stacked([h.states[n].number.value for h in heads], s.shape) for n, s in draw.start.items()}
    return StepResults(outputs, final, {**tokens, **params}, starts)


def output_shapes(draw: Draw) -> dict[str, tuple[int, ...]]:
    """The shape of every output, heads and tokens first."""
    s = draw.sizes
    found = (x for x in flat(draw.model.statements) if isinstance(x, Output))
    return {o.name: (s.length, s.heads, *(n.value(s.bound) for n in o.value.shape.sizes)) for o in found}


@dataclass
class Head:
    """What a head computed; inputs are a value per token, a list of one for a param."""

    tape: Tape
    inputs: dict[str, list[Traced]]
    outputs: dict[str, list[Traced]]
    start: dict[str, Traced]
    states: dict[str, Traced]


def head_of(draw: Draw, head: int) -> Head:
    """Run one head, from other params and states where no token has a value on the first."""
    for _ in range(HEAD_DRAWS):
        run_ = _started(draw, head)
        try:
            for t in range(draw.sizes.length):
                _token(draw, run_, head, t)
        except Redraw as redraw:
            reason = str(redraw)
            draw.again(head, None)
            continue
        return run_
    raise Uncertified(f"it has no exact form: every draw met {reason}")


def _started(draw: Draw, head: int) -> Head:
    tape = Tape()

    def leaf(number: Number) -> Traced:
        return tape.leaf(
            number.moved(lambda x: x[head].copy() if x.ndim > 1 else x[head : head + 1].reshape(()).copy())
        )

    params = {i.name: [leaf(draw.inputs[i.name])] for i in draw.model.inputs if i.is_param}
    series: dict[str, list[Traced]] = {i.name: [] for i in draw.model.inputs if not i.is_param}
    start = {n: leaf(number if n in draw.scanned else number.hidden()) for n, number in draw.start.items()}
    outputs: dict[str, list[Traced]] = {name: [] for name in output_shapes(draw)}
    shapes = {state.name: state.shape for state in draw.model.states}
    states = {name: _as_matrix(tape, x, shapes[name]) for name, x in start.items()}
    return Head(tape, {**series, **params}, outputs, start, states)


def _token(draw: Draw, run_: Head, head: int, t: int) -> None:
    """Run a token, on other numbers where the first have no value."""
    mark, reason = len(run_.tape.made), Redraw()
    series = [i.name for i in draw.model.inputs if not i.is_param]
    for _ in range(TOKEN_DRAWS if t else FIRST_DRAWS):
        for name in series:
            number = draw.inputs[name].moved(lambda x: x[t, head : head + 1].reshape(x.shape[2:]).copy())
            run_.inputs[name].append(run_.tape.leaf(number))
        run_.tape.chancy.clear()
        frame = _Frame(draw, run_, head, dict(run_.states), {}, {}, {})
        try:
            frame.run(draw.model.statements)
        except Redraw as redraw:
            reason = redraw
            again = _to_draw(run_, series, redraw)
            del run_.tape.made[mark:]
            for name in series:
                run_.inputs[name].pop()
            draw.again(head, t, again)
            continue
        run_.states = frame.states
        for name, value in frame.outputs.items():
            run_.outputs[name].append(value)
        return
    raise reason


def _to_draw(run_: Head, series: list[str], redraw: Redraw) -> set[str]:
    """The inputs that a value without a draw depends on, without those that others depend on which have one.

    All inputs at once would need a draw that is lucky for all roots of a token. Two may want the same input: with
    nothing left all of the failing one's are drawn, and all of the token's where it depends on none of them.
    """
    here = {name: run_.inputs[name][-1] for name in series}
    failing, settled = run_.tape.behind(redraw.of), run_.tape.behind(run_.tape.chancy)
    wanted = {name for name, x in here.items() if x in failing}
    return {name for name in wanted if here[name] not in settled} or wanted or set(here)


@dataclass
class _Frame:
    """The names visible within one token. Every value is `[rows, cols]`."""

    draw: Draw
    run_: Head
    head: int
    states: dict[str, Traced]
    lets: dict[str, Traced]
    outputs: dict[str, Traced]
    loops: dict[str, int]

    def run(self, statements: Iterable[Statement]) -> None:
        """Run statements from top to bottom."""
        for statement in statements:
            match statement:
                case Let():
                    self.lets[statement.name] = self.value(statement.value)
                case Update():
                    self.states[statement.state] = self.value(statement.value)
                case Output():
                    self.outputs[statement.name] = self.value(statement.value)
                case Repeat():
                    for r in range(statement.count.value(self.draw.sizes.bound)):
                        loops = {**self.loops, statement.index: r}
                        inner = _Frame(
                            self.draw, self.run_, self.head, self.states, dict(self.lets), self.outputs, loops
                        )
                        inner.run(statement.body)
                case _:
                    assert_never(statement)

    def value(self, expr: Expr) -> Traced:
        """The value of an expression."""
        match expr:
            case Literal():
                return self.number(expr.value)
            case SizeNumber():
                return self.number(expr.size.value(self.draw.sizes.bound))
            case HeadNumber():
                return self.number(self.draw.sizes.heads if expr.count else self.head)
            case LoopNumber():
                return self.number(self.loops[expr.name])
            case InputRef():
                return self.input(expr)
            case StateRef():
                return (self.run_.states if expr.previous else self.states)[expr.name]
            case LetRef():
                return self.lets[expr.name]
            case Negate():
                return self.run_.tape.apply("neg", self.value(expr.argument))
            case Transpose():
                return self.run_.tape.moved(self.value(expr.argument), np.transpose, np.transpose)
            case Binary():
                return self.binary(expr)
            case Call():
                return self.call(expr)
            case _:
                assert_never(expr)

    def number(self, value: Fraction | int) -> Traced:
        """A constant, `[1, 1]`."""
        return constant(self.run_.tape, self.draw.oracles, value)

    def input(self, expr: InputRef) -> Traced:
        """An input or param, one element of it where it is a list."""
        if expr.previous:
            raise Uncertified(f"{expr.name}[t-1] has no chunk program")
        held = self.run_.inputs[expr.name][-1]
        if expr.index is None:
            return _as_matrix(self.run_.tape, held, expr.shape)
        at = expr.index if isinstance(expr.index, int) else self.loops[expr.index]
        whole = held.number.shape

        def back(bar: Entries) -> Entries:
            full = np.zeros(whole, dtype=object)
            full[at] = bar
            return full

        one = self.run_.tape.moved(held, lambda x: np.asarray(x[at : at + 1].reshape(x.shape[1:])), back)
        return _as_matrix(self.run_.tape, one, expr.shape)

    def binary(self, expr: Binary) -> Traced:
        """An operator."""
        left, right = self.value(expr.left), self.value(expr.right)
        if expr.op == "@":
            return self.run_.tape.matmul(left, right)
        if expr.op in SWAPPED:
            return self.run_.tape.apply(SWAPPED[expr.op], right, left)
        return self.run_.tape.apply(OPERATORS[expr.op], left, right)

    def call(self, expr: Call) -> Traced:
        """A function of the language."""
        tape, bound = self.run_.tape, self.draw.sizes.bound
        if expr.function in ("identity", "ones", "zeros"):
            rows, cols = expr.shape.rows.value(bound), expr.shape.cols.value(bound)
            made = {"identity": np.eye(rows), "ones": np.ones((rows, cols)), "zeros": np.zeros((rows, cols))}
            return tape.leaf(Number.whole(self.draw.oracles, made[expr.function]))
        arguments = [self.value(a) for a in expr.arguments]
        if expr.function in ("l2norm", "rmsnorm"):
            arguments.append(self.number(EPS if expr.eps is None else expr.eps))
        if expr.function == "concat" and expr.shape.kind is Kind.ROW:
            raise Uncertified("concat of rows")
        function: Callable[..., Traced] | None = VECTORS.get(expr.function)
        return tape.apply(expr.function, *arguments) if function is None else function(tape, *arguments)


def _as_matrix(tape: Tape, held: Traced, shape: Shape) -> Traced:
    """`[*shape]` as `[rows, cols]`."""
    own = held.number.shape
    sizes = {Kind.SCALAR: (1, 1), Kind.COLUMN: (*own, 1), Kind.ROW: (1, *own), Kind.MATRIX: own}[shape.kind]
    return tape.moved(held, lambda x: x.reshape(sizes), lambda bar: bar.reshape(own))


def _matrix(bar: Any, x: Traced) -> Entries:
    return np.asarray(bar, dtype=object).reshape(x.number.shape)


def _bar(x: Traced) -> Entries:
    return np.zeros(x.number.shape, dtype=object) if x.bar is None else x.bar


def _stacked(rows: list[Entries], shape: tuple[int, ...]) -> Entries:
    return np.concatenate([row.reshape(-1) for row in rows]).reshape(shape)
