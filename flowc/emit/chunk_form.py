"""The chunk form of a recurrence in mathematics, and what its letters mean, for readers of an emitted module.

In: a `Recurrence`. Out: text. Reads of the value side are written for A = S^T. Refuses nothing.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from flowc.algebra.recurrence import Memory, Recurrence, Write
from flowc.algebra.side import Side
from flowc.chunk.gate_logs import gate_logs


@dataclass(frozen=True, slots=True)
class _Has:
    """Whether there are rows that read, rows that do not, gates of the side of the rows' left factors, others."""

    solved: bool
    explicit: bool
    gated: bool
    outer: bool


def _has(memory: Memory) -> _Has:
    rows = [r for s in memory.segments for e in s.edits if isinstance(e, Write) for r in e.rows]
    gates = gate_logs(memory)
    return _Has(
        any(r.read is not None for r in rows),
        any(r.read is None for r in rows),
        memory.side in gates,
        memory.side.other in gates,
    )


def chunk_form(recurrence: Recurrence) -> str:
    """The chunk program in mathematics, state by state."""
    if len(recurrence.memories) == 1 and not recurrence.scans:
        return _chunk_form(recurrence, 0)
    forms = [
        f"{s.state.name}: a {s.kind} scan, in log C steps within a chunk, then from chunk to chunk"
        for s in recurrence.scans
    ]
    for number, memory in enumerate(recurrence.memories):
        forms.append(f"{memory.state.name}, as S:\n" + textwrap.indent(_chunk_form(recurrence, number), "    "))
    return "\n".join(forms)


def _chunk_form(recurrence: Recurrence, number: int) -> str:
    memory = recurrence.memories[number]
    has, state = _has(memory), "S" if memory.side is Side.KEY else "A"
    lines = [] if state == "S" else ["A = S^T, its reads A^T y and rows l (v + A^T y)^T"]
    if has.solved:
        decay = " exp(gr_m - gl_m')" if has.gated else ""
        lines.append(f"N[m, m'] = y_m . l_m'{decay}   where row m' is written before row m reads")
        lines += ["E likewise, of l_e"] if has.explicit else []
        reads = f"(Y * exp(gr)) {state}_0" if has.gated else f"Y {state}_0"
        seen = f"V + E V_e + {reads}" if has.explicit else f"V + {reads}"
        lines += [f"Z = {seen}", "U = (I - N)^-1 Z"]
    sides = {read.side for read in recurrence.reads if read.memory == number}
    if memory.side in sides or not sides:
        lines += _output(has, state)
    if memory.side.other in sides:
        lines += _output_across(has, state)
    return "\n".join((*lines, _state_after(has, state)))


def _output(has: _Has, state: str) -> list[str]:
    """What contracts the state on the side of the rows' left factors."""
    written = ["P U"] if has.solved else []
    written += ["P_e V_e"] if has.explicit else []
    query = f"(Q * exp(gq)) {state}_0" if has.gated else f"Q {state}_0"
    e = "" if has.solved else "_e"
    decay = f" exp(gq_t - gl{e}_m)" if has.gated else ""
    lines = [f"P{e}[t, m] = q_t . l{e}_m{decay}   where row m is written before the output"]
    lines += ["P_e likewise, of l_e"] if has.solved and has.explicit else []
    if not has.outer:
        return [*lines, "O = " + " + ".join((query, *written))]
    return [*lines, f"O[t] = exp(hq_t) * ({query})[t] + sum over m of P_e[t, m] exp(hq_t - hl_e_m) * v_e_m"]


def _output_across(has: _Has, state: str) -> list[str]:
    """What contracts the state on the other side."""
    e, right = ("", "u") if has.solved else ("_e", "v_e")
    decay = f" exp(hq_t - hl{e}_m)" if has.outer else ""
    query = f"(Q * exp(hq)) {state}_0^T" if has.outer else f"Q {state}_0^T"
    own = f"exp(gq_t - gl{e}_m) * " if has.gated else ""
    start = f"exp(gq_t) * ({query})[t]" if has.gated else f"({query})[t]"
    lines = [f"B{e}[t, m] = q_t . {right}_m{decay}   where row m is written before an output across"]
    lines += ["B_e likewise, of v_e"] if has.solved and has.explicit else []
    more = " and likewise of B_e, l_e" if has.solved and has.explicit else ""
    return [*lines, f"O[t] = {start} + sum over m of B{e}[t, m] {own}l{e}_m{more}"]


def _state_after(has: _Has, state: str) -> str:
    left = "(L * exp(g_C - gl))^T" if has.gated else "L^T"
    after = [f"{left} U"] if has.solved else []
    right = "(V_e * exp(h_C - hl_e))" if has.outer else "V_e"
    after += [f"{left.replace('L', 'L_e', 1).replace('gl', 'gl_e')} {right}"] if has.explicit else []
    start = f"exp(g_C) * {state}_0" if has.gated else f"{state}_0"
    start = f"{start} * exp(h_C)^T" if has.outer else start
    return f"{state}_C = " + " + ".join((start, *after))


def legend(recurrence: Recurrence) -> str:
    """What the letters mean, and the layouts of tensors."""
    states = ", ".join(f"{s.name} [{', '.join(('B', 'H', *map(str, s.shape.sizes)))}]" for s in recurrence.model.states)
    several = len(recurrence.model.states) > 1
    lines = [f"B batch, T tokens, H value heads, C tokens of a chunk; {states} the state{'s' * several}."]
    for number, memory in enumerate(recurrence.memories):
        lines += _letters(recurrence, number, f"{memory.state.name}: " if several else "")
    return "\n".join((*lines, "Per-token tensors are [B, T, H, *], chunked ones [T / C, B H, rows, *]."))


def _letters(recurrence: Recurrence, number: int, prefix: str) -> list[str]:
    """What stands for rows and gates of one state."""
    memory = recurrence.memories[number]
    has, reads = _has(memory), {r.side for r in recurrence.reads if r.memory == number}
    k, v = memory.row.size, memory.column.size
    own, across = (k, v) if memory.side is Side.KEY else (v, k)
    queries = ("q queries",) if memory.side in reads or not reads else ()
    others = ("q queries",) if memory.side.other in reads else ()
    over_own = (*queries, "l left factors", *(("y reads",) if has.solved else ()))
    over_other = ("v right sides", *(("u solved ones",) if has.solved else ()), *others)
    rows = ["a row is one write of one token"]
    rows += ["_e marks rows that write without reading"] if has.explicit else []
    places = (*(("gr where a row reads",) if has.solved else ()), "gl where it writes", "gq where an output reads")
    lines = [f"{prefix}{'; '.join(rows)}; {', '.join(over_own)} over {own}; {', '.join(over_other)} over {across}."]
    lines += [f"g cumulative log gates within a chunk: {', '.join(places)}."] if has.gated or has.outer else []
    return [*lines, *([f"h likewise of gates over {across}."] if has.outer else [])]
