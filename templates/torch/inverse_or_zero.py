def _inverse_or_zero(x: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0: the slope of a logarithm or a root whose argument rounds to 0."""
    return torch.where(x > 0, 1 / x, 0)
