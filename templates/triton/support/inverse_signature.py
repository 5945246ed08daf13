@_jit
def _tl_inverse_signature(matrix, N: tl.constexpr):
    """The inverses of I - matrix's diagonal blocks of 16 rows, by forward substitution; beside them, matrix as it is."""
    folded: tl.constexpr = (N // 16, 16, N // 16, 16)
    own = tl.arange(0, N)[:, None] // 16 == tl.arange(0, N)[None, :] // 16
    out = _tl_substitution(_tl_diagonal(matrix, N, 16))
    placed = tl.reshape(tl.broadcast_to(out[:, :, None, :], folded), matrix.shape)
    return tl.where(own, placed, matrix)
