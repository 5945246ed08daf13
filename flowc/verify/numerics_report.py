"""What a numerics run found, for people and for programs.

In: `Numerics`. Out: a verdict, a table, a record for JSON. Refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowc.verify.numerics import BAR, Loss, Numerics

if TYPE_CHECKING:
    from rich.table import Table


def verdict(found: Numerics) -> str:
    """One sentence, and one on bits that are not what they should be."""
    cells, off = len(found.losses), sum(not loss.holds for loss in found.losses)
    above = sum(not loss.ratio <= BAR for loss in found.losses)
    lines = [
        f"{found.name}: {cells - off} of {cells} cells are within their limits; {above} lose more than {BAR} times "
        f"what step-by-step execution does; {found.grew} grew and are not judged, nor "
        f"{found.lost} quantities that the loop itself lost"
    ]
    if not found.repeatable:
        lines.append(f"{found.name}: two runs on the same inputs differ")
    if not found.independent:
        lines.append(f"{found.name}: a sequence's result depends on its neighbours in the batch")
    return "\n".join(lines)


def type_name(loss: Loss) -> str:
    """Of its numbers."""
    return str(loss.dtype).removeprefix("torch.")


def record(found: Numerics) -> dict[str, object]:
    """As JSON shows it."""
    rows = [
        {
            "dtype": type_name(row.worst),
            "length": row.worst.length,
            "gate": row.worst.cell.gate or None,
            "cells": row.judged,
            "above": row.above,
            "worst": _loss(row.worst),
            "steepest": _loss(row.steepest),
        }
        for row in found.rows()
    ]
    return {
        "name": found.name,
        "holds": found.holds,
        "verdict": verdict(found),
        "bar": BAR,
        "cells": len(found.losses),
        "above": sum(not loss.ratio <= BAR for loss in found.losses),
        "grew": found.grew,
        "lost": found.lost,
        "repeatable": found.repeatable,
        "independent": found.independent,
        "rows": rows,
    }


def _loss(loss: Loss) -> dict[str, object]:
    return {
        "cell": str(loss.cell),
        "aggregation": loss.aggregation,
        "quantity": loss.quantity,
        "error": loss.error,
        "stepwise": loss.stepwise,
        "ratio": loss.ratio,
        "limit": loss.limit,
        "holds": loss.holds,
    }


def table(found: Numerics) -> Table:
    """A row per type, length and kind of gate, with the cell that comes nearest to its limit."""
    from rich.table import Table

    made = Table(title=f"{found.name}: relative RMS errors against float64, largest of three draws")
    for column in ("type", "T", "gate", "error", "step by step", "limit", f"above {BAR}x"):
        made.add_column(column, justify="left" if column in ("type", "gate") else "right")
    made.add_column("at")
    made.add_column("")
    for row in found.rows():
        w = row.worst
        place = ", ".join(x for x in (w.quantity, str(w.cell), w.aggregation) if x).replace("[", r"\[")
        numbers = (f"{x:.1e}" for x in (w.error, w.stepwise, w.limit))
        mark = "[green]ok[/]" if w.holds else "[bold red]off[/]"
        above = f"{row.above} of {row.judged}"
        made.add_row(type_name(w), f"{w.length:,}", w.cell.gate or "-", *numbers, above, place, mark)
    return made
