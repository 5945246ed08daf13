"""The torch target on a CPU against the peer that Hugging Face transformers falls back to.

    make peers && .venv/bin/python benchmarks/cpu.py [--json benchmarks/results/cpu.json] [--repetitions 7]

In: nothing but this machine. Out: a table of forward (no_grad) and forward+backward of the gated delta rule at B 1,
T 4096, H 8, K = V = 128, float32, one thread: medians of interleaved repetitions, the peer's peak memory and ours
(maximum resident size of a fresh process less that after making the inputs), and the fraction of the machine's own
GEMM rate that was reached. Refuses to run without `.venv-peers`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import ROOT, Side, commit, machine
from rich.console import Console
from rich.table import Table

LENGTH, HEADS, SIZE, CHUNK = 4096, 8, 128, 64
SHAPE = ("random", LENGTH, HEADS, SIZE)
FORWARD = 6 * SIZE * SIZE + CHUNK * (4 * SIZE + 4 * SIZE)
"""Flops per token and head that a chunked forward needs (shared/design/performance.md): 163,840 here."""

BACKWARD = 3 * FORWARD
"""What the backward adds with the chunk's matrices recomputed: 491,520, each product having two adjoints."""

FLOPS = {"forward": FORWARD * LENGTH * HEADS, "both": (FORWARD + BACKWARD) * LENGTH * HEADS}
LABELS = {"forward": "forward", "both": "forward + backward"}


def measure(repetitions: int) -> dict[str, Any]:
    """Both sides in one run: interleaved times, the same results, then memory in fresh processes."""
    with Side("compiled", *SHAPE) as ours, Side("peer", *SHAPE) as peer, tempfile.TemporaryDirectory() as folder:
        peer.ask(f"save {folder}/peer.pt")
        errors = ours.ask(f"compare {folder}/peer.pt")
        # The peer scales q itself: its gradient is that by the unscaled q.
        errors.pop("dq")
        gemm = ours.ask("gemm")["gflops"]
        times: dict[str, dict[str, list[float]]] = {}
        for kind in LABELS:
            pairs = [(ours.ask(kind)["seconds"], peer.ask(kind)["seconds"]) for _ in range(repetitions + 1)]
            # The first of each is the warm-up.
            times[kind] = {"ours": [a for a, _ in pairs[1:]], "peer": [b for _, b in pairs[1:]]}
        about = {"ours": ours.about, "peer": peer.about}
    memory = {kind: {side: fresh_peak(name, kind) for side, name in SIDES.items()} for kind in LABELS}
    return {"errors": errors, "gemm_gflops": gemm, "seconds": times, "peak_mib": memory, "about": about}


SIDES = {"ours": "compiled", "peer": "peer"}


def fresh_peak(side: str, kind: str) -> float:
    """Peak memory of one run in a process that has done nothing else, MiB."""
    with Side(side, *SHAPE) as process:
        return float(process.ask(kind)["peak"])


def show(result: dict[str, Any]) -> None:
    """The table."""
    threads = result["about"]["ours"]["threads"]
    title = f"gated delta rule, B 1, T {LENGTH}, H {HEADS}, K = V = {SIZE}, float32, {threads} thread"
    table = Table(title=title)
    for name in ("", "flowc", "transformers", "ratio", "flowc's share of GEMM"):
        table.add_column(name, justify="right" if name else "left")
    for kind, label in LABELS.items():
        ours, peer = (statistics.median(result["seconds"][kind][side]) for side in ("ours", "peer"))
        share = FLOPS[kind] / ours / 1e9 / result["gemm_gflops"]
        table.add_row(label, f"{ours:.3f} s", f"{peer:.3f} s", f"{peer / ours:.2f}x", f"{share:.0%}")
    for kind, label in LABELS.items():
        ours, peer = (result["peak_mib"][kind][side] for side in ("ours", "peer"))
        table.add_row(f"peak memory, {label}", f"{ours:.0f} MiB", f"{peer:.0f} MiB", f"{peer / ours:.2f}x", "")
    console = Console()
    console.print(table)
    worst = max(result["errors"].values())
    console.print(
        f"GEMM 2048: {result['gemm_gflops']:.0f} GFLOP/s; largest relative difference of results: {worst:.1e}"
    )


def versions() -> dict[str, str]:
    """Of the peer's environment."""
    script = "import torch, transformers; print(torch.__version__, transformers.__version__)"
    python = ROOT / ".venv-peers/bin/python"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    return {"torch": done[0], "transformers": done[1]}


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="save the result there, with machine, versions, commit and command")
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()
    if not (ROOT / ".venv-peers").is_dir():
        parser.error("no .venv-peers: run `make peers` first")
    result = measure(args.repetitions)
    show(result)
    if args.json is not None:
        where = {"machine": machine(), "versions": versions(), "commit": commit()}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**where, "command": shlex.join(sys.argv), **result}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
