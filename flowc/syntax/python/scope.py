"""Which names have a value where: in a Python function, and around it.

In: nodes of `ast`. Out: names. Refuses nothing; nothing is run, so what an `import *` brings is not known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def stored(body: Sequence[ast.stmt]) -> frozenset[str]:
    """The names that `body` assigns."""
    return frozenset(
        node.id
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )


def around(function: ast.FunctionDef, module: ast.Module) -> frozenset[str]:
    """The names that have a value where `function` is defined: those of the file, and of functions around it."""
    return frozenset(_bound(function, module))


def _bound(function: ast.FunctionDef, module: ast.Module) -> Iterator[str]:
    nodes: list[ast.AST] = [module]
    while nodes:
        node = nodes.pop()
        match node:
            case ast.Name(name, ast.Store()) | ast.arg(name) | ast.ClassDef(name):
                yield name
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) if node is not function:
                yield name
            case ast.alias(name, alias):
                yield alias or name.partition(".")[0]
            case _:
                pass
        if not isinstance(node, _SCOPES) or (node is not function and _holds(node, function)):
            nodes += ast.iter_child_nodes(node)


def _holds(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef, inner: ast.FunctionDef) -> bool:
    """Whether `inner` is in the body of `node`."""
    assert node.end_lineno is not None
    return node.lineno <= inner.lineno <= node.end_lineno
