def _decay_apply(
    weights: Tensor,
    vectors: Tensor,
    upper: Tensor,
    lower: Tensor,
    sums: Tensor,
    seen: tuple[tuple[int, ...], tuple[int, ...]],
    tokens: int,
    transposed: bool,
) -> Tensor:
    """sum_m' weights[m, m'] vectors[m', k] exp(upper[m, k] - lower[m', k]) where row m' is seen by row m.

    Transposed: sum_m weights[m, m'] vectors[m, k] exp(upper[m, k] - lower[m', k]).
    """
    blocks = _Blocks(upper, lower, sums, tokens, vectors.dtype)
    rows, columns = (blocks.columns, blocks.rows) if transposed else (blocks.rows, blocks.columns)
    z, w = blocks.fill(vectors, columns), blocks.weights(weights)
    out = z.new_zeros((*z.shape[:2], blocks.size * rows, z.shape[3]))
    for half, later, earlier in blocks.levels():
        tile = blocks.diagonal(w, 2 * half)[:, :, :, half * blocks.rows :, : half * blocks.columns]
        ours, theirs, here, there = (earlier, later, 0, 1) if transposed else (later, earlier, 1, 0)
        tile = tile.mT if transposed else tile
        blocks.cut(out, rows, half)[:, :, :, here] += ours * (tile @ (blocks.cut(z, columns, half)[:, :, :, there] * theirs))
    near = blocks.near(*seen)
    tile = blocks.diagonal(w, blocks.direct)
    near = near.transpose(3, 4) if transposed else near
    tile = tile.mT if transposed else tile
    count, there = near.shape[2], near.shape[4]
    own = (near * z.unflatten(2, (count, there))[:, :, :, None] * tile[..., None]).sum(4)
    out.unflatten(2, (count, near.shape[3])).add_(own)
    return out[:, :, : tokens * rows]
