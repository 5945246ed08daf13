@_cached
def _highest(
    reads: tuple[int, ...], writes: tuple[int, ...], tokens: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The largest logarithm of a decay between two rows: -inf where the mask does not hold, else any."""
    seen = _mask(reads, writes, tokens, device)
    return torch.where(seen, torch.inf, -torch.inf).to(dtype)


def _decay_matrix(rows: Tensor, columns: Tensor, highest: Tensor) -> Tensor:
    """exp(rows[m] - columns[m']), and 0 where row m' is not seen; masked before exp, so that nothing overflows."""
    log = highest.new_empty(*rows.shape, columns.shape[-1])
    torch.sub(rows[..., :, None], columns[..., None, :], out=log)
    return _decays(torch.minimum(log, highest, out=log))
