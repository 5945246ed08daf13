@_jit
def _tl_pairs(level, ROWS: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, UPPER: tl.constexpr):
    """Which rows stand in one half of a block of 2 << level tokens, the upper one or not, and which columns in the other.

    FIRST, SECOND: the rows and the columns that a token takes.
    """
    i, j = tl.arange(0, ROWS * FIRST)[:, None] // FIRST, tl.arange(0, ROWS * SECOND)[None, :] // SECOND
    if UPPER:
        return (i >> (level + 1) == j >> (level + 1)) & (i >> level > j >> level)
    else:
        return (i >> (level + 1) == j >> (level + 1)) & (i >> level < j >> level)
