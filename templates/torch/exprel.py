def _exprel(x: Tensor) -> Tensor:
    """(exp(x) - 1) / x, and 1 at 0."""
    safe = torch.where(x == 0, 1, x)
    return torch.where(x == 0, 1, torch.expm1(safe) / safe)
