"""What a call costs on the host beyond its launches: kernels are stubs, tensors are small and on the CPU.

    .venv/bin/python benchmarks/host.py [NAME ...] [--json benchmarks/results/host.json]

In: examples. Out: a table of microseconds a call, of the fastest round of calls: a forward pass without gradients,
with what autograd adds, and with the backward pass; allocations of tensors are included. What a call does on the host
does not go by its sizes. No GPU is needed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import offline
import torch
import triton
from processes import ROOT, commit, machine
from rich.console import Console
from rich.table import Table

import flowc
from flowc.files import write_whole
from flowc.semantics import load

NAMES = ("gated_deltanet", "gla", "kda", "gated_delta_product", "simple_gla", "rwkv7", "mamba", "hgrn", "mlstm")
SIDE, RANK, CALLS, ROUNDS = 128, 2, 200, 15


def microseconds(call: Callable[[], object]) -> float:
    """The fastest of `ROUNDS` rounds of `CALLS`: what else the machine does only adds to it."""
    return 1e6 * min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS


def measured(name: str) -> dict[str, Any]:
    """An example's calls."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    module, model = flowc.compile(text)._module, load(text, name)
    op, x = getattr(module, model.name), {}
    sizes = {d.name: d.value or {"K": SIDE, "V": SIDE}.get(d.name, RANK) for d in model.dimensions}
    for i in model.inputs:
        lead = (1,) if i.is_param else (1, 128, 1)
        shape = (*lead, *(s.value(sizes) for s in i.shape.sizes))
        x[i.name] = torch.zeros(shape, dtype=torch.bfloat16)
    leaves = {n: v.clone().requires_grad_() for n, v in x.items()}

    def trained() -> None:
        made = op(**leaves)
        flat = [y for y in (made if isinstance(made, tuple) else (made,)) if y.requires_grad]
        torch.autograd.grad(flat, list(leaves.values()), [torch.empty_like(y) for y in flat], allow_unused=True)

    with offline.stubbed(module):
        with torch.no_grad():
            alone = microseconds(lambda: op(**x))
        times = {"forward": alone, "recorded": microseconds(lambda: op(**leaves)), "both": microseconds(trained)}
    return {"name": name, **{n: round(t, 1) for n, t in times.items()}}


def main() -> int:
    """Measure, save, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [measured(name) for name in arguments.names]
    table = Table(title="microseconds a call, launches stubbed")
    for column in ("op", "forward", "with autograd", "with backward"):
        table.add_column(column, justify="left" if column == "op" else "right")
    for row in rows:
        table.add_row(row["name"], *(f"{row[n]:.0f}" for n in ("forward", "recorded", "both")))
    Console().print(table)
    if arguments.json is not None:
        about: dict[str, Any] = {"machine": machine(), "commit": commit(), "command": shlex.join(sys.argv)}
        about["versions"] = {"torch": torch.__version__, "triton": triton.__version__}
        write_whole(arguments.json, json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
