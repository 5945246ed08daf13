"""What benchmarks/gpu.py measures, as rows: their table, their goals, their picture.

In: `Row`s. Out: tables, what was reached of each goal, SVG. Refuses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from flowc.report.curves import Panel, svg

ANCHOR = "gated_deltanet", (8, 4096, 16, 128)
GOALS = {
    "forward": {"geometric mean": 2.0, "least": 1.0, "anchor, ms": 0.40},
    "both": {"geometric mean": 1.5, "least": 1.0, "anchor, ms beyond forward": 1.5},
}
"""Of the peer's Triton path; measured on an H200."""


@dataclass(frozen=True)
class Row:
    """One op at one shape; times in milliseconds, None where there is none.

    `kernels` are flowc's by name; empty where `unprofiled` says why. `refused` is what the peer said.
    """

    name: str
    passes: str
    shape: tuple[int, int, int, int]
    limit: float | None
    predicted: float | None
    flowc: float
    peer: float | None
    peer_default: float | None
    kernels: dict[str, float] = field(default_factory=dict)
    unprofiled: str | None = None
    refused: str | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the peer's Triton path takes."""
        return None if self.peer is None else self.peer / self.flowc


def table(rows: Sequence[Row]) -> Table:
    """A line for every op and shape."""
    made = Table(title="milliseconds")
    for column in ("op", "passes", "B, T, H, D"):
        made.add_column(column)
    for column in ("limit", "predicted", "flowc", "of the limit", "peer, Triton", "peer, default", "peer / flowc"):
        made.add_column(column, justify="right")
    for r in rows:
        part = None if r.limit is None else f"{r.limit / r.flowc:.0%}"
        ratio = None if r.ratio is None else f"{r.ratio:.2f}"
        times = [None if t is None else f"{t:.3f}" for t in (r.limit, r.predicted, r.flowc, r.peer, r.peer_default)]
        cells = [*times[:3], part, *times[3:], ratio]
        made.add_row(r.name, r.passes, ", ".join(map(str, r.shape)), *(c or "-" for c in cells))
    return made


def goals(rows: Sequence[Row]) -> dict[str, dict[str, tuple[float, float]]]:
    """What was reached of each goal of either kind of passes, and the goal."""
    found: dict[str, dict[str, float]] = {kind: {} for kind in GOALS}
    for kind, reached in found.items():
        ratios = [r.ratio for r in rows if r.passes == kind and r.ratio is not None]
        if ratios:
            reached |= {"geometric mean": math.exp(sum(map(math.log, ratios)) / len(ratios)), "least": min(ratios)}
    anchor = {r.passes: r.flowc for r in rows if (r.name, r.shape) == ANCHOR}
    if "forward" in anchor:
        found["forward"]["anchor, ms"] = anchor["forward"]
    if len(anchor) > 1:
        found["both"]["anchor, ms beyond forward"] = anchor["both"] - anchor["forward"]
    return {kind: {n: (value, GOALS[kind][n]) for n, value in reached.items()} for kind, reached in found.items()}


def picture(rows: Sequence[Row]) -> str:
    """Time against the limit, or where there is none against the tokens and heads: a panel for every op."""
    panels = []
    for name, passes in dict.fromkeys((r.name, r.passes) for r in rows):
        own = sorted((r for r in rows if (r.name, r.passes) == (name, passes)), key=lambda r: _across(r)[0])
        series = {
            label: [(_across(r)[0], value) for r in own if (value := getattr(r, of)) is not None]
            for label, of in (
                ("limit", "limit"),
                ("flowc", "flowc"),
                ("peer, Triton", "peer"),
                ("peer", "peer_default"),
            )
        }
        panels.append(Panel(f"{name}, {passes}", _across(own[0])[1], {n: s for n, s in series.items() if s}))
    return svg(panels, "milliseconds")


def _across(r: Row) -> tuple[float, str]:
    """Where a row stands, and what that axis says."""
    if r.limit is not None:
        return r.limit, "limit, ms"
    return float(math.prod(r.shape[:3])), "tokens and heads"
