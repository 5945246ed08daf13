@_jit
def _tl_per_token(x, ROWS: tl.constexpr, PADDED: tl.constexpr):
    """Sums over every token's rows, [ROWS * PADDED] or [ROWS * PADDED, K]."""
    if len(x.shape) == 1:
        return tl.sum(tl.reshape(x, (ROWS, PADDED)), 1)
    else:
        return tl.sum(tl.reshape(x, (ROWS, PADDED, x.shape[1])), 1)
