"""Random syntax trees: drawn as trees and printed, since texts drawn from the grammar are mostly refused."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from fractions import Fraction

from hypothesis import strategies as st

from flowc.source import Span
from flowc.syntax import tree as syntax

NOWHERE = Span(0, 0)
WORDS = ("x", "of", "in", "inf", "input", "param", "let", "repeat", "flow", "T", "B", "lambda", "tl", "torch")
WORDS += ("q", "k", "v", "S", "λ", "é", "漢字", "_a", "K2", "I", "exp", "sum", "ones")

names = st.sampled_from(WORDS).map(lambda word: syntax.Name(word, NOWHERE))
values = st.builds(lambda digits, places: Fraction(digits, 10**places), st.integers(0, 10**9), st.integers(0, 20))
numbers = values.map(lambda value: syntax.Number(value, NOWHERE))
bounds = st.one_of(values, values.map(lambda value: -value)).map(lambda value: syntax.Bound(value, NOWHERE))
starts = st.one_of(bounds, st.sampled_from([syntax.Bound(float("inf"), NOWHERE), syntax.Bound(float("-inf"), NOWHERE)]))


def reference(name: syntax.Name, *subscripts: syntax.Expression) -> syntax.Reference:
    return syntax.Reference(name, subscripts, NOWHERE)


def size_trees() -> st.SearchStrategy[syntax.Expression]:
    leaves = st.one_of(names.map(reference), st.integers(1, 99).map(lambda n: syntax.Number(Fraction(n), NOWHERE)))
    operators = st.sampled_from(["+", "-", "*"])
    return st.recursive(
        leaves, lambda inner: st.builds(syntax.Binary, operators, inner, inner, st.just(NOWHERE)), max_leaves=4
    )


sizes = size_trees()
times = st.sampled_from(["t", "t-1"]).map(
    lambda time: (
        reference(syntax.Name("t", NOWHERE))
        if time == "t"
        else syntax.Binary("-", reference(syntax.Name("t", NOWHERE)), syntax.Number(Fraction(1), NOWHERE), NOWHERE)
    )
)
subscripts = st.one_of(
    times, names.map(reference), st.integers(0, 9).map(lambda n: syntax.Number(Fraction(n), NOWHERE))
)
references = st.builds(lambda name, some: reference(name, *some), names, st.lists(subscripts, max_size=2))


def _compound(inner: st.SearchStrategy[syntax.Expression]) -> st.SearchStrategy[syntax.Expression]:
    nowhere = st.just(NOWHERE)
    arguments = st.lists(st.builds(syntax.Argument, st.one_of(st.none(), names), inner, nowhere), max_size=3).map(tuple)
    return st.one_of(
        st.builds(syntax.Negate, inner, nowhere),
        st.builds(syntax.Transpose, inner, nowhere),
        st.builds(syntax.Binary, st.sampled_from(["+", "-", "*", "/", "@", "**"]), inner, inner, nowhere),
        st.builds(syntax.Comparison, st.sampled_from(["<", "<=", ">", ">="]), inner, inner, nowhere),
        st.builds(syntax.Call, names, arguments, nowhere),
    )


expressions = st.recursive(st.one_of(numbers, references), _compound, max_leaves=12)

_single = st.one_of(
    st.just(syntax.Scalar(NOWHERE)),
    st.builds(syntax.Vector, sizes, st.just(NOWHERE)),
    st.builds(syntax.Matrix, sizes, sizes, st.just(NOWHERE)),
)
shapes = st.one_of(_single, st.builds(syntax.List, sizes, _single, st.just(NOWHERE)))
ranges = st.one_of(
    st.none(),
    st.builds(syntax.Range, bounds, bounds, st.booleans(), st.booleans(), st.just(NOWHERE)),
    st.builds(syntax.Range, st.none(), bounds, st.just(False), st.booleans(), st.just(NOWHERE)),
    st.builds(syntax.Range, bounds, st.none(), st.booleans(), st.just(False), st.just(NOWHERE)),
)
_several = st.lists(names, min_size=1, max_size=3).map(tuple)
declarations = st.one_of(
    st.builds(syntax.Input, _several, shapes, ranges, st.just(NOWHERE)),
    st.builds(syntax.Param, _several, shapes, ranges, st.just(NOWHERE)),
    st.builds(syntax.State, _several, shapes, st.one_of(st.none(), starts), st.just(NOWHERE)),
)
simple = st.one_of(
    st.builds(syntax.Let, names, expressions, st.just(NOWHERE)),
    st.builds(syntax.Assign, references, expressions, st.just(NOWHERE)),
)
statements = st.recursive(
    simple,
    lambda inner: st.builds(
        syntax.Repeat, names, sizes, st.lists(inner, min_size=1, max_size=3).map(tuple), st.just(NOWHERE)
    ),
    max_leaves=4,
)
docs = st.lists(st.text("abc #\\\"'é", max_size=12).map(str.strip), max_size=3).map(
    lambda lines: "\n".join(lines).strip("\n")
)
specs = st.builds(
    syntax.Spec,
    names,
    docs,
    st.lists(st.builds(syntax.Dimension, names, st.one_of(st.none(), bounds), st.just(NOWHERE)), max_size=3).map(tuple),
    st.lists(st.one_of(declarations, statements), max_size=6).map(tuple),
    st.just(NOWHERE),
)


def bare(node: object) -> object:
    """`node` without its spans."""
    if isinstance(node, tuple):
        return tuple(bare(part) for part in node)
    if is_dataclass(node) and not isinstance(node, type):
        return (type(node).__name__, *(bare(getattr(node, f.name)) for f in fields(node) if f.name != "span"))
    return node


def steps(spec: syntax.Spec) -> tuple[syntax.Item, ...]:
    """The statements of `spec`, without its declarations."""
    return tuple(item for item in spec.items if isinstance(item, syntax.Let | syntax.Assign | syntax.Repeat))
