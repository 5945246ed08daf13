"""Inputs and params of a spec as values of a program.

In: their declarations and how a term has them. Out: values per token or per head. Refuses nothing.
"""

from __future__ import annotations

from flowc.algebra.term import Axis
from flowc.chunk.builder import RANK, Builder
from flowc.chunk.ir import Element, Relabel
from flowc.chunk.values import Level, Value
from flowc.semantics.model import Input, Shape


def loaded(build: Builder, declared: Input, index: int | None, axes: tuple[Axis, ...]) -> Value:
    """An input, or the element `index` of a list, with its axes called as asked."""
    level = Level.HEAD if declared.is_param else Level.TOKEN
    role = "param" if declared.is_param else "input"
    value = build.argument(declared.name, role, _axes(declared.shape), level)
    if index is not None:
        value = build.add(Element(value, index), f"{declared.name}{index}")
    return renamed(build, value, axes)


def result(build: Builder, value: Value, shape: Shape, name: str) -> Value:
    """An output, with all its axes even where it is the same along them."""
    return build.named(build.over(value, *_axes(shape)), name)


def _axes(shape: Shape) -> tuple[Axis, ...]:
    """The axes of what is stored."""
    names = [RANK, "x", "x2"] if shape.items is not None else ["x", "x2"]
    return tuple(Axis(n, s) for n, s in zip(names, shape.sizes, strict=False))


def renamed(build: Builder, value: Value, axes: tuple[Axis, ...]) -> Value:
    """The value with its axes called as asked."""
    names = tuple(a.name for a in axes)
    return value if names == tuple(a.name for a in value.axes) else build.add(Relabel(value, names), value.name)
