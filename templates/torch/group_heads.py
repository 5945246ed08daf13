def _per_value_head(x: Tensor, heads: int) -> Tensor:
    """An input [B, T, H', *] with fewer heads as [B, T, H, *]: value head h has head h // (H / H')."""
    return x if x.shape[2] == heads else x.repeat_interleave(heads // x.shape[2], 2)


def _like(grad: Tensor, x: Tensor) -> Tensor:
    """A gradient in the type and shape of its input, summed over the value heads that share a head."""
    if x.dim() > 2 and grad.dim() == x.dim() and grad.shape[2] != x.shape[2]:
        grad = grad.unflatten(2, (x.shape[2], grad.shape[2] // x.shape[2])).sum(3)
    return grad.to(x.dtype)
