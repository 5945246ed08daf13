@_jit
def _tl_own_token(ROWS: tl.constexpr, ABOVE: tl.constexpr, BELOW: tl.constexpr, SEES: tl.constexpr):
    """Which rows of its own token a row sees: the earlier ones (SEES = 1) or all (2)."""
    i, j = tl.arange(0, ROWS * ABOVE)[:, None], tl.arange(0, ROWS * BELOW)[None, :]
    own = i // ABOVE == j // BELOW
    if SEES == 1:
        own = own & (j % BELOW < i % ABOVE)
    return own
