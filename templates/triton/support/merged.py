@_jit
def _tl_merged(matrix, out, N: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr):
    """Inverses of twice as large blocks on the diagonal: [[A, 0], [-B, D]]^{-1} = [[A', 0], [D' B A', D']]."""
    PAIRS: tl.constexpr = N // (2 * SIZE)
    half = tl.arange(0, 2)
    below = half[:, None] > half[None, :]
    blocks = tl.reshape(_tl_diagonal(matrix, N, 2 * SIZE), (PAIRS, 2, SIZE, 2, SIZE))
    mixed = tl.sum(tl.sum(tl.where(below[None, :, None, :, None], blocks, 0.0), 3), 1)
    halves = tl.reshape(out, (PAIRS, 2, SIZE, SIZE))
    upper = (half == 0)[None, :, None, None]
    a, d = tl.sum(tl.where(upper, halves, 0.0), 1), tl.sum(tl.where(upper, 0.0, halves), 1)
    if SIZE < 16:
        made = tl.sum(mixed[:, :, :, None] * a[:, None, :, :], 2)
        made = tl.sum(d[:, :, :, None] * made[:, None, :, :], 2)
    else:
        made = tl.dot(mixed, a, input_precision=PRECISION, out_dtype=tl.float32)
        made = tl.dot(d, made, input_precision=PRECISION, out_dtype=tl.float32)
    same = (half[:, None] == half[None, :])[None, :, None, :, None]
    made = tl.where(below[None, :, None, :, None], made[:, None, :, None, :], 0.0)
    return tl.reshape(tl.where(same, halves[:, :, :, None, :], made), (PAIRS, 2 * SIZE, 2 * SIZE))
