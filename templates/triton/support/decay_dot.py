@_jit
def _tl_decay_dot(
    left, right, up, up_rest, first, first_rest, low, low_rest, last, last_rest, same,
    ROWS: tl.constexpr, ABOVE: tl.constexpr, BELOW: tl.constexpr, LEVELS: tl.constexpr, SEES: tl.constexpr,
    DOT: tl.constexpr, PRECISION: tl.constexpr,
):
    """sum_k left[m,k] right[m',k] exp(up[m,k] - low[m',k]) over earlier tokens, and those of its own that a row sees.

    Blocks of 2, 4, ... tokens: the upper half's rows see the lower half's through the sums between them, so that both
    factors are at most 1. first, last: the sums before the rows' tokens.
    """
    i, j = tl.arange(0, ROWS * ABOVE)[:, None] // ABOVE, tl.arange(0, ROWS * BELOW)[None, :] // BELOW
    out = tl.zeros((ROWS * ABOVE, ROWS * BELOW), tl.float32)
    for level in tl.static_range(0, LEVELS):
        half = 1 << level  # not for _tl_halves: the interpreter makes a tensor of a name
        above = left * _tl_halves(up, up_rest, first, first_rest, 1 << level, ROWS, ABOVE, True)
        below = right * _tl_halves(low, low_rest, last, last_rest, 1 << level, ROWS, BELOW, False)
        made = tl.dot(above.to(DOT), tl.trans(below.to(DOT)), input_precision=PRECISION, out_dtype=tl.float32)
        out += tl.where(i // (2 * half) == j // (2 * half), made, 0.0)
    if SEES > 0:
        below = right * same
        made = tl.dot(left.to(DOT), tl.trans(below.to(DOT)), input_precision=PRECISION, out_dtype=tl.float32)
        out += tl.where(_tl_own_token(ROWS, ABOVE, BELOW, SEES), made, 0.0)
    return out
