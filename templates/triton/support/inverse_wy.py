@_jit
def _tl_inverse_wy(matrix, N: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1}: rows by forward substitution in diagonal blocks of 16, all at once, then blocks merged in pairs."""
    row, column = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    out = tl.where(row == column, 1.0, 0.0)
    for i in range(1, 16):
        here = (row % 16 == i) & (row // 16 == column // 16)
        weights = tl.sum(tl.where(here, matrix, 0.0), 0)
        made = tl.sum(weights[:, None] * out, 0)
        out = out + tl.where(here, made[None, :], 0.0)
    for level in tl.static_range(4, 8):
        half = 1 << level
        if half < N:
            below = (row // (2 * half) == column // (2 * half)) & (row // half > column // half)
            first = tl.dot(tl.where(below, matrix, 0.0), out, input_precision=PRECISION, out_dtype=tl.float32)
            out = tl.dot(out, first, acc=out, input_precision=PRECISION, out_dtype=tl.float32)
    return out
