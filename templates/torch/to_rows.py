def _to_rows(values: Tensor, tokens: int, by: Tensor | None = None) -> Tensor:
    """Per-token rows [B, T, H, J, *] as chunks [T / C, B H, C J, *], times a number per row (`by`) where there is one.

    The last chunk is filled up with zeros. The result is contiguous: products of rows that lie apart take twice as long.
    """
    batch, length, heads, rows, *rest = values.shape
    chunks = -(-length // tokens)
    if chunks * tokens != length:
        values = F.pad(values, (0, 0) * (len(rest) + 2) + (0, chunks * tokens - length))
    values = values.reshape(batch, chunks, tokens, heads, rows, *rest)
    values = values.permute(1, 0, 3, 2, 4, *range(5, values.dim()))
    values = values.reshape(chunks, batch * heads, tokens * rows, *rest)
    return values.contiguous() if by is None else torch.mul(values, by[..., None], out=by.new_empty(values.shape))
