def _per_value_head(x: Tensor, heads: int) -> Tensor:
    """An input [B, T, H', *] with fewer heads as [B, T, H, *]: value head h has head h // (H / H')."""
    return x if x.shape[2] == heads else x.repeat_interleave(heads // x.shape[2], 2)
