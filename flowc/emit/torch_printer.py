"""A pass of a Plan as PyTorch statements.

In: a `Pass`, names for sizes and arguments. Out: statements, the support functions they call, and the text of every value. Layouts: per head
[H, *axes], per token [B, T, H, *axes], per chunk [T / C, B H, *axes], inside the walk [B H, *axes].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.ir import Level, Node, Op, Value
from flowc.emit.layout import Layout
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import ATOM, HELPERS, PRODUCT, UNARY, Code, call, number
from flowc.schedule.plan import Kernel, Pass, Role
from flowc.semantics.size import Size

VIEWS = (ir.Rename, ir.Relabel, ir.Literal, ir.Extent)
CHEAP = (ir.Apply, ir.Decay, ir.Spread, ir.Sum, ir.Head, ir.Element, ir.Cut, ir.Unflatten, ir.FromRows, ir.AtAdjoint)


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of code and the gradients that need it (None: always)."""

    text: str
    needed_by: frozenset[str] | None


class TorchPrinter:
    """Prints one pass."""

    def __init__(
        self,
        passed: Pass,
        sizes: Mapping[str, str],
        arguments: Mapping[str, str],
        names: Names,
        kept: frozenset[Value] = frozenset(),
    ) -> None:
        """Print `passed` with emitted names of sizes and of arguments; `kept` are values needed after it."""
        self.kept = kept
        self.passed, self.sizes, self.arguments, self.names = passed, {**sizes, "#C": "tokens"}, arguments, names
        self.program = passed.program
        self.helpers: dict[str, None] = {}
        self.layout = Layout(self.sizes, names)
        self.code: dict[Value, Code] = {}
        self.rows_of: dict[Value, str] = {}  # results that are rows of chunks, brought into tokens by the caller's copy
        self.products: dict[Value, tuple[str, str]] = {}  # a walk's products, to be added in one call
        self.sums: dict[Value, tuple[str | tuple[str, str], str, str]] = {}  # those added in one call
        self.waiting: dict[Value, Code] = {}  # rows that one elementwise product alone uses
        self.factors: dict[Value, tuple[str, str]] = {}  # a walk's elementwise products, which may be made in place
        self.role = Role.INTRA
        self.roles = {n.value: k.role for k in passed.kernels for n in k.nodes}
        self.named = {n.value: n.value.name for n in self.program.nodes}
        self.users = self._users()
        self.stored = frozenset(v for k in passed.kernels for v in k.stores)
        self.needs = self._needs()
        self.statements: list[Statement] = []

    # -- who uses what ------------------------------------------------------------------------------------------------

    def _users(self) -> dict[Value, list[Value]]:
        users: dict[Value, list[Value]] = {}
        for node in self.program.nodes:
            for v in ir.operands(node.op):
                users.setdefault(v, []).append(node.value)
        return users

    def _needs(self) -> dict[Value, frozenset[str] | None]:
        """The results that depend on each value; None for a forward pass, where all are wanted."""
        if not self.program.adjoint:
            return {n.value: None for n in self.program.nodes}
        needs: dict[Value, set[str]] = {}
        for name, value in self.program.results:
            needs.setdefault(value, set()).add(name)
        everything = {name for name, _ in self.program.results} | {"initial_state"}
        needs.setdefault(self.program.carry[1], set()).add("initial_state")
        walked = {n.value for n in self.passed.walk.nodes}
        for node in reversed(self.program.nodes):
            if node.value in walked:
                needs[node.value] = set(everything)
            for v in ir.operands(node.op):
                needs.setdefault(v, set()).update(needs.get(node.value, set()))
        return {v: None if n == everything else frozenset(n) for v, n in needs.items()}

    def inlined(self, node: Node) -> bool:
        """Whether a value is written where it is used: views, and cheap work with one user in the same kernel."""
        if isinstance(node.op, VIEWS):
            return True
        users = self.users.get(node.value, [])
        alone = len(users) == 1 and self.roles[users[0]] is self.role and node.value not in self.stored
        if isinstance(node.op, (ir.Contract, ir.DecayMatrix)):
            return alone and self.reusable(node.value, users[0])
        return alone and isinstance(node.op, CHEAP)

    def reusable(self, value: Value, user: Value) -> bool:
        """Whether `user` can be computed in the memory of `value`, its only operand of full shape."""
        op = self.program.defined[user]
        if not isinstance(op, ir.Apply) or value.axes != user.axes or value.level is not user.level:
            return False
        return op.function in ("add", "mul") or (op.function == "sub" and op.arguments[0] == value)

    def fresh(self, value: Value, user: Value) -> bool:
        """Whether an operand is a new tensor that nothing else reads, so that `user` may overwrite it."""
        op = self.program.defined[value]
        made = isinstance(op, (ir.Contract, ir.DecayMatrix, ir.Decay)) or (
            isinstance(op, ir.Apply) and not self.code[value].number
        )
        once = self.users[value] == [user] and self.roles[value] is self.role and value not in self.stored
        return made and once and not value.sums and self.reusable(value, user)

    # -- statements ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Print the three kernels; the walk's statements come between `walk_start` and `walk_end` markers."""
        for kernel in self.passed.kernels:
            self.kernel(kernel)

    def kernel(self, kernel: Kernel) -> None:
        """Print the nodes of a kernel."""
        self.role = kernel.role
        if kernel.role is Role.WALK:
            self.open_walk(kernel)
        for node in kernel.nodes:
            self.node(node)
        if kernel.role is Role.WALK:
            self.close_walk(kernel)

    def emit(self, text: str, value: Value | None = None) -> None:
        """One statement, guarded by what needs `value`."""
        indent = "    " if self.role is Role.WALK and self.in_walk else ""
        needed = None if value is None or indent else self.needs.get(value)
        self.statements.append(Statement(indent + text, needed))

    in_walk = False

    def open_walk(self, kernel: Kernel) -> None:
        before = self.program.carry[0]
        self.carry = self.names.fresh("states" if not self.program.adjoint else "states_bar")
        shape = self.shape(before)
        self.emit(f"{self.carry} = {self.like()}.new_empty({self.lead_plus(1)}, {shape})")
        first = "-1" if self.program.adjoint else "0"
        self.emit(f"{self.carry}[{first}] = {self.arguments['carry']}")
        self.stacks: dict[Value, str] = {}
        for value in kernel.stores:
            if value == self.program.carry[1]:
                continue
            name = self.names.fresh(self.named[value] or "t")
            self.stacks[value] = name
            self.emit(f"{name} = {self.like()}.new_empty(chunks, programs, {self.shape(value)})")
        loop = "reversed(range(chunks))" if self.program.adjoint else "range(chunks)"
        self.emit(f"for c in {loop}:")
        self.in_walk = True
        start = f"{self.carry}[c + 1]" if self.program.adjoint else f"{self.carry}[c]"
        self.code[before] = Code(start)

    def close_walk(self, kernel: Kernel) -> None:
        before, after = self.program.carry
        if before == after:  # nothing changes the state
            self.emit("{0}[{1}] = {0}[{2}]".format(self.carry, *(("c", "c + 1") if self.program.adjoint else ("c + 1", "c"))))
        self.in_walk = False
        for value, name in self.stacks.items():
            self.code[value] = Code(name)
        before = self.program.carry[0]
        self.code[before] = Code(f"{self.carry}[1:]" if self.program.adjoint else f"{self.carry}[:-1]")

    def lead_plus(self, more: int) -> str:
        return f"chunks + {more}, programs"

    def like(self) -> str:
        return self.arguments["carry"]

    def shape(self, value: Value) -> str:
        return ", ".join(self.size(a.size) for a in value.axes)

    def size(self, size: Size) -> str:
        return size_code(size, self.sizes).text

    def node(self, node: Node) -> None:
        value, op = node.value, node.op
        if isinstance(op, ir.Argument):
            if op.role != "carry":
                self.code[value] = Code(self.arguments[f"{op.role} {op.name}"])
            return
        if self.in_walk and value in self.stacks:
            self.stacked(value, op)
            return
        if value == self.program.carry[1]:
            self.next_state(value, op)
            return
        if self.direct(value, op):
            return
        code = self.expression(value, op)
        if isinstance(op, ir.ToRows) and self.scaled_alone(value):
            self.waiting[value] = code
            return
        if code.number or self.inlined(node):
            self.code[value] = code
            return
        name = self.names.fresh(self.named[value] or "t")
        self.emit(f"{name} = {code.text}", value)
        self.code[value] = Code(name)

    def direct(self, value: Value, op: Op) -> bool:
        """Note a result of one row a token: its rows are written where the caller wants them, without a copy between."""
        if not isinstance(op, ir.FromRows) or value in self.users or value not in {v for _, v in self.program.results}:
            return False
        if len(op.space.parts) != 1 or op.space.parts[0].count is not None or op.space.parts[0].rank is not None:
            return False
        self.rows_of[value] = self.base(op.argument).text
        self.code[value] = Code(self.rows_of[value])
        return True

    def stacked(self, value: Value, op: Op) -> None:
        """A walk value that is kept for every chunk: written in place."""
        target = f"{self.stacks[value]}[c]"
        self.written(target, value, op)
        self.code[value] = Code(target)

    def next_state(self, value: Value, op: Op) -> None:
        self.written(f"{self.carry}[c]" if self.program.adjoint else f"{self.carry}[c + 1]", value, op)

    def written(self, target: str, value: Value, op: Op) -> None:
        code = self.expression(value, op)
        if value in self.sums:
            first, left, right = self.sums[value]
            if isinstance(first, tuple):  # a product of its own is made in place
                self.emit(f"torch.mul({', '.join(first)}, out={target})")
                self.emit(f"{target}.baddbmm_({left}, {right})")
            else:
                self.emit(f"torch.baddbmm({first}, {left}, {right}, out={target})")
        elif value in self.products:
            self.emit(f"torch.bmm({', '.join(self.products[value])}, out={target})")
        else:
            self.emit(f"{target} = {code.text}")

    # -- operands -----------------------------------------------------------------------------------------------------

    def base(self, value: Value) -> Code:
        """A value where it stands: in the walk, what another kernel made is taken at the chunk."""
        code = self.code[value]
        outside = value.level is Level.CHUNK and self.roles[value] is not Role.WALK and not code.number
        if self.in_walk and outside and not isinstance(self.program.defined[value], ir.MaskMatrix):
            return Code(f"{code.at(ATOM)}[c]")
        return code

    def operand(self, value: Value, axes: tuple[Axis, ...]) -> Code:
        """A value, given axes of length one where it lacks some of `axes`."""
        code = self.base(value)
        if code.number or value.axes == axes:
            return code
        own = [a for a in axes if a in value.axes]
        assert tuple(own) == value.axes, (value, axes)
        marks = [":" if a in value.axes else "None" for a in axes]
        while marks and marks[0] == ":":
            marks.pop(0)
        return Code(f"{code.at(ATOM)}[..., {', '.join(marks)}]")

    # -- expressions --------------------------------------------------------------------------------------------------

    def expression(self, value: Value, op: Op) -> Code:
        """The expression of a node."""
        match op:
            case ir.Literal(exact):
                return number(exact)
            case ir.Extent(size):
                return size_code(size, self.sizes)
            case ir.Head(count):
                return Code("heads", ATOM, True) if count else Code("torch.arange(heads, device=device, dtype=dtype)")
            case ir.Index(axis):
                return Code(f"torch.arange({self.size(axis.size)}, device=device, dtype=dtype)")
            case ir.Rename(argument, _, _):
                return self.code[argument] if not self.in_walk else self.base(argument)
            case ir.Relabel(argument, names):
                back = {a.name: a for a in value.axes}
                stored = tuple(back[n] for n in names)
                return self.permuted(self.base(argument), stored, value.axes)
            case ir.Apply():
                return self.applied(value, op)
            case ir.Contract():
                return self.contracted(value, op)
            case ir.Sum(argument, axes) if self.inner_product(argument, axes) is not None:
                left, right = self.inner_product(argument, axes) or ("", "")
                return Code(f"({left}.flatten(-2)[..., None, :] @ {right}.flatten(-2)[..., None])[..., 0, 0]")
            case ir.Sum(argument, axes):
                dims = ", ".join(str(argument.axes.index(a) - len(argument.axes)) for a in axes)
                shown = dims if len(axes) == 1 else f"({dims})"
                return Code(f"{self.base(argument).at(ATOM)}.sum({shown})")
            case ir.SumTokens(argument):
                return Code(f"{self.base(argument).at(ATOM)}.sum((0, 1))")
            case ir.Spread(argument, _):
                return self.spread(value, argument)
            case ir.Largest(argument, axis):
                return Code(f"{self.base(argument).at(ATOM)}.amax({argument.axes.index(axis) - len(argument.axes)})")
            case ir.Element(source, index):
                at = ", ".join([":"] * (1 if source.level is Level.HEAD else 3) + [str(index)])
                return Code(f"{self.base(source).at(ATOM)}[{at}]")
            case ir.Join() | ir.Cut() | ir.Flatten() | ir.Unflatten():
                return self.shaped(value, op)
            case ir.ToRows() | ir.FromRows() | ir.MaskMatrix():
                return self.rows(value, op)
            case _:
                return self.gated(value, op)

    def inner_product(self, argument: Value, axes: tuple[Axis, ...]) -> tuple[str, str] | None:
        """The factors of a product of two matrices that is summed over both axes, and not needed otherwise."""
        op = self.program.defined[argument]
        alone = len(self.users[argument]) == 1 and self.roles[argument] is self.role
        if not (alone and axes == argument.axes and len(axes) == 2 and isinstance(op, ir.Apply) and op.function == "mul"):
            return None
        if any(a.axes != axes or a.level is not Level.CHUNK for a in op.arguments):
            return None
        left, right = (self.base(a).at(ATOM) for a in op.arguments)
        return left, right

    def scaled_alone(self, rows: Value) -> bool:
        """Whether rows are used once, to be multiplied by a scalar per row."""
        users = self.users.get(rows, [])
        if len(users) != 1 or rows in self.stored or len(rows.axes) != 2:
            return False
        op = self.program.defined[users[0]]
        if not isinstance(op, ir.Apply) or op.function != "mul" or len(op.arguments) != 2 or self.roles[users[0]] is not self.role:
            return False
        other = op.arguments[1] if op.arguments[0] == rows else op.arguments[0]
        return other.axes == rows.axes[:1] and other.level is Level.CHUNK

    def scaled_rows(self, value: Value, op: ir.Apply) -> Code | None:
        """Rows times a scalar per row, where nothing else needs the rows: one pass instead of two."""
        if op.function != "mul" or len(op.arguments) != 2:
            return None
        for rows, scale in (op.arguments, op.arguments[::-1]):
            made = self.program.defined[rows]
            alone = self.users[rows] == [value] and rows in self.waiting
            if isinstance(made, ir.ToRows) and alone and scale.axes == rows.axes[:1] and scale.level is Level.CHUNK:
                code = self.waiting.pop(rows)
                return Code(f"{code.text[:-1]}, {self.base(scale).text})")
        return None

    def applied(self, value: Value, op: ir.Apply) -> Code:
        fused = self.scaled_rows(value, op)
        if fused is not None:
            return fused
        for name in HELPERS.get(op.function, ()):
            self.helpers[name] = None
        if op.function == "add" and self.in_walk:
            for one, other in (op.arguments, op.arguments[::-1]):
                if one in self.products and self.roles[one] is Role.WALK and other.axes == value.axes:
                    added = self.operand(other, value.axes)
                    self.sums[value] = (self.factors.get(other, added.text), *self.products[one])
                    if self.overwritable(other, value):
                        return Code(f"{added.at(ATOM)}.baddbmm_({', '.join(self.products[one])})")
                    return Code(f"torch.baddbmm({', '.join((added.text, *self.products[one]))})")
        for one, other in (op.arguments, op.arguments[::-1]) if op.function == "add" and not self.in_walk else ():
            if other in self.products and self.fresh(one, value) and self.fresh(other, value) and one != other:
                self.helpers["add_product"] = None
                return Code(f"_add_product({self.base(one).text}, {', '.join(self.products[other])})")
        for one, other in (op.arguments, op.arguments[::-1]) if len(op.arguments) == 2 else ():
            if self.fresh(one, value) and one != other:
                method = {"add": "add_", "mul": "mul_", "sub": "sub_"}[op.function]
                return Code(f"{self.base(one).at(ATOM)}.{method}({self.operand(other, value.axes).text})")
        codes = [self.operand(a, value.axes) for a in op.arguments]
        if self.in_walk and op.function == "mul" and not any(c.number for c in codes):
            self.factors[value] = (codes[0].text, codes[1].text)
        return call(op.function, codes)

    def overwritable(self, value: Value, user: Value) -> bool:
        """Whether a value of every chunk is made for one user alone: a walk may add to it in place."""
        op = self.program.defined[value]
        made = isinstance(op, (ir.Apply, ir.Contract)) and self.roles[value] is Role.INTRA
        return made and self.users[value] == [user] and value not in self.kept

    def contracted(self, value: Value, op: ir.Contract) -> Code:
        left, right = self.base(op.left), self.base(op.right)
        first = self.matrix(left, op.left, op.left.axes[-1] == op.axis, row=True)
        second = self.matrix(right, op.right, op.right.axes[0] == op.axis, row=False)
        if value.level is Level.CHUNK and len(op.left.axes) == len(op.right.axes) == 2:
            self.products[value] = (first.text, second.text)
        text = f"{first.at(PRODUCT)} @ {second.at(UNARY)}"
        if len(op.left.axes) == 2 and len(op.right.axes) == 2:
            return Code(text, PRODUCT)
        index = {(1, 1): "[..., 0, 0]", (1, 2): "[..., 0, :]", (2, 1): "[..., 0]"}[len(op.left.axes), len(op.right.axes)]
        return Code(f"({text}){index}")

    def matrix(self, code: Code, value: Value, straight: bool, row: bool) -> Code:
        """A factor of a matrix product: transposed unless `straight`, a vector as a row or a column."""
        if len(value.axes) == 1:
            return Code(f"{code.at(ATOM)}[..., None, :]" if row else f"{code.at(ATOM)}[..., None]")
        return code if straight else Code(f"{code.at(ATOM)}.mT")

    def full(self, value: Value) -> str:
        """The whole shape of a value at its level."""
        lead = {Level.HEAD: "heads", Level.TOKEN: "batch, length, heads", Level.CHUNK: "chunks, programs"}[value.level]
        own = self.shape(value)
        return f"({lead}, {own})" if own else f"({lead},)"

    def spread(self, value: Value, argument: Value) -> Code:
        code = self.base(argument)
        if code.number:
            self.helpers["spread"] = None
            return Code(f"_spread({code.text}, {self.like()}, {self.full(value)})")
        return Code(f"{self.operand(argument, value.axes).at(ATOM)}.expand{self.full(value)}")

    def shaped(self, value: Value, op: ir.Join | ir.Cut | ir.Flatten | ir.Unflatten) -> Code:
        match op:
            case ir.Join(parts, inner, axis):
                at = value.axes.index(axis) - len(value.axes)
                shown = []
                for part, own in zip(parts, inner, strict=True):
                    axes = tuple(own if a == axis else a for a in value.axes)
                    code = self.operand(part, axes)
                    if code.number:
                        self.helpers["spread"] = None
                        code = Code(f"_spread({code.text}, {self.like()}, {self.full_of(value.level, axes)})")
                    shown.append(f"{code.at(ATOM)}.expand{self.full_of(value.level, axes)}")
                return Code(f"torch.cat(({', '.join(shown)},), {at})")
            case ir.Cut(argument, axis, start, inner):
                at = argument.axes.index(axis) - len(argument.axes)
                code = Code(f"{self.base(argument).at(ATOM)}.narrow({at}, {self.size(start)}, {self.size(inner.size)})")
                ordered = tuple(inner if a == axis else a for a in argument.axes)
                return self.permuted(code, ordered, value.axes)
            case ir.Flatten(argument, (a, b), axis):
                order = (*(x for x in argument.axes if x not in (a, b)), a, b)
                flat = Code(f"{self.permuted(self.base(argument), argument.axes, order).at(ATOM)}.flatten(-2)")
                return self.permuted(flat, (*order[:-2], axis), value.axes)
            case ir.Unflatten(argument, (a, b), axis):
                order = (*(x for x in argument.axes if x != axis), axis)
                code = self.permuted(self.base(argument), argument.axes, order)
                return Code(f"{code.at(ATOM)}.unflatten(-1, ({self.size(a.size)}, {self.size(b.size)}))")
            case _:
                assert_never(op)

    def full_of(self, level: Level, axes: tuple[Axis, ...]) -> str:
        return self.full(Value(-1, "", axes, level))

    def permuted(self, code: Code, axes: tuple[Axis, ...], wanted: tuple[Axis, ...]) -> Code:
        """The axes in another order: only ever two change places."""
        if axes == wanted:
            return code
        moved = [i - len(axes) for i, (a, b) in enumerate(zip(axes, wanted, strict=True)) if a != b]
        assert len(moved) == 2, (axes, wanted)
        return Code(f"{code.at(ATOM)}.transpose({moved[0]}, {moved[1]})")

    def rows(self, value: Value, op: ir.ToRows | ir.FromRows | ir.MaskMatrix) -> Code:
        match op:
            case ir.ToRows(parts, space, axis):
                self.helpers["to_rows"] = None
                codes = [None if p is None else self.part(p, space.parts[i]) for i, p in enumerate(parts)]
                tail = () if axis is None else (axis,)
                return self.layout.to_rows(codes, space, tail, self.like(), self.helpers)
            case ir.FromRows(argument, space, part, axis):
                self.helpers["from_rows"] = None
                return self.layout.from_rows(self.base(argument), space, part)
            case ir.MaskMatrix(mask):
                self.helpers["mask_matrix"] = None
                reads, writes = self.layout.mask(mask)
                return Code(f"_mask_matrix({reads}, {writes}, tokens, device, dtype)")
            case _:
                assert_never(op)

    def part(self, value: Value, part: ir.Part) -> Code:
        """A per-token value with its axis of rows, [B, T, H, J, *]."""
        code = self.base(value)
        if code.number or value.level is Level.HEAD:
            full = self.full_of(Level.TOKEN, value.axes)
            self.helpers["spread"] = None
            code = Code(f"_spread({code.text}, {self.like()}, {full})")
        many = part.count is not None or part.rank is not None
        return code if many else Code(f"{code.at(ATOM)}.unsqueeze(3)")

    def gated(self, value: Value, op: Op) -> Code:
        """The primitives."""
        match op:
            case ir.GateSums(gates, _):
                self.helpers["gate_sums"] = None
                return Code(f"_gate_sums({self.base(gates).text})")
            case ir.GateSumsAdjoint(sums, _):
                self.helpers["gate_sums_adjoint"] = None
                return Code(f"_gate_sums_adjoint({self.base(sums).text})")
            case ir.At(sums, _, None, _):
                return Code(f"{self.base(sums).at(ATOM)}[:, :, -1]")
            case ir.At(sums, gates, space, where) if space is not None:
                self.helpers["at"] = None
                points = self.layout.points(space, where, gates)
                return Code(f"_at({self.base(sums).text}, {points}, {self.size(gates.per_token)}, tokens)")
            case ir.AtAdjoint(argument, gates, space, where):
                self.helpers["at_adjoint"] = None
                if space is None:
                    return Code(f"_last_adjoint({self.base(argument).text}, {self.size(value.axes[0].size)})")
                points = self.layout.points(space, where, gates)
                return Code(f"_at_adjoint({self.base(argument).text}, {points}, {self.size(gates.per_token)}, tokens)")
            case ir.Decay(upper, lower):
                high = self.operand(upper, value.axes)
                exponent = high if lower is None else call("sub", [high, self.operand(lower, value.axes)])
                return Code(f"torch.exp({exponent.at(ATOM)}.to(dtype))")
            case ir.DecayMatrix(rows, columns, mask):
                self.helpers["decay_matrix"] = None
                reads, writes = self.layout.mask(mask)
                seen = f"_mask_matrix({reads}, {writes}, tokens, device, dtype)"
                return Code(f"_decay_matrix({self.base(rows).text}, {self.base(columns).text}, {seen})")
            case ir.Inverse(matrix):
                self.helpers["inverse"] = None
                return Code(f"_INVERSES[aggregation]({self.base(matrix).text})")
            case ir.DecayDot() | ir.DecayApply():
                return self.decayed(op)
            case _:
                raise TypeError(f"no PyTorch for {type(op).__name__}")

    def decayed(self, op: ir.DecayDot | ir.DecayApply) -> Code:
        name = "_decay_dot" if isinstance(op, ir.DecayDot) else "_decay_apply"
        self.helpers[name[1:]] = None
        sums = self.program.defined[op.upper]
        assert isinstance(sums, ir.At)
        reads, writes = self.layout.mask(op.mask)
        first, second = (op.left, op.right) if isinstance(op, ir.DecayDot) else (op.weights, op.vectors)
        operands = [self.base(v).text for v in (first, second, op.upper, op.lower, sums.sums)]
        turned = "" if isinstance(op, ir.DecayDot) else f", {op.transposed}"
        return Code(f"{name}({', '.join(operands)}, ({reads}, {writes}), tokens{turned})")


