"""flowc: matrix-state recurrences, written as in a paper, compiled to chunked differentiable torch ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowc.diagnostics import FlowError as FlowError
    from flowc.runtime.op import Op as Op
    from flowc.runtime.op import compile as compile

__version__ = "0.1.0"
__all__ = ["FlowError", "Op", "__version__", "compile"]


def __getattr__(name: str) -> Any:
    """Load what needs torch and sympy when it is first asked for: `flowc check` needs neither."""
    if name in ("compile", "Op"):
        from flowc.runtime import op

        return getattr(op, name)
    if name == "FlowError":
        from flowc.diagnostics import FlowError

        return FlowError
    raise AttributeError(f"module 'flowc' has no attribute {name!r}")
