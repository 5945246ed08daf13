"""What autograd keeps between a forward and its backward pass: bytes per token and head, beside the inputs.

    .venv/bin/python benchmarks/kept.py [NAME ...] [--json FILE]
        [--peer PYTHON --tools ../shared/tools]

In: examples, all if none is named, at B 1, T 512, H 1, K = V = 128, rank 2, in float16, on Triton kernels. Out: a table
of what is kept with save='states' (`flowc explain` names it), with save='recompute', and what flash-linear-attention
keeps where it has the op. flowc's kernels are stubs; the peer runs as in traffic.py. Refuses examples that are not
there, and to run under Triton's interpreter.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import offline
import triton
from autograd_memory import Kept
from processes import ROOT, commit, machine
from rich.console import Console
from rich.progress import track
from rich.table import Table
from traffic import LENGTH, PEER, SIDE, counted, inputs

import flowc
from flowc.files import write_whole
from flowc.semantics import load

OTHERS = {"retnet": "chunk_retention", "rwkv6": "chunk_rwkv6"}
"""Ops of the peer that traffic.py does not compare."""


def measured(name: str) -> dict[str, Any]:
    """What one op keeps."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    found: dict[str, Any] = {"name": name}
    for save in ("states", "recompute"):
        op = flowc.compile(text, backend="triton", save=save)
        leaves = {n: v.requires_grad_() for n, v in inputs(load(text, name)).items()}
        with offline.stubbed(op._module), Kept(*leaves.values()) as kept:
            op(**leaves)
        found[save] = kept.bytes / LENGTH
    return found


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line for every op."""
    made = Table(title=f"kept, bytes per token and head, fp16, K = V = {SIDE}, T {LENGTH}")
    for column in ("op", "states", "recompute", "the peer's", "x"):
        made.add_column(column, justify="left" if column == "op" else "right")
    for r in rows:
        peer = r.get("peer")
        shown = ("-", "-") if peer is None else (f"{peer:,.0f}", f"{r['states'] / peer:.2f}" if peer else "-")
        made.add_row(r["name"], f"{r['states']:,.0f}", f"{r['recompute']:,.0f}", *shown)
    return made


def main() -> int:
    """Run, save, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    examples = sorted(p.stem for p in (ROOT / "examples").glob("*.flow"))
    parser.add_argument("names", nargs="*", default=examples)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", type=Path, help="the interpreter that has the peer")
    parser.add_argument("--tools", type=Path, default=ROOT.parent / "shared/tools")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(examples)):
        parser.error(f"there is no example {', '.join(unknown)}")
    if triton.knobs.runtime.interpret:
        parser.error("unset TRITON_INTERPRET: kernels are stubs here")
    PEER.update(OTHERS)
    there = arguments.peer is not None
    peers = counted(arguments.names, arguments.peer.absolute(), arguments.tools) if there else {}
    rows = [measured(n) for n in track(arguments.names, "ops", console=Console(stderr=True))]
    for row in rows:
        if row["name"] in peers:
            row["peer"] = peers[row["name"]]["kept"] / LENGTH
    if arguments.json is not None:
        about = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv)}
        about |= {"triton": triton.__version__, "length": LENGTH, "side": SIDE}
        write_whole(arguments.json, json.dumps(about | {"rows": rows}, indent=1) + "\n")
    Console(width=120).print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
