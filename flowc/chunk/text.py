"""Chunk programs as readable text.

In: a `Program`. Out: one line per node. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import fields

from flowc.algebra.term import Axis
from flowc.chunk.ir import Apply, Mask, Op, Program, Space, Value


def value_names(program: Program) -> dict[Value, str]:
    """A distinct name per value: its own where it has one, numbered where several share it."""
    taken: dict[str, int] = {}
    names: dict[Value, str] = {}
    for node in program.nodes:
        base = node.value.name or "t"
        taken[base] = taken.get(base, 0) + 1
        names[node.value] = base if taken[base] == 1 and node.value.name else f"{base}{taken[base]}"
    return names


def program_text(program: Program) -> str:
    """The program, a node a line, with axes and levels."""
    names = value_names(program)
    lines = ["adjoint program" if program.adjoint else "chunk program"]
    for node in program.nodes:
        axes = ", ".join(a.name for a in node.value.axes)
        level = node.value.level.name.lower()
        lines.append(f"  {names[node.value]} : {level} [{axes}] = {_op(node.op, names)}")
    lines += [f"  result {name} = {names[value]}" for name, value in program.results]
    lines.append(f"  carry {names[program.carry[0]]} -> {names[program.carry[1]]}")
    return "\n".join(lines)


def _op(op: Op, names: dict[Value, str]) -> str:
    if isinstance(op, Apply):
        return f"{op.function}({', '.join(names[a] for a in op.arguments)})"
    shown = ", ".join(_field(getattr(op, f.name), names) for f in fields(op))
    return f"{type(op).__name__.lower()}({shown})"


def _field(value: object, names: dict[Value, str]) -> str:
    match value:
        case Value():
            return names[value]
        case Axis(name, _):
            return name
        case Space(name, _):
            return name
        case Mask(rows, columns):
            return f"{rows.name} after {columns.name}"
        case tuple():
            return "(" + ", ".join(_field(v, names) for v in value) + ")"
        case _:
            return str(value)
