def _wide_product(left: Tensor, right: Tensor | None = None) -> Tensor:
    """left @ right in float64; without `right`, left by its transpose."""
    wide = left.double()
    return wide @ (wide.mT if right is None else right.double())
