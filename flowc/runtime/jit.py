"""The decorator: a Python function as a spec.

In: a function, which is read from its source and never run. Out: the `Op` that `flowc.compile` gives for the same spec
as a text. Refuses what is no function (TypeError), functions whose source is not at hand (OSError), and what the
compiler refuses (FlowError, ValueError).
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any, overload

from flowc.options import Options
from flowc.runtime.op import Op, compiled
from flowc.syntax.python.locate import function_source


@overload
def jit(function: Callable[..., Any], /) -> Op: ...


@overload
def jit(
    *,
    chunk_size: int | None = None,
    aggregation: str = "auto",
    schedule: str = "auto",
    backend: str = "auto",
    save: str = "states",
    certify: bool = False,
) -> Callable[[Callable[..., Any]], Op]: ...


def jit(
    function: Callable[..., Any] | None = None,
    /,
    *,
    chunk_size: int | None = None,
    aggregation: str = "auto",
    schedule: str = "auto",
    backend: str = "auto",
    save: str = "states",
    certify: bool = False,
) -> Op | Callable[[Callable[..., Any]], Op]:
    """Compile a recurrence that is written as a Python function: `@flowc.jit`, or `@flowc.jit(chunk_size=32)`.

    The function is read from its source, and never run. An annotation is a string with what a `.flow` file has behind
    the name: `"K"`, `"scalar <= 0"`, `"param K"`, `"state K x V"`. Sizes are those of the annotations; behind `*` stand
    sizes and constants, `*, R=4, tau=16`. `S` is the state as it is so far in the step, `prev(S)` the state before the
    token, `for r in range(R)` a `repeat`. It returns the states and the outputs. All is compiled here and now, so
    that every error comes where the function stands.

    Args:
        function: the function.
        chunk_size: as for `flowc.compile`, like the other options.
        aggregation: "auto", "wy", "tensorinv" or "signature".
        schedule: "auto", "split", "fused" or "two-level".
        backend: "auto", "torch" or "triton".
        save: "states" or "recompute": what is kept for the backward pass, or that it begins with a forward pass.
        certify: hold the chunk programs to the step first, as `flowc.compile` does.

    Returns:
        The op; without a function, what makes one of the function that it decorates.

    Raises:
        FlowError: errors in the function, or a recurrence without a compiled form.
        OSError: the function's source is not at hand.
        RuntimeError: with `certify`, programs that the step contradicts: a bug in flowc.
        TypeError: what is decorated is no function.
        ValueError: an option that is not allowed.
    """
    options = Options(chunk_size=chunk_size, aggregation=aggregation, schedule=schedule, backend=backend, save=save)

    def decorate(decorated: Callable[..., Any]) -> Op:
        if isinstance(decorated, str | PathLike):
            raise TypeError("flowc.jit takes a function; flowc.compile takes a path or a text")
        return compiled(function_source(decorated), options, certify)

    return decorate if function is None else decorate(function)
