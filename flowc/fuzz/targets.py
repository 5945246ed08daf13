"""Where an op runs: torch operators, Triton kernels under the interpreter, Triton kernels on a GPU.

In: nothing. Out: `Target`, and tensors placed as a target takes them. Refuses nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Target:
    """`options` go with every call; `types` are the types of vectors that it takes, the widest first."""

    name: str
    device: str
    options: tuple[tuple[str, str], ...]
    types: tuple[torch.dtype, ...]

    def __str__(self) -> str:
        """Its name, as tests show it."""
        return self.name

    @property
    def kernels(self) -> bool:
        """Whether it runs Triton kernels."""
        return bool(self.options)

    @property
    def single(self) -> float:
        """What a number computed in float32 is off by, at most twice.

        On a GPU products of float32 are three products of tf32, whose remainders of 2 ** -11 are multiplied with the
        other's leading part and not with one another: 2 ** -22 in addition.
        """
        eps = torch.finfo(torch.float32).eps
        return eps if self.device == "cpu" else eps + 2.0**-22


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that is handed out without being filled holds NaN, so that what a kernel leaves out shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def placed(x: torch.Tensor, dtype: torch.dtype, device: str) -> torch.Tensor:
    """A tensor in another type or place, with the strides that it has: `to` would make views contiguous."""
    own = x.detach()[
        tuple(
            slice(0, 1) if step == 0 and size else slice(None) for step, size in zip(x.stride(), x.shape, strict=True)
        )
    ]
    like = torch.empty_strided(own.size(), own.stride(), dtype=dtype, device=device)
    return like.copy_(own).expand(x.shape)


TORCH = Target("torch", "cpu", (), (torch.float64, torch.float32))
INTERPRETER = Target("interpreter", "cpu", (("backend", "triton"),), (torch.float32, torch.float16))
GPU = Target("gpu", "cuda", (("backend", "triton"),), (torch.float32, torch.float16, torch.bfloat16))
