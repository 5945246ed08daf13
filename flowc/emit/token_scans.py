"""Scans over the tokens of a tile, and what a token leaves to the next, as Triton statements.

In: an operation and the printer of its program, whose tiles have several tokens. Out: an expression. Refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowc.chunk import ir
from flowc.chunk.values import Value
from flowc.emit.token_tiles import spot
from flowc.emit.torch_functions import SUM, Code

if TYPE_CHECKING:
    from flowc.emit.token_printer import TokenPrinter

NEUTRAL = {"linear": ("1.0", "0.0"), "max": ("0.0", 'float("-inf")'), "logsumexp": ("0.0", 'float("-inf")')}


class ScanPrinter:
    """Prints what runs over the tokens; past the last one a step changes nothing."""

    def __init__(self, printer: TokenPrinter) -> None:
        """Values and their axes are the printer's."""
        self.printer, self.tiles = printer, printer.tiles

    def expression(self, value: Value, op: ir.Op) -> Code:
        """The expression of an operation."""
        match op:
            case ir.Scan():
                return self.scan(value, op)
            case ir.Earlier(argument, start):
                return self.neighbour(value, argument, start, "row == 0", "tl.maximum(row - 1, 0)")
            case ir.Later(argument, end):
                return self.neighbour(value, argument, end, "row == left - 1", "tl.minimum(row + 1, TOKENS - 1)")
            case ir.Final(argument, start):
                return self.picked(value, argument, start, "row == left - 1")
            case ir.First(argument, end):
                return self.picked(value, argument, end, "row == 0")
        raise TypeError(f"{type(op).__name__} runs over no tokens")

    def every(self, value: Value, number: int, operand: Value) -> str:
        """An operand, of every token."""
        code = self.printer.operand(operand, self.printer.every(operand))
        return self.printer.once(value, number, code).text

    def alone(self, value: Value, number: int, operand: Value) -> str:
        """An operand that stands before the tokens or after them, beside those."""
        text = self.printer.once(value, number, self.printer.operand(operand, self.printer.own(operand))).text
        rest = "".join(", :" for _ in operand.axes)
        return f"{text}[None{rest}]" if rest else text

    def scan(self, value: Value, op: ir.Scan) -> Code:
        """Steps joined over the tile's tokens, then to the state before them."""
        lanes, printer = self.printer.every(value), self.printer
        live = f"(row < left){spot(len(lanes), 0)}"
        gate, given = (printer.names.fresh(n) for n in ("gate", "value"))
        for name, number, operand in ((gate, 0, op.gate), (given, 1, op.value)):
            text = printer.once(value, number, printer.operand(operand, lanes)).text
            printer.body.append(f"{name} = tl.where({live}, {text}, {NEUTRAL[op.kind][number]})")
        printer.used["scans"] = None
        way = ", reverse=True" * op.reverse
        printer.body.append(f"{gate}, {given} = tl.associative_scan(({gate}, {given}), 0, _tl_join_{op.kind}{way})")
        start = self.alone(value, 2, op.start)
        match op.kind:
            case "linear":
                return Code(f"{gate} * {start} + {given}", SUM)
            case "max":
                return Code(f"_tl_maximum({gate} + {start}, {given})")
        return Code(f"_tl_log_add({gate} + {start}, {given})")

    def neighbour(self, value: Value, argument: Value, other: Value, first: str, index: str) -> Code:
        """What another token has; of the first or last what stands beside the tokens."""
        lanes = self.printer.every(value)
        place = spot(len(lanes), 0)
        moved = f"tl.broadcast_to(({index}){place}, {self.tiles.shape(lanes)})"
        text = f"tl.gather({self.every(value, 0, argument)}, {moved}, 0)"
        return Code(f"tl.where(({first}){place}, {self.alone(value, 1, other)}, {text})")

    def picked(self, value: Value, argument: Value, other: Value, which: str) -> Code:
        """What one token has; without tokens there is no loop that this stands in."""
        lanes = self.printer.every(argument)
        text = f"tl.where(({which}){spot(len(lanes), 0)}, {self.every(value, 0, argument)}, 0.0)"
        return Code(f"tl.sum({text}, 0)")
