"""Which version of an op a call runs on.

In: the op's printed arguments, its rows per token, and why there are no Triton kernels, None where there are. Out:
lines. Refuses nothing itself; backend="triton" without kernels becomes an error of the emitted op.
"""

from __future__ import annotations


def dispatched(
    passed: str, starts: str, rows: str, counted: str, missing: str | None, keys: str, loops: bool, narrow: str
) -> list[str]:
    """The kernels where they can run, else torch operators; `counted` says what the `rows` per token are.

    `keys` is how many entries of a state kernels hold whole; `loops`: those of a `TokenPlan`; `narrow`: the type that
    products of torch operators take.
    """
    asked = "backend or __options__['backend']"
    opened = "chunk_size = __options__['chunk_size'] if chunk_size is None else chunk_size"
    tokens = f"_tokens(chunk_size, {rows}{counted}, keep=keep)"
    asked_for = f"schedule, chunk_size, ({passed},), ({starts},)"
    chunked = f"return _InChunks(cu_seqlens, {tokens}, {rows}, aggregation, dtype, {narrow}, keep)"
    if missing is not None:
        return [f"if ({asked}) == 'triton':", f"    raise ValueError({missing!r})", opened, chunked]
    if loops:
        by_tokens = f"return _InTokens(cu_seqlens, {tokens}, keep)"
        return [opened, f"if _on_triton({asked}, ({passed},), {keys}, dtype):", f"    {by_tokens}", chunked]
    return [
        opened,
        f"keys = {keys}",
        f"if _on_triton({asked}, ({passed},), keys, dtype):",
        f"    chunk_size = None if chunk_size is None else _tokens(chunk_size, {rows}{counted})",
        "    schedule = schedule or __options__['schedule']",
        f"    schedule, chunk_size, segments = _kernel_choice({asked_for}, {rows}, keys, keep)",
        "    how = aggregation or __options__['aggregation']",
        "    how = 'wy' if how == 'auto' else how",
        f"    tokens = _in_tiles(chunk_size, {rows}{counted})",
        "    return _OnTriton(cu_seqlens, tokens, how, schedule, keep, segments)",
        chunked,
    ]
