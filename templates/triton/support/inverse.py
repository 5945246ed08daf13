@_jit
def _tl_inverse(matrix, N: tl.constexpr, WY: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1} of a strictly lower triangular matrix, in float32.

    WY: rows by forward substitution in diagonal blocks of 16, all blocks at once, then blocks merged by products;
    otherwise blocks are merged from single rows on.
    """
    if WY:
        row, column = tl.arange(0, 16)[None, :, None], tl.arange(0, 16)[None, None, :]
        blocks = _tl_diagonal(matrix, N, 16)
        out = tl.where(row == column, 1.0, 0.0) + tl.zeros((N // 16, 16, 16), tl.float32)
        for i in range(1, 16):
            weights = tl.sum(tl.where(row == i, blocks, 0.0), 1)
            made = tl.sum(weights[:, :, None] * out, 1)
            out += tl.where(row == i, made[:, None, :], 0.0)
    else:
        out = tl.full((N // 2, 2, 2), 0.0, tl.float32)
        row, column = tl.arange(0, 2)[None, :, None], tl.arange(0, 2)[None, None, :]
        out += tl.where(row >= column, 1.0, 0.0)
        out = tl.where(row > column, _tl_diagonal(matrix, N, 2), out)
        if N > 2:
            out = _tl_merged(matrix, out, N, 2, PRECISION)
        if N > 4:
            out = _tl_merged(matrix, out, N, 4, PRECISION)
        if N > 8:
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
