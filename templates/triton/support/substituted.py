@_jit
def _tl_substituted(
    inverse, tokens, right, TOKENS: tl.constexpr, RANK: tl.constexpr, PADDED: tl.constexpr, TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Substitution: 16 rows are solved for, then taken out of all rows that are left; see `_tl_solve`.

    In float32: what is rounded here is multiplied by all that is solved for after it.
    """
    BLOCKS: tl.constexpr = right.shape[0] // 16
    block, near = tl.arange(0, BLOCKS)[:, None, None], tl.arange(0, 16)
    row = block * 16 + near[None, :, None]
    out = tl.reshape(right, (BLOCKS, 16, right.shape[1]))
    for step in tl.static_range(0, BLOCKS):
        this = BLOCKS - 1 - step if TRANSPOSED else step
        column = this * 16 + near[None, None, :]
        after, before = (column, row) if TRANSPOSED else (row, column)
        there = (after // PADDED * RANK + after % PADDED) * (TOKENS * RANK) + before // PADDED * RANK + before % PADDED
        seen = (after // PADDED < tokens) & (after % PADDED < RANK) & (before // PADDED < tokens) & (before % PADDED < RANK)
        left = block < this if TRANSPOSED else block > this
        factor = tl.load(inverse + there, mask=seen & left, other=0.0)
        own = tl.sum(tl.load(inverse + there, mask=seen & (block == this), other=0.0), 0)
        mine = tl.sum(tl.where(block == this, out, 0.0), 0)
        solved = tl.dot(own, mine, input_precision=PRECISION, out_dtype=tl.float32)
        all_solved = tl.broadcast_to(solved[None, :, :], out.shape)
        out = tl.where(block == this, all_solved, out)
        out = tl.dot(factor, all_solved, acc=out, input_precision=PRECISION, out_dtype=tl.float32)
    return tl.reshape(out, right.shape)
