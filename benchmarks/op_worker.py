"""One op in a process of its own: what its passes take of time and of memory.

    python benchmarks/op_worker.py '{"name": "gla", "length": 4096, "heads": 8, "side": 128}'

In: a JSON object: the example, T and H at B 1, the sides of its state; as wished `sizes` of dimensions by name,
`dtype`, `options` of the call, `repetitions`, another type to measure `beside` it, in turn. Out: one line of JSON:
`forward` and `both` (forward and backward), seconds of each repetition after a first one that warms up, and those
`beside` them; `peak`, what forward and backward took of memory at most above what was there before, MiB; `tensors`,
inputs, outputs and their gradients together, MiB; `gemm`, GFLOP/s of a 2048 x 2048 product in float32; `flops` per
token and head, those of a forward pass in chunks of 64. On a GPU where there is one. Refuses what the op refuses.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from inputs import drawn, sizes_of
from processes import ROOT
from worker import peak

import flowc
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.report.explain import explain_record
from flowc.semantics import load
from flowc.source import Source


def measured(
    name: str, length: int, heads: int, side: int, sizes: dict[str, int] | None = None, dtype: str = "float32",
    options: dict[str, Any] | None = None, repetitions: int = 5, beside: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run it."""
    text = (ROOT / f"examples/{name}.flow").read_text()
    model, device = load(text, name), "cuda" if torch.cuda.is_available() else "cpu"
    op, given = flowc.compile(text), options or {}
    size = (1, length, heads), sizes_of(model, side, sizes)
    inputs = {dtype: drawn(model, *size, getattr(torch, dtype), device)}
    x = inputs[dtype]
    found: dict[str, Any] = {"device": device, "threads": torch.get_num_threads()}
    tiny = {n: v[:, :1] if v.dim() > 2 and v.shape[1] == length else v for n, v in x.items()}
    op(**tiny, **given)  # imports and libraries
    before = peak(device)
    held = both(op, x, given)
    found["peak"] = peak(device) - before
    found["tensors"] = sum(v.numel() * v.element_size() for v in held) / 2**20
    del held
    if beside is not None:
        inputs[beside] = drawn(model, *size, getattr(torch, beside), device)
    times: dict[str, dict[str, list[float]]] = {kind: {"forward": [], "both": []} for kind in inputs}
    for again in range(repetitions + 1):
        for kind in inputs:  # in turn: what else the machine does comes to both
            own = {
                "forward": seconds(lambda x=inputs[kind]: forward(op, x, given), device),
                "both": seconds(lambda x=inputs[kind]: both(op, x, given), device),
            }
            if again:
                for passed, taken in own.items():
                    times[kind][passed].append(taken)
    found |= times[dtype] | ({} if beside is None else {"beside": times[beside]})
    a = torch.randn(2048, 2048, device=device)
    counted = explain_record(compile_text(Source(name, text), Options(chunk_size=64), Stage.PLAN))
    found["flops"] = sum(k["product_flops"] for k in counted["kernels"] if k["kernel"].startswith("forward"))
    found["gemm"] = 2e-9 * 2048**3 / min(seconds(lambda: a @ a, device) for _ in range(8))
    return found


def forward(op: Callable[..., Any], x: Mapping[str, torch.Tensor], given: Mapping[str, Any]) -> None:
    """A pass of which nothing is kept."""
    with torch.no_grad():
        op(**x, **given)


def both(op: Callable[..., Any], x: Mapping[str, torch.Tensor], given: Mapping[str, Any]) -> list[torch.Tensor]:
    """Forward and backward: outputs and their gradients, inputs and theirs."""
    leaves = {n: v.requires_grad_() for n, v in x.items()}
    made = op(**leaves, **given)
    flat = [y for y in (made if isinstance(made, tuple) else (made,)) if y.requires_grad]
    grads = torch.autograd.grad(flat, list(leaves.values()), [torch.ones_like(y) for y in flat], allow_unused=True)
    return [*flat, *flat, *leaves.values(), *(g for g in grads if g is not None)]


def seconds(call: Callable[[], object], device: str) -> float:
    """How long one run takes."""
    began = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(measured(**json.loads(sys.argv[1]))))
