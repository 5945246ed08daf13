"""What autograd holds of a call between its forward and its backward pass.

In: the call's arguments, which do not count. Out: `Kept`, a context around the call. Refuses nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Kept:
    """The bytes that autograd holds of a call, beside those of its arguments."""

    def __init__(self, *arguments: Tensor) -> None:
        """Know the arguments."""
        self.arguments = {x.untyped_storage().data_ptr() for x in arguments}
        self.sizes: dict[int, int] = {}

    def _pack(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        self.sizes[storage.data_ptr()] = 0 if storage.data_ptr() in self.arguments else storage.nbytes()
        return x

    def __enter__(self) -> Kept:
        """Begin."""
        self.hooks: Any = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda x: x)
        self.hooks.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        """End."""
        self.hooks.__exit__(*raised)

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(self.sizes.values())
