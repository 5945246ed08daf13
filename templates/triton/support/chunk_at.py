@_jit
def _tl_chunk_at(table_ptr, chunk, length, heads, programs, TOKENS: tl.constexpr):
    """Of a chunk: its first token and how many it has; `table_ptr` as in `_tl_sequence_at`."""
    if table_ptr is None:
        before = chunk // programs * TOKENS
        token, left = chunk % programs // heads * length + before, tl.minimum(length - before, TOKENS)
    else:
        entry = table_ptr + chunk // heads * 2
        token, left = tl.load(entry).to(tl.int64), tl.load(entry + 1)
    return token, left
