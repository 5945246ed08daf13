"""The banner of an emitted module: the recurrence, its chunk form, and what the letters mean.

In: a `Plan`. Out: text for the module's docstring. Refuses nothing.
"""

from __future__ import annotations

import textwrap

from flowc import __version__
from flowc.algebra.recurrence import Gate, Recurrence, Write
from flowc.schedule.plan import Plan


def banner(plan: Plan, digest: str) -> str:
    """Version, spec, normal form, chunk form and legend."""
    recurrence = plan.recurrence
    chosen = ", ".join(f"{name} = {value}" for name, value in plan.options.record().items())
    spec = textwrap.indent(recurrence.model.canonical.rstrip("\n"), "    ")
    parts = [
        f"Made by flowc {__version__} from the spec {recurrence.model.name} (sha256 {digest[:16]});"
        f" options: {chosen}.\n"
        "This file is yours: flowc claims nothing in what it emits. It needs torch and nothing else.",
        "The recurrence:\n\n" + spec,
        "In normal form, per token:\n\n" + textwrap.indent(str(recurrence), "    "),
        "In chunks of C tokens, S_0 the state before the chunk:\n\n" + textwrap.indent(chunk_form(recurrence), "    "),
        legend(recurrence),
    ]
    return "\n\n".join(p.replace("\\", "\\\\").replace('"""', "'''") for p in parts)


def _has(recurrence: Recurrence) -> tuple[bool, bool, bool]:
    """Whether there are rows that read, rows that do not, and gates."""
    edits = [e for s in recurrence.segments for e in s.edits]
    rows = [r for e in edits if isinstance(e, Write) for r in e.rows]
    return (
        any(r.read is not None for r in rows),
        any(r.read is None for r in rows),
        any(isinstance(e, Gate) for e in edits),
    )


def chunk_form(recurrence: Recurrence) -> str:
    """The chunk program in mathematics."""
    solved, explicit, gated = _has(recurrence)
    decay = " exp(gr_m - gl_m')" if gated else ""
    lines = []
    if solved:
        lines.append(f"N[m, m'] = y_m . l_m'{decay}   where row m' is written before row m reads")
        reads = "(Y * exp(gr)) S_0" if gated else "Y S_0"
        seen = f"V + E V_e + {reads}" if explicit else f"V + {reads}"
        lines += [f"Z = {seen}", "U = (I - N)^-1 Z"]
    written = ["P U"] if solved else []
    written += ["P_e V_e"] if explicit else []
    query = "(Q * exp(gq)) S_0" if gated else "Q S_0"
    seen_decay = " exp(gq_t - gl_m)" if gated else ""
    lines.append(f"P[t, m] = q_t . l_m{seen_decay}   where row m is written before the output")
    lines.append("O = " + " + ".join((query, *written)))
    left = "(L * exp(g_C - gl))^T" if gated else "L^T"
    after = [f"{left} U"] if solved else []
    after += [f"{left.replace('L', 'L_e', 1).replace('gl', 'gl_e')} V_e"] if explicit else []
    lines.append("S_C = " + " + ".join(("exp(g_C) * S_0" if gated else "S_0", *after)))
    return "\n".join(lines)


def legend(recurrence: Recurrence) -> str:
    """What the letters mean, and the layouts of tensors."""
    k, v = recurrence.row.size, recurrence.column.size
    lines = [
        "B batch, T tokens, H value heads, C tokens of a chunk; a row is one write of one token.",
        f"S [B, H, {k}, {v}] the state; q queries, l left factors, y reads over {k};"
        f" v right sides, u solved ones over {v}.",
        "g cumulative log gates within a chunk: gr where a row reads, gl where it writes, gq where an output reads.",
        "Per-token tensors are [B, T, H, *], chunked ones [T / C, B H, rows, *].",
    ]
    return "\n".join(lines)
