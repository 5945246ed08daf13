def _join(kind: str, gate: Tensor, before: Tensor, value: Tensor) -> Tensor:
    """One step of a scan."""
    if kind == "linear":
        return gate * before + value  # not in one call, which rounds once or twice as memory lies
    return (torch.maximum if kind == "max" else torch.logaddexp)(gate + before, value)


def _scan(
    kind: str, gate: Any, value: Any, start: Tensor, length: int, tokens: int, apart: bool = False
) -> Tensor:
    """States of all tokens, [B, T, H, *], from gates and values of that shape and the state [B, H, *] before the first.

    Within a chunk steps are joined to steps of twice as many tokens, and so on, then chunk after chunk to the state:
    what a token gets depends on its chunk alone, not on how many of them are at hand. `apart`: a chunk's first gate
    weighs what enters it, as it does where a segment begins.
    """
    shape = (start.shape[0], length, *start.shape[1:])
    gate, value = (torch.as_tensor(x, dtype=start.dtype, device=start.device).expand(shape) for x in (gate, value))
    filled = -(-length // tokens) * tokens
    sides = (0, 0) * (len(shape) - 2) + (0, filled - length)
    gate, value = (F.pad(x, sides).unflatten(1, (-1, tokens)).clone() for x in (gate, value))
    first, done = gate[:, :, 0].clone(), 1
    if apart:
        gate[:, :, 0] = 1
    while done < tokens:
        joined = _join(kind, gate[:, :, done:], value[:, :, :-done], value[:, :, done:])
        longer = (torch.mul if kind == "linear" else torch.add)(gate[:, :, done:], gate[:, :, :-done])
        value[:, :, done:], gate[:, :, done:] = joined, longer
        done *= 2
    for c in range(filled // tokens):
        start = first[:, c] * start if apart else start
        value[:, c] = _join(kind, gate[:, c], start[:, None], value[:, c])
        start = value[:, c, -1]
    return value.flatten(1, 2)[:, :length]


def _scan_adjoint(slope: Any, bar: Tensor, end: Tensor, tokens: int) -> Tensor:
    """What reaches each state, through all later ones too: x_t = bar_t + slope_{t+1} x_{t+1}, the last plus `end`."""
    length = bar.shape[1]
    shape = (end.shape[0], length, *end.shape[1:])
    slope, bar = (torch.as_tensor(x, dtype=end.dtype, device=end.device).expand(shape) for x in (slope, bar))
    filled = -(-length // tokens) * tokens  # tokens past the last hand `end` on as it is
    sides = (0, 0) * (len(shape) - 2) + (0, filled - length)
    later = F.pad(slope[:, 1:], (*sides[:-1], filled - max(length - 1, 0)), value=1.0)
    return _scan("linear", later.flip(1), F.pad(bar, sides).flip(1), end, filled, tokens, True).flip(1)[:, :length]


def _earlier(values: Tensor, start: Tensor) -> Tensor:
    """Every token's predecessor's value, `start` before the first."""
    return torch.cat((start[:, None], values[:, :-1]), 1) if values.shape[1] else values


def _later(values: Tensor) -> Tensor:
    """Every token's successor's value, 0 for the last."""
    return torch.cat((values[:, 1:], torch.zeros_like(values[:, :1])), 1)


def _final(values: Tensor, start: Tensor) -> Tensor:
    """The last token's value."""
    return values[:, -1] if values.shape[1] else start


def _first(values: Tensor, end: Any) -> Any:
    """The first token's value; `end` where there is no token."""
    return values[:, 0] if values.shape[1] else end


def _chunk_starts(start: Tensor, values: Tensor, tokens: int) -> Tensor:
    """The state [T / C, B H, *] at every chunk's start."""
    return _earlier(values, start)[:, ::tokens].transpose(0, 1).flatten(1, 2)


def _segment_start(starts: Tensor, like: Tensor) -> Tensor:
    """The state at a segment's start, shaped as `like`, of those at its chunks' starts."""
    return starts[0].view(like.shape) if starts.shape[0] else torch.zeros_like(like)
