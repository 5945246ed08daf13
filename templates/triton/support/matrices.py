@_jit
def _tl_matrices(left, right):
    """A product of matrices in float32; where an axis is short, as a rank is, without matrix units.

    Triton makes a product in tf32 of a plain sum of products; not of one that selects.
    """
    M: tl.constexpr = left.shape[0]
    K: tl.constexpr = left.shape[1]
    N: tl.constexpr = right.shape[1]
    if M < 16 or K < 16 or N < 16:
        there = tl.arange(0, K) < K
        return tl.sum(tl.where(there[None, :, None], left[:, :, None] * right[None, :, :], 0.0), 1)
    else:
        return tl.dot(left, right, input_precision="ieee")
