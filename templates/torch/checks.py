_FLOATING = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))


_AGREED: dict[Any, Any] = {}  # what the checks of arguments found, by all that they go by


def _traits(tensors: tuple[Any, ...], timed: bool) -> Any:
    """Shapes, types and devices, all that the checks go by; None where an argument is another thing, or is traced."""
    if torch.compiler.is_compiling():
        return None
    found: list[Any] = [timed]
    for x in tensors:
        if (type(x) is not Tensor and type(x) is not torch.nn.Parameter) or x.layout is not torch.strided:
            return None
        found += x.shape, x.dtype, x.device
    return tuple(found)


def _note(traits: Any, found: Any) -> None:
    """Keep what the checks found."""
    if traits is not None:
        if len(_AGREED) >= 256:
            _AGREED.clear()
        _AGREED[traits] = found


def _fits(shape: torch.Size, sizes: tuple[int | None, ...]) -> bool:
    """Whether a shape is of the expected sizes, None any."""
    if None not in sizes or len(shape) != len(sizes):
        return shape == sizes
    for actual, expected in zip(shape, sizes):
        if expected is not None and actual != expected:
            return False
    return True


def _tensor(
    name: str, value: object, shape: str, sizes: tuple[int | None, ...], like: Tensor | None, known: str = ""
) -> Tensor:
    """An argument that is a floating tensor of the expected sizes (None: any) on the device of `like`.

    `known` tells what its own sizes are known from.
    """
    if isinstance(value, Tensor) and value.dtype in _FLOATING and value.layout is torch.strided:
        if (like is None or value.device == like.device) and _fits(value.shape, sizes):
            return value  # as at almost every call; what follows says why not
    if not isinstance(value, Tensor):
        raise TypeError(f"{_NAME}: `{name}` is {type(value).__name__}; expected a tensor {shape}")
    if not value.is_floating_point():
        raise TypeError(f"{_NAME}: `{name}` has dtype {value.dtype}; expected a floating one")
    if value.dtype.itemsize < 2:
        raise TypeError(f"{_NAME}: `{name}` has dtype {value.dtype}; expected float16, bfloat16, float32 or float64")
    if value.layout is not torch.strided:
        raise TypeError(f"{_NAME}: `{name}` has layout {value.layout}; expected a dense tensor {shape}")
    actual = tuple(value.shape)
    if len(actual) != len(sizes) or any(e is not None and e != a for e, a in zip(sizes, actual, strict=True)):
        wanted = ", ".join("*" if s is None else str(s) for s in sizes)
        wanted = f", {len(sizes)} dimensions" if all(s is None for s in sizes) else f" = [{wanted}]"
        names = shape[1:-1].split(", ")
        lead = names[: names.index("H")] or ["H"]  # those that all inputs, or all params, have in common
        if like is not None and len(actual) == len(sizes) and None not in sizes[: len(lead)]:
            if actual[: len(lead)] != sizes[: len(lead)]:
                wanted += f", {' and '.join(lead)} as of `{_VALUE}`"
            elif known:
                wanted += f", {known}"
        raise ValueError(f"{_NAME}: `{name}` has shape {list(actual)}; expected {shape}{wanted}")
    if like is not None and value.device != like.device:
        raise ValueError(f"{_NAME}: `{name}` is on {value.device}; expected {like.device}, where `{_VALUE}` is")
    return value


def _sized(**sizes: int) -> None:
    """Refuse sizes of 0."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{_NAME}: {name} is {size}; expected a size from 1")


@_cached
def _expanded(sizes: tuple[int, ...], number: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One number as a tensor, there before this returns: copies from the host are waited for."""
    with torch.inference_mode(False):  # what autograd may save
        return torch.full((), number, dtype=dtype, device="cpu").to(device).expand(sizes)


def _filled(sizes: tuple[int, ...], number: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A state of one number: one in memory, expanded, so that no launch fills it; not where a call is traced or recorded."""
    recorded = torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
    if recorded or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return torch.full(sizes, number, dtype=dtype, device=device)
    return _expanded(sizes, number, dtype, device)


def _start(
    given: Any, timed: bool, cu_seqlens: Any, sizes: Sequence[tuple[int, ...]], like: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """The states to start from, in the order of the spec: one is given bare, several in a tuple."""
    if given is None:
        return [_filled(s, fill, dtype, like.device) for s, fill in zip(sizes, _FILLS, strict=True)]
    name, first = "initial_state" if timed else "state", "[B" if cu_seqlens is None else "[N"
    if len(sizes) == 1:
        return [_tensor(name, given, first + _STATE_SHAPES[0], sizes[0], like)]
    if not isinstance(given, (tuple, list)) or len(given) != len(sizes):
        found = f"a tuple of {len(given)}" if isinstance(given, (tuple, list)) else type(given).__name__
        raise TypeError(f"{_NAME}: `{name}` is {found}; expected a tuple of the states ({', '.join(_STATE_NAMES)})")
    each = zip(_STATE_NAMES, given, _STATE_SHAPES, sizes, strict=True)
    return [_tensor(f"{name}.{own}", x, first + shape, size, like) for own, x, shape, size in each]


def _shared_heads(name: str, value: object, lead: int, trailing: int, heads: int) -> int:
    """The heads of an argument that value heads may share: a divisor of their number."""
    fits = isinstance(value, Tensor) and value.dim() == lead + trailing
    found = value.shape[lead - 1] if fits else heads
    if found < 1 or heads % found:
        if heads == found:
            return found
        raise ValueError(f"{_NAME}: `{name}` has {found} heads; expected a divisor of {heads}, the heads of `{_VALUE}`")
    return found


def _states(cu_seqlens: object, like: Tensor) -> int:
    """How many states a call has: one for every sequence that `cu_seqlens` packs along T, else for every batch entry."""
    if cu_seqlens is None:
        return like.shape[0]
    if not isinstance(cu_seqlens, Tensor):
        raise TypeError(f"{_NAME}: `cu_seqlens` is {type(cu_seqlens).__name__}; expected a tensor [N + 1]")
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{_NAME}: `cu_seqlens` has dtype {cu_seqlens.dtype}; expected torch.int32 or torch.int64")
    if cu_seqlens.dim() != 1 or len(cu_seqlens) < 1:
        raise ValueError(f"{_NAME}: `cu_seqlens` has shape {list(cu_seqlens.shape)}; expected [N + 1]")
    if cu_seqlens.device != like.device:
        raise ValueError(f"{_NAME}: `cu_seqlens` is on {cu_seqlens.device}; expected {like.device}, where `{_VALUE}` is")
    if like.shape[0] != 1:
        raise ValueError(f"{_NAME}: `{_VALUE}` has batch size {like.shape[0]}; expected 1, as `cu_seqlens` packs along T")
    return len(cu_seqlens) - 1


def _option(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """An option's value at a call."""
    if value is not None and value not in allowed:
        raise ValueError(f"{_NAME}: {name} is {value!r}; expected one of {', '.join(map(repr, allowed))}")


def _choose(table: tuple[tuple[int | None, Any], ...], size: int) -> Any:
    """The choice for `size` from a table of (largest size, choice)."""
    return next(choice for limit, choice in table if limit is None or size <= limit)


def _in_range(name: str, value: Tensor, test: Tensor, declared: str) -> None:
    """`check=True`: every entry within the range that the spec declares."""
    if not bool(test.all()):
        worst = value[~test].flatten()[0].item()
        raise ValueError(f"{_NAME}: `{name}` holds {worst}; the spec declares it {declared}")
