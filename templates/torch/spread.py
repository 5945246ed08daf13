def _spread(value: Tensor | float, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A number or tensor as a tensor of `shape`, in the type and on the device of `like`."""
    if not isinstance(value, Tensor):
        return like.new_full(shape, value)
    return value.expand(shape)
