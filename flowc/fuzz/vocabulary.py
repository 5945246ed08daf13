"""What drawn specs are made of: sizes, inputs and params, and vectors, scalars and gates made from them.

In: `draw` of a hypothesis strategy. Out: `Vocabulary`, which declares what it uses and notes what it drew. Refuses
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

from hypothesis import strategies as st

from flowc.fuzz import spelling as w
from flowc.syntax.tree import Expression

T = TypeVar("T")


@dataclass(frozen=True)
class Declared:
    """An input or a param: its shape and range as text, and for an input whether it is one of a list."""

    name: str
    shape: str
    range: str
    is_param: bool
    count: str | None


@dataclass
class Vocabulary:
    """Draws; `repeated` is the size of the repeat that is open, `prefix` the statements that are waiting for `let`."""

    choose: Callable[[st.SearchStrategy[int]], int]
    rows: str = "K"  # the state's, as a shape
    key: str = "K"  # what key inputs have
    columns: str = "V"
    declared: list[Declared] = field(default_factory=list)
    units: set[str] = field(default_factory=set)
    strengths: set[str] = field(default_factory=set)
    noted: set[tuple[str, str]] = field(default_factory=set)
    sizes: dict[str, int | None] = field(default_factory=dict)
    lines: list[str | tuple[str, Expression]] = field(default_factory=list)
    repeated: str | None = None
    indent: str = ""
    log_gates: int = 0
    serial: int = 0
    states: list[tuple[str, str, str]] = field(default_factory=list)  # a second one: its name, shape and start
    beside: list[Expression] = field(default_factory=list)  # scalars that are made of it

    # -- choices ------------------------------------------------------------------------------------------------------

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, the first when shrunk."""
        return options[self.choose(st.integers(0, len(options) - 1))]

    def chance(self, of_100: int) -> bool:
        """True that often, False when shrunk."""
        return self.choose(st.integers(0, 99)) >= 100 - of_100

    def note(self, what: str, kind: str) -> None:
        """What was drawn, for the table."""
        self.noted.add((what, kind))

    # -- names --------------------------------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        """A name of the spec's own, which `Spelling` may replace."""
        self.serial += 1
        return f"{stem}{self.serial}"

    def size(self, stem: str, fixed: int | None = None) -> str:
        """A dimension of the header."""
        self.sizes[stem] = fixed
        return stem

    def let(self, x: Expression, of_100: int = 15) -> Expression:
        """`x`, or a name that stands for it from here on."""
        if not self.chance(of_100):
            return x
        name = self.fresh("let")
        self.note("spelling", "let")
        self.lines.append((f"{self.indent}let {name} = ", x))
        return w.name(name)

    def leaf(
        self, stem: str, shape: str, within: str = "", *, param: int = 0, listed: bool | None = None, unit: bool = False
    ) -> Expression:
        """An input, a param in `param` of 100; in a repeat mostly one of a list; now and then one that there is."""
        count = None
        fixed = [n for n, v in self.sizes.items() if v is not None and n in "RJ"]
        if self.repeated is None and listed is None and fixed and " x " not in shape and self.chance(8):
            self.note("input", "of a list, by number")
            count = self.pick(fixed)
        elif self.repeated is not None and (listed if listed is not None else not self.chance(15)):
            count = self.repeated
        is_param = count is None and param > 0 and self.chance(param)
        alike = [
            d
            for d in self.declared
            if (d.shape, d.range, d.is_param, d.count) == (shape, within, is_param, count)
            and d.name.rstrip("0123456789") == stem
        ]
        if alike and self.chance(35):
            found = self.pick(alike).name
        else:
            found = self.fresh(stem)
            self.declared.append(Declared(found, shape, within, is_param, count))
            if unit:
                self.units.add(found)
        if is_param:
            self.note("input", "param")
        if count is not None and self.repeated is None:
            return w.name(found, w.value(self.pick(range(self.sizes[count] or 1))))
        return w.name(found) if count is None else w.name(found, w.name("index"))

    # -- scalars ------------------------------------------------------------------------------------------------------

    def strength(self) -> Expression:
        """How much of a delta is written: mostly in (0, 1)."""
        match self.pick(("declared", "sigmoid", "constant", "twice", "index")):
            case "declared":
                found = self.leaf("beta", "scalar", " in (0, 1)")
                self.strengths.add(self.declared_name(found))
                return found
            case "sigmoid":
                self.note("prelude", "sigmoid")
                return w.call("sigmoid", self.leaf("b", "scalar"))
            case "twice":
                return w.times(w.value(2), w.call("sigmoid", self.leaf("b", "scalar", param=30)))
            case "index" if self.repeated is not None:
                self.note("prelude", "index")
                return w.over(w.plus(w.value(1), w.name("index")), w.plus(w.name(self.repeated), w.value(1)))
            case _:
                return w.value(self.pick(("0.5", "0.3", "1", "0.25")))

    def declared_name(self, x: Expression) -> str:
        """The name of a leaf."""
        return x.name.text  # type: ignore[union-attr]

    def scalar(self) -> Expression | None:
        """A factor, or none."""
        if self.beside and self.chance(40):
            return self.pick(self.beside)
        match self.pick(("none", "number", "input", "sigmoid", "softplus", "param", "size", "overlap", "odd")):
            case "number":
                return w.value(self.pick(("0.5", "2", "0.125", "1e-3", "1.25")))
            case "input":
                return self.leaf("x", "scalar")
            case "sigmoid":
                return w.call("sigmoid", self.leaf("x", "scalar"))
            case "softplus":
                self.note("prelude", "softplus")
                return w.call("softplus", w.plus(self.leaf("x", "scalar"), self.leaf("bias", "scalar", param=100)))
            case "param":
                return self.leaf("weight", "scalar", param=100)
            case "size":
                self.note("prelude", "size")
                return w.binary("**", w.name(self.key_size()), w.negated(w.value("0.5")))
            case "odd":
                return self.odd_scalar()
            case "overlap":
                self.note("prelude", "inner product")
                return w.matmul(w.transposed(self.key_leaf()), self.key_leaf())
            case _:
                return None

    def odd_scalar(self) -> Expression:
        """A scalar that few papers have."""
        x = self.leaf("x", "scalar", param=20)
        match self.pick(("where", "norm", "sum", "head", "extreme", "quotient")):
            case "where":
                other = w.negated(self.leaf("x", "scalar"))
                return w.call("where", w.below(self.leaf("y", "scalar"), x), other, w.value("0.5"))
            case "norm":
                self.note("prelude", "norm")
                return w.over(w.call("norm", self.value_leaf()), w.plus(w.call("abs", x), w.value(1)))
            case "sum":
                return w.call("tanh", w.call("sum", w.times(self.key_leaf(), self.query_leaf())))
            case "head":
                self.note("prelude", "head")
                return w.over(w.plus(w.value(1), w.name("head")), w.name("heads"))
            case "extreme":
                return w.call(self.pick(("max", "min")), x, w.value(self.pick(("0", "0.5"))))
            case _:
                return w.over(x, w.plus(w.value(1), w.times(x, x)))

    def key_size(self) -> str:
        """The dimension of key inputs."""
        return self.key

    # -- vectors ------------------------------------------------------------------------------------------------------

    def key_leaf(self) -> Expression:
        """A vector of length one of the keys' size."""
        return self.leaf("k", self.key, unit=True)

    def unit(self) -> Expression:
        """A vector over the state's rows, of length one or less (up to 1.5 where rows are stacked)."""
        return self.let(self.stacked(self.unit_key), 10)

    def unit_key(self) -> Expression:
        """A vector of the keys' size, of length at most one."""
        match self.pick(("input", "input", "input", "l2norm", "silu", "softmax", "projected", "scaled")):
            case "l2norm":
                self.note("prelude", "l2norm")
                return w.call("l2norm", self.leaf("key", self.key))
            case "silu":
                self.note("prelude", "l2norm")
                self.note("prelude", "silu")
                weight = self.leaf("weight", self.key, param=100)
                return w.call(
                    "l2norm", w.call("silu", w.times(weight, self.leaf("key", self.key))), eps=w.value("0.01")
                )
            case "softmax":
                self.note("prelude", "softmax")
                return w.call("softmax", self.leaf("key", self.key))
            case "projected":
                self.note("prelude", "projection")
                self.sizes.setdefault("M", None)
                matrix = self.leaf("P", f"{self.key} x M", param=70, listed=False)
                return w.call("l2norm", w.matmul(matrix, self.leaf("m", "M")))
            case "scaled":
                self.note("prelude", "erase gate")
                return w.times(self.leaf("erase", self.key, " in (0, 1)"), self.key_leaf())
            case _:
                return self.key_leaf()

    def plain(self) -> Expression:
        """A vector over the state's rows that need not be short: a query, or a key that is only written with."""
        return self.let(self.stacked(self.plain_key), 10)

    def plain_key(self) -> Expression:
        """A vector of the keys' size."""
        match self.pick(("input", "input", "unit", "function", "product", "shifted", "rmsnorm", "matrix")):
            case "unit":
                return self.unit_key()
            case "function":
                self.note("prelude", "elementwise")
                return w.call(self.pick(("silu", "relu", "tanh", "softplus", "gelu", "exprel")), self.query_leaf())
            case "product":
                return w.times(self.leaf("u", self.key, param=50), self.query_leaf())
            case "matrix":
                return self.through_matrix()
            case "shifted":
                self.note("prelude", "bias")
                return w.plus(self.query_leaf(), self.leaf("bias", self.key, param=100))
            case "rmsnorm":
                self.note("prelude", "rmsnorm")
                return w.over(w.call("rmsnorm", self.query_leaf()), w.call("sqrt", w.name(self.key_size())))
            case _:
                return self.query_leaf()

    def through_matrix(self) -> Expression:
        """A vector that a matrix was multiplied with."""
        self.note("prelude", "matrix")
        vector = self.query_leaf()
        match self.pick(("diag", "outer", "reflection", "param")):
            case "diag":
                return w.matmul(w.call("diag", self.key_leaf()), vector)
            case "outer":
                return w.matmul(w.call("outer", self.query_leaf(), self.key_leaf()), vector)
            case "reflection":
                self.note("spelling", "I")
                key = self.key_leaf()
                return w.matmul(w.plus(w.name("I"), w.matmul(key, w.transposed(key))), vector)
            case _:
                return w.matmul(self.leaf("P", f"{self.key} x {self.key}", param=100, listed=False), vector)

    def query_leaf(self) -> Expression:
        """An input of the keys' size."""
        return self.leaf("q", self.key)

    def stacked(self, part: Callable[[], Expression], ones: int = 50) -> Expression:
        """A vector over the state's rows, made of vectors of the keys' size; a single row is a one in `ones` of 100."""
        if self.rows == self.key:
            return part()
        if self.rows.startswith("1"):
            return w.call("concat", w.call("ones" if self.chance(ones) else "zeros", w.value(1)), part())
        other = w.call("zeros", w.name(self.key_size())) if self.chance(20) else part()
        return w.call("concat", *((part(), other) if self.chance(50) else (other, part())))

    def values(self) -> Expression:
        """A vector over the state's columns."""
        match self.pick(("input", "input", "input", "function", "gated", "scaled", "ones", "biased", "normed")):
            case "function":
                self.note("prelude", "elementwise")
                return self.let(w.call(self.pick(("tanh", "silu", "gelu", "sin")), self.value_leaf()))
            case "gated":
                return self.let(w.times(w.call("sigmoid", self.leaf("z", self.columns)), self.value_leaf()))
            case "scaled":
                return w.times(w.value(self.pick(("0.5", "2"))), self.value_leaf())
            case "ones":
                return w.call("ones", w.name(self.columns))
            case "normed":
                self.note("prelude", "norm")
                return w.over(self.value_leaf(), w.plus(w.call("norm", self.value_leaf()), w.value("0.5")))
            case "biased":
                self.note("prelude", "bias")
                return w.minus(self.value_leaf(), self.leaf("offset", self.columns, param=100))
            case _:
                return self.value_leaf()

    def value_leaf(self) -> Expression:
        """An input over the state's columns."""
        return self.leaf("v", self.columns)

    def fraction(self) -> Fraction:
        """A number in (0, 1)."""
        return Fraction(self.pick(("0.9", "0.5", "0.99", "0.125")))
