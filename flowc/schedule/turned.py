"""A program with the state's two sides exchanged: what is written in terms of S, in terms of its transpose.

In: a `Program`. Out: the same values with the axes `k` and `v` in each other's place, matrices over both transposed.
Kernels hold the state's rows whole and its columns in blocks, and take gates over rows alone; what reads or decays the
columns is for them a problem of the transposed state. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from flowc.algebra.recurrence import Memory
from flowc.algebra.side import Side
from flowc.algebra.term import Axis
from flowc.chunk.builder import Builder, infer_axes, ordered
from flowc.chunk.gate_logs import gate_logs
from flowc.chunk.ir import Contract, Op
from flowc.chunk.program import Program
from flowc.chunk.rewrite import replaced
from flowc.chunk.values import Value
from flowc.semantics.size import Size

ACROSS = {"k": "v", "v": "k"}


def is_turned(memory: Memory) -> bool:
    """Whether kernels see the transposed state: its columns are read, or they alone have gates of their own."""
    vectors = {side for side, gates in gate_logs(memory).items() if any(g.is_vector for g in gates)}
    return memory.side is Side.VALUE or vectors == {Side.VALUE}


def state_sizes(memory: Memory) -> tuple[Size, Size]:
    """The rows and the columns of the state as kernels see it."""
    sizes = memory.row.size, memory.column.size
    return sizes[::-1] if is_turned(memory) else sizes


def held_axis(memory: Memory) -> int:
    """The axis of a state [B, H, K, V] that kernels hold whole."""
    return 3 if is_turned(memory) else 2


def turned(program: Program) -> Program:
    """The program of the transposed state."""
    build = Builder()
    moved: dict[Value, Value] = {}
    for node in program.nodes:
        axes = _in_place(tuple(_across(a) for a in node.value.axes))
        op = _exchanged(replaced(node.op, moved))
        if isinstance(op, Contract) and infer_axes(op) != axes:
            op = replace(op, left=op.right, right=op.left)
        made = build.add(op, node.value.name, axes, node.value.level)
        moved[node.value] = build.named(made, node.value.name)
    results = {name: moved[value] for name, value in program.results}
    carries = tuple(replace(c, before=moved[c.before], after=moved[c.after]) for c in program.carries)
    return build.program(results, carries, program.adjoint)


def _across(axis: Axis) -> Axis:
    return replace(axis, name=ACROSS.get(axis.name, axis.name))


def _in_place(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Matrices of the state as they are stored; others stay as they are."""
    return ordered(axes) if ACROSS.keys() <= {a.name for a in axes} else axes


def _exchanged(op: Op) -> Op:
    """The operation with its own axes exchanged."""
    changes: dict[str, Any] = {}
    for field in fields(op):
        match getattr(op, field.name):
            case Axis() as axis:
                changes[field.name] = _across(axis)
            case tuple(parts) if parts and all(isinstance(a, Axis) for a in parts):
                changes[field.name] = _in_place(tuple(_across(a) for a in parts))
    return replace(op, **changes) if changes else op
