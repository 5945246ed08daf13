def _to_rows(values: Tensor, tokens: int) -> Tensor:
    """Per-token rows [B, T, H, J, *] as chunks [T / C, B H, C J, *]; the last chunk is filled up with zeros."""
    batch, length, heads, rows, *rest = values.shape
    chunks = -(-length // tokens)
    if chunks * tokens != length:
        values = F.pad(values, (0, 0) * (len(rest) + 2) + (0, chunks * tokens - length))
    values = values.reshape(batch, chunks, tokens, heads, rows, *rest)
    values = values.permute(1, 0, 3, 2, 4, *range(5, values.dim()))
    return values.reshape(chunks, batch * heads, tokens * rows, *rest).contiguous()
