@_jit
def _tl_own_dot(left, right, same):
    """sum_k left[m,k] right[m,k] same[k] on the diagonal, where a token has one row."""
    row = tl.arange(0, left.shape[0])
    own = tl.sum(left.to(tl.float32) * right.to(tl.float32) * same, 1)
    return tl.where(row[:, None] == row[None, :], own[:, None], 0.0)
