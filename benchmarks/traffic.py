"""Bytes that kernels move, flops and launches, counted under Triton's interpreter; beside the peer's, counted alike.

    TRITON_INTERPRET=1 .venv/bin/python benchmarks/traffic.py [NAME ...] [--schedule auto] [--json FILE]
        [--peer PYTHON --tools ../shared/tools]

Forward without a backward pass, and both together, at B 1, T 512, H 1, K = V = 128, rank 2, in float16. Distinct bytes
count an address once for each launch that reads or writes it; what goes through L2 counts every read. Flops are those
of products on tiles. The peer is flash-linear-attention, run by benchmarks/peer_traffic.py, its largest tiles; PYTHON
is the interpreter of an environment of what TOOLS/requirements.txt names. Kept is what autograd holds between the two
passes beside the inputs; the least is inputs read and outputs written, for a backward pass inputs and cotangents read
and gradients written as well. Exits with 1 where a forward pass, or both together, move more than half of the peer's
distinct bytes, take over 1.3 times its flops, or more than 6 launches.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import triton
from autograd_memory import Kept
from meter import Meter
from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table

import flowc
from flowc.files import write_whole
from flowc.semantics import load
from flowc.semantics.model import Model

LENGTH, SIDE, RANK = 512, 128, 2
BYTES, FLOPS = 0.5, 1.3  # of the peer's: the most of either
LAUNCHES = 6
TITLES = {"forward": "forward", "both": "with backward"}
PEER = {  # its ops, at chunks of 64 and with tensor cores in diagonal blocks
    "deltanet": "chunk_delta_rule",
    "gated_deltanet": "chunk_gated_delta_rule",
    "kda": "chunk_kda@safe",
    "gla": "chunk_gla",
    "simple_gla": "chunk_simple_gla",
    "rwkv7": "chunk_rwkv7@bound",
    "gated_delta_product": "chunk_gated_delta_product",
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
            with Kept(*leaves.values()) as kept:
                made = op(**leaves)
            if trained:
                torch.autograd.grad(made, list(leaves.values()), torch.ones_like(made), allow_unused=True)
        found[title] = {
            "distinct": meter.distinct(),
            "l2": sum(meter.read.values()) + sum(meter.written.values()),
            "dot_flops": sum(meter.dot_flops.values()),
            "kernels": dict(meter.launches),
        }
    own, out = (sum(t.numel() * t.element_size() for t in some) for some in (x.values(), (made,)))
    return found | {"kept": kept.bytes, "least": {"forward": own + out, "both": 3 * own + 2 * out}}


def counted(names: list[str], python: Path, tools: Path) -> dict[str, dict[str, Any]]:
    """What the peer's ops move, by flowc's names."""
    ops = [PEER[n] for n in names if n in PEER]
    command = [python, ROOT / "benchmarks/peer_traffic.py", "--tools", tools, "--length", str(LENGTH), *ops]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    found = {row["op"]: row for row in map(json.loads, lines)}
    return {n: found[PEER[n]] for n in names if n in PEER}


def ratio(row: dict[str, Any], title: str, what: str) -> float | None:
    """Of the peer's count."""
    return row[title][what] / row["peer"][title][what] if "peer" in row else None


def table(rows: list[dict[str, Any]]) -> Table:
    """What was counted, per token and head."""
    made = Table(title=f"per token and head, fp16, K = V = {SIDE}, T {LENGTH}; x: of the peer's")
    columns = ("least", "distinct bytes", "x", "through L2", "x", "flops", "x", "launches", "peer's", "kept", "its")
    for column in ("op", "", *columns):
        made.add_column(column, justify="right" if column in columns else "left")
    for row in rows:
        for title, words in TITLES.items():
            cells = [row["name"] if title == "forward" else "", words, f"{row['least'][title] / LENGTH:,.0f}"]
            for what in ("distinct", "l2", "dot_flops"):
                own = ratio(row, title, what)
                cells += [f"{row[title][what] / LENGTH:,.0f}", "-" if own is None else f"{own:.2f}"]
            peer = row.get("peer", {}).get(title, {}).get("kernels")
            cells += [str(sum(row[title]["kernels"].values())), "-" if peer is None else str(sum(peer.values()))]
            held = (row["kept"], row.get("peer", {}).get("kept")) if title == "both" else ("", "")
            made.add_row(*cells, *(f"{n / LENGTH:,.0f}" if isinstance(n, int) else n or "-" for n in held))
    return made


def main() -> int:
    """Count, save, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(PEER))
    parser.add_argument("--schedule", default="auto", choices=("auto", "fused", "split"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", type=Path, help="the interpreter that has the peer")
    parser.add_argument("--tools", type=Path, default=ROOT.parent / "shared/tools")
    arguments = parser.parse_args()
    console, rows = Console(stderr=True), []
    peers = {} if arguments.peer is None else counted(arguments.names, arguments.peer.absolute(), arguments.tools)
    for name in arguments.names:
        rows.append(measured(name, arguments.schedule) | ({"peer": peers[name]} if name in peers else {}))
        console.print(f"{name}: {rows[-1]['forward']['distinct'] / LENGTH:,.0f} bytes forward")
    if arguments.json is not None:
        about = {
            "machine": machine(),
            "commit": commit(),
            "triton": triton.__version__,
            "command": shlex.join(sys.argv),
        }
        write_whole(arguments.json, json.dumps(about | {"length": LENGTH, "side": SIDE, "rows": rows}, indent=1) + "\n")
    Console(width=150).print(table(rows))
    return int(any(missed(r) for r in rows))


def missed(row: dict[str, Any]) -> list[str]:
    """The bars that a row does not hold."""
    bars = [(title, what, most) for title in TITLES for what, most in (("distinct", BYTES), ("dot_flops", FLOPS))]
    found = [f"{title}, {what}" for title, what, most in bars if (ratio(row, title, what) or 0) > most]
    return found + ["launches"] * (sum(row["both"]["kernels"].values()) > LAUNCHES)


if __name__ == "__main__":
    sys.exit(main())
