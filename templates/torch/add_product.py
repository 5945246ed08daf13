def _add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """total + left @ right over chunks and heads, in the memory of `total`, which nothing else holds."""
    total.flatten(0, 1).baddbmm_(left.flatten(0, 1), right.flatten(0, 1))
    return total
