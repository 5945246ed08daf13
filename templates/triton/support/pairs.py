@_jit
def _tl_pairs(level, ROWS: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """Which rows stand in the upper half of a block of 2 << level tokens, and which columns in its lower half.

    FIRST, SECOND: the rows and the columns that a token takes.
    """
    i, j = tl.arange(0, ROWS * FIRST)[:, None] // FIRST, tl.arange(0, ROWS * SECOND)[None, :] // SECOND
    return (i >> (level + 1) == j >> (level + 1)) & (i >> level > j >> level)
