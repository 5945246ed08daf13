"""One step of a Model as PyTorch, statement by statement as the spec has it.

In: a `Model` and emitted names. Out: the lines of a function that advances the states by one token. Scalars are [B,
H], columns and rows [B, H, K], matrices [B, H, K, V]; params lack the batch. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from flowc.emit.names import Names
from flowc.emit.origins import step_lines
from flowc.emit.sizes import size_code
from flowc.emit.torch_functions import ATOM, HELPERS, PRODUCT, UNARY, Code, call, number
from flowc.semantics.model import (
    Binary,
    Call,
    Expr,
    HeadNumber,
    InputRef,
    Kind,
    Let,
    LetRef,
    LoopNumber,
    Model,
    Negate,
    Number,
    Output,
    Repeat,
    Shape,
    SizeNumber,
    Statement,
    StateRef,
    Transpose,
    Update,
)
from flowc.semantics.walk import flat, parts

_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow"}
_COMPARE = {"<": ("lt", False), "<=": ("le", False), ">": ("lt", True), ">=": ("le", True)}


class StepPrinter:
    """Prints the statements of one step."""

    def __init__(self, model: Model, sizes: Mapping[str, str], inputs: Mapping[str, str], names: Names) -> None:
        """Print `model` with emitted names of sizes and inputs."""
        self.model, self.sizes, self.inputs, self.names = model, sizes, inputs, names
        self.params = {i.name for i in model.inputs if i.is_param}
        self.states = {s.name: names.fresh(s.name) for s in model.states}
        self.old = {s.name: names.fresh(f"{self.states[s.name]}_old") for s in model.states if self.read_old(s.name)}
        self.outputs: dict[str, str] = {}
        self.lets: dict[str, Code] = {}
        self.loops: dict[str, str] = {}
        self.helpers: dict[str, None] = {}
        self.lines: list[str] = []
        self.canonical = step_lines(model)

    def read_old(self, state: str) -> bool:
        """Whether S[t-1] is read after S[t] was assigned: only then is the old state kept under a name."""
        written = False
        for statement in flat(self.model.statements):
            if written and _reads_old(statement, state):
                return True
            written = written or (isinstance(statement, Update) and statement.state == state)
        repeats = [s for s in self.model.statements if isinstance(s, Repeat)]
        return any(_reads_old(s, state) for repeat in repeats for s in flat(repeat.body))

    def run(self) -> None:
        """Print all statements."""
        for state, old in self.old.items():
            self.lines.append(f"{old} = {self.states[state]}")
        for statement in self.model.statements:
            self.statement(statement, "")

    def statement(self, statement: Statement, indent: str) -> None:
        """Print one statement under its line of the canonical spec."""
        self.lines.append(f"{indent}# {self.canonical.pop(0).strip()}")
        match statement:
            case Let(name, value, _):
                code = self.expression(value)
                self.lets[name] = Code(self.names.fresh(name), ATOM, code.number)
                self.lines.append(f"{indent}{self.lets[name].text} = {code.text}")
            case Update(state, value, _):
                self.lines.append(f"{indent}{self.states[state]} = {self.expression(value).text}")
            case Output(name, value, _):
                self.outputs[name] = self.names.fresh(name)
                code = self.expression(value)
                if code.number:
                    sizes = ", ".join(("batch", "heads", *(size_code(s, self.sizes).text for s in value.shape.sizes)))
                    code = Code(f"torch.full(({sizes}), {code.text}, device=device, dtype=dtype)")
                self.lines.append(f"{indent}{self.outputs[name]} = {code.text}")
            case Repeat(index, count, body, _):
                self.loops[index] = self.names.fresh(index)
                self.lines.append(f"{indent}for {self.loops[index]} in range({size_code(count, self.sizes).text}):")
                for inner in body:
                    self.statement(inner, indent + "    ")
            case _:
                assert_never(statement)

    def expression(self, e: Expr) -> Code:
        """An expression."""
        match e:
            case Number(value, _, _):
                return number(value)
            case SizeNumber(size, _, _):
                return size_code(size, self.sizes)
            case HeadNumber(count, _, _):
                return Code("heads", ATOM, True) if count else Code("torch.arange(heads, device=device, dtype=dtype)")
            case LoopNumber(name, _, _):
                return Code(self.loops[name], ATOM, True)
            case InputRef(name, index, _, _, _):
                if index is None:
                    return Code(self.inputs[name])
                at = self.loops[index] if isinstance(index, str) else str(index)
                return Code(
                    f"{self.inputs[name]}[:, {at}]" if name in self.params else f"{self.inputs[name]}[:, :, {at}]"
                )
            case StateRef(name, previous, _, _):
                return Code(self.old[name] if previous and name in self.old else self.states[name])
            case LetRef(name, _, _):
                return self.lets[name]
            case Negate(argument, _, _):
                return call("neg", [self.expression(argument)])
            case Transpose(argument, _, _):
                inner = self.expression(argument)
                return Code(f"{inner.at(ATOM)}.mT") if argument.shape.kind is Kind.MATRIX else inner
            case Binary():
                return self.binary(e)
            case Call():
                return self.call(e)
            case _:
                assert_never(e)

    def binary(self, e: Binary) -> Code:
        """An operator; products of matrices apart."""
        if e.op == "@":
            return self.matmul(e)
        left, right = (self.fitted(x, e.shape) for x in (e.left, e.right))
        if e.op in _COMPARE:
            name, swapped = _COMPARE[e.op]
            return call(name, [right, left] if swapped else [left, right])
        return call(_OPERATORS[e.op], [left, right])

    def fitted(self, e: Expr, shape: Shape) -> Code:
        """An operand with axes of length one where the result has more."""
        code = self.expression(e)
        if code.number or e.shape.kind is not Kind.SCALAR or shape.kind is Kind.SCALAR:
            return code
        marks = "None, None" if shape.kind is Kind.MATRIX else "None"
        return Code(f"{code.at(ATOM)}[..., {marks}]")

    def matmul(self, e: Binary) -> Code:
        """A product of rows, columns and matrices."""
        diagonal = self.by_diagonal(e)
        if diagonal is not None:
            return diagonal
        left, right = self.expression(e.left), self.expression(e.right)
        match e.left.shape.kind, e.right.shape.kind:
            case Kind.ROW, Kind.COLUMN:
                return Code(f"({left.at(PRODUCT)} * {right.at(PRODUCT)}).sum(-1)")
            case Kind.COLUMN, Kind.ROW:
                return Code(f"{left.at(ATOM)}[..., :, None] * {right.at(ATOM)}[..., None, :]", PRODUCT)
            case Kind.MATRIX, Kind.COLUMN:
                return Code(f"({left.at(PRODUCT)} @ {right.at(ATOM)}[..., :, None])[..., 0]")
            case Kind.ROW, Kind.MATRIX:
                return Code(f"({left.at(ATOM)}[..., None, :] @ {right.at(UNARY)})[..., 0, :]")
            case Kind.COLUMN, Kind.MATRIX:
                return Code(f"{left.at(ATOM)}[..., :, None] * {right.at(UNARY)}", PRODUCT)
            case Kind.MATRIX, Kind.ROW:
                return Code(f"{left.at(PRODUCT)} * {right.at(ATOM)}[..., None, :]", PRODUCT)
            case _:
                return Code(f"{left.at(PRODUCT)} @ {right.at(UNARY)}", PRODUCT)

    def by_diagonal(self, e: Binary) -> Code | None:
        """A product with diag(.) or I, elementwise."""
        for one, other, marks in ((e.left, e.right, ":, None"), (e.right, e.left, "None, :")):
            if not isinstance(one, Call) or one.function not in ("diag", "identity"):
                continue
            code = self.expression(other)
            if one.function == "identity":
                return code
            entries = self.expression(one.arguments[0]).at(ATOM)
            if other.shape.kind is Kind.MATRIX:
                return Code(f"{entries}[..., {marks}] * {code.at(UNARY)}", PRODUCT)
            return Code(f"{entries} * {code.at(UNARY)}", PRODUCT)
        return None

    def call(self, e: Call) -> Code:
        """A function or constructor."""
        sizes = ", ".join(size_code(s, self.sizes).text for s in e.shape.sizes)
        match e.function:
            case "identity":
                return Code(f"torch.eye({size_code(e.shape.rows, self.sizes).text}, device=device, dtype=dtype)")
            case "ones" | "zeros":
                return Code(f"torch.{e.function}({sizes}, device=device, dtype=dtype)")
            case "diag":
                return Code(f"torch.diag_embed({self.expression(e.arguments[0]).text})")
            case "outer":
                a, b = (self.expression(x).at(ATOM) for x in e.arguments)
                return Code(f"{a}[..., :, None] * {b}[..., None, :]", PRODUCT)
            case "sum" | "norm":
                x, dims = self.expression(e.arguments[0]), len(e.arguments[0].shape.sizes)
                over = ", ".join(str(-i) for i in range(dims, 0, -1))
                if dims == 0:
                    return x if e.function == "sum" else call("abs", [x])
                if e.function == "norm":  # whose gradient at 0 is 0, where that of a root is not finite
                    return Code(f"torch.linalg.vector_norm({x.text}, dim=({over},))")
                return Code(f"({x.text}).sum(({over},))")
            case _:
                return self.function(e)

    def function(self, e: Call) -> Code:
        """Functions of whole vectors, and elementwise ones."""
        arguments = [self.fitted(a, e.shape) if len(e.arguments) > 1 else self.expression(a) for a in e.arguments]
        x = arguments[0]
        eps = "0" if e.eps is None else repr(float(e.eps))
        match e.function:
            case "l2norm":
                return Code(
                    f"{x.at(PRODUCT)} * torch.rsqrt(({x.at(ATOM)} ** 2).sum(-1, keepdim=True) + {eps})", PRODUCT
                )
            case "rmsnorm":
                return Code(
                    f"{x.at(PRODUCT)} * torch.rsqrt(({x.at(ATOM)} ** 2).mean(-1, keepdim=True) + {eps})", PRODUCT
                )
            case "softmax":
                return Code(f"torch.softmax({x.text}, -1)")
            case "concat":
                plain = [self.expression(a) for a in e.arguments]
                return Code(f"_concat({', '.join(c.text for c in plain)})") if self.need("concat") else x
            case "kron":
                a, b = (self.expression(v).at(ATOM) for v in e.arguments)
                return Code(f"({a}[..., :, None] * {b}[..., None, :]).flatten(-2)")
            case name:
                for helper in HELPERS.get(name, ()):
                    self.need(helper)
                return call(name, arguments)

    def need(self, helper: str) -> bool:
        """Note a support function."""
        self.helpers[helper] = None
        return True


def _reads_old(statement: Let | Update | Output, state: str) -> bool:
    """Whether a statement reads the state before the step."""
    return any(isinstance(e, StateRef) and e.previous and e.name == state for e in parts(statement.value))
