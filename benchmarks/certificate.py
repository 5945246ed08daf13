"""How long the exact certificate takes, spec by spec.

    python benchmarks/certificate.py [FILE ...] [--json]     (default: every example)

`compile` is what comes before it, spec to plan, in the same process. The least of three runs counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from flowc.certify import verdict
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.source import opened

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.flow"))
RUNS = 3
AIM = 0.3


def seconds(run: Callable[[], object]) -> float:
    """The least time of some runs."""
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def measured(path: Path) -> dict[str, object]:
    """One spec's times and verdict."""
    source = opened(path)
    compiled = compile_text(source, Options(), Stage.PLAN)
    found = compiled.certify()
    return {
        "name": found.name,
        "compile": seconds(lambda: compile_text(source, Options(), Stage.PLAN)),
        "certify": seconds(compiled.certify),
        "certified": found.holds,
        "points": len(found.points),
        "error_probability": found.probability,
        "verdict": verdict(found),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    rows = [measured(path) for path in track(arguments.files, "certifying", console=console, transient=True)]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=f"the certificate, seconds (aim: {AIM})")
    for column in ("spec", "compile", "certify", "points", "error probability", "certified"):
        table.add_column(column, justify="left" if column == "spec" else "right")
    for row in rows:
        times = [f"{row[key]:.2f}" for key in ("compile", "certify")]
        table.add_row(
            str(row["name"]), *times, str(row["points"]), f"{row['error_probability']:.0e}", str(row["certified"])
        )
    Console().print(table)


if __name__ == "__main__":
    main()
