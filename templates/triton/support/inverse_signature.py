@_jit
def _tl_inverse_signature(matrix, N: tl.constexpr):
    """The inverses of I - matrix's diagonal blocks of 16 rows, by forward substitution; beside them, matrix as it is."""
    folded: tl.constexpr = (N // 16, 16, N // 16, 16)
    own = (tl.arange(0, N)[:, None] // 16 == tl.arange(0, N)[None, :] // 16)
    blocks = tl.sum(tl.reshape(tl.where(own, matrix, 0.0), folded), 2)
    row, column = tl.arange(0, 16)[None, :, None], tl.arange(0, 16)[None, None, :]
    out = tl.where(row == column, 1.0, 0.0) + tl.zeros_like(blocks)
    for i in range(1, 16):
        weights = tl.sum(tl.where(row == i, blocks, 0.0), 1)
        made = tl.sum(weights[:, :, None] * out, 1)
        out += tl.where(row == i, made[:, None, :], 0.0)
    placed = tl.reshape(tl.broadcast_to(out[:, :, None, :], folded), matrix.shape)
    return tl.where(own, placed, matrix)
