@_jit
def _tl_substituted(
    inverse, tokens, right, TOKENS: tl.constexpr, RANK: tl.constexpr, PADDED: tl.constexpr, TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Substitution: 16 rows are solved for, then taken out of all rows that are left; see `_tl_solve`.

    In float32: what is rounded here is multiplied by all that is solved for after it.
    """
    blocks: tl.constexpr = right.shape[0] // 16
    folded: tl.constexpr = (blocks, 16, right.shape[1])
    row = tl.arange(0, right.shape[0])
    at, live = row // PADDED * RANK + row % PADDED, (row // PADDED < tokens) & (row % PADDED < RANK)
    out = right
    for step in tl.static_range(0, blocks):
        block = blocks - 1 - step if TRANSPOSED else step
        near = block * 16 + tl.arange(0, 16)
        there, seen = near // PADDED * RANK + near % PADDED, (near // PADDED < tokens) & (near % PADDED < RANK)
        if TRANSPOSED:
            rest = live & (row // 16 < block)
            own_at, rest_at = there[None, :] * (TOKENS * RANK) + there[:, None], there[None, :] * (TOKENS * RANK) + at[:, None]
        else:
            rest = live & (row // 16 > block)
            own_at, rest_at = there[:, None] * (TOKENS * RANK) + there[None, :], at[:, None] * (TOKENS * RANK) + there[None, :]
        own = tl.load(inverse + own_at, mask=seen[:, None] & seen[None, :], other=0.0)
        factor = tl.load(inverse + rest_at, mask=rest[:, None] & seen[None, :], other=0.0)
        here = (row // 16 == block)[:, None]
        mine = tl.sum(tl.reshape(tl.where(here, out, 0.0), folded), 0)
        solved = tl.dot(own, mine, input_precision=PRECISION, out_dtype=tl.float32)
        out = tl.where(here, tl.reshape(tl.broadcast_to(solved[None, :, :], folded), right.shape), out)
        out = tl.dot(factor, solved, acc=out, input_precision=PRECISION, out_dtype=tl.float32)
    return out
