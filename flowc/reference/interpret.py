"""The oracle: runs a Model token by token in torch, exactly as the language page says.

In: a `Model`, its inputs by name (`[B, T, H, *shape]`, a param `[H, *shape]`) and, where wanted, its states at the
start (`[B, H, *shape]`). Out: outputs `[B, T, H, *shape]` and final states, all differentiable by autograd. It computes
in float64 where any tensor is float64, else in float32. It shares no code with algebra, chunk, schedule or emit.
Refuses, with ValueError, tensors that are missing, unknown or do not fit each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import assert_never

import torch
from torch import Tensor

from flowc.reference.functions import FUNCTIONS, NORMS, OPERATORS
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
    Model,
    Negate,
    Number,
    Output,
    Repeat,
    Shape,
    SizeNumber,
    Statement,
    StateRef,
    Transpose,
    Update,
)
from flowc.semantics.walk import flat, parts

Values = Mapping[str, Tensor]

DEFAULT_EPS = 1e-6


def run(
    model: Model, inputs: Values, initial: Values | None = None, cu_seqlens: Tensor | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run `model` over all tokens.

    Args:
        model: what to run.
        inputs: every input `[B, T, H, *shape]` and param `[H, *shape]` by name. An input may have fewer heads than the
            most that any has, if they divide those: head h then uses head `h // group`.
        initial: states `[B, H, *shape]` by name, the declared start for those left out. A model that
            uses `x[t-1]` of an input takes its last token under the name `x[t-1]`, zero if left out.
        cu_seqlens: offsets `[N + 1]` that pack N sequences along T, with B 1; states are then `[N, H, *shape]`.

    Returns:
        Outputs `[B, T, H, *shape]` and final states by name, `x[t-1]` of inputs among them.

    Raises:
        ValueError: a tensor that is missing, unknown or misshapen, offsets that do not rise from 0 to T.
    """
    run_ = _Run.bind(model, inputs, time=True)
    if cu_seqlens is not None:
        return _apart(run_, inputs, initial or {}, cu_seqlens)
    states = run_.start(initial)
    series = {i.name: i.shape for i in model.inputs if not i.is_param}
    tokens = {name: run_.tensors[name].unbind(1) for name in series}
    length = len(next(iter(tokens.values())))
    collected: dict[str, list[Tensor]] = {output.name: [] for output in outputs_of(model.statements)}
    for t in range(length):
        outputs, states = run_.token({name: steps[t] for name, steps in tokens.items()}, states)
        for name, value in outputs.items():
            collected[name].append(value)
    shapes = {output.name: output.value.shape for output in outputs_of(model.statements)}
    whole = {name: run_.stacked(values, shapes[name]) for name, values in collected.items()}
    return whole, states


def _apart(
    run_: _Run, inputs: Values, initial: Values, cu_seqlens: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run packed sequences one after another."""
    model = run_.model
    series = [i.name for i in model.inputs if not i.is_param]
    length = inputs[series[0]].shape[1]
    offsets: list[int] = cu_seqlens.tolist()
    rising = all(a <= b for a, b in pairwise(offsets))
    if run_.batch != 1 or offsets[:1] != [0] or offsets[-1] != length or not rising:
        raise ValueError(f"cu_seqlens is {offsets}; expected offsets from 0 to {length} that never fall, with batch 1")
    for name, value in initial.items():
        if len(value) != len(offsets) - 1:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {len(offsets) - 1} sequences first")
    none = {name: x[:, :0] if name in series else x for name, x in inputs.items()}
    outputs, states = run(model, none)
    outs, ends = {n: [x] for n, x in outputs.items()}, {n: [x[:0]] for n, x in states.items()}
    for n, (first, last) in enumerate(pairwise(offsets)):
        own = {name: x[:, first:last] if name in series else x for name, x in inputs.items()}
        outputs, states = run(model, own, {name: x[n : n + 1] for name, x in initial.items()})
        for name, x in outputs.items():
            outs[name].append(x)
        for name, x in states.items():
            ends[name].append(x)
    return {n: torch.cat(x, 1) for n, x in outs.items()}, {n: torch.cat(x) for n, x in ends.items()}


def step(model: Model, inputs: Values, states: Values | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run `model` over one token: `inputs` and outputs are as those of `run` without the time axis.

    `states` is what the previous step returned, or None at the start.

    Raises:
        ValueError: a tensor that is missing, unknown or misshapen.
    """
    run_ = _Run.bind(model, inputs, time=False)
    series = {i.name: run_.tensors[i.name] for i in model.inputs if not i.is_param}
    return run_.token(series, run_.start(states))


def carried(model: Model) -> dict[str, Shape]:
    """The tensors that one token hands to the next, by name: the states, then `x[t-1]` of inputs that are used so."""
    names = {state.name: state.shape for state in model.states}
    shifted = {ref.name for ref in _inputs_of(model) if ref.previous}
    return names | {f"{i.name}[t-1]": i.shape for i in model.inputs if i.name in shifted}


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: a model, its tensors in the dtype of the computation, and the sizes they bind."""

    model: Model
    tensors: dict[str, Tensor]
    sizes: dict[str, int]
    batch: int
    heads: int
    dtype: torch.dtype
    device: torch.device

    @staticmethod
    def bind(model: Model, inputs: Values, *, time: bool) -> _Run:
        """Check `inputs` against the declarations and find sizes, batch and heads."""
        names = [i.name for i in model.inputs]
        _same_names("input", names, inputs)
        series = [i.name for i in model.inputs if not i.is_param]
        if not series:
            raise ValueError(f"{model.name} has no input with a time axis")
        lead = 3 if time else 2
        for i in model.inputs:
            expected = (1 if i.is_param else lead) + len(i.shape.sizes)
            if inputs[i.name].dim() != expected:
                raise ValueError(f"{i.name} has shape {tuple(inputs[i.name].shape)}; expected {expected} axes")
        leads = {name: tuple(inputs[name].shape[: lead - 1]) for name in series}
        if len(set(leads.values())) > 1:
            raise ValueError(f"inputs differ in batch or length: {leads}")
        heads = max(inputs[name].shape[lead - 1] for name in series)
        double = any(value.dtype == torch.float64 for value in inputs.values())
        dtype = torch.float64 if double else torch.float32
        tensors = {
            i.name: _with_heads(i.name, inputs[i.name].to(dtype), 0 if i.is_param else lead - 1, heads)
            for i in model.inputs
        }
        sizes = _bind_sizes(model, tensors, lead)
        first = inputs[series[0]]
        return _Run(model, tensors, sizes, first.shape[0], heads, dtype, first.device)

    def start(self, initial: Values | None) -> dict[str, Tensor]:
        """The carried tensors before the first token, `[B, H, *shape]`."""
        given = dict(initial or {})
        shapes = carried(self.model)
        begin = {state.name: state.start for state in self.model.states}
        unknown = sorted(set(given) - set(shapes))
        if unknown:
            raise ValueError(f"unknown state {unknown[0]!r}; states: {', '.join(shapes)}")
        values = {}
        for name, shape in shapes.items():
            expected = (self.batch, self.heads, *(size.value(self.sizes) for size in shape.sizes))
            if name not in given:
                values[name] = torch.full(expected, begin.get(name, 0.0), dtype=self.dtype, device=self.device)
            elif tuple(given[name].shape) != expected:
                raise ValueError(f"state {name} has shape {tuple(given[name].shape)}; expected {expected}")
            else:
                values[name] = given[name].to(self.dtype)
        return values

    def token(self, inputs: Values, states: Values) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One token: inputs and states `[B, H, *shape]` to outputs and new states."""
        params = [i.name for i in self.model.inputs if i.is_param]
        now = {**{name: self.tensors[name].expand(self.batch, *self.tensors[name].shape) for name in params}, **inputs}
        shapes = {state.name: state.shape for state in self.model.states}
        old = {name: _matrix(states[name], shape) for name, shape in shapes.items()}
        frame = _Frame(self, now, states, old, dict(old), {}, {}, {})
        frame.run(self.model.statements)
        new = {name: self.plain(frame.states[name], shape) for name, shape in shapes.items()}
        shifted = {name: inputs[name.removesuffix("[t-1]")] for name in carried(self.model) if name not in shapes}
        outputs = {
            output.name: self.plain(frame.outputs[output.name], output.value.shape)
            for output in outputs_of(self.model.statements)
        }
        return outputs, new | shifted

    def plain(self, value: Tensor, shape: Shape) -> Tensor:
        """A `[B, H, rows, cols]` value as `[B, H, *shape]`."""
        trailing = [size.value(self.sizes) for size in shape.sizes]
        return value.to(self.dtype).reshape(self.batch, self.heads, *trailing)

    def stacked(self, values: list[Tensor], shape: Shape) -> Tensor:
        """Outputs of all tokens as `[B, T, H, *shape]`, also where there are none."""
        if values:
            return torch.stack(values, 1)
        trailing = [size.value(self.sizes) for size in shape.sizes]
        return torch.zeros(self.batch, 0, self.heads, *trailing, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The names visible within one token. Every value is `[B, H, rows, cols]`."""

    run_: _Run
    inputs: Values
    carried: Values
    old: dict[str, Tensor]
    states: dict[str, Tensor]
    lets: dict[str, Tensor]
    outputs: dict[str, Tensor]
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
                    for r in range(statement.count.value(self.run_.sizes)):
                        self.inner({**self.loops, statement.index: r}).run(statement.body)
                case _:
                    assert_never(statement)

    def inner(self, loops: dict[str, int]) -> _Frame:
        """A frame for one turn of a repeat: it shares the states, its lets are its own."""
        return _Frame(self.run_, self.inputs, self.carried, self.old, self.states, dict(self.lets), self.outputs, loops)

    def value(self, expr: Expr) -> Tensor:
        """The value of an expression, `[B, H, rows, cols]`."""
        match expr:
            case Number():
                return self.number(expr.value)
            case SizeNumber():
                return self.number(expr.size.value(self.run_.sizes))
            case HeadNumber():
                return self.head(expr)
            case LoopNumber():
                return self.number(self.loops[expr.name])
            case InputRef():
                return self.input(expr)
            case StateRef():
                return (self.old if expr.previous else self.states)[expr.name]
            case LetRef():
                return self.lets[expr.name]
            case Negate():
                return -self.value(expr.argument)
            case Transpose():
                return self.value(expr.argument).mT
            case Binary():
                return OPERATORS[expr.op](self.value(expr.left), self.value(expr.right))
            case Call():
                return self.call(expr)
            case _:
                assert_never(expr)

    def constant(self, value: Tensor) -> Tensor:
        """A value that does not vary over batch: `[H or 1, rows, cols]` spread to `[B, H, rows, cols]`."""
        return value.expand(self.run_.batch, self.run_.heads, *value.shape[-2:])

    def number(self, value: Fraction | int) -> Tensor:
        """A number in every batch entry and head."""
        return self.filled(float(value), 1, 1)

    def filled(self, value: float, rows: int, cols: int) -> Tensor:
        """A matrix of one value."""
        return self.constant(torch.full((1, rows, cols), value, dtype=self.run_.dtype, device=self.run_.device))

    def head(self, expr: HeadNumber) -> Tensor:
        """`heads`, or `head` of every head."""
        if expr.count:
            return self.number(self.run_.heads)
        heads = torch.arange(self.run_.heads, dtype=self.run_.dtype, device=self.run_.device)
        return self.constant(heads[:, None, None])

    def input(self, expr: InputRef) -> Tensor:
        """An input or a param of this token or the one before, one element of it where it is a list."""
        held = self.carried[f"{expr.name}[t-1]"] if expr.previous else self.inputs[expr.name]
        match expr.index:
            case None:
                return _matrix(held, expr.shape)
            case int():
                return _matrix(held[:, :, expr.index], expr.shape)
            case str():
                return _matrix(held[:, :, self.loops[expr.index]], expr.shape)
            case _:
                assert_never(expr.index)

    def call(self, expr: Call) -> Tensor:
        """A function of `semantics.functions`."""
        sizes = self.run_.sizes
        match expr.function:
            case "identity":
                eye = torch.eye(expr.shape.rows.value(sizes), dtype=self.run_.dtype, device=self.run_.device)
                return self.constant(eye[None])
            case "ones" | "zeros":
                fill = 1.0 if expr.function == "ones" else 0.0
                return self.filled(fill, expr.shape.rows.value(sizes), expr.shape.cols.value(sizes))
            case "l2norm" | "rmsnorm":
                eps = DEFAULT_EPS if expr.eps is None else float(expr.eps)
                return NORMS[expr.function](self.value(expr.arguments[0]), eps)
            case "concat":
                axis = -1 if expr.shape.kind is Kind.ROW else -2
                return torch.cat([self.value(argument) for argument in expr.arguments], axis)
            case _:
                return FUNCTIONS[expr.function](*map(self.value, expr.arguments))


# -- shapes and names -------------------------------------------------------------------------------------------------


def _matrix(value: Tensor, shape: Shape) -> Tensor:
    """`[.., *shape]` as `[.., rows, cols]`."""
    match shape.kind:
        case Kind.SCALAR:
            return value[..., None, None]
        case Kind.COLUMN:
            return value[..., :, None]
        case Kind.ROW:
            return value[..., None, :]
        case Kind.MATRIX:
            return value
        case _:
            assert_never(shape.kind)


def _with_heads(name: str, value: Tensor, axis: int, heads: int) -> Tensor:
    """`value` with as many heads as the values have: head h is its head `h // group`."""
    own = value.shape[axis]
    if own == heads:
        return value
    if axis == 0 or own == 0 or heads % own:
        raise ValueError(f"{name} has {own} heads, which do not divide the {heads} of the values")
    return value.repeat_interleave(heads // own, axis)


def _bind_sizes(model: Model, tensors: Values, lead: int) -> dict[str, int]:
    """The size of every dimension, from the header and the tensors; every other axis is then checked."""
    sizes = {dimension.name: dimension.value for dimension in model.dimensions if dimension.value is not None}
    axes = [
        (i.name, size, tensors[i.name].shape[(1 if i.is_param else lead) + axis])
        for i in model.inputs
        for axis, size in enumerate(i.shape.sizes)
    ]
    for _, size, actual in axes:
        if size.symbol is not None:
            sizes.setdefault(size.symbol, actual)
    for name, size, actual in axes:
        missing = sorted(size.names - set(sizes))
        if missing:
            raise ValueError(f"{name} does not tell the size of {missing[0]}")
        if size.value(sizes) != actual:
            raise ValueError(f"{name} has {actual} entries along {size}; expected {size.value(sizes)}")
    return sizes


def _same_names(what: str, names: list[str], given: Values) -> None:
    missing = [name for name in names if name not in given]
    unknown = sorted(set(given) - set(names))
    if missing:
        raise ValueError(f"missing {what} {missing[0]!r}")
    if unknown:
        raise ValueError(f"unknown {what} {unknown[0]!r}; declared: {', '.join(names)}")


def outputs_of(statements: Iterable[Statement]) -> tuple[Output, ...]:
    """The output statements; none stands inside a repeat."""
    return tuple(statement for statement in statements if isinstance(statement, Output))


def _inputs_of(model: Model) -> tuple[InputRef, ...]:
    """Every reference to an input or a param."""
    values = (statement.value for statement in flat(model.statements))
    return tuple(part for value in values for part in parts(value) if isinstance(part, InputRef))
