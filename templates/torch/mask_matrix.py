@_cached
def _mask_matrix(
    reads: tuple[int, ...], writes: tuple[int, ...], tokens: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The mask as numbers, to multiply with."""
    return _mask(reads, writes, tokens, device).to(dtype)
