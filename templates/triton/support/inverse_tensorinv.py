@_jit
def _tl_inverse_tensorinv(matrix, N: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1} by recursive block inversion, from single rows on."""
    out = _tl_merged(matrix, tl.full((N, 1, 1), 1.0, tl.float32), N, 1, PRECISION)
    out = _tl_merged(matrix, out, N, 2, PRECISION)
    out = _tl_merged(matrix, out, N, 4, PRECISION)
    out = _tl_merged(matrix, out, N, 8, PRECISION)
    if N > 16:
        out = _tl_merged(matrix, out, N, 16, PRECISION)
    if N > 32:
        out = _tl_merged(matrix, out, N, 32, PRECISION)
    if N > 64:
        out = _tl_merged(matrix, out, N, 64, PRECISION)
    if N > 128:
        out = _tl_merged(matrix, out, N, 128, PRECISION)
    return tl.reshape(out, (N, N))
