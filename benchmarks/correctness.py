"""Every example on this machine's GPU against float64 step by step: values, gradients, bits, packed sequences, steps.

    .venv/bin/python benchmarks/correctness.py [--ops A,B] [--json FILE] [--svg FILE] [--budget MINUTES] [--tiny]
        [--again] [--most N]

In: examples, all of them without `--ops`. Out: a line for every run that does not hold, a line per example, and every
run as a row of FILE: which example, under which schedule, aggregation and what else can be chosen, in which type and
shape, the worst error over its tolerance, and seconds. Rows that FILE has of the same code, commit, versions and device
are not run again, unless `--again`. No row is begun after MINUTES; those that are left are named. `--tiny` takes small
shapes, under TRITON_INTERPRET=1 without a GPU. compute-sanitizer runs over a small case where it is installed. Exits
with 1 where a row fails, with 75 where a failure has left the device unusable: what is left goes on when it is run
again. What an op refuses in its own words is a row, and fails only where nothing was chosen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import checks
import ledger
import torch
import triton
from checks import Check
from command import device_name, names_in
from ledger import Ledger
from processes import HERE, ROOT
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from flowc.files import write_whole
from flowc.fuzz.find import last
from flowc.fuzz.targets import GPU, INTERPRETER, Target
from flowc.report.curves import Panel, svg

TOOLS = ("memcheck", "racecheck")
SANITIZED = "gated_deltanet"
SECONDS, SPARE = 300, 30
"""The most that a tool takes, and may take beyond the time that is left."""

FOUND = 9
FAILED = ("failed", "died")


def judged(check: Check, target: Target) -> dict[str, Any]:
    """What becomes of a check; an exception is a row."""
    began = time.monotonic()
    verdict, worst, why = "held", None, ""
    try:
        worst, of = checks.found(check, target)
        if not worst <= 1:
            verdict, why = "failed", f"{of} differs between two runs" if check.form == "bits" else f"{of} is off"
    except Exception as error:  # whatever an op raises is what was found
        own = isinstance(error, ValueError) and str(error).startswith(f"{check.example}: ") and bool(check.chosen)
        verdict, why = ("refused", str(error)) if own else ("failed", last(error))
    worst = worst if worst is None or isfinite(worst) else None
    return check.record() | {
        "worst": worst, "seconds": round(time.monotonic() - began, 3), "verdict": verdict, "why": why,
    }  # fmt: skip


def lost(target: Target) -> bool:
    """Whether the device does nothing for this process any more, as after an access beyond its memory."""
    if target.device == "cpu":
        return False
    try:
        torch.zeros(1, device=target.device).item()
    except RuntimeError:
        return True
    return False


def sanitized(target: Target, tool: str, seconds: float = SECONDS) -> dict[str, Any]:
    """What compute-sanitizer says of the first check of an example, in a process of its own, within some seconds."""
    row: dict[str, Any] = {"example": "compute-sanitizer", "form": f"{tool} on {SANITIZED}", "worst": None}
    found, began = shutil.which("compute-sanitizer"), time.monotonic()
    if target.device == "cpu" or found is None:
        why = "not run: there is no GPU" if target.device == "cpu" else "compute-sanitizer is not installed"
        return row | {"seconds": 0.0, "verdict": "skipped", "why": why}
    command = [found, "--tool", tool, "--error-exitcode", str(FOUND)]
    command += [sys.executable, str(HERE / "correctness.py"), "--tiny", "--ops", SANITIZED, "--most", "1"]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # or one allocation holds all tensors
    verdict, why = "held", ""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode:  # FOUND where the tool has seen an error; all else says that it did not run
            verdict = "failed" if done.returncode == FOUND else "skipped"
            why = f"exit code {done.returncode}: {(done.stdout + done.stderr)[-600:]}"
    except subprocess.TimeoutExpired:
        verdict, why = "skipped", f"not done after {seconds:.0f} seconds"
    return row | {"seconds": round(time.monotonic() - began, 3), "verdict": verdict, "why": why}


def ran(names: Sequence[str], target: Target, tiny: bool, most: int | None, until: float, book: Ledger) -> bool:
    """Run what is not there yet and note it; whether the device is lost."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    left: list[str] = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("compiling", total=None)
        planned = [(n, checks.example(n).code, checks.checks(checks.example(n), target, tiny)) for n in names]
        todo = [(f"{c.key} [{code}]", c) for _, code, own in planned for c in own][:most]
        progress.update(bar, total=len(todo))
        for at, (key, check) in enumerate(todo):
            progress.update(bar, description=check.example, completed=at)
            if key in book.rows:
                continue
            if time.monotonic() >= until:
                left.append(key)
            elif not book.begin(key):
                row = check.record() | {"worst": None, "seconds": 0.0, "verdict": "died"}
                book.end(key, row | {"why": f"the process ended in this row {ledger.TRIES} times"})
            else:
                with book.begun(key):
                    row = judged(check, target)
                book.end(key, row)
                if lost(target):
                    book.leave([k for k, _ in todo[at + 1 :] if k not in book.rows])
                    return True
        progress.update(bar, completed=len(todo))
    for tool in () if most is not None else TOOLS:
        key = f"compute-sanitizer {tool}"
        if key not in book.rows and time.monotonic() >= until:
            left.append(key)
        elif key not in book.rows:
            book.end(key, sanitized(target, tool, min(SECONDS, until - time.monotonic() + SPARE)))
    book.leave(left)
    return False


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line per example."""
    made = Table(title="against float64, step by step")
    for name in ("example", "rows", "held", "refused", "failed", "worst / tolerance", "seconds"):
        made.add_column(name, justify="left" if name == "example" else "right")
    for name in dict.fromkeys(r["example"] for r in rows):
        own = [r for r in rows if r["example"] == name]
        counts = [sum(r["verdict"] in v for r in own) for v in (("held",), ("refused",), FAILED)]
        worst = max((r["worst"] for r in own if r["worst"] is not None), default=None)
        shown = "-" if worst is None else f"{worst:.2f}"
        made.add_row(name, str(len(own)), *map(str, counts), shown, f"{sum(r['seconds'] for r in own):.1f}")
    return made


def picture(rows: Sequence[dict[str, Any]]) -> str:
    """Errors over tolerances, the smallest first: a curve for every type."""
    series = {}
    for dtype in dict.fromkeys(r["dtype"] for r in rows if r["worst"]):
        worst = sorted(r["worst"] for r in rows if r["worst"] and r["dtype"] == dtype)
        series[dtype] = [(100 * n / len(worst), w) for n, w in enumerate(worst, 1)]
    return svg([Panel("error / tolerance", "percent of rows", series, (True, False))], "1 is the bar") if series else ""


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; ends with 2 where it cannot be done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = sorted(p.stem for p in (ROOT / "examples").glob("*.flow"))
    parser.add_argument("--ops", default=",".join(known), help="examples, with commas between them")
    parser.add_argument("--json", type=Path, help="where rows are kept, and looked for")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--budget", type=float, default=float("inf"), help="minutes after which no row is begun")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--again", action="store_true", help="run rows again that are there")
    parser.add_argument("--most", type=int, help="only so many rows, the first ones")
    found = parser.parse_args(given)
    found.ops = names_in(found.ops)
    if unknown := set(found.ops) - set(known):
        parser.error(f"no example {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if not torch.cuda.is_available() and not (found.tiny and triton.knobs.runtime.interpret):
        parser.error("there is no GPU; --tiny runs it small under TRITON_INTERPRET=1")
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Run, save, print."""
    asked = arguments(given)
    until = time.monotonic() + 60 * asked.budget
    there = torch.cuda.is_available() and not triton.knobs.runtime.interpret
    target = GPU if there else INTERPRETER
    warnings.filterwarnings("ignore", category=UserWarning, message=r"(?s)warning\[W20")  # `flowc check` gives them
    about = ledger.about(device_name())
    book = Ledger.opened(asked.json, about, asked.again)
    gone = ran(asked.ops, target, asked.tiny, asked.most, until, book)
    rows = list(book.rows.values())
    console = Console(width=140)
    if rows:
        console.print(table(rows))
    failed = [r for r in rows if r["verdict"] in FAILED]
    for row in failed:
        console.print(f"{row['key']}: {row['why']}", markup=False)
    for row in rows:
        if row["verdict"] == "skipped":
            console.print(f"{row['key']}: {row['why']}", markup=False)
    if book.left:
        console.print(f"{len(book.left)} rows were not run: {'the device was lost' if gone else 'the budget is spent'}")
    if asked.svg is not None and (drawing := picture([r for r in rows if "dtype" in r])):
        write_whole(asked.svg, drawing)
    return ledger.LOST if gone else int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
