@_jit
def _tl_decay_apply_transposed(
    weights, vectors, up, up_rest, first, first_rest, low, low_rest, last, last_rest, same,
    ROWS: tl.constexpr, ABOVE: tl.constexpr, BELOW: tl.constexpr, LEVELS: tl.constexpr, SEES: tl.constexpr,
    DOT: tl.constexpr, PRECISION: tl.constexpr,
):
    """sum_m weights[m,m'] vectors[m,k] exp(up[m,k] - low[m',k]) over the rows that see m'; see `_tl_decay_dot`."""
    i, j = tl.arange(0, ROWS * ABOVE)[:, None] // ABOVE, tl.arange(0, ROWS * BELOW)[None, :] // BELOW
    out = tl.zeros(low.shape, tl.float32)
    for level in tl.static_range(0, LEVELS):
        half = 1 << level  # not for _tl_halves: the interpreter makes a tensor of a name
        pair = (i // (2 * half) == j // (2 * half)) & (i // half > j // half)
        above = vectors * _tl_halves(up, up_rest, first, first_rest, 1 << level, ROWS, ABOVE, True)
        seen = tl.trans(tl.where(pair, weights, 0.0).to(DOT))
        made = tl.dot(seen, above.to(DOT), input_precision=PRECISION, out_dtype=tl.float32)
        out += made * _tl_halves(low, low_rest, last, last_rest, 1 << level, ROWS, BELOW, False)
    if SEES > 0:
        seen = tl.trans(tl.where(_tl_own_token(ROWS, ABOVE, BELOW, SEES), weights, 0.0).to(DOT))
        out += tl.dot(seen, vectors.to(DOT), input_precision=PRECISION, out_dtype=tl.float32) * same
    return out
