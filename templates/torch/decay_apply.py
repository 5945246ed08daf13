def _decay_apply(weights: Tensor, vectors: Tensor, blocks: _Blocks, seen: Any, transposed: bool) -> Tensor:
    """sum_m' weights[m, m'] vectors[m', k] exp(upper[m, k] - lower[m', k]) where row m' is seen by row m.

    Transposed: sum_m weights[m, m'] vectors[m, k] exp(upper[m, k] - lower[m', k]).
    """
    rows, columns = (blocks.columns, blocks.rows) if transposed else (blocks.rows, blocks.columns)
    z, w = blocks.fill(vectors, columns), blocks.weights(weights)
    out = z.new_zeros((*z.shape[:2], blocks.size * rows, z.shape[3]))
    for half, later, earlier in blocks.levels:
        tile = blocks.diagonal(w, 2 * half)[:, :, :, half * blocks.rows :, : half * blocks.columns]
        ours, theirs, here, there = (earlier, later, 0, 1) if transposed else (later, earlier, 1, 0)
        tile = tile.mT if transposed else tile
        part = tile @ (blocks.cut(z, columns, half)[:, :, :, there] * theirs)
        blocks.cut(out, rows, half)[:, :, :, here].add_(part.mul_(ours))
    near = blocks.near(seen).transpose(3, 4) if transposed else blocks.near(seen)
    tile = blocks.diagonal(w, blocks.direct)
    tile = tile.mT if transposed else tile
    count, own, there = near.shape[2:5]
    pairs = (near * z.unflatten(2, (count, there))[:, :, :, None]).mul_(tile[..., None])
    out.unflatten(2, (count, own)).add_(pairs.sum(4))
    return out[:, :, : weights.shape[3 if transposed else 2]]
