"""Axes of a token's values that are joined, cut, flattened or unflattened, as Triton gathers.

In: an operation and the printer of its program. Out: an expression. Refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.values import Value
from flowc.emit.token_tiles import ROWS, Lane, spot
from flowc.emit.torch_functions import Code

if TYPE_CHECKING:
    from flowc.emit.token_printer import TokenPrinter


class MovePrinter:
    """Every entry of a result is gathered from where it was."""

    def __init__(self, printer: TokenPrinter) -> None:
        """Values and their axes are the printer's."""
        self.printer, self.tiles = printer, printer.tiles

    def expression(self, value: Value, op: ir.Op) -> Code:
        """The expression of an operation."""
        match op:
            case ir.Join(parts, inner, axis):
                return self.joined(value, parts, inner, axis)
            case ir.Cut(argument, axis, start, inner):
                index = f"{self.at(value, inner)} + {self.tiles.number(start)}"
                return self.gathered(argument, axis, index, value, inner)
            case ir.Flatten(argument, (outer, fast), axis):
                return self.flattened(value, argument, outer, fast, axis)
            case ir.Unflatten(argument, (outer, fast), axis):
                return self.unflattened(value, argument, outer, fast, axis)
        raise TypeError(f"{type(op).__name__} is no operation of a token")

    def at(self, value: Value, axis: Axis) -> str:
        """The indices along an axis of a value."""
        return self.tiles.along(self.printer.lanes(value), self.printer.called(value).index(axis.name))

    def beside(self, argument: Value, value: Value) -> tuple[Lane, ...]:
        """An argument's axes, the tokens among them if the value has them."""
        return (*(a for a in self.printer.lanes(value) if a.name == ROWS), *self.printer.own(argument))

    def first(self, argument: Value, value: Value, names: list[str]) -> tuple[str, list[Lane]]:
        """An argument with some axes first, and the other axes."""
        lanes = self.beside(argument, value)
        rest = [a for a in lanes if a.name not in names]
        text = self.printer.operand(argument, lanes).text
        return self.printer.turned(text, [a.name for a in lanes], [*names, *(a.name for a in rest)]).text, rest

    def gathered(self, argument: Value, axis: Axis, index: str, value: Value, own: Axis) -> Code:
        """Entries along an axis of an argument, as the axis `own` of the value."""
        lanes, source = self.printer.lanes(value), self.beside(argument, value)
        wanted = [a.name for a in lanes]
        names = [own.name if a.name == axis.name else a.name for a in source]
        text = self.printer.turned(self.printer.operand(argument, source).text, names, wanted).text
        return Code(self.picked(text, f"S{self.tiles.place(axis.size)}", index, lanes, wanted.index(own.name)))

    def picked(self, text: str, size: str, index: str, lanes: tuple[Lane, ...], at: int) -> str:
        """Entries of a tile along its axis `at`, of those there are."""
        inside = f"tl.where(({index} >= 0) & ({index} < {size}), {index}, 0)"
        return f"tl.gather({text}, tl.broadcast_to({inside}, {self.tiles.shape(lanes)}), {at})"

    def joined(self, value: Value, parts: tuple[Value, ...], inner: tuple[Axis, ...], axis: Axis) -> Code:
        """Parts one after another."""
        at, start, text = self.at(value, axis), "0", "0.0"
        for number, (part, own) in enumerate(zip(parts, inner, strict=True)):
            size = self.tiles.number(own.size)
            index = at if start == "0" else f"({at} - {start})"
            code = self.printer.once(value, number, self.gathered(part, own, index, value, axis))
            text = f"tl.where(({index} >= 0) & ({index} < {size}), {code.text}, {text})"
            start = f"({start} + {size})"
        return Code(text)

    def flattened(self, value: Value, argument: Value, outer: Axis, fast: Axis, axis: Axis) -> Code:
        """Two axes as one."""
        text, rest = self.first(argument, value, [outer.name, fast.name])
        lanes = {a.name: a for a in (*self.printer.own(argument), *self.printer.own(value))}
        tiles = [self.tiles.length(lanes[n]) for n in (outer.name, fast.name)]
        others = [self.tiles.length(a) for a in rest]
        text = f"tl.reshape({text}, ({', '.join((' * '.join(tiles), *others))},))"
        new = (lanes[axis.name], *rest)
        i, size = self.tiles.index(new[0]), self.tiles.number(fast.size)
        index = f"({i} // {size} * {tiles[1]} + {i} % {size}){spot(len(new), 0)}"
        picked = self.picked(text, " * ".join(tiles), index, new, 0)
        return self.printer.turned(picked, [a.name for a in new], self.printer.called(value))

    def unflattened(self, value: Value, argument: Value, outer: Axis, fast: Axis, axis: Axis) -> Code:
        """One axis as two."""
        text, rest = self.first(argument, value, [axis.name])
        lanes = {a.name: a for a in self.printer.own(value)}
        tiles = [self.tiles.length(lanes[n]) for n in (outer.name, fast.name)]
        first, second = (self.tiles.index(lanes[n]) for n in (outer.name, fast.name))
        flat, others = " * ".join(tiles), [self.tiles.length(a) for a in rest]
        index = f"tl.reshape({first}[:, None] * {self.tiles.number(fast.size)} + {second}[None, :], ({flat},))"
        index = f"{index}{spot(1 + len(rest), 0)}"
        inside = f"tl.where({index} < S{self.tiles.place(axis.size)}, {index}, 0)"
        text = f"tl.gather({text}, tl.broadcast_to({inside}, ({', '.join((flat, *others))},)), 0)"
        text = f"tl.reshape({text}, ({', '.join((*tiles, *others))}))"
        return self.printer.turned(text, [outer.name, fast.name, *(a.name for a in rest)], self.printer.called(value))
