def _decay_dot(left: Tensor, right: Tensor, blocks: _Blocks, seen: Any, wide: bool = False) -> Tensor:
    """sum_k left[m, k] right[m', k] exp(upper[m, k] - lower[m', k]) where row m' is seen by row m; `wide`: in float64."""
    x, z, index = blocks.fill(left, blocks.rows), blocks.fill(right, blocks.columns), blocks.index
    kind = torch.float64 if wide else x.dtype
    out = x.new_zeros((*x.shape[:3], z.shape[2]), dtype=kind)
    if blocks.levels:
        queries = x.index_select(2, index["later"]).mul_(blocks.later).unflatten(2, (blocks.levels, x.shape[2] // 2))
        keys = z.index_select(2, index["earlier"]).mul_(blocks.earlier).unflatten(2, (blocks.levels, z.shape[2] // 2))
        product = kind if wide else blocks.narrow
        products = (queries.to(product) @ keys.to(product).mT).flatten(2).to(kind)
        out = products.index_select(2, index["far"]).mul_(index["within"]).view_as(out)
    decays = blocks.near(seen)
    count, rows, columns = decays.shape[2:5]
    pairs = decays * z.unflatten(2, (count, columns))[:, :, :, None]
    near = pairs.to(kind) @ x.to(kind).unflatten(2, (count, rows))[..., None]
    blocks.diagonal(out).add_(near[..., 0])
    return out[:, :, : left.shape[2], : right.shape[2]]
