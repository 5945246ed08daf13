"""Every stage of a compilation as readable text: what `flowc compile --emit` prints.

In: a `Compilation`. Out: text. A spec prints in its one canonical spelling; a model as declarations and statements with
every shape resolved and every operator's operands in parentheses. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from flowc.compiler import Compilation, Stage
from flowc.report.kernels import triton_plan
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    HeadNumber,
    Input,
    InputRef,
    Let,
    LetRef,
    LoopNumber,
    Model,
    Negate,
    Number,
    Output,
    Repeat,
    SizeNumber,
    Statement,
    StateRef,
    Transpose,
    Update,
)
from flowc.syntax.printer import canonical


def stage_text(compilation: Compilation, stage: Stage) -> str:
    """What `stage` made, without a newline at its end."""
    match stage:
        case Stage.SPEC:
            return canonical(compilation.spec).rstrip("\n")
        case Stage.MODEL:
            return model_text(compilation.model)
        case Stage.RECURRENCE | Stage.CHUNK:
            return str(compilation.stage(stage))
        case Stage.PLAN:
            return f"{compilation.plan}\n{triton_plan(compilation.plan)}"
        case Stage.MODULE:
            return compilation.artifact.source.rstrip("\n")
        case _:
            assert_never(stage)


def model_text(model: Model) -> str:
    """A line per declaration and statement."""
    sizes = ", ".join(d.name if d.value is None else f"{d.name} = {d.value}" for d in model.dimensions)
    states = [f"  state {s.name} : {s.shape} = {s.start:g}" for s in model.states]
    lines = [f"model {model.name}({sizes})", *map(_input, model.inputs), *states]
    return "\n".join([*lines, *_statements(model.statements, "  ")])


def _input(i: Input) -> str:
    kind = "param" if i.is_param else "input"
    if i.range is None:
        return f"  {kind} {i.name} : {i.shape}"
    low = "-inf" if i.range.low is None else str(i.range.low)
    high = "inf" if i.range.high is None else str(i.range.high)
    opening = "(" if i.range.low_open or i.range.low is None else "["
    closing = ")" if i.range.high_open or i.range.high is None else "]"
    return f"  {kind} {i.name} : {i.shape} in {opening}{low}, {high}{closing}"


def _statements(statements: tuple[Statement, ...], indent: str) -> Iterator[str]:
    for statement in statements:
        match statement:
            case Let(name, value):
                yield f"{indent}let {name} : {value.shape} = {_expr(value)}"
            case Update(state, value):
                yield f"{indent}update {state} : {value.shape} = {_expr(value)}"
            case Output(name, value):
                yield f"{indent}output {name} : {value.shape} = {_expr(value)}"
            case Repeat(index, count, body):
                yield f"{indent}repeat {index} in {count}:"
                yield from _statements(body, indent + "    ")
            case _:
                assert_never(statement)


def _expr(expr: Expr) -> str:
    match expr:
        case Number(value):
            return str(value)
        case SizeNumber(size):
            return f"size({size})"
        case HeadNumber(count):
            return "heads" if count else "head"
        case InputRef(name, index, previous):
            return name + ("" if index is None else f"[{index}]") + ("[t-1]" if previous else "")
        case StateRef(name, previous):
            return f"{name}[t-1]" if previous else f"{name}[t]"
        case LetRef(name) | LoopNumber(name):
            return str(name)
        case Negate(argument):
            return f"-{_operand(argument)}"
        case Transpose(argument):
            return f"{_operand(argument)}.T"
        case Binary(op, left, right):
            return f"{_operand(left)} {op} {_operand(right)}"
        case Call(function, arguments, eps):
            shown = [_expr(argument) for argument in arguments] or [str(expr.shape)]
            return f"{function}({', '.join(shown + ([f'eps={eps}'] if eps is not None else []))})"
        case _:
            assert_never(expr)


def _operand(expr: Expr) -> str:
    return f"({_expr(expr)})" if isinstance(expr, Binary | Negate) else _expr(expr)
