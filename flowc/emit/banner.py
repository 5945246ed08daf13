"""The banner of an emitted module: the recurrence, its chunk form, and what the letters mean.

In: a `Plan`, and what the module calls the values that the derivation names. Out: text for the module's docstring.
Refuses nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from flowc import __version__
from flowc.emit.chunk_form import chunk_form, legend
from flowc.schedule.plan import Plan


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


# What the passes call things, by the derivation's names.
CODE = (
    ("log_gates", "log gates by rows"),
    ("sums", "their sums within a chunk, a 0 first"),
    ("g_read", "gr"),
    ("g_write", "gl"),
    ("g_write_e", "gl_e"),
    ("g_query", "gq"),
    ("g_last", "g_C"),
    ("outer_log_gates", "log gates of the other side by rows"),
    ("outer_sums", "their sums within a chunk, a 0 first"),
    ("h_write", "hl"),
    ("h_query", "hq"),
    ("h_last", "h_C"),
    ("scale", "scalar factors of y or q"),
    ("mask", "1 where a row is seen, else 0"),
    ("decay", "exp of differences of gate sums where a row is seen, else 0"),
    ("N_dot", "N before its scalars and gates"),
    ("E_dot", "E before its scalars and gates"),
    ("inverse", "(I - N)^-1; by `signature`, N with those of I - N's diagonal blocks of 16 rows"),
    ("y_decayed", "Y * exp(gr)"),
    ("q_decayed", "Q * exp(gq)"),
    ("l_decayed", "L * exp(g_C - gl)"),
    ("u_decayed", "what rows write, times exp(h_C - hl)"),
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
