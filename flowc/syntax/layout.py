"""Lines and blocks: raw tokens -> tokens with `_NEWLINE`, `_INDENT` and `_DEDENT` where they count.

In: tokens one at a time, as the lexer makes them. Out: the tokens that the parser is to be fed. Newlines inside
brackets vanish. Refuses tabs in indentation, indentation that fits no block, and brackets nested past the cap
(`LayoutError`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lark import Token

from flowc.diagnostics import Diagnostic
from flowc.source import Span

NESTING = 200
"""How deep brackets, blocks and expressions may be nested."""

OPEN = frozenset({"LPAR", "LSQB"})
CLOSE = frozenset({"RPAR", "RSQB"})


class LayoutError(Exception):
    """Carries the diagnostic of a line whose place can't be told."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        """Wrap `diagnostic`."""
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(slots=True)
class Layout:
    """The block structure while a text is read.

    `start` is where the statement's line starts, `blocks` the columns of the open blocks, `brackets` those still open;
    `fresh` says whether a line just ended, and `lines` how many have.
    """

    text: str
    start: int = 0
    blocks: list[int] = field(default_factory=list)
    brackets: list[Token] = field(default_factory=list)
    fresh: bool = True
    lines: int = 0

    def feed(self, token: Token) -> Iterator[Token]:
        """The tokens to feed for `token`."""
        if token.type != "_NEWLINE":
            self._word(token)
            yield token
        elif not self.brackets and not self.fresh:
            self.fresh = True
            yield token
            self.lines += 1
            if token.end_pos != len(self.text):
                yield from self._indentation(token.end_pos or 0)

    def end(self) -> Iterator[Token]:
        """The tokens that close the last line and all blocks."""
        here = len(self.text)
        if not self.fresh:
            self.fresh = True
            yield marker("_NEWLINE", here)
        yield from self._leave(-1, here)

    def _word(self, token: Token) -> None:
        start = token.start_pos or 0
        if not self.blocks:
            self.blocks.append(self._column(start))
        if self.fresh:
            self.start, self.fresh = start, False
        if token.type in OPEN:
            self.brackets.append(token)
            if len(self.brackets) > NESTING:
                raise LayoutError(too_deep(Span(start, start + 1)))
        elif token.type in CLOSE and self.brackets:
            self.brackets.pop()

    def _indentation(self, here: int) -> Iterator[Token]:
        column = self._column(here)
        if "\t" in self.text[here - column : here]:
            raise LayoutError(_misplaced("this line is indented with a tab", Span(here - column, here)))
        if column > self.blocks[-1]:
            self.blocks.append(column)
            if len(self.blocks) > NESTING:
                raise LayoutError(too_deep(Span(here - column, here)))
            yield marker("_INDENT", here)
        yield from self._leave(column, here)
        if column != self.blocks[-1]:
            raise LayoutError(_misplaced("this line's indentation fits no open block", Span(here - column, here + 1)))

    def _leave(self, column: int, here: int) -> Iterator[Token]:
        while len(self.blocks) > 1 and column < self.blocks[-1]:
            self.blocks.pop()
            yield marker("_DEDENT", here)

    def _column(self, offset: int) -> int:
        return offset - (self.text.rfind("\n", 0, offset) + 1)


def too_deep(span: Span) -> Diagnostic:
    """The diagnostic of nesting past the cap."""
    message = f"this is nested more than {NESTING} levels deep"
    return Diagnostic("F104", message, "name parts of it with `let`, or split it into several statements", span)


def marker(kind: str, offset: int) -> Token:
    """A token of `kind` that stands for no text."""
    return Token(kind, "", start_pos=offset, end_pos=offset)


def _misplaced(message: str, span: Span) -> Diagnostic:
    return Diagnostic("F105", message, "indent with spaces, and only the block under a `repeat`", span)
