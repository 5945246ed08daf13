@_jit
def _tl_halves(
    gates, whole, rest, before, after, level, ROWS: tl.constexpr, PADDED: tl.constexpr, DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The decay of each row from or to the middle of its block of 2 << level tokens.

    gates: the tokens' log gates, whole and rest their sums by `_tl_prefix`. A row of the block's upper half decays from
    the middle to its token, then by `before`; one of the lower half by `after`, then from its token to the middle. In
    float32 both are sums of gates without a difference; else differences of whole numbers are exact, and what is left
    of 64 gates is at most 32, so that its difference is right to 2^-18.
    """
    row = tl.arange(0, ROWS * PADDED) // PADDED
    token = row[:, None]
    upper = (token >> level) % 2 == 1
    beside = tl.where(upper, before, after)
    if DOT == tl.float32:
        other = tl.arange(0, ROWS)[None, :]
        side = tl.where(upper, other < token, other > token)
        between = tl.where(side & (token >> level == other >> level), 1.0, 0.0)
        return tl.exp(_tl_product(between, gates, PRECISION) + beside)
    else:
        KEYS: tl.constexpr = gates.shape[1]
        if PADDED == 1:
            own_whole, own_rest, own = whole, rest, gates
        else:
            own_whole, own_rest = _tl_repeated(whole, ROWS, PADDED), _tl_repeated(rest, ROWS, PADDED)
            own = _tl_repeated(gates, ROWS, PADDED)
        middle = ((row >> (level + 1)) << (level + 1)) + (1 << level) - 1
        middle = tl.broadcast_to(middle[:, None], (ROWS * PADDED, KEYS))
        apart = (own_whole - tl.gather(whole, middle, 0)) + (own_rest - tl.gather(rest, middle, 0))
        return tl.exp2(tl.where(upper, apart, -apart) + (beside - tl.where(upper, own, 0.0)) * 1.4426950408889634)
