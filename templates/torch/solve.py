def _solve(inverse: Tensor, right: Tensor, aggregation: str, transposed: bool = False, out: Tensor | None = None) -> Tensor:
    """(I - N)^{-1} right, or with N transposed, of every head, by what `_INVERSES` formed of N, in float64."""
    if aggregation == "signature":
        solved = _substituted(inverse, right.to(torch.float64, copy=True), transposed)
    else:
        solved = (inverse.mT if transposed else inverse) @ right.double()
    return solved.to(right.dtype) if out is None else out.copy_(solved)


def _substituted(inverse: Tensor, out: Tensor, transposed: bool) -> Tensor:
    """Substitution in place, 16 rows at a time: they are solved for, then taken out of all rows that are left."""
    inverse = inverse.mT if transposed else inverse
    starts = range(0, out.shape[1], 16)
    for start in reversed(starts) if transposed else starts:
        here, left = slice(start, start + 16), slice(0, start) if transposed else slice(start + 16, None)
        solved = out[:, here]
        solved.copy_(inverse[:, here, here] @ solved)
        out[:, left].baddbmm_(inverse[:, left, here], solved)
    return out
