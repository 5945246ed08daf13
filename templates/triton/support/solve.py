@_jit
def _tl_solve(
    inverse, tokens, right, TOKENS: tl.constexpr, RANK: tl.constexpr, PADDED: tl.constexpr, AGGREGATION: tl.constexpr,
    TRANSPOSED: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):
    """(I - N)^{-1} right, or with N transposed, by what `_tl_inverse` formed of N.

    inverse: where a chunk's lies, RANK rows for every token, of which PADDED in `right`; tokens: how many there are.
    """
    if AGGREGATION == "signature":
        return _tl_substituted(inverse, tokens, right, TOKENS, RANK, PADDED, TRANSPOSED, PRECISION)
    else:
        row = tl.arange(0, right.shape[0])
        at = row if RANK == PADDED else row // PADDED * RANK + row % PADDED
        held = row < TOKENS * RANK if RANK == PADDED else (row // PADDED < TOKENS) & (row % PADDED < RANK)
        place, lower = at[:, None] * (TOKENS * RANK) + at[None, :], row[:, None] >= (row // 16 * 16)[None, :]
        mask = held[:, None] & held[None, :] & lower  # what lies above is 0, and not in memory
        whole = tl.load(inverse + place, mask=mask, other=0.0)
        if TRANSPOSED:
            whole = tl.trans(whole)
        return _tl_dot(whole.to(DOT), right.to(DOT), None, PRECISION)
