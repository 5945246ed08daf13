@_jit
def _tl_sequence_at(table_ptr, program, length, heads, programs):
    """Of a walk: the first token, how many follow, the first chunk's place in memory, and how far apart chunks are.

    table_ptr: what `_Table` says of packed sequences; None for a batch.
    """
    if table_ptr is None:
        first, tokens, place, apart = program // heads * length, length, program, programs
    else:
        entry = table_ptr + program // heads * 3
        first, tokens = tl.load(entry).to(tl.int64), tl.load(entry + 1)
        place, apart = tl.load(entry + 2).to(tl.int64) * heads + program % heads, heads
    return first, tokens, place, apart
