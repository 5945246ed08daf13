"""Rewriting operations and programs value by value.

In: an operation or program and what to put for its values. Out: the same with other values. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from flowc.chunk.ir import Node, Op
from flowc.chunk.values import Value


def replaced(op: Op, values: Mapping[Value, Value]) -> Op:
    """The operation with its operands replaced; values that the mapping lacks stay."""
    changes: dict[str, Any] = {}
    for field in fields(op):
        match getattr(op, field.name):
            case Value() as old:
                changes[field.name] = values.get(old, old)
            case tuple(parts) if any(isinstance(v, Value) for v in parts):
                changes[field.name] = tuple(values.get(v, v) if isinstance(v, Value) else v for v in parts)
    return replace(op, **changes) if changes else op


def renumbered(nodes: tuple[Node, ...]) -> tuple[list[Node], dict[Value, Value]]:
    """Nodes with their values numbered from 0 without gaps, and the mapping from old to new values."""
    moved: dict[Value, Value] = {}
    numbered: list[Node] = []
    for number, node in enumerate(nodes):
        moved[node.value] = replace(node.value, index=number)
        numbered.append(Node(moved[node.value], replaced(node.op, moved)))
    return numbered, moved
