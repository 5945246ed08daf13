def _gate_sums_adjoint(sums_bar: Tensor, dtype: torch.dtype) -> Tensor:
    """Gradients of log gates from those of their sums: every later sum holds the gate."""
    return sums_bar[:, :, 1:].flip(2).cumsum(2, dtype=torch.float64).flip(2).to(dtype)
