"""The loop over tokens of a recurrence without a chunked form, as a Triton kernel.

In: a `Loop` of a program. Out: its kernel, printed, and the row by which its launcher finds what it takes. A program
holds all states of a head, or where nothing runs over the columns of all a block of those. Refuses, as `Unsupported`,
vectors that are joined, cut or flattened within the loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import ATOM, Code
from flowc.emit.triton_functions import call, exact_power, helpers, number, whole_power
from flowc.schedule.tile_builder import Unsupported
from flowc.semantics.size import Size

COLUMNS = "x2"  # the axis of a state's columns in a loop's body
TITLES = {False: "The states after every token.", True: "What reaches every token's beginning."}


@dataclass(frozen=True, slots=True)
class LoopView:
    """What the template of a kernel gets: printed strings."""

    name: str
    title: str
    parameters: tuple[str, ...]
    constants: tuple[str, ...]
    setup: tuple[str, ...]
    body: tuple[str, ...]
    blocked: bool


def body_sizes(body: Program) -> tuple[Size, ...]:
    """The sizes that a loop's body runs over, in order."""
    axes = [a.size for node in body.nodes for a in node.value.axes]
    named = [sorted(node.op.size.names) for node in body.nodes if isinstance(node.op, ir.Extent)]
    extents = [Size.of(name) for names in named for name in names]
    return tuple(dict.fromkeys((*axes, *extents)))


def columns_of(body: Program) -> Axis | None:
    """The columns, where every program can have a block of them: nothing sums over them or calls them otherwise."""
    states = [c.before for c in body.carries]
    found = {a for v in states for a in v.axes if a.name == COLUMNS}
    if len(found) != 1:
        return None
    (axis,) = found
    for node in body.nodes:
        match node.op:
            case ir.Sum(_, axes) if axis in axes:
                return None
            case ir.Contract(_, _, own) | ir.Largest(_, own) if own == axis:
                return None
            case ir.Relabel(argument, names):
                if any((a == axis) != (n == COLUMNS) for a, n in zip(argument.axes, names, strict=True)):
                    return None
            case ir.Rename(_, old, new) if COLUMNS in (old, new):
                return None
            case ir.Contract(left, right) if len(left.axes) == len(right.axes) == 2:
                return None
    return axis


@dataclass
class LoopKernel:
    """Prints the kernel of one loop."""

    loop: ir.Loop
    name: str
    used: dict[str, None] = field(default_factory=dict)  # support functions

    def __post_init__(self) -> None:
        """Name sizes and indices."""
        self.body = self.loop.body
        self.sizes = body_sizes(self.body)
        self.columns = columns_of(self.body)
        self.names = Names(frozenset(("block", "blocks", "program", "batch", "head", "heads", "length", "step", "t",
                                      "token", "tl", "BLOCK", "REVERSE")))  # fmt: skip
        self.code: dict[Value, Code] = {}
        self.lines: list[str] = []
        self.setup: list[str] = []
        self.indices: dict[tuple[Size, bool], str] = {}

    # -- sizes --------------------------------------------------------------------------------------------------------

    def place(self, size: Size) -> int:
        """Which of the sizes it is."""
        return self.sizes.index(size)

    def split(self, axis: Axis) -> bool:
        """Whether programs have a block of an axis."""
        return axis == self.columns

    def tile(self, axis: Axis) -> str:
        """How many entries a tile has along an axis."""
        return "BLOCK" if self.split(axis) else f"T{self.place(axis.size)}"

    def index(self, axis: Axis) -> str:
        """The indices along an axis."""
        key = axis.size, self.split(axis)
        if key not in self.indices:
            own = self.indices[key] = self.names.fresh("column" if key[1] else f"i{self.place(axis.size)}")
            start = "block * BLOCK + " if key[1] else ""
            self.setup.append(f"{own} = {start}tl.arange(0, {self.tile(axis)})")
        return self.indices[key]

    def spot(self, at: int, axes: tuple[Axis, ...]) -> str:
        """What makes a vector one along an axis among several."""
        return "" if len(axes) < 2 else f"[{', '.join(':' if n == at else 'None' for n in range(len(axes)))}]"

    def live(self, axes: tuple[Axis, ...]) -> str:
        """Which entries of a tile there are."""
        parts = [f"({self.index(a)} < S{self.place(a.size)}){self.spot(n, axes)}" for n, a in enumerate(axes)]
        return " & ".join(parts)

    def offsets(self, axes: tuple[Axis, ...], strides: list[str]) -> str:
        """Where entries lie, with a stride for every axis."""
        return "".join(
            f" + {self.index(a)}{self.spot(n, axes)} * {s}" for n, (a, s) in enumerate(zip(axes, strides, strict=True))
        )

    def full(self, axes: tuple[Axis, ...]) -> str:
        """A tile's shape."""
        return f"({', '.join(self.tile(a) for a in axes)}{',' if len(axes) == 1 else ''})"

    # -- the kernel ---------------------------------------------------------------------------------------------------

    def view(self) -> LoopView:
        """Print everything."""
        parameters = self.arguments()
        states = [c.before for c in self.body.carries]
        starts, outs = ([self.names.fresh(f"{n}{i}_ptr") for i in range(len(states))] for n in ("start", "out"))
        held = []
        for value, pointer in zip(states, starts, strict=True):
            name = self.names.fresh(value.name)
            self.code[value] = Code(name)
            held.append(name)
            self.setup.append(f"{name} = {self.loaded(pointer, 'program', value.axes)}")
        for node in self.body.nodes:
            self.node(node.value, node.op)
        after = [self.operand(c.after, c.before.axes).text for c in self.body.carries]
        nexts = [self.names.fresh("after") for _ in after]
        self.lines += [f"{n} = {text}" for n, text in zip(nexts, after, strict=True)]
        for value, name, made, pointer in zip(states, held, nexts, outs, strict=True):
            at, live = self.stored(value.axes), self.live(value.axes)
            mask = f", mask={live}" if live else ""
            self.lines.append(f"tl.store({pointer} + token{at}, {made}{mask})")
            self.lines.append(f"{name} = {made}")
        constants = (*(f"S{n}" for n in range(len(self.sizes))), *(f"T{n}" for n in range(len(self.sizes))))
        return LoopView(
            self.name, TITLES[self.loop.reverse], (*parameters, *starts, *outs), constants,
            tuple(self.setup), tuple(self.lines), self.columns is not None,
        )  # fmt: skip

    def row(self) -> str:
        """What the launcher looks up: the kernel, what it is given, the states' axes, the size that is in blocks."""
        given = tuple((v.level is not Level.HEAD, tuple(self.place(a.size) for a in v.axes)) for v in self.loop.given)
        states = tuple(tuple(self.place(a.size) for a in c.before.axes) for c in self.body.carries)
        split = None if self.columns is None else self.place(self.columns.size)
        return f'"{"backward" if self.loop.reverse else "forward"}": ({self.name}, {given!r}, {states!r}, {split!r})'

    def arguments(self) -> list[str]:
        """What is given, loaded before the loop or at every token: pointers with their strides."""
        inside = {n.op.name: n.value for n in self.body.nodes if isinstance(n.op, ir.Argument) and n.op.role != "carry"}
        parameters = []
        for number_, outside in enumerate(self.loop.given):
            own = self.names.fresh(outside.name or "given")
            strides = [f"{own}_{n}" for n in ("b", "t", "h", *range(len(outside.axes)))]
            parameters += [f"{own}_ptr", *strides]
            value = inside.get(f"given{number_}")
            if value is None:
                continue
            self.code[value] = Code(own)
            timed = outside.level is not Level.HEAD
            first = (
                f"batch * {strides[0]} + t * {strides[1]} + head * {strides[2]}" if timed else f"head * {strides[2]}"
            )
            live = self.live(value.axes)
            mask = f", mask={live}, other=0.0" if live else ""
            text = f"{own} = tl.load({own}_ptr + {first}{self.offsets(value.axes, strides[3:])}{mask})"
            (self.lines if timed else self.setup).append(text)
        return parameters

    def loaded(self, pointer: str, first: str, axes: tuple[Axis, ...]) -> str:
        """A state before the first token."""
        live = self.live(axes)
        return f"tl.load({pointer} + {first}{self.stored(axes)}" + (f", mask={live}, other=0.0)" if live else ")")

    def stored(self, axes: tuple[Axis, ...]) -> str:
        """Where a state's entries lie from its number on."""
        strides = [" * ".join(("1", *(f"S{self.place(a.size)}" for a in axes[n + 1 :]))) for n in range(len(axes))]
        whole = "".join(f" * S{self.place(a.size)}" for a in axes)
        return whole + self.offsets(axes, strides)

    # -- operations ---------------------------------------------------------------------------------------------------

    def node(self, value: Value, op: ir.Op) -> None:
        """A statement for an operation; arguments have theirs."""
        if isinstance(op, ir.Argument):
            return
        code = self.expression(value, op)
        if code.number or code.text.isidentifier():
            self.code[value] = code
            return
        name = self.names.fresh(value.name or "t")
        self.lines.append(f"{name} = {code.text}")
        self.code[value] = Code(name)

    def operand(self, value: Value, axes: tuple[Axis, ...]) -> Code:
        """A value among axes, all of them there."""
        code = self.among(value, axes)
        return code if value.axes == axes else Code(f"tl.broadcast_to({self.tensor(code)}, {self.full(axes)})")

    def among(self, value: Value, axes: tuple[Axis, ...]) -> Code:
        """A value that broadcasts to axes."""
        code = self.code[value]
        if code.number or not value.axes or value.axes == axes:
            return code
        return Code(f"{code.at(ATOM)}[{', '.join(':' if a in value.axes else 'None' for a in axes)}]")

    def tensor(self, code: Code) -> str:
        """A number as a tensor."""
        return f"tl.full((), {code.text}, tl.float32)" if code.number else code.text

    def expression(self, value: Value, op: ir.Op) -> Code:
        """The expression of an operation."""
        match op:
            case ir.Literal(exact):
                return number(exact)
            case ir.Extent(size):
                given = {n: f"S{self.place(Size.of(n))}" for n in size.names}
                return Code(f"tl.full((), {size_code(size, given).text}, tl.float32)")
            case ir.Head(count):
                return Code("heads.to(tl.float32)" if count else "head.to(tl.float32)")
            case ir.Index(axis):
                return Code(f"{self.index(axis)}.to(tl.float32)")
            case ir.Apply(function, arguments):
                return self.applied(function, arguments, value.axes)
            case ir.Spread(argument, axes):
                return self.operand(argument, axes)
            case ir.Rename(argument, old, new):
                names = tuple(new if a.name == old else a.name for a in argument.axes)
                return self.relabelled(argument, names, value)
            case ir.Relabel(argument, names):
                return self.relabelled(argument, names, value)
            case ir.Sum(argument, axes):
                return self.reduced("sum", "0.0", argument, axes)
            case ir.Largest(argument, axis):
                return self.reduced("max", 'float("-inf")', argument, (axis,))
            case ir.Contract(left, right, axis):
                return self.contracted(left, right, axis, value.axes)
            case _:
                raise Unsupported(f"the operation {type(op).__name__} within a token")

    def relabelled(self, argument: Value, names: tuple[str, ...], value: Value) -> Code:
        """Axes called otherwise; a matrix whose two change places is transposed."""
        if names == tuple(a.name for a in value.axes):
            return self.code[argument]
        return Code(f"tl.trans({self.code[argument].text})")

    def reduced(self, function: str, fill: str, argument: Value, axes: tuple[Axis, ...]) -> Code:
        """What is summed, or the largest, over axes."""
        own = argument.axes
        text = f"tl.where({self.live(own)}, {self.operand(argument, own).text}, {fill})"
        for axis in reversed([a for a in own if a in axes]):
            text = f"tl.{function}({text}, {own.index(axis)})"
        return Code(text)

    def contracted(self, left: Value, right: Value, axis: Axis, axes: tuple[Axis, ...]) -> Code:
        """A product of matrices, or with a vector."""
        if len(left.axes) == len(right.axes) == 2:
            one, other = (self.code[v].at(ATOM) for v in (left, right))
            masked = f"tl.where({self.live(left.axes)}, {one}, 0.0)", f"tl.where({self.live(right.axes)}, {other}, 0.0)"
            first = masked[0] if left.axes[1] == axis else f"tl.trans({masked[0]})"
            second = masked[1] if right.axes[0] == axis else f"tl.trans({masked[1]})"
            return Code(f'tl.dot({first}, {second}, input_precision="ieee")')
        matrix = left if len(left.axes) == 2 else right
        both = matrix.axes if len(matrix.axes) == 2 else (axis,)
        product = f"{self.among(left, both).at(2)} * {self.among(right, both).at(2)}"
        return Code(f"tl.sum(tl.where({self.live(both)}, {product}, 0.0), {both.index(axis)})")

    def applied(self, function: str, arguments: tuple[Value, ...], axes: tuple[Axis, ...]) -> Code:
        """An elementwise function."""
        found = [self.among(a, axes) for a in arguments]
        if all(a.number for a in found):
            found[0] = Code(self.tensor(found[0]))
        if function == "pow":
            return self.power(arguments, found)
        self.used |= dict.fromkeys(helpers(function))
        return call(function, found)

    def power(self, arguments: tuple[Value, ...], found: list[Code]) -> Code:
        """A power: of a whole or half exponent by products, of a positive base by its logarithm."""
        base, exponent = (self.body.defined[a] for a in arguments)
        if isinstance(exponent, ir.Literal) and (2 * exponent.value).denominator == 1 and abs(exponent.value) <= 8:
            code, used = whole_power(found[0], exponent.value)
            self.used |= dict.fromkeys(used)
            return code
        if isinstance(base, ir.Extent) or (isinstance(base, ir.Literal) and base.value > Fraction(0)):
            return exact_power(*found)
        self.used["real_power"] = None
        return Code(f"_tl_real_power({found[0].text}, {found[1].text})")
