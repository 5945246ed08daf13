def _put(out: Tensor, values: Tensor) -> None:
    """Per-token values [B, T, H, *] into [B, T, H', *], summed over the value heads that share one of H'."""
    if out.shape[2] != values.shape[2]:
        first, *others = values.unflatten(2, (out.shape[2], values.shape[2] // out.shape[2])).unbind(3)
        values = reduce(torch.add, others, first)  # `sum` promises no order that is the same for every length
    out.copy_(values)


def _put_rows(out: Tensor, values: Tensor, heads: int, tokens: int) -> None:
    """One row a token, [T / C, B H, C, *], into [B, T, H', *] without a copy in between where the chunks are full."""
    chunks, _, _, *rest = values.shape
    batch, length = out.shape[:2]
    values = values.reshape(chunks, batch, heads, tokens, *rest)
    values = values.permute(1, 0, 3, 2, *range(4, values.dim()))
    if out.shape[2] == heads and length == chunks * tokens:
        out.unflatten(1, (chunks, tokens)).copy_(values)
    else:
        _put(out, values.reshape(batch, chunks * tokens, heads, *rest)[:, :length])
