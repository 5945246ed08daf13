def _from_rows(values: Tensor, batch: int, length: int, heads: int, tokens: int) -> Tensor:
    """Chunks [T / C, B H, C J, *] as per-token rows [B, T, H, J, *]: the inverse of `_to_rows`."""
    chunks, _, rows, *rest = values.shape
    values = values.reshape(chunks, batch, heads, tokens, rows // tokens, *rest)
    values = values.permute(1, 0, 3, 2, 4, *range(5, values.dim()))
    return values.reshape(batch, chunks * tokens, heads, rows // tokens, *rest)[:, :length]
