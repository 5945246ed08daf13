def _column_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right [..., n, 1] or [..., 1, n]: a product of one column is another routine in another batch."""
    if right.shape[-1] == 1:
        return (left * right.mT).sum(-1, keepdim=True)
    return (left.mT * right).sum(-2, keepdim=True)
