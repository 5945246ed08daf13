"""Which version of an op a call runs on.

In: the op's printed arguments, the lines that call the torch version, and why there are no Triton kernels, None where
there are. Out: lines. Refuses nothing itself; backend="triton" without kernels becomes an error of the emitted op.
"""

from __future__ import annotations

from collections.abc import Sequence


def dispatched(
    passed: str, value: str, chunked: Sequence[str], chosen: Sequence[str], missing: str | None
) -> list[str]:
    """The call of the kernels where they can run, else of the torch version."""
    asked = "backend or __options__['backend']"
    if missing is not None:
        return [f"if ({asked}) == 'triton':", f"    raise ValueError({missing!r})", *chunked]
    return [
        f"if _on_triton({asked}, ({passed}, start), dtype):",
        *(f"    {line}" for line in chosen),
        f"    with _uncast({value}.device):",
        "        *outputs, final = _OnTriton.apply(cu_seqlens, tokens, how, keep, *tensors)",
        "else:",
        *(f"    {line}" for line in chunked),
    ]
