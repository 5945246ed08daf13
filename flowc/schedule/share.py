"""Sharing decay matrices: one exponential for all that differ in their mask alone.

In: a `Program`. Out: the same values from fewer exponentials: where a step has one row and one query, the matrices
exp(g_t - g_i) of reads and of outputs are the same numbers under a strict and an inclusive mask. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowc.chunk.builder import Builder
from flowc.chunk.ir import Apply, At, DecayMatrix, MaskMatrix, Op, operands
from flowc.chunk.program import Program
from flowc.chunk.rewrite import replaced
from flowc.chunk.values import Mask, Part, Position, Space, Value, Where


@dataclass(frozen=True, slots=True)
class _Key:
    """What two decay matrices must share: the gate sums, and which of them rows and columns take."""

    sums: Value
    row_point: int
    column_point: int


def share_decays(program: Program) -> Program:
    """The program with decay matrices of equal exponents taken from one, the mask multiplied after."""
    groups: dict[_Key, list[Value]] = {}
    for node in program.nodes:
        match node.op:
            case DecayMatrix(rows, columns, _):
                key = _key(program.defined[rows], program.defined[columns])
                if key is not None:
                    groups.setdefault(key, []).append(node.value)
    source: dict[Value, Value] = {}
    for matrices in groups.values():
        widest = [m for m in matrices if _inclusive(_mask(program, m))] or matrices
        for m in matrices:
            source[m] = widest[0]
    shared = {m: s for m, s in source.items() if m != s}
    return _rewritten(program, shared) if shared else program


def exponent_key(program: Program, upper: Value, lower: Value) -> object:
    """What two gated primitives share if their exponents are the same numbers: equal keys."""
    return _key(program.defined[upper], program.defined[lower]) or (upper, lower)


def _rewritten(program: Program, shared: dict[Value, Value]) -> Program:
    """Every use of a shared matrix as a product: first with the source's numbers, then with the own mask."""
    build = Builder()
    moved: dict[Value, Value] = {}
    pending = list(program.nodes)
    sources = {s: next(n for n in pending if n.value == s) for s in shared.values()}

    def copied(value: Value, op: Op) -> Value:
        for v in operands(op):  # a source may stand after what is taken from it
            if v not in moved:
                copied(v, program.defined[v])
        new = build.add(replaced(op, moved), value.name, value.axes, value.level)
        moved[value] = build.named(new, value.name)
        return moved[value]

    def decay(value: Value) -> tuple[Value, Value | None]:
        """The numbers under the axes of `value`, and the mask that they still need."""
        original = shared[value]
        base = moved[original] if original in moved else copied(original, sources[original].op)
        for own, wanted in zip(original.axes, value.axes, strict=True):
            base = build.rename(base, own.name, wanted.name) if own.name != wanted.name else base
        own_mask, source_mask = _mask(program, value), _mask(program, original)
        needs = _inclusive(own_mask) != _inclusive(source_mask)
        return base, build.add(MaskMatrix(own_mask), "mask") if needs else None

    for node in pending:
        value, op = node.value, node.op
        if value in moved:
            continue
        if value in shared:
            base, mask = decay(value)
            moved[value] = base if mask is None else build.apply("mul", mask, base)
            continue
        match op:
            case Apply("mul", (a, b)) if (a in shared) != (b in shared):
                matrix, other = (a, b) if a in shared else (b, a)
                base, mask = decay(matrix)
                product = build.apply("mul", base, moved[other])
                whole = product if mask is None else build.apply("mul", mask, product)
                moved[value] = build.named(whole, value.name)
            case _:
                copied(value, op)
    results = {name: moved[value] for name, value in program.results}
    carries = tuple(replace(c, before=moved[c.before], after=moved[c.after]) for c in program.carries)
    return build.program(results, carries, program.adjoint)


def _key(rows: Op, columns: Op) -> _Key | None:
    match rows, columns:
        case At(sums, gates, Space() as row_space, where), At(other, _, Space() as column_space, column_where) if (
            sums == other
        ):
            points = _point(row_space, where, gates), _point(column_space, column_where, gates)
            return None if points[0] is None or points[1] is None else _Key(sums, points[0], points[1])
        case _:
            return None


def _point(space: Space, where: Where, gates: Space) -> int | None:
    """Which of a step's gate sums the one row of a step takes; None where a step has several, or sizes decide."""
    if len(space.parts) != 1 or space.parts[0].several:
        return None
    place = _fixed(space.parts[0], where)
    before = [_fixed(g, Where.WRITE) for g in gates.parts]
    if place is None or any(g.count is not None for g in gates.parts) or None in before:
        return None
    return sum(b is not None and b < place for b in before)


def _fixed(part: Part, where: Where) -> int | None:
    position: Position | None = part.read if where is Where.READ else part.write
    if position is None or position.start.constant is None or position.stride:
        return None
    return position.start.constant + position.offset


def _mask(program: Program, value: Value) -> Mask:
    op = program.defined[value]
    assert isinstance(op, DecayMatrix)
    return op.mask


def _inclusive(mask: Mask) -> bool:
    """Whether the row of a token sees what the same token wrote; only asked of spaces with one row a step."""
    read, write = _fixed(mask.rows.parts[0], Where.READ), _fixed(mask.columns.parts[0], Where.WRITE)
    return read is not None and write is not None and write < read
