"""Time and peak memory of forward and backward against T, against the tokens of a chunk, and against the rank.

    .venv/bin/python benchmarks/ablate.py [length|chunk|rank ...] [--json benchmarks/results/ablate.json] [--svg FILE]

In: nothing but this machine; a GPU is used where there is one, else one thread of the CPU. B 1, K = V = 128, float32 on
a CPU, bfloat16 on a GPU. Out: a table of medians, each op in a process of its own; beside them what the cost model
predicts for an H200 at the same sizes in 16 times as many heads (`flowc explain --shape`): no measurement, and marked
so. Chunks of more tokens than kernels hold have no prediction. `--tiny` runs all of it small. Refuses other words.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpu_ops import worked
from processes import ROOT, commit, machine
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flowc.files import write_whole
from flowc.report.curves import Panel, svg

SIDE, MORE_HEADS = 128, 16
SWEEPS: dict[str, dict[str, Any]] = {
    "length": {
        "names": ("gated_deltanet", "kda", "simple_gla"),
        "values": (2048, 8192, 32768, 65536),
        "heads": 1,
    },
    "chunk": {
        "names": ("gated_deltanet", "kda", "simple_gla"),
        "values": (16, 32, 64, 128, 256),
        "length": 8192,
        "heads": 1,
    },
    "rank": {
        "names": ("gated_delta_product", "lowrank_delta"),
        "values": (1, 2, 4, 8),
        "length": 4096,
        "heads": 1,
    },
}
"""The examples that are run, and the values of what is varied."""


def request(sweep: str, name: str, value: int, tiny: bool) -> dict[str, Any]:
    """What a worker is asked."""
    own = SWEEPS[sweep]
    found = {"name": name, "length": own.get("length", value), "heads": own["heads"], "side": SIDE, "repetitions": 3}
    if tiny:
        found |= {"length": value // 64 if sweep == "length" else 256, "side": 16, "repetitions": 1}
    if sweep == "chunk":
        found["options"] = {"chunk_size": value}
    if sweep == "rank":
        found["sizes"] = {"R": value}
    return found


def predicted(sweep: str, name: str, value: int) -> float | None:
    """Seconds on an H200 by the cost model; None where it has no kernels of these sizes."""
    own = SWEEPS[sweep]
    shape = f"1,{own.get('length', value)},{own['heads'] * MORE_HEADS},{SIDE},{SIDE}"
    shape += f",R={value}" if sweep == "rank" else ""
    command = [sys.executable, "-m", "flowc", "explain", f"examples/{name}.flow", "--json", "--backward"]
    command += ["--shape", shape]
    if sweep == "chunk":
        command += ["--chunk-size", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return float(json.loads(done.stdout)["seconds"]) if done.returncode == 0 else None


def swept(sweeps: Sequence[str], tiny: bool) -> list[dict[str, Any]]:
    """Every point of some sweeps."""
    points = [(s, n, v) for s in sweeps for n in SWEEPS[s]["names"] for v in SWEEPS[s]["values"]]
    rows = []
    for sweep, name, value in track(points, "points", console=Console(stderr=True)):
        made = worked(request(sweep, name, value, tiny))
        row = {"sweep": sweep, "name": name, "value": value, "device": made["device"], "peak_mib": made["peak"]}
        row |= {kind: statistics.median(made[kind]) for kind in ("forward", "both")}
        rows.append(row | {"tensors_mib": made["tensors"], "predicted_h200": predicted(sweep, name, value)})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line for every point."""
    found = Table(title="forward and backward")
    for column in ("against", "op", "value", "on", "forward", "with backward", "peak", "predicted, H200, 16 heads"):
        found.add_column(column, justify="left" if column in ("against", "op", "on") else "right")
    for r in rows:
        guess = "-" if r["predicted_h200"] is None else f"{1e3 * r['predicted_h200']:.2f} ms"
        times = [f"{1e3 * r[kind]:,.1f} ms" for kind in ("forward", "both")]
        found.add_row(r["sweep"], r["name"], f"{r['value']:,}", r["device"], *times, f"{r['peak_mib']:,.0f} MiB", guess)
    return found


def picture(rows: Sequence[dict[str, Any]]) -> str:
    """For every sweep: time measured, peak memory, time predicted for an H200."""
    panels = []
    for sweep in dict.fromkeys(r["sweep"] for r in rows):
        own = [r for r in rows if r["sweep"] == sweep]
        on = own[0]["device"]
        for label, key, scale in (
            (f"ms, measured, {on}", "both", 1e3),
            (f"MiB at most, {on}", "peak_mib", 1.0),
            ("ms, predicted, H200", "predicted_h200", 1e3),
        ):
            series = {
                name: [(r["value"], scale * r[key]) for r in own if r["name"] == name and r[key]]
                for name in SWEEPS[sweep]["names"]
            }
            panels.append(Panel(label, f"{sweep}", {n: s for n, s in series.items() if s}))
    return svg([p for p in panels if p.series], "forward and backward, K = V = 128, one head (H200: 16)")


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sweeps", nargs="*", default=list(SWEEPS), metavar="length|chunk|rank")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if unknown := [s for s in arguments.sweeps if s not in SWEEPS]:
        parser.error(f"there is no sweep {', '.join(unknown)}; there are {', '.join(SWEEPS)}")
    rows = swept(arguments.sweeps, arguments.tiny)
    Console(width=120).print(table(rows))
    if arguments.json is not None:
        about = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv)}
        write_whole(arguments.json, json.dumps({**about, "rows": rows}, indent=1) + "\n")
    if arguments.svg is not None:
        write_whole(arguments.svg, picture(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
