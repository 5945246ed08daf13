def _exprel_slope(x: Tensor) -> Tensor:
    """The derivative of (exp(x) - 1) / x: its series sum x^n (n + 1) / (n + 2)! where the closed form cancels."""
    near = x.clamp(-1, 1)
    series = torch.zeros_like(x)
    for n in reversed(range(18)):
        series = series * near + (n + 1) / math.factorial(n + 2)
    far = torch.where(x.abs() < 1, 2, x)
    return torch.where(x.abs() < 1, series, (torch.exp(far) - torch.expm1(far) / far) / far)
