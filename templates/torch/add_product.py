def _add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """total + left @ right over chunks and heads, in the memory of `total`, which nothing else holds."""
    flat = total.view(total.shape[0] * total.shape[1], *total.shape[2:])
    flat.baddbmm_(left.flatten(0, 1), right.flatten(0, 1))
    return total
