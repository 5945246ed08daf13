"""Text -> syntax tree.

In: a `Source`. Out: a `Spec`, or with `read` also what could be read of a broken one. Refuses texts that are too long
or hold control characters, and whatever the grammar does not take: every statement that does not parse is reported and
left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cache
from typing import Any
from unicodedata import category, normalize

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedToken
from lark.lark import PostLex

from flowc.diagnostics import Diagnostic, FlowError
from flowc.resources import grammar
from flowc.source import Source, Span
from flowc.syntax.build import build
from flowc.syntax.layout import Layout, LayoutError, marker
from flowc.syntax.messages import headless, stray, unclosed, unexpected
from flowc.syntax.tree import Spec

LENGTH = 64 * 1024
"""The longest text that is taken, in characters."""

ERRORS = 20
"""How many syntax errors are reported before giving up."""

_WORD = re.compile(r"[^\W\d]\w*")
_VISIBLE = re.compile(r"[^\r\n]")
_STATEMENT = re.compile(r"\n[ \t]*((input|param|state|let|repeat)[ \t]+[^\W\d]|[^\W\d]\w*[ \t]*\[t\][ \t]*=)")
_BRACKET = re.compile(r"[(\[)\]]")
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read of a text.

    `spec` is None where not even the header could be; `broken` are the names in the lines left out, about which
    nothing can be said.
    """

    spec: Spec | None
    diagnostics: tuple[Diagnostic, ...]
    broken: frozenset[str]


def parse(source: Source) -> Spec:
    """The syntax tree of `source`; FlowError with all its syntax errors."""
    reading = read(source)
    if reading.spec is None or reading.diagnostics:
        raise FlowError(source, reading.diagnostics)
    return reading.spec


def read(source: Source) -> Reading:
    """The syntax tree of the lines that parse, and the errors of those that do not."""
    text = source.text
    if len(text) > LENGTH:
        message = f"the text is {len(text)} characters long; the limit is {LENGTH}"
        return Reading(None, (Diagnostic("F103", message, "write one spec per file", Span(0, 0)),), frozenset())
    forbidden = tuple(_forbidden(text))
    if forbidden:
        return Reading(None, forbidden, frozenset())
    tree, diagnostics, broken = _lines(text)
    if tree is None:
        return Reading(None, diagnostics, frozenset())
    built = build(tree, text)
    return Reading(built.spec, (*diagnostics, *built.diagnostics), frozenset(broken | words(built.left_out)))


class _PassOn(PostLex):
    """Lets the contextual lexer see newlines everywhere; `Layout` decides which of them count."""

    always_accept = ("_NEWLINE",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The same tokens."""
        return stream


@cache
def _parser() -> Lark:
    return Lark(
        grammar(),
        parser="lalr",
        lexer="contextual",
        start="spec",
        propagate_positions=True,
        maybe_placeholders=False,
        postlex=_PassOn(),
    )


def _forbidden(text: str) -> Iterator[Diagnostic]:
    advice = "remove it; lines end with a newline, and words are separated by spaces"
    for offset, character in enumerate(text):
        if character in "\n\t" or (character.isascii() and character.isprintable()):
            continue
        if (character == "\r" and text.startswith("\n", offset + 1)) or (character == "\ufeff" and offset == 0):
            continue
        if category(character) in ("Cc", "Cs") or character in _BIDIRECTIONAL or character == "\ufeff":
            message = f"the character U+{ord(character):04X} can't stand in a spec"
            yield Diagnostic("F102", message, advice, Span(offset, offset + 1))


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


def words(text: str) -> set[str]:
    """What could be names in `text`."""
    return {normalize("NFKC", word) for word in _WORD.findall(text)}


def _once(text: str, original: str) -> Tree[Token] | _Broken:
    """The tree of `text`, or its first error."""
    parser: Any = _parser().parse_interactive(text)  # Lark leaves its methods untyped
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
