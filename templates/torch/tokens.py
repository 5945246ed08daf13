def _tokens(chunk_size: int | None, rows: int, length: int) -> int:
    """The tokens of a chunk: as asked, else by the table; never more than the sequence needs."""
    if chunk_size is None:
        chunk_size = min(_choose(_CHUNK_SIZES, rows), max(256 // max(rows, 1), 1))
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(f"{_NAME}: chunk_size is {chunk_size!r}; expected an integer from 1")
    if chunk_size * rows > 256:
        raise ValueError(
            f"{_NAME}: chunk_size = {chunk_size} with R = {rows} rows per token makes {chunk_size * rows} rows a chunk,"
            f" at most 256; the largest legal chunk_size is {256 // rows}"
        )
    return min(chunk_size, 1 << (max(length, 1) - 1).bit_length())
