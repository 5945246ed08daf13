"""Bytes that kernels move, flops and launches, counted under Triton's interpreter; beside the peer's.

    TRITON_INTERPRET=1 .venv/bin/python benchmarks/traffic.py [NAME ...] [--schedule auto] [--json FILE]

Forward without a backward pass, and both together, at B 1, T 512, H 1, K = V = 128 in float16. Distinct bytes count an
address once for each launch that reads or writes it; what goes through L2 counts every read. The peer's are those of
flash-linear-attention 0.6.0 in bfloat16, chunk 64, its largest tiles, as ../shared/tools counted them. Launches are
those of kernels. Exits with 1 where a forward pass moves more than half of the peer's distinct bytes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
import triton
from meter import Meter
from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table

import flowc
from flowc.files import write_whole
from flowc.semantics import load
from flowc.semantics.model import Model

LENGTH, SIDE, RANK = 512, 128, 2
PEER = {  # kilobytes: distinct forward, distinct forward and backward; launches of the same
    "deltanet": (2550, 8058, 5, 11),
    "gated_deltanet": (2349, 7884, 5, 12),
    "kda": (4476, 13639, 6, 13),
    "gla": (3424, 11502, 5, 11),
    "simple_gla": (1319, 5796, 3, 8),
    "rwkv7": (5591, 20111, 6, 18),
    "gated_delta_product": None,
}


def inputs(model: Model) -> dict[str, torch.Tensor]:
    """Small random inputs: gates and params in float32, all others in float16."""
    torch.manual_seed(0)
    sizes = {d.name: d.value or (RANK if d.name == "R" else SIDE) for d in model.dimensions}
    found = {}
    for i in model.inputs:
        lead = (1,) if i.is_param else (1, LENGTH, 1)
        drawn = torch.rand(*lead, *(s.value(sizes) for s in i.shape.sizes)) / 16
        gate = i.range is not None and i.range.high == 0
        found[i.name] = -drawn if gate else drawn if i.is_param else drawn.half()
    return found


def measured(name: str, schedule: str) -> dict[str, Any]:
    """What a forward pass and one with its backward move."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    op, x = flowc.compile(text, backend="triton", schedule=schedule), inputs(load(text, name))
    found: dict[str, Any] = {"name": name}
    for title, trained in (("forward", False), ("both", True)):
        leaves = {n: v.clone().requires_grad_(trained) for n, v in x.items()}
        with Meter() as meter:
            made = op(**leaves)
            if trained:
                torch.autograd.grad(made, list(leaves.values()), torch.ones_like(made), allow_unused=True)
        found[title] = {
            "distinct": meter.distinct(),
            "l2": sum(meter.read.values()) + sum(meter.written.values()),
            "dot_flops": sum(meter.dot_flops.values()),
            "kernels": dict(meter.launches),
        }
    peer = PEER.get(name)
    if peer is not None:
        forward, both, *launches = peer
        found["peer"] = {"forward": 1000 * forward, "both": 1000 * both, "launches": launches}
    return found


def table(rows: list[dict[str, Any]]) -> Table:
    """What was counted, per token and head."""
    made = Table(title=f"bytes per token and head, fp16, K = V = {SIDE}, T {LENGTH}")
    columns = ("distinct", "of the peer's", "through L2", "launches")
    for column in ("op", *(f"forward: {c}" for c in columns), *(f"with backward: {c}" for c in columns)):
        made.add_column(column, justify="left" if column == "op" else "right")
    for row in rows:
        cells = [row["name"]]
        for title in ("forward", "both"):
            own, peer = row[title], row.get("peer", {}).get(title)
            cells.append(f"{own['distinct'] / LENGTH:,.0f}")
            cells.append("-" if peer is None else f"{own['distinct'] / peer:.2f}")
            cells += [f"{own['l2'] / LENGTH:,.0f}", str(sum(own["kernels"].values()))]
        made.add_row(*cells)
    return made


def main() -> int:
    """Count, save, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(PEER))
    parser.add_argument("--schedule", default="auto", choices=("auto", "fused", "split"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console, rows = Console(stderr=True), []
    for name in arguments.names:
        rows.append(measured(name, arguments.schedule))
        console.print(f"{name}: {rows[-1]['forward']['distinct'] / LENGTH:,.0f} bytes forward")
    if arguments.json is not None:
        about = {
            "machine": machine(),
            "commit": commit(),
            "triton": triton.__version__,
            "command": shlex.join(sys.argv),
        }
        write_whole(arguments.json, json.dumps(about | {"length": LENGTH, "side": SIDE, "rows": rows}, indent=1) + "\n")
    Console().print(table(rows))
    return int(any("peer" in r and 2 * r["forward"]["distinct"] > r["peer"]["forward"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
