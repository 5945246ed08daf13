"""Text -> syntax tree.

In: a `Source`. Out: a `Spec`, or with `read` also what could be read of a broken one. Refuses texts that are too long
or hold control characters, and whatever the grammar does not take: every statement that does not parse is reported and
left out. A function of a Python file is read by `syntax.python`.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from lark import Token, Tree, UnexpectedCharacters, UnexpectedToken

from flowc.diagnostics import Diagnostic, FlowError
from flowc.source import Source, Span
from flowc.syntax.build import build
from flowc.syntax.layout import Layout, LayoutError, marker
from flowc.syntax.messages import headless, stray, unclosed, unexpected
from flowc.syntax.python import read_function
from flowc.syntax.reading import Reading, unreadable, words
from flowc.syntax.tables import tables
from flowc.syntax.tree import Spec

ERRORS = 20
"""How many syntax errors are reported before giving up."""

_VISIBLE = re.compile(r"[^\r\n]")
_STATEMENT = re.compile(r"\n[ \t]*((input|param|state|let|repeat)[ \t]+[^\W\d]|[^\W\d]\w*[ \t]*\[t\][ \t]*=)")
_BRACKET = re.compile(r"[(\[)\]]")


def parse(source: Source) -> Spec:
    """The syntax tree of `source`; FlowError with all its syntax errors."""
    reading = read(source)
    if reading.spec is None or reading.diagnostics:
        raise FlowError(source, reading.diagnostics)
    return reading.spec


def read(source: Source) -> Reading:
    """The syntax tree of the lines that parse, and the errors of those that do not."""
    if source.function is not None:
        return read_function(source, source.function)
    text = source.text
    refused = tuple(unreadable(text, Span(0, len(text)), "write one spec per file"))
    if refused:
        return Reading(None, refused, frozenset())
    tree, diagnostics, broken = _lines(text)
    if tree is None:
        return Reading(None, diagnostics, frozenset())
    built = build(tree, text)
    return Reading(built.spec, (*diagnostics, *built.diagnostics), frozenset(broken | words(built.left_out)))


@dataclass(frozen=True, slots=True)
class _Broken:
    """A statement that does not parse: its diagnostic (None: it follows from an earlier one), and what to leave out."""

    diagnostic: Diagnostic | None
    left_out: Span
    header: bool


def _lines(original: str) -> tuple[Tree[Token] | None, tuple[Diagnostic, ...], frozenset[str]]:
    """The tree of the statements that parse, the errors of the others, and the names in these.

    A statement that does not parse is overwritten with spaces, so that offsets stay, and the text is parsed again.
    """
    text = original
    diagnostics: list[Diagnostic] = []
    names: set[str] = set()
    while len(diagnostics) < ERRORS:
        outcome = _once(text, original)
        if not isinstance(outcome, _Broken):
            return outcome, tuple(diagnostics), frozenset(names)
        diagnostics += [] if outcome.diagnostic is None else [outcome.diagnostic]
        start, end = outcome.left_out.start, outcome.left_out.end
        if outcome.header or not text[start:end].strip():
            break
        names |= words(text[start:end])
        text = text[:start] + _VISIBLE.sub(" ", text[start:end]) + text[end:]
    return None, tuple(diagnostics), frozenset(names)


def _once(text: str, original: str) -> Tree[Token] | _Broken:
    """The tree of `text`, or its first error."""
    parser: Any = tables().parse_interactive(text, start="spec")  # Lark leaves its methods untyped
    layout = Layout(text)
    try:
        for raw in parser.lexer_thread.lex(parser.parser_state):
            for token in layout.feed(raw):
                parser.feed_token(token)
        if layout.brackets:
            return _unclosed(layout)
        for token in layout.end():
            parser.feed_token(token)
        tree: Tree[Token] = parser.feed_eof(marker("$END", len(text)))
        return tree
    except LayoutError as error:
        span = error.diagnostic.span
        return _Broken(
            error.diagnostic, _extent(text, span.start if layout.fresh else layout.start, span.end), layout.lines == 0
        )
    except UnexpectedCharacters as error:
        return _judge(layout, None, error.pos_in_stream or 0, parser.accepts(), original)
    except UnexpectedToken as error:
        return _judge(layout, error.token, error.token.start_pos or 0, parser.accepts(), original)


def _judge(layout: Layout, token: Token | None, offset: int, accepts: Set[str], original: str) -> _Broken:
    """The error of `token`, or of the character at `offset`, where only `accepts` could stand."""
    text = layout.text
    if "FLOW" in accepts:
        return _Broken(headless(Span(offset, (token.end_pos if token else None) or offset + 1)), Span(0, 0), True)
    if layout.brackets and _STATEMENT.search(text, layout.brackets[-1].end_pos or 0, _end_of_line(text, offset)):
        return _unclosed(layout)
    diagnostic = stray(offset, accepts, text) if token is None else unexpected(token, accepts, text)
    if "_INDENT" in accepts:
        follows = text[layout.start : offset] != original[layout.start : offset]
        return _Broken(None if follows else diagnostic, _extent(text, layout.start, layout.start), False)
    if token is not None and token.type in ("_INDENT", "_DEDENT"):
        return _Broken(diagnostic, _extent(text, offset, offset), layout.lines == 0)
    end = _end_of_brackets(text, offset, len(layout.brackets))
    return _Broken(diagnostic, _extent(text, layout.start, end), layout.lines == 0)


def _end_of_brackets(text: str, offset: int, depth: int) -> int:
    """Where `depth` open brackets are closed after `offset`, or the next statement starts."""
    limit = _STATEMENT.search(text, offset)
    for bracket in _BRACKET.finditer(text, offset, limit.start() if limit else len(text)):
        if depth <= 0:
            break
        depth += 1 if bracket.group() in "([" else -1
        offset = bracket.start()
    return offset


def _unclosed(layout: Layout) -> _Broken:
    bracket = layout.brackets[0]
    return _Broken(unclosed(bracket), _extent(layout.text, layout.start, bracket.end_pos or 0), layout.lines == 0)


def _extent(text: str, start: int, offset: int) -> Span:
    """What to leave out for an error at `offset` in the statement at `start`: its lines, and a `repeat`'s block."""
    start = text.rfind("\n", 0, start) + 1
    end = _end_of_line(text, max(offset, start))
    head = text[start:end]
    if head.lstrip(" ").startswith("repeat"):
        while end < len(text) and _is_under(text[end + 1 : _end_of_line(text, end + 1)], head):
            end = _end_of_line(text, end + 1)
    return Span(start, end)


def _is_under(line: str, head: str) -> bool:
    """Whether `line` is blank, or in the block under `head`."""
    return not line.strip() or _column(line) > _column(head)


def _end_of_line(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    return len(text) if end < 0 else end


def _column(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
