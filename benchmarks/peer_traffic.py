"""The peer's side of traffic.py: what flash-linear-attention's kernels move, by the meter that counts flowc's.

    VENV/bin/python benchmarks/peer_traffic.py --tools ../shared/tools OP [OP ...]

VENV is an environment of what ../shared/tools/requirements.txt names: no flowc. The tools there make the peer run
without a GPU: a driver that answers as an H200, bfloat16 in Triton's interpreter, the largest of each kernel's tiles.
In: its ops as fla_ops.py there names them. Out: a line of JSON for each, forward without a backward pass and both, and
the bytes that autograd keeps between them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # read where Triton is imported

from autograd_memory import Kept
from meter import Meter  # the tools have a module of this name as well


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ops", nargs="+")
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--dtype", default="float16")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.tools.resolve()))
    import interp_compat  # noqa: F401  first: it mends the interpreter before kernels are read
    import fakegpu  # isort: skip

    fakegpu.import_fla()
    import fla_ops
    import torch
    import triton

    side = arguments.side
    for op in arguments.ops:
        case = fla_ops.case(op, 1, arguments.length, 1, side, side, getattr(torch, arguments.dtype))
        found = {"op": op, "dtype": arguments.dtype, "triton": triton.__version__}
        for title, trained in (("forward", False), ("both", True)):
            leaves = {n: x.clone().requires_grad_(trained) for n, x in case.inputs.items()}
            with Meter() as meter:
                with Kept(*leaves.values()) as kept:
                    made = case.run(**leaves)
                if trained:
                    torch.autograd.grad(made, list(leaves.values()), torch.ones_like(made), allow_unused=True)
            found[title] = {
                "distinct": meter.distinct(),
                "l2": sum(meter.read.values()) + sum(meter.written.values()),
                "dot_flops": sum(meter.dot_flops.values()),
                "kernels": dict(meter.launches),
            }
        found["kept"] = kept.bytes
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
