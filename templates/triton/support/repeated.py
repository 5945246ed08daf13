@_jit
def _tl_repeated(x, ROWS: tl.constexpr, PADDED: tl.constexpr):
    """Every row of a tile PADDED times."""
    KEYS: tl.constexpr = x.shape[1]
    return tl.reshape(tl.broadcast_to(x[:, None, :], (ROWS, PADDED, KEYS)), (ROWS * PADDED, KEYS))
