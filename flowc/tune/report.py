"""What a search found, as people read it.

In: `Tuning`s. Out: a table. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from flowc.schedule.tilings import Tiling
from flowc.schedule.tuned import PREDICTED
from flowc.tune.tune import Tuning


def _short(tiling: Tiling) -> str:
    columns, rows, warps, stages = tiling
    return f"{columns} x {rows}, {warps}, {stages}"


def table(tunings: Sequence[Tuning]) -> Table:
    """A line for every kernel; the times of a whole call stand beside the first."""
    predicted = any(t.how == PREDICTED for t in tunings)
    title = "predicted, nothing was measured" if predicted else f"measured on {tunings[0].device}, times of whole calls"
    made = Table(title=f"{title}; columns x rows, warps, stages")
    for name in ("B, T, H, K, V", "schedule", "kernel", "by the rules", "found"):
        made.add_column(name)
    for name in ("tried", "refused", "ms by the rules", "ms as found"):
        made.add_column(name, justify="right")
    for tuning in tunings:
        shape, sides = tuning.request.shape, tuning.request.sides
        others = "".join(f", {n} {v}" for n, v in tuning.request.others.items())
        where = f"{shape.batch}, {shape.length}, {shape.heads}, {sides[0]}, {sides[1]}{others}"
        for at, f in enumerate(tuning.findings):
            times = ["-" if t is None else f"{1e3 * t:.3f}" for t in (f.untuned, f.seconds)] if at == 0 else ["", ""]
            found = "the same" if f.tiling == f.rule else _short(f.tiling)
            lead = (where, tuning.schedule) if at == 0 else ("", "")
            tried = "-" if f.seconds is None else f"{f.tried} of {f.candidates}"
            made.add_row(*lead, f.place.role, _short(f.rule), found, tried, str(len(f.refused)), *times)
    return made
