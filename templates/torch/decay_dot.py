def _decay_dot(
    left: Tensor, right: Tensor, upper: Tensor, lower: Tensor, sums: Tensor, seen: tuple[tuple[int, ...], tuple[int, ...]], tokens: int
) -> Tensor:
    """sum_k left[m, k] right[m', k] exp(upper[m, k] - lower[m', k]) where the mask holds."""
    blocks = _Blocks(upper, lower, sums, tokens, left.dtype)
    x, z = blocks.fill(left, blocks.rows), blocks.fill(right, blocks.columns)
    out = x.new_zeros((*x.shape[:3], z.shape[2]))
    for half, later, earlier in blocks.levels():
        queries = blocks.cut(x, blocks.rows, half)[:, :, :, 1] * later
        keys = blocks.cut(z, blocks.columns, half)[:, :, :, 0] * earlier
        tile = blocks.diagonal(out, 2 * half)[:, :, :, half * blocks.rows :, : half * blocks.columns]
        tile.copy_(queries @ keys.mT)
    near = blocks.near(*seen)
    count = near.shape[2]
    near = near.mul_(z.unflatten(2, (count, near.shape[4]))[:, :, :, None])
    tile = blocks.diagonal(out, blocks.direct)
    tile.add_((near @ x.unflatten(2, (count, near.shape[3]))[..., None])[..., 0])
    return out[:, :, : left.shape[2], : right.shape[2]]
