def _decay_matrix(rows: Tensor, columns: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """exp(rows[m] - columns[m']) where the mask holds, else 0; masked before exp, so that nothing overflows."""
    exponent = (rows[..., :, None] - columns[..., None, :]).to(dtype)
    return exponent.masked_fill_(~mask, -math.inf).exp_()
