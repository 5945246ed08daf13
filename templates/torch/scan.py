def _join(kind: str, gate: Tensor, before: Tensor, value: Tensor) -> Tensor:
    """One step of a scan."""
    if kind == "linear":
        return torch.addcmul(value, gate, before)
    return (torch.maximum if kind == "max" else torch.logaddexp)(gate + before, value)


def _scan(kind: str, gate: Any, value: Any, start: Tensor, length: int) -> Tensor:
    """States of all tokens, [B, T, H, *], from gates and values of that shape and the state [B, H, *] before the first.

    Steps are joined to steps of twice as many tokens, and so on: log T passes, none of which divides or takes apart.
    """
    shape = (start.shape[0], length, *start.shape[1:])
    gate, value = (torch.as_tensor(x, dtype=start.dtype, device=start.device).expand(shape).clone() for x in (gate, value))
    if length:
        value[:, 0] = _join(kind, gate[:, 0], start, value[:, 0])
    done = 1
    while done < length:
        joined = _join(kind, gate[:, done:], value[:, :-done], value[:, done:])
        gates = gate[:, done:] * gate[:, :-done] if kind == "linear" else gate[:, done:] + gate[:, :-done]
        value[:, done:], gate[:, done:] = joined, gates
        done *= 2
    return value


def _scan_adjoint(slope: Any, bar: Tensor, end: Tensor) -> Tensor:
    """What reaches each state, through all later ones too: x_t = bar_t + slope_{t+1} x_{t+1}, the last plus `end`."""
    shape = (end.shape[0], bar.shape[1], *end.shape[1:])
    slope, bar = (torch.as_tensor(x, dtype=end.dtype, device=end.device).expand(shape) for x in (slope, bar))
    later = torch.cat((slope[:, 1:], torch.ones_like(slope[:, :1])), 1)
    return _scan("linear", later.flip(1), bar.flip(1), end, bar.shape[1]).flip(1)


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
