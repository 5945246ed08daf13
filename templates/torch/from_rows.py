def _from_rows(values: Tensor, batch: int, length: int, tokens: int) -> Tensor:
    """Chunks [T / C, B H, C J, *] as per-token rows [B, T, H, J, *]: the inverse of `_to_rows`."""
    chunks, programs, rows, *rest = values.shape
    heads, per_token = programs // max(batch, 1), rows // tokens
    values = values.reshape(chunks, batch, heads, tokens, per_token, *rest)
    values = values.permute(1, 0, 3, 2, 4, *range(5, values.dim()))
    return values.reshape(batch, chunks * tokens, heads, per_token, *rest)[:, :length]
