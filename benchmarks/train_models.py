"""The models that benchmarks/train_step.py takes steps of: those of examples/hybrid_lm.py with one kind of layers.

In: a `Setting`, and which kind. Out: models of as many parameters, whose layers of flowc's and of the peer's op differ
in the call alone, and the tokens they are trained on. Refuses what flowc.compile and FlowLayer refuse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from gpu_peers import PEERS
from processes import ROOT
from torch import Tensor, nn

import flowc

sys.path.insert(0, str(ROOT / "examples"))

from hybrid_lm import Model, split

OP = "gated_deltanet"
KINDS = ("attention", "flowc", "peer")
OTHERS = ("attention", "peer")
"""What flowc is compared with."""

SIZES: dict[str, dict[str, Any]] = {
    "cuda": {"width": 2048, "heads": 16, "layers": 8, "tokens": 65536, "steps": 10, "lengths": [2048, 8192, 32768]},
    "cpu": {"width": 256, "heads": 2, "layers": 2, "tokens": 8192, "steps": 5, "lengths": [512, 2048, 8192]},
    "tiny": {"width": 32, "heads": 2, "layers": 2, "tokens": 96, "steps": 1, "lengths": [48, 96]},
}

Call = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Setting:
    """What a step is taken of.

    `alone`: in a process of its own, which tells of memory. `means_something`: whether its times do.
    """

    op: str
    backend: str
    device: str
    dtype: str
    width: int
    heads: int
    layers: int
    tokens: int
    steps: int
    alone: bool
    means_something: bool
    length: int

    @property
    def batch(self) -> int:
        """Sequences of a step, one at least."""
        return max(1, self.tokens // self.length)


def built(kind: str, s: Setting, peer: Call | None = None) -> Model:
    """A model on the default device, the same parameters for the same kind of layers every time."""
    torch.manual_seed(0)
    op, args = compiled(s.op, s.backend), argparse.Namespace(**asdict(s))
    if kind == "attention":
        return Model(None, "none", args, channels(op, args)).to(getattr(torch, s.dtype))
    model = Model(op, "none", args).to(getattr(torch, s.dtype))
    if kind == "peer":
        called = PEERS[s.op].called if peer is None else peer
        for block in model.blocks:
            block.mixer.op = standing_in(called)
    return model


@cache
def compiled(name: str, backend: str) -> flowc.Op:
    """An example's op."""
    return flowc.compile(ROOT / f"examples/{name}.flow", backend=backend)


def standing_in(called: Call) -> Callable[..., tuple[Tensor, None]]:
    """A call as layers make it of an op, from the start of whole sequences."""
    return lambda initial_state, output_final_state, cu_seqlens, **inputs: (called(inputs), None)


def channels(op: flowc.Op, args: argparse.Namespace) -> int:
    """Channels of attention's blocks with which they have as many parameters as those of an op."""
    with torch.device("meta"):
        flow, attention = (parameters(Model(o, "none", args)) for o in (op, None))
    step = max(1, args.width // 32)  # what products are cut into, of a size that fills a GPU
    return 4 * args.width + step * round((flow - attention) / args.layers / (2 * args.width + 1) / step)


def parameters(model: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(p.numel() for p in model.parameters())


def drawn(s: Setting) -> Tensor:
    """Pieces of the shipped text, [B, T + 1]; it begins again where it ends."""
    text = torch.cat(split())
    starts = torch.randint(len(text), (s.batch, 1), generator=torch.Generator().manual_seed(0))
    return text[(starts + torch.arange(s.length + 1)) % len(text)].to(s.device)
