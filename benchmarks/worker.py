"""One side of a benchmark in a process of its own: the op, its Triton kernels, the step-by-step form or a peer.

In: the side's name, the inputs and the shape on the command line, then commands on standard input, one a line:
`forward`, `both` (forward and backward), `gemm`, `save FILE`, `compare FILE` (of what `both` made last). Out: one JSON
object a line: seconds of one run, peak memory in MiB above what the inputs took, GFLOP/s, errors. Kernels run on a GPU
where there is one, else under Triton's interpreter where TRITON_INTERPRET=1 is set; all else is on the CPU. A peer runs
in `.venv-peers`, where flowc is not installed, so this file imports it only where it is the side. Refuses an unknown
command by a KeyError.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

DATA = Path(__file__).parent / "data" / "us-constitution.txt"
EXAMPLES = Path(__file__).parent.parent / "examples"

Inputs = dict[str, Tensor]
Form = Callable[[Inputs], Tensor]


def peak(device: str = "cpu") -> float:
    """Maximum resident size of this process so far, or what it took of a GPU at most, MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def random_inputs(length: int, heads: int, size: int) -> Inputs:
    """Unit queries and keys, normal values, mild log decays: `[1, T, H, ...]`, float32."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, length, heads, *shape, generator=rng)

    return {
        "q": F.normalize(normal(size), dim=-1),
        "k": F.normalize(normal(size), dim=-1),
        "v": normal(size),
        "g": F.logsigmoid(normal() + 2),
        "beta": torch.sigmoid(normal()),
    }


def text_inputs(length: int, heads: int, size: int) -> Inputs:
    """The characters of a real text, embedded and projected with fixed seeds: `[1, T, H, ...]`, float32."""
    codes = torch.tensor(list(DATA.read_bytes()[:length]))
    rng = torch.Generator().manual_seed(0)
    width = 64
    x = torch.randn(128, width, generator=rng)[codes]

    def project(*shape: int) -> Tensor:
        weight = torch.randn(width, heads * (shape[0] if shape else 1), generator=rng) / width**0.5
        return (x @ weight).reshape(1, length, heads, *shape)

    return {
        "q": F.normalize(project(size), dim=-1),
        "k": F.normalize(project(size), dim=-1),
        "v": project(size),
        "g": F.logsigmoid(project() + 3),
        "beta": torch.sigmoid(project()),
    }


def form_of(side: str) -> Form:
    """The function that a side runs."""
    if side == "peer":
        from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

        return lambda x: torch_chunk_gated_delta_rule(x["q"], x["k"], x["v"], x["g"], x["beta"])[0]
    import flowc

    op = flowc.compile(EXAMPLES / "gated_deltanet.flow", backend="triton" if side == "triton" else "torch")
    run = op.reference if side == "steps" else op
    return lambda x: run(**x)


def scaled(side: str, inputs: Inputs) -> Inputs:
    """The peer scales its queries by K**-0.5; nothing else does, so the others' come scaled."""
    if side == "peer":
        return inputs
    return {**inputs, "q": inputs["q"] * inputs["q"].shape[-1] ** -0.5}


class Worker:
    """One side with its inputs."""

    def __init__(self, side: str, inputs: Inputs) -> None:
        """Load the side, make the inputs and remember what that took."""
        self.device = "cuda" if side == "triton" and torch.cuda.is_available() else "cpu"
        self.form = form_of(side)
        self.inputs = {n: x.to(self.device).requires_grad_() for n, x in scaled(side, inputs).items()}
        self.cotangent = torch.randn(inputs["v"].shape, generator=torch.Generator().manual_seed(1)).to(self.device)
        self.results: dict[str, Tensor] = {}
        self.before = peak(self.device)

    def timed(self, run: Callable[[], object]) -> dict[str, float]:
        """Seconds of one run, and peak memory since the beginning."""
        begin = time.perf_counter()
        run()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - begin, "peak": peak(self.device) - self.before}

    def forward(self) -> dict[str, float]:
        """One forward without gradients."""
        with torch.no_grad():
            return self.timed(lambda: self.form(self.inputs))

    def both(self) -> dict[str, float]:
        """One forward and backward."""
        return self.timed(self.run)

    def run(self) -> None:
        """Make the output and the gradient of every input."""
        self.results = {}
        o = self.form(self.inputs)
        grads = torch.autograd.grad(o, list(self.inputs.values()), self.cotangent)
        self.results = {"o": o.detach(), **{f"d{n}": g for n, g in zip(self.inputs, grads, strict=True)}}

    def made(self) -> dict[str, Tensor]:
        """What the last run made; the first where there was none."""
        if not self.results:
            self.run()
        return self.results

    def gemm(self) -> dict[str, float]:
        """The machine's own rate, GFLOP/s: the best of ten 2048 x 2048 products in float32."""
        a = torch.randn(2048, 2048)
        seconds = []
        for _ in range(10):
            begin = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - begin)
        return {"gflops": 2 * 2048**3 / min(seconds) / 1e9}

    def save(self, path: str) -> dict[str, float]:
        """Keep output and gradients in a file."""
        torch.save(self.made(), path)
        return {}

    def compare(self, path: str) -> dict[str, float]:
        """Relative RMS difference from what another side saved; its query gradient in this side's scale."""
        theirs = torch.load(path)
        mine = {n: x.cpu() for n, x in self.made().items()}
        return {n: ((mine[n] - theirs[n]).pow(2).mean() / theirs[n].pow(2).mean()).sqrt().item() for n in mine}


def main() -> None:
    """Serve commands until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("compiled", "triton", "steps", "peer"))
    parser.add_argument("inputs", choices=("random", "text"))
    parser.add_argument("length", type=int)
    parser.add_argument("heads", type=int)
    parser.add_argument("size", type=int)
    args = parser.parse_args()
    make = {"random": random_inputs, "text": text_inputs}[args.inputs]
    worker = Worker(args.side, make(args.length, args.heads, args.size))
    commands: dict[str, Callable[..., dict[str, float]]] = {
        "forward": worker.forward,
        "both": worker.both,
        "gemm": worker.gemm,
        "save": worker.save,
        "compare": worker.compare,
    }
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": worker.device}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        name, *rest = line.split()
        print(json.dumps(commands[name](*rest)), flush=True)


if __name__ == "__main__":
    main()
