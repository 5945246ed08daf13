class _Packing:
    """Sequences packed along T: where each begins and the last ends, and what kernels have of that in memory."""

    def __init__(self, cu_seqlens: Tensor) -> None:
        """Read the offsets, which waits for the device that they are on."""
        self.offsets: list[int] = cu_seqlens.tolist()
        self.tables: dict[Any, Any] = {}
        at = next((n for n, (a, b) in enumerate(pairwise(self.offsets), 1) if b < a), None)
        if self.offsets[0] != 0:
            raise ValueError(f"{_NAME}: `cu_seqlens` begins with {self.offsets[0]}; expected 0")
        if at is not None:
            found = f"{self.offsets[at]} follows {self.offsets[at - 1]} at index {at}"
            raise ValueError(f"{_NAME}: `cu_seqlens` falls: {found}; expected offsets that never do")


_PACKINGS = WeakTensorKeyDictionary()  # by tensor: its version, and what was read from it


def _packing(cu_seqlens: Tensor, length: int) -> _Packing:
    """What `cu_seqlens` says: read once per tensor and version, so that only the first of many layers waits for a device."""
    if cu_seqlens.is_inference():  # has no version
        found = _Packing(cu_seqlens)
    else:
        version, found = _PACKINGS.get(cu_seqlens, (None, None))
        if version != cu_seqlens._version:
            found = _Packing(cu_seqlens)
            _PACKINGS[cu_seqlens] = cu_seqlens._version, found
    if found.offsets[-1] != length:
        raise ValueError(f"{_NAME}: `cu_seqlens` ends with {found.offsets[-1]}; expected {length}, the tokens of `{_VALUE}`")
    return found


def _sequences(like: Tensor, cu_seqlens: Tensor | None) -> list[tuple[slice, slice]]:
    """What runs apart: its rows of the state and its tokens. The whole batch does not, where nothing is packed."""
    if cu_seqlens is None:
        return [(slice(None), slice(0, like.shape[1]))]
    ends = pairwise(_packing(cu_seqlens, like.shape[1]).offsets)
    return [(slice(n, n + 1), slice(*tokens)) for n, tokens in enumerate(ends)]
