@_jit
def _tl_halves(
    gates, before, after, level, ROWS: tl.constexpr, PADDED: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr
):
    """The decay of each row from or to the middle of its block of 2 << level tokens.

    gates: the tokens' log gates. A row of the block's upper half decays from the middle to its token, then by `before`;
    one of the lower half by `after`, then from its token to the middle: both are sums of gates without a difference.
    """
    token, other = (tl.arange(0, ROWS * PADDED) // PADDED)[:, None], tl.arange(0, ROWS)[None, :]
    upper = (token >> level) % 2 == 1
    side = tl.where(upper, other < token, other > token)
    between = tl.where(side & (token >> level == other >> level), 1.0, 0.0)
    if DOT == tl.float32:
        sums = _tl_product(between, gates, PRECISION)
    else:
        high = gates.to(DOT)
        sums = _tl_product(between.to(DOT), high, PRECISION)
        sums += _tl_product(between.to(DOT), (gates - high.to(tl.float32)).to(DOT), PRECISION)
    return tl.exp(sums + tl.where(upper, before, after))
