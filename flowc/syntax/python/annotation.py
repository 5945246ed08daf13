"""An annotation of a decorated function -> the declaration that it makes of its argument.

In: the text of an annotation, such as `param K in (0, 1]`, the argument's name, and where the text stands in its file.
Out: an `Input`, `Param` or `State` with the name, or the `Diagnostic`s of what the grammar does not take. All spans
point into the file.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from lark import Token, Tree, UnexpectedCharacters, UnexpectedToken

from flowc.diagnostics import Diagnostic
from flowc.source import Span
from flowc.syntax import tree as syntax
from flowc.syntax.build import build_annotation
from flowc.syntax.layout import NESTING, OPEN, marker, too_deep
from flowc.syntax.messages import expectation, stray, unexpected
from flowc.syntax.tables import tables

Declaration = syntax.Input | syntax.Param | syntax.State
Part = TypeVar("Part")

_HELP = "write a shape, `scalar`, `K`, `K x V` or `R of K`, and behind it a range if there is one, such as `in (0, 1]`"


def read_annotation(text: str, offset: int, name: syntax.Name) -> Declaration | tuple[Diagnostic, ...]:
    """What the annotation `text`, which starts at `offset` of its file, declares `name` to be."""
    tree = _tree(text)
    if isinstance(tree, Diagnostic):
        return (_moved(tree, offset),)
    declared, errors = build_annotation(tree, text)
    if errors:
        return tuple(_moved(error, offset) for error in errors)
    return replace(_moved(declared, offset), names=(name,), span=name.span)


def _tree(text: str) -> Tree[Token] | Diagnostic:
    """The grammar's tree of an annotation, or its first error."""
    parser: Any = tables().parse_interactive(text, start="annotation")  # Lark leaves its methods untyped
    depth = 0
    try:
        for token in parser.lexer_thread.lex(parser.parser_state):
            depth += token.type in OPEN
            if depth > NESTING:
                return too_deep(Span(token.start_pos, token.end_pos))
            parser.feed_token(token)
        tree: Tree[Token] = parser.feed_eof(marker("$END", len(text)))
        return tree
    except UnexpectedCharacters as error:
        return replace(stray(error.pos_in_stream or 0, parser.accepts() - {"$END"}, text), help=_HELP)
    except UnexpectedToken as error:
        accepts = parser.accepts() - {"$END"}
        if error.token.type == "$END":
            message = f"expected {expectation(accepts)}, but the annotation ends here"
            return Diagnostic("F101", message, _HELP, Span(len(text), len(text)))
        return replace(unexpected(error.token, accepts, text), help=_HELP)


def _moved(part: Part, offset: int) -> Part:
    """`part` with every span in it moved by `offset`."""
    if isinstance(part, Span):
        return replace(part, start=part.start + offset, end=part.end + offset)
    if isinstance(part, tuple):
        return type(part)(_moved(item, offset) for item in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{field.name: _moved(getattr(part, field.name), offset) for field in fields(part)})
    return part
