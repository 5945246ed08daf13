def _solve(inverse: Tensor, right: Tensor, aggregation: str, transposed: bool = False, out: Tensor | None = None) -> Tensor:
    """(I - N)^{-1} right, or with N transposed, of every head, by what `_INVERSES` formed of N."""
    inverse = inverse.mT if transposed else inverse
    if aggregation == "signature":
        out = right.clone() if out is None else out.copy_(right)
        return _substituted(inverse, out, transposed)
    return torch.bmm(inverse, right, out=out)


def _substituted(inverse: Tensor, out: Tensor, transposed: bool) -> Tensor:
    """Substitution in place, 16 rows at a time: they are solved for, then taken out of all rows that are left."""
    starts = range(0, out.shape[1], 16)
    for start in reversed(starts) if transposed else starts:
        here, left = slice(start, start + 16), slice(0, start) if transposed else slice(start + 16, None)
        solved = out[:, here]
        solved.copy_(inverse[:, here, here] @ solved)
        out[:, left].baddbmm_(inverse[:, left, here], solved)
    return out
