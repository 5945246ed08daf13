"""Faults in chunk programs, generated: every node times every kind of fault that fits it.

`faults(program, sizes)` gives (what was done, the faulty program). Positions are used for masks and for indices of gate
sums alone: a shift of one that changes neither is the same program, and is left out.
"""

from dataclasses import replace

import numpy as np

from flowc.certify import places
from flowc.chunk import ir
from flowc.chunk.ir import Apply, Node
from flowc.chunk.program import value_names
from flowc.chunk.values import Where
from flowc.semantics.size import ONE

FRESH = 100_000  # above every index of a program


def faults(program, sizes):
    names = value_names(program)
    for at, node in enumerate(program.nodes):
        for what, nodes in of_node(node, sizes):
            changed = (*program.nodes[:at], *nodes, *program.nodes[at + 1 :])
            entering = len(nodes) > 1 and isinstance(node.op, ir.Argument)
            carries = tuple(
                replace(c, before=nodes[0].value) if entering and c.before == node.value else c for c in program.carries
            )
            yield f"{names[node.value]}: {what}", replace(program, nodes=changed, carries=carries)


def of_node(node, sizes):
    value, op = node.value, node.op
    fresh = replace(value, index=FRESH)
    yield "sign", (Node(fresh, op), Node(value, Apply("neg", (fresh,))))
    match op:
        case ir.Contract(left, right, _):
            for name, one in (("left", left), ("right", right)):
                if len(one.axes) == 2 and extent(one.axes[0], sizes) == extent(one.axes[1], sizes):
                    turned = replace(one, index=FRESH)
                    back = Node(turned, ir.Relabel(one, tuple(a.name for a in one.axes[::-1])))
                    yield f"{name} transposed", (back, Node(value, replace(op, **{name: turned})))
        case _:
            for what, other in [*of_op(value, op), *of_places(op, sizes)]:
                yield what, (Node(value, other),)


def extent(axis, sizes):
    return axis.size.value({**sizes.bound, "#C": sizes.chunk})


def of_op(value, op):
    match op:
        case Apply("add" | "sub" | "mul" as function, arguments):
            for number, kept in enumerate(arguments):
                yield f"{function} without argument {1 - number}", ir.Spread(kept, value.axes)
        case ir.Literal(exact):
            yield "one more", ir.Literal(exact + 1)
        case ir.Decay(upper, lower) if lower is not None:
            if upper.axes == value.axes:
                yield "lower sum dropped", ir.Decay(upper, None)
            if lower.axes == value.axes:
                yield "upper sum dropped", ir.Decay(lower, None)
        case ir.Solve() | ir.DecayApply():
            yield "transposed", replace(op, transposed=not op.transposed)
        case ir.Join(parts, inner, _) if len(parts) > 1:
            yield "parts exchanged", replace(op, parts=parts[::-1], inner=inner[::-1])
        case ir.Element(_, index):
            yield "another element", replace(op, index=index - 1 if index else 1)
        case ir.Cut():
            yield "one later", replace(op, start=op.start + ONE)
        case _:
            pass


def of_places(op, sizes):
    match op:
        case ir.ToRows(_, space, _) | ir.FromRows(_, space, _, _) if len(space.parts) > 1:
            yield "parts exchanged", replace(op, space=replace(space, parts=space.parts[::-1]))
        case ir.At(_, gates, space, where) | ir.AtAdjoint(_, gates, space, where) if space is not None:
            here = places.points(space, where, gates, sizes.chunk, sizes.bound)
            others = [(f"{where.name} {s:+d}", shifted(space, where, s), where) for s in (-1, 1)]
            others += [(f"at {w.name}", space, w) for w in (Where.READ, Where.WRITE) if stands(space, w)]
            for what, other, there in others:
                if np.any(places.points(other, there, gates, sizes.chunk, sizes.bound) != here):
                    yield what, replace(op, space=other, where=there)
        case (
            ir.MaskMatrix(mask) | ir.DecayMatrix(_, _, mask) | ir.DecayDot(_, _, _, _, mask) | ir.DecayApply(mask=mask)
        ):
            here = places.mask(mask, sizes.chunk, sizes.bound)
            for shift in (-1, 1):
                moved = replace(mask, rows=shifted(mask.rows, Where.READ, shift))
                if np.any(places.mask(moved, sizes.chunk, sizes.bound) != here):
                    yield f"mask {shift:+d}", replace(op, mask=moved)
        case _:
            pass


def stands(space, where):
    return all((p.read if where is Where.READ else p.write) is not None for p in space.parts)


def shifted(space, where, by):
    """The space with its reads, or its writes, so many edits later."""
    name = "read" if where is Where.READ else "write"

    def moved(part):
        place = getattr(part, name)
        return part if place is None else replace(part, **{name: replace(place, offset=place.offset + by)})

    return replace(space, parts=tuple(map(moved, space.parts)))
