def _join(kind: str, gate: Tensor, before: Tensor, value: Tensor) -> Tensor:
    """One step of a scan."""
    if kind == "linear":
        return gate * before + value  # not in one call, which rounds once or twice as memory lies
    return (torch.maximum if kind == "max" else torch.logaddexp)(gate + before, value)


def _scan(
    kind: str, gate: Any, value: Any, start: Tensor, length: int, tokens: int, reverse: bool = False
) -> Tensor:
    """States of all tokens, [B, T, H, *], from gates and values of that shape and the state [B, H, *] before the first.

    Within a chunk steps are joined to steps of twice as many tokens, and so on, then chunk after chunk to the state:
    what a token gets depends on its chunk alone, not on how many of them are at hand. `reverse` runs from the last token
    to the first, tokens past the last handing `start` on as it is.
    """
    shape = (start.shape[0], length, *start.shape[1:])
    gate, value = (torch.as_tensor(x, dtype=start.dtype, device=start.device).expand(shape) for x in (gate, value))
    filled = -(-length // tokens) * tokens
    sides = (0, 0) * (len(shape) - 2) + (0, filled - length)
    gate, value = F.pad(gate, sides, value=float(kind == "linear")), F.pad(value, sides)
    if reverse:
        gate, value = gate.flip(1), value.flip(1)
    gate, value = (x.unflatten(1, (-1, tokens)).clone() for x in (gate, value))
    done = 1
    while done < tokens:
        joined = _join(kind, gate[:, :, done:], value[:, :, :-done], value[:, :, done:])
        longer = (torch.mul if kind == "linear" else torch.add)(gate[:, :, done:], gate[:, :, :-done])
        value[:, :, done:], gate[:, :, done:] = joined, longer
        done *= 2
    for c in range(filled // tokens):
        value[:, c] = _join(kind, gate[:, c], start[:, None], value[:, c])
        start = value[:, c, -1]
    value = value.flatten(1, 2)
    return (value.flip(1) if reverse else value)[:, :length]


def _earlier(values: Tensor, start: Tensor) -> Tensor:
    """Every token's predecessor's value, `start` before the first."""
    return torch.cat((start[:, None], values[:, :-1]), 1) if values.shape[1] else values


def _later(values: Tensor, end: Tensor) -> Tensor:
    """Every token's successor's value, `end` after the last."""
    return torch.cat((values[:, 1:], end[:, None]), 1) if values.shape[1] else values


def _final(values: Tensor, start: Tensor) -> Tensor:
    """The last token's value."""
    return values[:, -1] if values.shape[1] else start


def _first(values: Tensor, end: Any) -> Any:
    """The first token's value; `end` where there is no token."""
    return values[:, 0] if values.shape[1] else end


def _chunk_starts(start: Tensor, values: Tensor, tokens: int) -> Tensor:
    """The state [T / C, B H, *] at every chunk's start; a copy, so that no other token's is kept with it."""
    starts = torch.cat((start[:, None], values[:, tokens - 1 : -1 : tokens]), 1) if values.shape[1] else values
    return starts.transpose(0, 1).flatten(1, 2)


def _segment_start(starts: Tensor, like: Tensor) -> Tensor:
    """The state at a segment's start, shaped as `like`, of those at its chunks' starts."""
    return starts[0].view(like.shape) if starts.shape[0] else torch.zeros_like(like)
