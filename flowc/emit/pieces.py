"""Support functions of emitted modules, kept as Python files under templates/torch.

In: names of functions. Out: their text, and that of what they call, in one fixed order. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowc.resources import templates

# What each support function calls, beside torch.
USES = {
    "rows_index": ("cached",),
    "mask": ("cached",),
    "halving": ("cached",),
    "inverse": ("cached",),
    "mask_matrix": ("mask",),
    "decay_matrix": ("cached", "mask", "decays"),
    "at": ("rows_index",),
    "at_adjoint": ("rows_index",),
    "decay_dot": ("blocks", "mask"),
    "decay_apply": ("blocks", "mask"),
    "blocks": ("decay_matrix", "halving"),
}
ORDER = (
    "uncast", "narrow", "cached", "exprel", "exprel_slope", "inverse_or_zero", "concat", "group_heads", "spread",
    "rounds", "to_rows", "from_rows", "put", "add_product", "points", "rows_index", "gate_sums", "gate_sums_adjoint",
    "at", "at_adjoint", "mask", "mask_matrix", "decays", "decay_matrix", "halving", "blocks", "decay_dot",
    "decay_apply", "wide_product", "column_product", "inverse", "solve", "scan", "loop",
)  # fmt: skip


def piece(name: str) -> str:
    """The text of templates/torch/NAME.py."""
    return (templates() / "torch" / f"{name}.py").read_text(encoding="utf-8").strip("\n")


def support(wanted: Iterable[str]) -> str:
    """The support functions that are wanted, and those that they call."""
    needed: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(USES.get(name, ()))
    return "\n\n\n".join(piece(name) for name in ORDER if name in needed)
