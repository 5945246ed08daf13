def _at_adjoint(rows_bar: Tensor, points: tuple[int, ...], gates: int, tokens: int) -> Tensor:
    """The adjoint of `_at`: gradients of the gate sums from those of rows."""
    sums_bar = rows_bar.new_zeros((*rows_bar.shape[:2], tokens * gates + 1, *rows_bar.shape[3:]))
    if len(points) == 1:
        sums_bar[:, :, points[0] : points[0] + (tokens - 1) * gates + 1 : gates] = rows_bar
        return sums_bar
    return sums_bar.index_add_(2, _rows_index(points, gates, tokens, rows_bar.device), rows_bar)


def _last_adjoint(last_bar: Tensor, entries: int) -> Tensor:
    """The adjoint of taking the last gate sum."""
    sums_bar = last_bar.new_zeros((*last_bar.shape[:2], entries, *last_bar.shape[2:]))
    sums_bar[:, :, -1] = last_bar
    return sums_bar
