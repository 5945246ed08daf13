"""What float32 and half precision lose, example by example: `flowc verify --numerics` of all of them.

    python benchmarks/numerics.py [FILE ...] [--length T ...] [--json PATH]     (default: every example, the whole grid)

The JSON file is written anew after every example, so that what was measured stays where the rest is interrupted.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table

import flowc
from flowc.files import write_whole
from flowc.verify.numerics import LENGTHS, LONGEST, numerics
from flowc.verify.numerics_report import record

EXAMPLES = sorted((ROOT / "examples").glob("*.flow"))


def main() -> int:
    """Measure, save, print; 1 where a limit does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=EXAMPLES)
    parser.add_argument("--length", type=int, action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    lengths, longest = (arguments.length, None) if arguments.length else (LENGTHS, LONGEST)
    about = {"machine": machine(), "command": "benchmarks/numerics.py", "lengths": [*lengths]}
    found: list[dict[str, Any]] = []
    console = Console(stderr=True)
    for path in arguments.files:
        start = time.perf_counter()
        with console.status("") as status:
            made = record(numerics(flowc.compile(path), lengths, longest, status.update))
        found.append({**made, "commit": commit(), "seconds": round(time.perf_counter() - start, 1)})
        console.print(made["verdict"], highlight=False)
        if arguments.json:
            write_whole(arguments.json, json.dumps({**about, "longest": longest, "specs": found}, indent=1) + "\n")
    Console().print(table(found))
    return 0 if all(spec["holds"] for spec in found) else 1


def table(found: list[dict[str, Any]]) -> Table:
    """A row per spec and type: the cell that loses most."""
    made = Table(title="relative RMS errors against float64")
    for column in ("spec", "type", "cells", "rows above 8x", "error", "step by step", "ratio", "at"):
        made.add_column(column, justify="left" if column in ("spec", "type", "at") else "right")
    for spec in found:
        for dtype in dict.fromkeys(row["dtype"] for row in spec["rows"]):
            rows = [row for row in spec["rows"] if row["dtype"] == dtype]
            worst = max(rows, key=lambda row: row["worst"]["ratio"])
            loss, cells = worst["worst"], str(sum(row["cells"] for row in rows))
            above = str(sum(not row["worst"]["holds"] for row in rows))
            numbers = f"{loss['error']:.1e}", f"{loss['stepwise']:.1e}", f"{loss['ratio']:.1f}"
            place = f"T {worst['length']:,}, {loss['quantity']}, {loss['cell']}, {loss['aggregation']}"
            made.add_row(spec["name"], dtype, cells, above, *numbers, place.replace("[", r"\["))
    return made


if __name__ == "__main__":
    raise SystemExit(main())
