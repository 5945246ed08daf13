"""Nodes of Python's `ast` -> spans, and the errors found in a function so far.

In: the `Source` of a Python file. Out: `Places`, which knows where a node or a name stands in characters, where Python
counts bytes of a line. Refuses nothing.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from flowc.diagnostics import Diagnostic
from flowc.source import Source, Span
from flowc.syntax import literals
from flowc.syntax import tree as syntax
from flowc.syntax.reading import words

Node = ast.expr | ast.stmt | ast.arg | ast.keyword

_WORD = re.compile(r"[^\W\d]\w*")


@dataclass(slots=True)
class Places:
    """A Python file, what is wrong with the function in it, and the names in the parts of it that were left out."""

    source: Source
    diagnostics: list[Diagnostic] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def span(self, node: Node) -> Span:
        """Where `node` stands."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return Span(self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset))

    def text(self, node: Node) -> str:
        """What is written there."""
        span = self.span(node)
        return self.source.text[span.start : span.end]

    def name(self, text: str, node: Node, skip: int = 0) -> syntax.Name:
        """The name `text`, the first word of `node` behind `skip` characters; an error where it is no identifier."""
        found = _WORD.search(self.source.text, self.span(node).start + skip)
        span = self.span(node) if found is None else Span(found.start(), found.end())
        named = literals.name(text, span)
        if isinstance(named, Diagnostic):
            self.diagnostics.append(named)
            return syntax.Name(text, span)
        return named

    def error(self, code: str, message: str, advice: str, where: Node | Span) -> None:
        """Add an error."""
        span = where if isinstance(where, Span) else self.span(where)
        self.diagnostics.append(Diagnostic(code, message, advice, span))

    def leave_out(self, node: Node) -> None:
        """Say nothing about the names in `node`: it is wrong, and what they stand for can't be told."""
        self.broken |= words(self.text(node))

    def _offset(self, line: int, column: int) -> int:
        text = self.source.line(line)
        return self.source.starts[line - 1] + len(text.encode()[:column].decode(errors="replace"))
