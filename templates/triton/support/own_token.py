@_jit
def _tl_own_token(ROWS: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, SEES: tl.constexpr):
    """Which columns are of a row's token: all (SEES = 0), the earlier ones (1) or the later ones (-1) of its rows."""
    i, j = tl.arange(0, ROWS * FIRST)[:, None], tl.arange(0, ROWS * SECOND)[None, :]
    own = i // FIRST == j // SECOND
    if SEES == 1:
        own = own & (j % SECOND < i % FIRST)
    if SEES == -1:
        own = own & (j % SECOND > i % FIRST)
    return own
