"""What ops reach of a CPU: their share of its GEMM rate, what they take of memory, and what bfloat16 gains.

    .venv/bin/python benchmarks/cpu_ops.py [NAME ...] [--json benchmarks/results/cpu_ops.json] [--tiny]

In: examples, at B 1, T 4096, H 8, K = V = 128, one thread. Out: a table of medians of a forward pass under `no_grad`
and of forward and backward, each op in a process of its own, the two types in turn. The share is of the rate at which
the machine multiplies 2048 x 2048 matrices in float32, for the flops of a forward pass in chunks of 64, and three times
as many for the backward with the chunk's matrices recomputed (shared/design/performance.md's count): what a pass needs,
whatever it does. `peak` is what forward and backward took of memory at most beyond inputs, `x` how many times inputs,
outputs and their gradients together. `--tiny` runs all of it small, where times mean nothing. Refuses unknown examples.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from processes import HERE, ROOT, commit, machine
from rich.console import Console
from rich.progress import track
from rich.table import Table

SHAPE = {"length": 4096, "heads": 8, "side": 128}
TINY = {"length": 64, "heads": 1, "side": 16, "repetitions": 1}
GOALS = {"deltanet": 0.4, "gated_deltanet": 0.4, "simple_gla": 0.4, "gla": 0.2, "kda": 0.2, "rwkv6": 0.2, "rwkv7": 0.2}
"""The share of GEMM that forward and backward are to reach."""

PASSES = {"forward": 1, "both": 4}
"""How many times a forward pass's flops: each product has two adjoints, and is made again."""


def worked(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker says of one op."""
    command = [sys.executable, str(HERE / "op_worker.py"), json.dumps(request)]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{request}: {done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(name: str, shape: Mapping[str, int]) -> dict[str, Any]:
    """One op, in float32 and in bfloat16."""
    own = worked({"name": name, **shape, "beside": "bfloat16"})
    tokens = shape["length"] * shape["heads"]
    seconds = {kind: statistics.median(own[kind]) for kind in PASSES}
    rates = {kind: tokens * own["flops"] * times / seconds[kind] for kind, times in PASSES.items()}
    return {
        "name": name,
        "seconds": seconds,
        "share": {kind: rate / 1e9 / own["gemm"] for kind, rate in rates.items()},
        "goal": GOALS.get(name),
        "gemm_gflops": own["gemm"],
        "flops": own["flops"],
        "peak_mib": own["peak"],
        "tensors_mib": own["tensors"],
        "bfloat16": {kind: statistics.median(own["beside"][kind]) for kind in PASSES},
        "threads": own["threads"],
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """A line for every op."""
    found = Table(title="float32, one thread; bf16: how many times as fast")
    for column in ("op", "forward", "of GEMM", "with backward", "of GEMM", "goal", "peak", "x", "bf16", "bf16, both"):
        found.add_column(column, justify="left" if column == "op" else "right")
    for r in rows:
        times = [f"{1e3 * r['seconds'][kind]:.0f} ms" for kind in PASSES]
        shares = [f"{r['share'][kind]:.0%}" for kind in PASSES]
        gains = [f"{r['seconds'][kind] / r['bfloat16'][kind]:.2f}" for kind in PASSES]
        goal = "-" if r["goal"] is None else f"{r['goal']:.0%}"
        memory = [f"{r['peak_mib']:.0f} MiB", f"{r['peak_mib'] / r['tensors_mib']:.1f}"]
        found.add_row(r["name"], times[0], shares[0], times[1], shares[1], goal, *memory, *gains)
    return found


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(GOALS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if unknown := [n for n in arguments.names if not (ROOT / f"examples/{n}.flow").is_file()]:
        parser.error(f"there is no example {', '.join(unknown)}")
    shape = TINY if arguments.tiny else SHAPE
    console = Console(stderr=True)
    rows = [measured(n, shape) for n in track(arguments.names, "ops", console=console)]
    Console(width=120).print(table(rows))
    if arguments.json is not None:
        from flowc.files import write_whole

        about = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv), "shape": shape}
        write_whole(arguments.json, json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
