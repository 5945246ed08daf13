"""The short convolution in front of an op: causal, one filter per channel, with SiLU.

In: [B, T, channels], the tokens before, offsets of packed sequences. Out: the same shape, and the tokens that the next
call needs. Refuses nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ShortConv(nn.Module):
    """`silu(sum_j w[j] x[t - j])` over the last `size` tokens of a sequence."""

    def __init__(self, channels: int, size: int) -> None:
        """A filter of `size` taps for every channel, the present token's near 1."""
        super().__init__()
        self.size = size
        first = torch.randn(size, channels) * size**-0.5 / 2
        first[0] += 1
        self.weight = nn.Parameter(first)

    def forward(self, x: Tensor, tail: Tensor | None = None, cu_seqlens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B, T, channels] and the last `size` - 1 tokens.

        Args:
            x: [B, T, channels].
            tail: [B, size - 1, channels], the tokens before the first; None: zeros. Not with `cu_seqlens`.
            cu_seqlens: offsets of sequences packed along T: none sees the one before it.
        """
        before = self.size - 1
        tail = x.new_zeros(x.shape[0], before, x.shape[2]) if tail is None else tail
        longer = torch.cat((tail.to(x.dtype), x), 1)
        weight = self.weight.to(x.dtype)  # under autocast projections come in another type than parameters have
        length, total = x.shape[1], x * weight[0]
        place = None if cu_seqlens is None else _places(cu_seqlens, length)
        for back in range(1, self.size):
            shifted = longer[:, before - back : before - back + length]
            if place is not None:
                shifted = shifted * (place >= back)[None, :, None]
            total = total + shifted * weight[back]
        return F.silu(total), longer[:, length:]


def _places(cu_seqlens: Tensor, length: int) -> Tensor:
    """Each token's number within its own sequence, [T]."""
    tokens = torch.arange(length, device=cu_seqlens.device)
    own = torch.searchsorted(cu_seqlens.to(tokens.dtype), tokens, right=True) - 1
    return tokens - cu_seqlens[own].to(tokens.dtype)
