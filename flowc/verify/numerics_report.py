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
    cells, held = len(found.losses), sum(loss.holds for loss in found.losses)
    lines = [
        f"{found.name}: {held} of {cells} cells lose at most {BAR} times what step-by-step execution does; "
        f"{found.grew} grew and are not judged, nor {found.lost} quantities that the loop itself lost"
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
            "dtype": type_name(worst),
            "length": worst.length,
            "gate": worst.cell.gate or None,
            "cells": cells,
            "worst": _loss(worst),
        }
        for worst, cells in found.rows()
    ]
    return {
        "name": found.name,
        "holds": found.holds,
        "verdict": verdict(found),
        "bar": BAR,
        "cells": len(found.losses),
        "above": sum(not loss.holds for loss in found.losses),
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
    """A row per type, length and kind of gate, with the cell that loses most."""
    from rich.table import Table

    made = Table(title=f"{found.name}: relative RMS errors against float64, largest of three draws")
    for column in ("type", "T", "gate", "cells", "error", "step by step", "ratio"):
        made.add_column(column, justify="left" if column in ("type", "gate") else "right")
    made.add_column("at")
    made.add_column("")
    for w, cells in found.rows():
        place = ", ".join(x for x in (w.quantity, str(w.cell), w.aggregation) if x).replace("[", r"\[")
        numbers = (f"{w.error:.1e}", f"{w.stepwise:.1e}", f"{w.ratio:.1f}")
        mark = "[green]ok[/]" if w.holds else "[bold red]off[/]"
        made.add_row(type_name(w), f"{w.length:,}", w.cell.gate or "-", str(cells), *numbers, place, mark)
    return made
