def _decay_apply(weights: Tensor, vectors: Tensor, blocks: _Blocks, seen: Any, transposed: bool) -> Tensor:
    """sum_m' weights[m, m'] vectors[m', k] exp(upper[m, k] - lower[m', k]) where row m' is seen by row m.

    Transposed: sum_m weights[m, m'] vectors[m, k] exp(upper[m, k] - lower[m', k]).
    """
    index, missing = blocks.index, blocks.size - blocks.tokens
    w = F.pad(weights, (0, missing * blocks.columns, 0, missing * blocks.rows)) if missing else weights
    rows, columns = (blocks.columns, blocks.rows) if transposed else (blocks.rows, blocks.columns)
    z = blocks.fill(vectors, columns)
    out = z.new_zeros((*z.shape[:2], blocks.size * rows, z.shape[3]))
    if blocks.levels:
        sides = (index["later"], blocks.later), (index["earlier"], blocks.earlier)
        (here, ours), (there, theirs) = sides[::-1] if transposed else sides
        shape = blocks.levels, w.shape[2] // 2, w.shape[3] // 2
        tiles = w.flatten(2).index_select(2, index["pairs"]).mul_(index["seen"]).unflatten(2, shape)
        own = z.index_select(2, there).mul_(theirs).unflatten(2, (blocks.levels, z.shape[2] // 2))
        far = ((tiles.mT if transposed else tiles).to(blocks.narrow) @ own.to(blocks.narrow)).flatten(2, 3)
        out.index_add_(2, here, far.to(ours.dtype).mul_(ours))
    near = blocks.near(seen).transpose(3, 4) if transposed else blocks.near(seen)
    tile = blocks.diagonal(w)
    tile = tile.mT if transposed else tile
    count, own_rows, other_rows = near.shape[2:5]
    pairs = (near * z.unflatten(2, (count, other_rows))[:, :, :, None]).mul_(tile[..., None])
    out.unflatten(2, (count, own_rows)).add_(pairs.sum(4))
    return out[:, :, : weights.shape[3 if transposed else 2]]
