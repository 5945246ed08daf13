def _at(sums: Tensor, points: tuple[int, ...], gates: int, tokens: int) -> Tensor:
    """The gate sum at the point of each row: [N, B H, C G + 1, *] to [N, B H, C J, *]; a view where a step has one row."""
    if len(points) == 1:
        return sums[:, :, points[0] : points[0] + (tokens - 1) * gates + 1 : gates]
    return sums.index_select(2, _rows_index(points, gates, tokens, sums.device))
