"""Scans over the tokens of a segment as PyTorch calls; templates/torch/scan.py has what they call.

In: an operation and its printed operands, [B, T, H, *], or [B, H, *] for what a segment begins or ends with. Out: an
expression. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from flowc.chunk import ir
from flowc.emit.torch_functions import Code

ScanOp = ir.Scan | ir.Earlier | ir.Final | ir.Later | ir.First


def scan_code(op: ScanOp, operands: Sequence[str], scan: str) -> Code:
    """The call; `scan` is the function that scans."""
    shown = ", ".join(operands)
    match op:
        case ir.Scan(kind, reverse=reverse):
            return Code(f"{scan}({kind!r}, {shown}, length, tokens{', True' * reverse})")
        case ir.Earlier():
            return Code(f"_earlier({shown})")
        case ir.Final():
            return Code(f"_final({shown})")
        case ir.Later():
            return Code(f"_later({shown})")
        case ir.First():
            return Code(f"_first({shown})")
        case _:
            assert_never(op)
