@_jit
def _tl_halves(whole, rest, start, start_rest, half: tl.constexpr, ROWS: tl.constexpr, PADDED: tl.constexpr, UPPER: tl.constexpr):
    """The decay of each row from or to the middle of its block of 2 * half tokens; 0 in the block's other half.

    whole, rest: the row's sum of log gates, base 2; start: that before its token, which at the middle is the anchor.
    """
    width: tl.constexpr = 2 * half * PADDED
    row = tl.arange(0, ROWS * PADDED)
    middle = (row % width == half * PADDED)[:, None]
    folded: tl.constexpr = (ROWS * PADDED // width, width, whole.shape[1])
    anchor = tl.sum(tl.reshape(tl.where(middle, start, 0.0), folded), 1)
    anchor_rest = tl.sum(tl.reshape(tl.where(middle, start_rest, 0.0), folded), 1)
    anchor = tl.reshape(tl.broadcast_to(anchor[:, None, :], folded), whole.shape)
    anchor_rest = tl.reshape(tl.broadcast_to(anchor_rest[:, None, :], folded), whole.shape)
    if UPPER:
        mine = (row % width >= half * PADDED)[:, None]
        exponent = (whole - anchor) + (rest - anchor_rest)
    else:
        mine = (row % width < half * PADDED)[:, None]
        exponent = (anchor - whole) + (anchor_rest - rest)
    return tl.where(mine, tl.exp2(tl.where(mine, exponent, 0.0)), 0.0)
