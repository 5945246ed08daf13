def _decay_dot(left: Tensor, right: Tensor, blocks: _Blocks, seen: Any) -> Tensor:
    """sum_k left[m, k] right[m', k] exp(upper[m, k] - lower[m', k]) where row m' is seen by row m."""
    x, z = blocks.fill(left, blocks.rows), blocks.fill(right, blocks.columns)
    out = x.new_zeros((*x.shape[:3], z.shape[2]))
    for half, later, earlier in blocks.levels:
        queries = blocks.cut(x, blocks.rows, half)[:, :, :, 1] * later
        keys = blocks.cut(z, blocks.columns, half)[:, :, :, 0] * earlier
        tile = blocks.diagonal(out, 2 * half)[:, :, :, half * blocks.rows :, : half * blocks.columns]
        tile.copy_(queries @ keys.mT)
    decays = blocks.near(seen)
    count, rows, columns = decays.shape[2:5]
    pairs = decays * z.unflatten(2, (count, columns))[:, :, :, None]
    near = pairs @ x.unflatten(2, (count, rows))[..., None]
    blocks.diagonal(out, blocks.direct).add_(near[..., 0])
    return out[:, :, : left.shape[2], : right.shape[2]]
