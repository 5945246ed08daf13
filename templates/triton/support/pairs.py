@_jit
def _tl_pairs(level, ROWS: tl.constexpr, ABOVE: tl.constexpr, BELOW: tl.constexpr):
    """Which rows stand in the upper half of a block of 2 << level tokens, and which columns in its lower half."""
    i, j = tl.arange(0, ROWS * ABOVE)[:, None] // ABOVE, tl.arange(0, ROWS * BELOW)[None, :] // BELOW
    return (i >> (level + 1) == j >> (level + 1)) & (i >> level > j >> level)
