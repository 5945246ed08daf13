"""The banner of an emitted module: the recurrence, its chunk form, and what the letters mean.

In: a `Plan`, and what the module calls the values that the derivation names. Out: text for the module's docstring.
Refuses nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from flowc import __version__
from flowc.algebra.recurrence import Gate, Memory, Recurrence, Write
from flowc.algebra.term import Axis
from flowc.schedule.plan import Plan
from flowc.semantics.model import State


def banner(plan: Plan, digest: str, shown: Mapping[str, Sequence[str]]) -> str:
    """Version, spec, normal form, chunk form and legend; `shown` has the module's names by the derivation's."""
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
        code_legend(shown),
    ]
    return "\n\n".join(p.replace("\\", "\\\\").replace('"""', "'''") for p in parts)


def _has(memories: Sequence[Memory]) -> tuple[bool, bool, bool]:
    """Whether there are rows that read, rows that do not, and gates."""
    edits = [e for m in memories for s in m.segments for e in s.edits]
    rows = [r for e in edits if isinstance(e, Write) for r in e.rows]
    return (
        any(r.read is not None for r in rows),
        any(r.read is None for r in rows),
        any(isinstance(e, Gate) for e in edits),
    )


def chunk_form(recurrence: Recurrence) -> str:
    """The chunk program in mathematics, state by state."""
    if len(recurrence.memories) == 1 and not recurrence.scans:
        return _chunk_form(recurrence.memories[0])
    forms = [f"{s.state.name}: a {s.kind} scan over the tokens, log T steps" for s in recurrence.scans]
    for memory in recurrence.memories:
        forms.append(f"{memory.state.name}, as S:\n" + textwrap.indent(_chunk_form(memory), "    "))
    return "\n".join(forms)


def _chunk_form(memory: Memory) -> str:
    solved, explicit, gated = _has([memory])
    decay = " exp(gr_m - gl_m')" if gated else ""
    lines = []
    if solved:
        lines.append(f"N[m, m'] = y_m . l_m'{decay}   where row m' is written before row m reads")
        lines += ["E likewise, of l_e"] if explicit else []
        reads = "(Y * exp(gr)) S_0" if gated else "Y S_0"
        seen = f"V + E V_e + {reads}" if explicit else f"V + {reads}"
        lines += [f"Z = {seen}", "U = (I - N)^-1 Z"]
    written = ["P U"] if solved else []
    written += ["P_e V_e"] if explicit else []
    query = "(Q * exp(gq)) S_0" if gated else "Q S_0"
    e = "" if solved else "_e"
    seen_decay = f" exp(gq_t - gl{e}_m)" if gated else ""
    lines.append(f"P{e}[t, m] = q_t . l{e}_m{seen_decay}   where row m is written before the output")
    lines += ["P_e likewise, of l_e"] if solved and explicit else []
    lines.append("O = " + " + ".join((query, *written)))
    left = "(L * exp(g_C - gl))^T" if gated else "L^T"
    after = [f"{left} U"] if solved else []
    after += [f"{left.replace('L', 'L_e', 1).replace('gl', 'gl_e')} V_e"] if explicit else []
    lines.append("S_C = " + " + ".join(("exp(g_C) * S_0" if gated else "S_0", *after)))
    return "\n".join(lines)


def legend(recurrence: Recurrence) -> str:
    """What the letters mean, and the layouts of tensors."""
    solved, explicit, gated = _has(recurrence.memories)
    states = [_shape(s) for s in recurrence.model.states]
    one = len(recurrence.memories) == 1 and not recurrence.scans
    k, v = (str(a.size) if one else f"the state's {n}" for a, n in _sides(recurrence))
    over_k = ("q queries", "l left factors", *(("y reads",) if solved else ()))
    over_v = ("v right sides", *(("u solved ones",) if solved else ()))
    rows = ["a row is one write of one token", *(("_e marks rows that write without reading",) if explicit else ())]
    places = (*(("gr where a row reads",) if solved else ()), "gl where it writes", "gq where an output reads")
    lines = [
        f"B batch, T tokens, H value heads, C tokens of a chunk; {'; '.join(rows)}.",
        f"{', '.join(states)} the state{'s' * (len(states) > 1)};"
        f" {', '.join(over_k)} over {k}; {', '.join(over_v)} over {v}.",
        f"g cumulative log gates within a chunk: {', '.join(places)}.",
        "Per-token tensors are [B, T, H, *], chunked ones [T / C, B H, rows, *].",
    ]
    return "\n".join(line for line in lines if gated or not line.startswith("g "))


def _shape(state: State) -> str:
    return f"{state.name} [{', '.join(('B', 'H', *(str(s) for s in state.shape.sizes)))}]"


def _sides(recurrence: Recurrence) -> tuple[tuple[Axis, str], tuple[Axis, str]]:
    """The sides of a state by what they are called."""
    shape = recurrence.model.states[0].shape
    return (Axis("i", shape.rows), "rows"), (Axis("j", shape.cols), "columns")


# What the passes call things, by the derivation's names.
CODE = (
    ("log_gates", "log gates by rows"),
    ("sums", "their sums within a chunk, a 0 first"),
    ("g_read", "gr"),
    ("g_write", "gl"),
    ("g_write_e", "gl_e"),
    ("g_query", "gq"),
    ("g_last", "g_C"),
    ("scale", "scalar factors of y or q"),
    ("mask", "1 where a row is seen, else 0"),
    ("decay", "exp of differences of gate sums where a row is seen, else 0"),
    ("N_dot", "N before its scalars and gates"),
    ("E_dot", "E before its scalars and gates"),
    ("inverse", "(I - N)^-1; by `signature`, N with those of I - N's diagonal blocks of 16 rows"),
    ("y_decayed", "Y * exp(gr)"),
    ("q_decayed", "Q * exp(gq)"),
    ("l_decayed", "L * exp(g_C - gl)"),
)
RULES = (
    ("x_bar", "the gradient of x"),
    ("x_rows", "x by rows"),
    ("exp_x", "exp(x); of two, exp of their difference"),
    ("x_y", "otherwise, a product of x and y"),
)


def code_legend(shown: Mapping[str, Sequence[str]]) -> str:
    """What the names of the two passes mean: those that occur, and how others are made."""
    entries = [(", ".join(shown[name]), text) for name, text in CODE if name in shown]
    width = max(len(names) for names, _ in (*entries, *RULES))
    return "\n".join(("In the code:\n", *(f"    {names:{width}}  {text}" for names, text in (*entries, *RULES))))
