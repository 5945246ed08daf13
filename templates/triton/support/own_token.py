@_jit
def _tl_own_token(ROWS: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, BEFORE: tl.constexpr):
    """Which columns are of a row's token, all of them or those before the row."""
    i, j = tl.arange(0, ROWS * FIRST)[:, None], tl.arange(0, ROWS * SECOND)[None, :]
    own = i // FIRST == j // SECOND
    if BEFORE:
        own = own & (j % SECOND < i % FIRST)
    return own
