"""The operations of a chunk program as PyTorch expressions.

In: nodes of a `Pass`, names for sizes and arguments. Out: expressions, and the support functions they call. Layouts:
per head [H, *axes], per token [B, T, H, *axes], per chunk [T / C, B H, *axes], inside the walk [B H, *axes].
"""

from __future__ import annotations

from typing import assert_never

from flowc.algebra.term import Axis
from flowc.chunk import ir
from flowc.chunk.ir import Op
from flowc.chunk.values import Level, Part, Value
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import ATOM, HELPERS, INEXACT, Code, call, number
from flowc.emit.torch_products import Products
from flowc.emit.torch_scans import scan_code
from flowc.schedule.share import exponent_key
from flowc.semantics.size import Size


class Expressions(Products):
    """Prints the operation of one value; what it was printed as is in `code`."""

    def expression(self, value: Value, op: Op) -> Code:
        """The expression of a node."""
        self.widening = value in self.wide or isinstance(op, (ir.GateSumsAdjoint, ir.Inverse))
        match op:
            case ir.Literal(exact):
                return number(exact)
            case ir.Extent(size):
                return size_code(size, self.sizes)
            case ir.Head(count):
                return Code("heads", ATOM, True) if count else Code("torch.arange(heads, device=device, dtype=dtype)")
            case ir.Index(axis):
                return Code(f"torch.arange({self.size(axis.size)}, device=device, dtype=dtype).expand(heads, -1)")
            case ir.Rename(argument, _, _):
                return self.code[argument] if not self.walking else self.base(argument)
            case ir.Relabel(argument, names):
                back = {a.name: a for a in value.axes}
                stored = tuple(back[n] for n in names)
                return self.permuted(self.base(argument), stored, value.axes)
            case ir.Apply():
                return self.applied(value, op)
            case ir.Contract():
                return self.contracted(value, op)
            case ir.Sum(argument, axes):
                dims = ", ".join(str(argument.axes.index(a) - len(argument.axes)) for a in axes)
                shown = dims if len(axes) == 1 else f"({dims})"
                kind = ", dtype=torch.float64" if value in self.wide and argument not in self.wide else ""
                return Code(f"{self.base(argument).at(ATOM)}.sum({shown}{kind})")
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
                return self.rows(op)
            case ir.Scan() | ir.Earlier() | ir.Final() | ir.Later() | ir.First():
                self.helpers["scan"] = None
                return scan_code(op, [self.operand(v, value.axes).text for v in ir.operands(op)], self.scan)
            case _:
                return self.gated(value, op)

    def scaled_rows(self, value: Value, op: ir.Apply) -> Code | None:
        """Rows times a scalar per row, where nothing else needs the rows: one pass instead of two."""
        if op.function != "mul" or len(op.arguments) != 2:
            return None
        for rows, scale in (op.arguments, op.arguments[::-1]):
            made = self.program.defined[rows]
            alone = self.usage.users[rows] == [value] and rows in self.waiting
            if isinstance(made, ir.ToRows) and alone and scale.axes == rows.axes[:1] and scale.level is Level.CHUNK:
                code = self.waiting.pop(rows)
                return Code(f"{code.text[:-1]}, {self.base(scale).text})")
        return None

    def applied(self, value: Value, op: ir.Apply) -> Code:
        """An elementwise function; added and multiplied in place where an operand is free."""
        fused = self.scaled_rows(value, op)
        if fused is not None:
            return fused
        for name in HELPERS.get(op.function, ()):
            self.helpers[name] = None
        if op.function == "add" and self.walking:
            for one, other in (op.arguments, op.arguments[::-1]):
                if one in self.products and one in self.walking and other.axes == value.axes:
                    return self.added(value, other, self.products[one])
        for one, other in (op.arguments, op.arguments[::-1]) if op.function == "add" and not self.walking else ():
            if (
                other in self.products
                and self.usage.fresh(one, value)
                and self.usage.fresh(other, value)
                and one != other
            ):
                self.helpers["add_product"] = None
                return Code(f"_add_product({self.base(one).text}, {', '.join(self.products[other])})")
        for one, other in (op.arguments, op.arguments[::-1]) if len(op.arguments) == 2 else ():
            alone = self.usage.fresh(one, value) and one != other and not self.base(one).number
            if alone and (one in self.wide) == (value in self.wide):
                method = {"add": "add_", "mul": "mul_", "sub": "sub_"}[op.function]
                return Code(f"{self.base(one).at(ATOM)}.{method}({self.operand(other, value.axes).text})")
        codes = [self.operand(a, value.axes) for a in op.arguments]
        if value.level is Level.TOKEN and op.function in INEXACT and not all(c.number for c in codes):
            wide = [c if c.number else Code(f"{c.at(ATOM)}.double()") for c in codes]
            return Code(f"{call(op.function, wide).at(ATOM)}.to(dtype)")
        if self.walking and op.function == "mul" and not any(c.number for c in codes):
            self.factors[value] = (codes[0].text, codes[1].text)
        return call(op.function, codes)

    def full(self, value: Value) -> str:
        """The whole shape of a value at its level."""
        lead = {Level.HEAD: "heads", Level.TOKEN: "batch, length, heads", Level.CHUNK: "chunks, programs"}[value.level]
        own = self.shape(value)
        return f"({lead}, {own})" if own else f"({lead},)"

    def spread(self, value: Value, argument: Value) -> Code:
        """A value repeated along axes that it lacks, without a copy."""
        code = self.base(argument)
        if code.number:
            self.helpers["spread"] = None
            return Code(f"_spread({code.text}, {self.like()}, {self.full(value)})")
        return Code(f"{self.operand(argument, value.axes).at(ATOM)}.expand{self.full(value)}")

    def shaped(self, value: Value, op: ir.Join | ir.Cut | ir.Flatten | ir.Unflatten) -> Code:
        """Axes joined, cut, flattened and taken apart."""
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
        """The whole shape of a value with these axes."""
        return self.full(Value(-1, "", axes, level))

    def permuted(self, code: Code, axes: tuple[Axis, ...], wanted: tuple[Axis, ...]) -> Code:
        """The axes in another order: only ever two change places."""
        if axes == wanted:
            return code
        moved = [i - len(axes) for i, (a, b) in enumerate(zip(axes, wanted, strict=True)) if a != b]
        assert len(moved) == 2, (axes, wanted)
        return Code(f"{code.at(ATOM)}.transpose({moved[0]}, {moved[1]})")

    def rows(self, op: ir.ToRows | ir.FromRows | ir.MaskMatrix) -> Code:
        """Values between tokens and rows of chunks."""
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

    def part(self, value: Value, part: Part) -> Code:
        """A per-token value with its axis of rows, [B, T, H, J, *]."""
        code = self.base(value)
        if code.number or value.level is Level.HEAD:
            full = self.full_of(Level.TOKEN, value.axes)
            self.helpers["spread"] = None
            code = Code(f"_spread({code.text}, {self.like()}, {full})")
        return code if part.several else Code(f"{code.at(ATOM)}.unsqueeze(3)")

    def gated(self, value: Value, op: Op) -> Code:
        """The primitives."""
        match op:
            case ir.GateSums(gates, _):
                self.helpers["gate_sums"] = None
                return Code(f"_gate_sums({self.base(gates).text})")
            case ir.GateSumsAdjoint(sums, _):
                self.helpers["gate_sums_adjoint"] = None
                return Code(f"_gate_sums_adjoint({self.base(sums).text}, dtype)")
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
                self.helpers["decays"] = None
                return Code(f"_decays({exponent.at(ATOM)}.to(dtype, copy=True))")
            case ir.DecayMatrix(rows, columns, mask):
                self.helpers["decay_matrix"] = None
                reads, writes = self.layout.mask(mask)
                highest = f"_highest({reads}, {writes}, tokens, device, dtype)"
                return Code(f"_decay_matrix({self.base(rows).text}, {self.base(columns).text}, {highest})")
            case ir.Inverse(matrix):
                self.helpers["inverse"] = None
                return Code(f"F.hardshrink(_INVERSES[aggregation]({self.base(matrix).text}), _LEAST[dtype])")
            case ir.Solve(inverse, right, transposed):
                self.helpers["solve"] = None
                turned = ", transposed=True" * transposed
                return Code(f"_solve({self.base(inverse).text}, {self.base(right).text}, aggregation{turned})")
            case ir.DecayDot() | ir.DecayApply():
                return self.decayed(value, op)
            case _:
                raise TypeError(f"no PyTorch for {type(op).__name__}")

    def decayed(self, value: Value, op: ir.DecayDot | ir.DecayApply) -> Code:
        """A primitive with a gate over the state's rows, by blocks that all of one gate's primitives share."""
        reads, writes = self.layout.mask(op.mask)
        shared = f"{self.blocks_of(op)}, ({reads}, {writes})"
        if isinstance(op, ir.DecayDot):
            self.helpers["decay_dot"] = None
            kind = ", wide=True" * (value in self.wide)
            return Code(f"_decay_dot({self.base(op.left).text}, {self.base(op.right).text}, {shared}{kind})")
        self.helpers["decay_apply"] = None
        operands = f"{self.base(op.weights).text}, {self.base(op.vectors).text}"
        return Code(f"_decay_apply({operands}, {shared}, {op.transposed})")

    def blocks_of(self, op: ir.DecayDot | ir.DecayApply) -> str:
        """The name of the blocks of a primitive's gate sums, defined at first use for all who need them."""
        key = exponent_key(self.program, op.upper, op.lower)
        if key not in self.blocks:
            at = self.program.defined[op.upper]
            assert isinstance(at, ir.At)
            sums = ", ".join(self.base(v).text for v in (op.upper, op.lower, at.sums))
            self.blocks[key] = self.names.fresh("blocks")
            self.define(f"{self.blocks[key]} = _Blocks({sums}, tokens, dtype, narrow)", key)
        return self.blocks[key]

    def shape(self, value: Value) -> str:
        """The sizes of a value's own axes."""
        return ", ".join(self.size(a.size) for a in value.axes)

    def size(self, size: Size) -> str:
        """A size as an expression."""
        return size_code(size, self.sizes).text

    def like(self) -> str:
        """A tensor whose device and type new ones take."""
        carries = self.program.carries
        return self.arguments[f"carry {carries[0].name}" if carries else "like"]
