"""The chunk program: nodes in order, the state carried from chunk to chunk, and how it reads.

In: nodes that a `Builder` collects. Out: `Program`, and one line per node as its text. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from flowc.algebra.term import Axis
from flowc.chunk.ir import Apply, Node, Op, operands
from flowc.chunk.values import Mask, Space, Value


@dataclass(frozen=True, slots=True)
class Carry:
    """A state: what enters a chunk and what leaves it; `scanned` ones enter and leave a segment, [B, H, *]."""

    name: str
    before: Value
    after: Value
    scanned: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """Nodes in order; `carries` are the states in the spec's order.

    `results` are named values: outputs, or gradients by the names of what they belong to. `adjoint` says that chunks
    run from the last to the first. `defined` has the operation of every value.
    """

    nodes: tuple[Node, ...]
    results: tuple[tuple[str, Value], ...]
    carries: tuple[Carry, ...]
    adjoint: bool = False
    defined: dict[Value, Op] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the nodes by value."""
        object.__setattr__(self, "defined", {n.value: n.op for n in self.nodes})

    @property
    def walked(self) -> tuple[Carry, ...]:
        """The states that are carried from chunk to chunk."""
        return tuple(c for c in self.carries if not c.scanned)

    @property
    def ends(self) -> tuple[Value, ...]:
        """What enters and leaves, of all states."""
        return tuple(v for c in self.carries for v in (c.before, c.after))

    def __str__(self) -> str:
        """One line per node."""
        return _text(self)


def depths(program: Program) -> dict[Value, int]:
    """How many walks over the chunks a value comes after, one after another; a state that is walked counts its own."""
    states = {c.before for c in program.walked}
    needs = {c.before: _needed(program, c.after) & (states - {c.before}) for c in program.walked}
    own = dict.fromkeys(needs, 1)
    for _ in needs:
        own = {state: 1 + max((own[v] for v in others), default=0) for state, others in needs.items()}
    found: dict[Value, int] = {}
    for node in program.nodes:
        found[node.value] = own.get(node.value, max((found[v] for v in operands(node.op)), default=0))
    return found


def _needed(program: Program, value: Value) -> set[Value]:
    """What a value depends on."""
    needed = {value}
    for node in reversed(program.nodes):
        if node.value in needed:
            needed.update(operands(node.op))
    return needed


def value_names(program: Program) -> dict[Value, str]:
    """A distinct name per value: its own where it has one, numbered where several share it."""
    taken: dict[str, int] = {}
    used: set[str] = set()
    names: dict[Value, str] = {}
    for node in program.nodes:
        base = node.value.name or "t"
        taken[base] = taken.get(base, 0) + 1
        name = base if taken[base] == 1 and node.value.name else f"{base}{taken[base]}"
        while name in used:  # a spec's own g2 beside the second g
            taken[base] += 1
            name = f"{base}{taken[base]}"
        used.add(name)
        names[node.value] = name
    return names


def _text(program: Program) -> str:
    """A node a line, with axes and levels."""
    names = value_names(program)
    lines = ["adjoint program" if program.adjoint else "chunk program"]
    for node in program.nodes:
        axes = ", ".join(a.name for a in node.value.axes)
        level = node.value.level.name.lower()
        lines.append(f"  {names[node.value]} : {level} [{axes}] = {_op(node.op, names)}")
    lines += [f"  result {name} = {names[value]}" for name, value in program.results]
    lines += [f"  carry {names[c.before]} -> {names[c.after]}" for c in program.carries]
    return "\n".join(lines)


def _op(op: Op, names: dict[Value, str]) -> str:
    match op:
        case Apply(function, arguments):
            return f"{function}({', '.join(names[a] for a in arguments)})"
        case _:
            shown = ", ".join(_field(getattr(op, f.name), names) for f in fields(op))
            return f"{type(op).__name__.lower()}({shown})"


def _field(value: object, names: dict[Value, str]) -> str:
    match value:
        case Value():
            return names[value]
        case Axis(name, _):
            return name
        case Program(nodes):
            return f"{len(nodes)} operations"
        case Space(name, _):
            return name
        case Mask(rows, columns):
            return f"{rows.name} after {columns.name}"
        case tuple():
            return "(" + ", ".join(_field(v, names) for v in value) + ")"
        case _:
            return str(value)
