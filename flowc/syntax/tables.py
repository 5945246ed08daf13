"""The grammar's parser, made once.

In: grammar/flow.lark. Out: `tables`, a Lark parser with two starts: `spec`, and `annotation` for one argument of a
decorated function. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from lark import Lark, Token
from lark.lark import PostLex

from flowc.resources import grammar


class _PassOn(PostLex):
    """Lets the contextual lexer see newlines everywhere; `Layout` decides which of them count."""

    always_accept = ("_NEWLINE",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The same tokens."""
        return stream


@cache
def tables() -> Lark:
    """The parser of the grammar."""
    return Lark(
        grammar(),
        parser="lalr",
        lexer="contextual",
        start=["spec", "annotation"],
        propagate_positions=True,
        maybe_placeholders=False,
        postlex=_PassOn(),
    )
