def _column_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right [..., n, 1] or [..., 1, n], in float64: others divide by it, and what cancels in it is lost.

    A BLAS has another routine for one column, which rounds otherwise for another number of matrices.
    """
    if right.shape[-1] == 1:
        return (left.double() * right.mT).sum(-1, keepdim=True).to(left.dtype)
    return (left.mT.double() * right).sum(-2, keepdim=True).to(left.dtype)
