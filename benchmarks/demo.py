"""`make demo`: compile every example, run one on a real text, compare with the step-by-step form.

In: the text that the repository ships; `--backend triton` runs the Triton kernels, on a GPU where there is one, else on
fewer characters under Triton's interpreter. Out: one table: the error of every tensor, time and peak memory of both
forms. Refuses nothing; an error above 1e-4 ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import ROOT, Side
from rich.console import Console
from rich.table import Table

LENGTH, HEADS, SIZE = 4096, 4, 64
INTERPRETED = 256
"""Characters where the interpreter runs the kernels: programs one after another, a second for a few chunks."""

LIMIT = 1e-4
"""Both forms sum in float32 (eps 1.2e-7) over up to 4096 tokens; the errors add as a random walk, 64 eps, to which the
products of a token (K = 64 terms, forward and backward) put a factor of ten: 8e-5."""

COMPILE = """
import sys, flowc
for path in sys.argv[2:]:
    flowc.compile(__import__("pathlib").Path(path), backend=sys.argv[1])
"""


def compile_examples(backend: str) -> str:
    """Compile every example in one process, and say how long it took."""
    examples = sorted((ROOT / "examples").glob("*.flow"))
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", COMPILE, backend, *map(str, examples)], check=True)
    return f"{len(examples)} examples compiled in {time.perf_counter() - begin:.1f} s"


def has_gpu() -> bool:
    """Whether torch finds a GPU, asked in another process: this one imports no torch."""
    script = "import torch; print(torch.cuda.is_available())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def run(side: str, length: int) -> tuple[dict[str, float], dict[str, float], dict[str, float], int]:
    """The step-by-step form's times, those of `side`, its errors, and how many threads ran."""
    shape = ("text", length, HEADS, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "steps.pt"
        with Side("steps", *shape) as steps:
            slow = steps.ask("both")
            steps.ask(f"save {file}")
        with Side(side, *shape) as compiled:
            first = compiled.ask("both")
            runs = [first, *(compiled.ask("both") for _ in range(0 if length == INTERPRETED else 3))]
            fast = min(runs, key=lambda run: run["seconds"])
            return slow, {**fast, "peak": first["peak"]}, compiled.ask(f"compare {file}"), compiled.about["threads"]


def table(name: str, slow: dict[str, float], fast: dict[str, float], errors: dict[str, float]) -> Table:
    """Both forms side by side; no ratio where the interpreter's time and memory say nothing of the kernels'."""
    made = Table()
    for title in ("", name, "step by step", "ratio"):
        made.add_column(title, justify="right" if title else "left")
    times, peaks = slow["seconds"] / fast["seconds"], slow["peak"] / max(fast["peak"], 0.1)
    shown = ("-", "-") if name == "interpreted" else (f"{times:.0f}x", f"{peaks:.1f}x")
    made.add_row("time", f"{fast['seconds']:.3f} s", f"{slow['seconds']:.2f} s", shown[0])
    made.add_row("peak memory", f"{fast['peak']:.0f} MiB", f"{slow['peak']:.0f} MiB", shown[1])
    made.add_section()
    for tensor, error in errors.items():
        made.add_row(f"error of {tensor}", f"{error:.1e}", "", "ok" if error <= LIMIT else "off")
    return made


def main() -> int:
    """Run it all and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=("torch", "triton"), default="torch")
    backend = parser.parse_args().backend
    interpreted = backend == "triton" and not has_gpu()
    if interpreted:
        os.environ["TRITON_INTERPRET"] = "1"  # what it is when kernels are imported decides, in the processes below
    console = Console()
    console.print(compile_examples(backend))
    length = INTERPRETED if interpreted else LENGTH
    slow, fast, errors, threads = run("triton" if backend == "triton" else "compiled", length)
    where = {"torch": f"{threads} thread", "triton": "Triton kernels on the GPU, step by step on the CPU"}[backend]
    console.print(
        f"gated_deltanet on the first {length} characters of the Constitution of the United States, H {HEADS}, "
        f"K = V = {SIZE}, float32, forward and backward, "
        f"{'Triton kernels under the interpreter' if interpreted else where}"
    )
    console.print(table("interpreted" if interpreted else "compiled", slow, fast, errors))
    return 0 if all(error <= LIMIT for error in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
