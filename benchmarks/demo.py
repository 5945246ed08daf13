"""`make demo`: compile every example, run one on a real text, compare with the step-by-step form.

In: the text that the repository ships. Out: one table: the error of every tensor, time and peak memory of both forms.
Refuses nothing; an error above 1e-4 ends it with exit code 1.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import ROOT, Side
from rich.console import Console
from rich.table import Table

LENGTH, HEADS, SIZE = 4096, 4, 64
LIMIT = 1e-4
"""Both forms sum in float32 (eps 1.2e-7) over up to 4096 tokens; the errors add as a random walk, 64 eps, to which the
products of a token (K = 64 terms, forward and backward) put a factor of ten: 8e-5."""


def compile_examples() -> str:
    """Compile every example with the command line, in one process, and say how long it took."""
    examples = sorted((ROOT / "examples").glob("*.flow"))
    begin = time.perf_counter()
    script = "import sys, flowc\nfor path in sys.argv[1:]:\n    flowc.compile(__import__('pathlib').Path(path))"
    subprocess.run([sys.executable, "-c", script, *map(str, examples)], check=True)
    return f"{len(examples)} examples compiled in {time.perf_counter() - begin:.1f} s"


def main() -> int:
    """Run it all and print."""
    console = Console()
    console.print(compile_examples())
    shape = ("text", LENGTH, HEADS, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "steps.pt"
        with Side("steps", *shape) as steps:
            slow = steps.ask("both")
            steps.ask(f"save {file}")
        with Side("compiled", *shape) as compiled:
            first = compiled.ask("both")
            fast = min((compiled.ask("both") for _ in range(3)), key=lambda run: run["seconds"])
            errors = compiled.ask(f"compare {file}")
            threads = compiled.about["threads"]
    console.print(
        f"gated_deltanet on the first {LENGTH} characters of the Constitution of the United States, H {HEADS}, "
        f"K = V = {SIZE}, float32, forward and backward, {threads} thread"
    )
    table = Table()
    for name in ("", "compiled", "step by step", "ratio"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(
        "time", f"{fast['seconds']:.3f} s", f"{slow['seconds']:.2f} s", f"{slow['seconds'] / fast['seconds']:.0f}x"
    )
    table.add_row(
        "peak memory", f"{first['peak']:.0f} MiB", f"{slow['peak']:.0f} MiB", f"{slow['peak'] / first['peak']:.1f}x"
    )
    table.add_section()
    for name, error in errors.items():
        table.add_row(f"error of {name}", f"{error:.1e}", "", "ok" if error <= LIMIT else "off")
    console.print(table)
    return 0 if all(error <= LIMIT for error in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
