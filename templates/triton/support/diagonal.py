@_jit
def _tl_diagonal(matrix, N: tl.constexpr, SIZE: tl.constexpr):
    """The blocks on the diagonal of a matrix [N, N], as [N // SIZE, SIZE, SIZE]."""
    block = tl.arange(0, N // SIZE)
    own = (block[:, None] == block[None, :])[:, None, :, None]
    return tl.sum(tl.where(own, tl.reshape(matrix, (N // SIZE, SIZE, N // SIZE, SIZE)), 0.0), 2)
