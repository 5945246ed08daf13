_LOOPING = ContextVar("looping", default=False)  # whether the call at hand runs on kernels


def _tokens_of(
    name: str, every: Sequence[Any], sizes: Sequence[int], step: Any, given: Any, starts: Any, length: int, reverse: bool = False
) -> list[Tensor]:
    """What `_loop` makes, where a call runs on kernels by the one called `name`, of `every` tensor that it is given."""
    if _LOOPING.get():
        return _looped(name, every, starts, sizes, length, reverse)
    return _loop(step, given, starts, length, reverse)
