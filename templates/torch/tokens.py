def _tokens(chunk_size: Any, rows: int, counted: str = "", keep: bool = True) -> int:
    """The tokens of a chunk: as asked, else by the table.

    `rows` are those of a token, in the spec's words `counted`; `keep` says that a backward pass may follow.
    """
    if chunk_size is None:
        table = _CHUNK_SIZES if keep else _FORWARD_CHUNK_SIZES
        chunk_size = min(_choose(table, rows), max(256 // max(rows, 1), 1))
    try:
        size = 0 if isinstance(chunk_size, bool) else operator.index(chunk_size)
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(f"{_NAME}: chunk_size is {chunk_size!r}; expected an integer from 1")
    if rows > 256:
        raise ValueError(f"{_NAME}: {counted}{rows} rows per token, and a chunk holds at most 256 rows")
    if size * rows > 256:
        per_token = f" with {counted}{rows} rows per token" if counted or rows > 1 else ""
        raise ValueError(
            f"{_NAME}: chunk_size = {size}{per_token} makes {size * rows} rows a chunk, at most 256;"
            f" the largest legal chunk_size is {256 // rows}"
        )
    return size
