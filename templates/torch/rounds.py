def _rounds(parts: list[Tensor]) -> Tensor:
    """Rows of several statements of one repeat, [B, T, H, R, *] each, in the order in which the rounds run them."""
    return torch.stack(parts, 4).flatten(3, 4)
