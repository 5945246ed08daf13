"""`make demo`: compile every example, run one on a real text, compare with the step-by-step form.

In: the text that the repository ships; `--backend triton` runs the Triton kernels, on a GPU where there is one, else on
fewer characters under Triton's interpreter. Out: one table with the error of every tensor, time and peak memory of both
forms, and a row for each of two examples with several states. Refuses nothing; an error above 1e-4 ends it with exit
code 1.
"""

from __future__ import annotations

import argparse
import json
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
missing = 0
for path in sys.argv[2:]:
    try:
        flowc.compile(__import__("pathlib").Path(path), backend=sys.argv[1])
    except ValueError as error:
        if "no kernels yet" not in str(error):
            raise
        missing += 1
print(missing)
"""

SEVERAL = ("gsa", "mlstm")
"""Examples with several states, a row each."""

ROW = """
import json, pathlib, sys, time, torch, flowc
op, (length, heads, size) = flowc.compile(pathlib.Path(sys.argv[1])), map(int, sys.argv[2:])
rng = torch.Generator().manual_seed(0)
x = {}
for i in op.compilation.model.inputs:
    x[i.name] = torch.randn(1, length, heads, *(size for _ in i.shape.sizes), generator=rng)
    if i.shape.sizes:
        x[i.name] = torch.nn.functional.normalize(x[i.name], dim=-1)
weight = torch.randn(1, length, heads, size, generator=rng)

def run(form):
    leaves = {n: v.clone().requires_grad_() for n, v in x.items()}
    begin = time.perf_counter()
    o = form(**leaves)
    grads = torch.autograd.grad((o * weight).sum(), list(leaves.values()))
    return time.perf_counter() - begin, [o.detach(), *grads]

run(op)
(fast, found), (slow, truth) = run(op), run(op.reference)
largest = max(float(g.norm()) for g in truth[1:])
sizes = [float(truth[0].norm()), *(max(float(g.norm()), largest / 10) for g in truth[1:])]
error = max(float((a - b).norm()) / s for a, b, s in zip(found, truth, sizes))
print(json.dumps({"fast": fast, "slow": slow, "error": error}))
"""


def compile_examples(backend: str) -> str:
    """Compile every example in one process, and say how long it took."""
    examples = sorted((ROOT / "examples").glob("*.flow"))
    begin = time.perf_counter()
    command = [sys.executable, "-c", COMPILE, backend, *map(str, examples)]
    missing = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    left = f", {missing} of them have no kernels yet" if missing else ""
    return f"{len(examples)} examples compiled in {time.perf_counter() - begin:.1f} s{left}"


def several() -> tuple[Table, bool]:
    """The examples of several states: a row each, and whether all errors are within the limit."""
    made, fine = Table(title=f"several states, torch operators, T 1024, H {HEADS}, sizes {SIZE}"), True
    for title in ("", "time", "step by step", "ratio", "largest error"):
        made.add_column(title, justify="right" if title else "left")
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    for name in SEVERAL:
        command = [sys.executable, "-c", ROW, str(ROOT / f"examples/{name}.flow"), "1024", str(HEADS), str(SIZE)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found = json.loads(done.stdout)
        fine &= found["error"] <= LIMIT
        times = f"{found['fast']:.3f} s", f"{found['slow']:.2f} s", f"{found['slow'] / found['fast']:.0f}x"
        made.add_row(name, *times, f"{found['error']:.1e}")
    return made, fine


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
    rows, fine = several()
    console.print(rows)
    return 0 if fine and all(error <= LIMIT for error in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
