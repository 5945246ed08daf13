def _gate_sums_adjoint(sums_bar: Tensor) -> Tensor:
    """Gradients of log gates from those of their sums: every later sum holds the gate."""
    later = sums_bar[:, :, 1:].flip(2).cumsum(2, dtype=torch.float64).flip(2)
    return later.to(sums_bar.dtype)
