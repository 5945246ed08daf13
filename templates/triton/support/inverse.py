@_jit
def _tl_inverse(matrix, N: tl.constexpr, WY: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1} of a strictly lower triangular matrix, in float32.

    WY: rows by forward substitution in diagonal blocks of 16, all blocks at once, then blocks merged by products;
    otherwise blocks are merged from single rows on, [[A, 0], [B, D]]^{-1} = [[A', 0], [-D' B A', D']].
    """
    row, column = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    out = tl.where(row == column, 1.0, 0.0)
    if WY:
        for i in range(1, 16):
            here = (row % 16 == i) & (row // 16 == column // 16)
            weights = tl.sum(tl.where(here, matrix, 0.0), 0)
            made = tl.sum(weights[:, None] * out, 0)
            out = out + tl.where(here, made[None, :], 0.0)
    for level in tl.static_range(0, 8):
        half = 1 << level
        if half < N and (half >= 16 or not WY):
            pair = row // (2 * half) == column // (2 * half)
            below = tl.where(pair & (row // half > column // half), matrix, 0.0)
            first = tl.dot(below, out, input_precision=PRECISION, out_dtype=tl.float32)
            out = tl.dot(out, first, acc=out, input_precision=PRECISION, out_dtype=tl.float32)
    return out
