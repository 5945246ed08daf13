"""The chunk form of a recurrence in mathematics, and what its letters mean, for readers of an emitted module.

In: a `Recurrence`. Out: text. Reads of the value side are written for A = S^T. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.algebra.recurrence import Recurrence, Write
from flowc.algebra.side import Side
from flowc.chunk.gate_logs import gate_logs


@dataclass(frozen=True, slots=True)
class _Has:
    """Whether there are rows that read, rows that do not, gates of the side of the rows' left factors, others."""

    solved: bool
    explicit: bool
    gated: bool
    outer: bool


def _has(recurrence: Recurrence) -> _Has:
    rows = [r for s in recurrence.segments for e in s.edits if isinstance(e, Write) for r in e.rows]
    gates = gate_logs(recurrence)
    return _Has(
        any(r.read is not None for r in rows),
        any(r.read is None for r in rows),
        recurrence.side in gates,
        recurrence.side.other in gates,
    )


def chunk_form(recurrence: Recurrence) -> str:
    """The chunk program in mathematics."""
    has, state = _has(recurrence), "S" if recurrence.side is Side.KEY else "A"
    lines = [] if state == "S" else ["A = S^T, its reads A^T y and rows l (v + A^T y)^T"]
    if has.solved:
        decay = " exp(gr_m - gl_m')" if has.gated else ""
        lines.append(f"N[m, m'] = y_m . l_m'{decay}   where row m' is written before row m reads")
        lines += ["E likewise, of l_e"] if has.explicit else []
        reads = f"(Y * exp(gr)) {state}_0" if has.gated else f"Y {state}_0"
        seen = f"V + E V_e + {reads}" if has.explicit else f"V + {reads}"
        lines += [f"Z = {seen}", "U = (I - N)^-1 Z"]
    sides = {read.side for read in recurrence.reads}
    if recurrence.side in sides or not sides:
        lines += _output(has, state)
    if recurrence.side.other in sides:
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
    has = _has(recurrence)
    k, v = recurrence.row.size, recurrence.column.size
    own, across = (k, v) if recurrence.side is Side.KEY else (v, k)
    queries = {"q queries"} if recurrence.side in {r.side for r in recurrence.reads} or not recurrence.reads else set()
    others = {"q queries"} if recurrence.side.other in {r.side for r in recurrence.reads} else set()
    over_own = (*queries, "l left factors", *(("y reads",) if has.solved else ()))
    over_other = ("v right sides", *(("u solved ones",) if has.solved else ()), *others)
    rows = ["a row is one write of one token"]
    rows += ["_e marks rows that write without reading"] if has.explicit else []
    places = (*(("gr where a row reads",) if has.solved else ()), "gl where it writes", "gq where an output reads")
    lines = [
        f"B batch, T tokens, H value heads, C tokens of a chunk; {'; '.join(rows)}.",
        f"S [B, H, {k}, {v}] the state; {', '.join(over_own)} over {own}; {', '.join(over_other)} over {across}.",
        f"g cumulative log gates within a chunk: {', '.join(places)}." if has.gated or has.outer else "",
        f"h likewise of gates over {across}." if has.outer else "",
        "Per-token tensors are [B, T, H, *], chunked ones [T / C, B H, rows, *].",
    ]
    return "\n".join(line for line in lines if line)
