"""Names for the values of a chunk program that the derivation leaves without one.

In: a `Program`. Out: for every value a name to start from, which need not be distinct: its own, or what it is made of
(`exp_g_read`, `beta_rows`, `l_y_bar`), or `t` where that says little. Refuses nothing.
"""

from __future__ import annotations

from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import Value

LONGEST = 20
"""A longer name says less than the line that defines it."""


def labels(program: Program) -> dict[Value, str]:
    """A name for every value."""
    found: dict[Value, str] = {}
    for node in program.nodes:
        made = node.value.name or _made(node.op, found)
        found[node.value] = made if len(made) <= LONGEST else "t"
    return found


def _made(op: ir.Op, known: dict[Value, str]) -> str:
    """What a value is made of; `t` for what has no short name."""
    match op:
        case ir.ToRows(parts=(Value() as part,)):
            return _joined((part,), known, "rows")
        case ir.Decay(upper, lower):
            return _joined((upper,) if lower is None else (upper, lower), known, first="exp")
        case ir.Contract(left=left, right=right) | ir.DecayDot(left=left, right=right):
            return _joined((left, right), known)
        case ir.DecayApply(weights=weights, vectors=vectors):
            return _joined((weights, vectors), known)
        case ir.Apply("mul", arguments):
            return _joined(arguments, known)
        case ir.Apply(function, (argument,)):
            return _joined((argument,), known, first="minus" if function == "neg" else function)
        case ir.Sum(argument, _):
            return _joined((argument,), known, "sum")
        case ir.Rename(argument, _, _) | ir.Relabel(argument, _) | ir.Spread(argument, _):
            return known[argument]
        case _:
            return "t"


def _joined(values: tuple[Value, ...], known: dict[Value, str], last: str = "", first: str = "") -> str:
    names = [known[v] for v in values]
    return "t" if "t" in names else "_".join(filter(None, (first, *names, last)))
