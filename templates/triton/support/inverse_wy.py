@_jit
def _tl_inverse_wy(matrix, N: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1}: rows by forward substitution in diagonal blocks of 16, all at once, then blocks merged in pairs."""
    out = _tl_substitution(_tl_diagonal(matrix, N, 16))
    if N > 16:
        out = _tl_merged(matrix, out, N, 16, PRECISION)
    if N > 32:
        out = _tl_merged(matrix, out, N, 32, PRECISION)
    if N > 64:
        out = _tl_merged(matrix, out, N, 64, PRECISION)
    if N > 128:
        out = _tl_merged(matrix, out, N, 128, PRECISION)
    return tl.reshape(out, (N, N))
