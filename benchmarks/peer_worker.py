"""The peer's side of compare_peer.py, in the environment `.venv-fla`, where flowc is not installed.

In: a file with inputs, first states and cotangents of every row. Out: a file with the peer's output, last states and
gradients of each, or what it raised, and the versions that ran. Triton kernels run under Triton's interpreter. Refuses
nothing.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton
sys.path.append(str(Path(__file__).parent))  # -P leaves it out, so that these files shadow none of the peer's

import torch
from peer_rows import ROWS, Row

PACKAGES = ("fla-core", "torch", "triton")


def answer(row: Row, task: dict[str, Any]) -> dict[str, Any]:
    """Values and gradients of one row, in float32."""
    inputs = {n: x.requires_grad_() for n, x in task["inputs"].items()}
    start = {n: x.requires_grad_() for n, x in task["start"].items()}
    o, states = row.run(inputs, start)
    values = {"o": o, **states}
    found = {n: x.detach() for n, x in values.items()}
    if not row.gradients:
        return found
    loss = sum((x * task["weights"][n]).sum() for n, x in values.items())
    leaves = {f"d{n}": x for n, x in inputs.items()}
    if row.starts:
        leaves |= {f"d{n}[0]": x for n, x in start.items()}
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return found | {n: g for n, g in zip(leaves, gradients, strict=True) if g is not None}


def main() -> None:
    """Answer every task of the first file into the second."""
    warnings.simplefilter("ignore")  # the peer warns that there is no GPU
    tasks = torch.load(sys.argv[1])
    answers: dict[str, dict[str, Any]] = {}
    for label, task in tasks.items():
        try:
            answers[label] = answer(ROWS[label], task)
        except Exception as error:  # whatever a peer raises is a result
            answers[label] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    torch.save({"versions": {name: version(name) for name in PACKAGES}, "answers": answers}, sys.argv[2])


if __name__ == "__main__":
    main()
