def _pools(given: Any, slots: object, sizes: Sequence[tuple[int, ...]], like: Tensor) -> list[Tensor]:
    """The pools of states that a step updates in place, each [slots, H, *]; `sizes` are those of the states."""
    if not isinstance(slots, Tensor) or slots.dtype not in (torch.int32, torch.int64):
        shown = f"has dtype {slots.dtype}" if isinstance(slots, Tensor) else f"is {type(slots).__name__}"
        raise TypeError(f"{_NAME}: `state_indices` {shown}; expected an int64 or int32 tensor [B]")
    if slots.shape != like.shape[:1]:
        raise ValueError(f"{_NAME}: `state_indices` has shape {list(slots.shape)}; expected [B] = [{like.shape[0]}]")
    if slots.device != like.device:
        raise ValueError(f"{_NAME}: `state_indices` is on {slots.device}; expected {like.device}, where `{_VALUE}` is")
    pools = list(given) if isinstance(given, (tuple, list)) else [given]
    if given is None or len(pools) != len(sizes):
        raise ValueError(f"{_NAME}: `state_indices` goes with a `state` of pools, [slots, H, *], of {', '.join(_STATE_NAMES)}")
    for name, x, own in zip(_STATE_NAMES, pools, sizes, strict=True):
        called = "state" if len(sizes) == 1 else f"state {name}"
        _tensor(called, x, "[slots, H, *]", (None, *own[1:]), like)
        if any(size > 1 and step == 0 for size, step in zip(x.shape, x.stride())):
            raise ValueError(f"{_NAME}: `{called}` is expanded; a pool has memory for every state")
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(f"{_NAME}: `{called}` requires a gradient; a pool is updated in place, under no_grad")
    counts = [x.shape[0] for x in pools]
    if len(set(counts)) > 1 or (not counts[0] and slots.numel()):
        shown = ", ".join(f"`{name}` {count}" for name, count in zip(_STATE_NAMES, counts, strict=True))
        raise ValueError(f"{_NAME}: pools have as many slots each, one at least; slots of {shown}")
    # Where a look makes nobody wait; tensors of other classes, such as fake ones, may have nothing to look at.
    if type(slots) is Tensor and slots.device.type == "cpu" and not torch.compiler.is_compiling():
        _own_slots(slots.tolist(), counts[0])
    return pools


def _own_slots(slots: list[int], count: int) -> None:
    """Refuse a slot that the pools do not have, and one that two sequences have."""
    seen: dict[int, int] = {}
    for at, slot in enumerate(slots):
        if slot >= count:
            raise ValueError(f"{_NAME}: `state_indices`[{at}] is {slot}; expected less than {count}, the slots of `state`")
        if slot > 0 and seen.setdefault(slot, at) != at:
            raise ValueError(f"{_NAME}: `state_indices`[{seen[slot]}] and [{at}] are both {slot}; expected a slot for each")


def _gathered(pools: Sequence[Tensor], slots: Tensor) -> list[Tensor]:
    """The states of all sequences; of one that is skipped 0, as in kernels."""
    index, live = slots.clamp(min=0), slots > 0
    return [x.index_select(0, index).where(live.view(-1, *(1,) * (x.dim() - 1)), 0) for x in pools]


def _scattered(pools: Sequence[Tensor], slots: Tensor, finals: Sequence[Tensor]) -> list[Tensor]:
    """The pools, with what comes after the token where a sequence has a slot."""
    index, live = slots.clamp(min=0), slots > 0
    for x, final in zip(pools, finals, strict=True):
        kept = live.view(-1, *(1,) * (x.dim() - 1))
        x.index_copy_(0, index, torch.where(kept, final.to(x.dtype), x.index_select(0, index)))
    return list(pools)
