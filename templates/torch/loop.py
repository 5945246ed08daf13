def _loop(
    step: Any, given: Sequence[Tensor], starts: Sequence[Tensor], length: int, reverse: bool = False
) -> list[Tensor]:
    """States of all tokens, [B, T, H, *], each of `given` [B, T, H, *] and the states before, `starts` [B, H, *] at first.

    `reverse` runs from the last token to the first.
    """
    states: Sequence[Tensor] = [x[:, None] for x in starts]
    found = [x.new_empty(x.shape[0], length, *x.shape[1:]) for x in starts]
    for t in reversed(range(length)) if reverse else range(length):
        made = step(*(x[:, t : t + 1] if x.shape[1] > 1 else x for x in given), *states)
        states = [out[:, t : t + 1].copy_(x) for out, x in zip(found, made)]
    return found
