@_jit
def _tl_substituted(
    inverse, live, right, TOKENS: tl.constexpr, RANK: tl.constexpr, PADDED: tl.constexpr, TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Substitution: 16 rows are solved for, then taken out of all rows that are left; see `_tl_solve`.

    In float32: what is rounded here is multiplied by all that is solved for after it.
    """
    width: tl.constexpr = TOKENS * RANK
    blocks: tl.constexpr = right.shape[0] // 16
    folded: tl.constexpr = (blocks, 16, right.shape[1])
    row, near = tl.arange(0, right.shape[0]), tl.arange(0, 16)
    at = row // PADDED * RANK + row % PADDED
    tokens = tl.sum(live.to(tl.int32), 0) // RANK
    out = right
    for step in tl.static_range(0, blocks):
        block = blocks - 1 - step if TRANSPOSED else step
        column = block * 16 + near
        there = column // PADDED * RANK + column % PADDED
        seen = (column % PADDED < RANK) & (column // PADDED < tokens)
        here = (row // 16 == block)[:, None]
        if TRANSPOSED:
            left = live & (row // 16 < block)
            own_at, rest_at = there[None, :] * width + there[:, None], there[None, :] * width + at[:, None]
        else:
            left = live & (row // 16 > block)
            own_at, rest_at = there[:, None] * width + there[None, :], at[:, None] * width + there[None, :]
        own = tl.load(inverse + own_at, mask=seen[:, None] & seen[None, :], other=0.0)
        rest = tl.load(inverse + rest_at, mask=left[:, None] & seen[None, :], other=0.0)
        mine = tl.sum(tl.reshape(tl.where(here, out, 0.0), folded), 0)
        solved = tl.dot(own, mine, input_precision=PRECISION, out_dtype=tl.float32)
        out = tl.where(here, tl.reshape(tl.broadcast_to(solved[None, :, :], folded), right.shape), out)
        out = tl.dot(rest, solved, acc=out, input_precision=PRECISION, out_dtype=tl.float32)
    return out
