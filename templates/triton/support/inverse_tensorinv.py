@_jit
def _tl_inverse_tensorinv(matrix, N: tl.constexpr, PRECISION: tl.constexpr):
    """(I - matrix)^{-1} by recursive block inversion: [[A, 0], [B, D]]^{-1} = [[A', 0], [-D' B A', D']]."""
    i, j = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    out = tl.where(i == j, 1.0, 0.0)
    for level in tl.static_range(0, 8):
        half = 1 << level
        if half < N:
            lower = tl.where((i // half == j // half + 1) & (i // half % 2 == 1), matrix, 0.0)
            inner = tl.dot(lower, out, input_precision=PRECISION, out_dtype=tl.float32)
            out += tl.dot(out, inner, input_precision=PRECISION, out_dtype=tl.float32)
    return out
