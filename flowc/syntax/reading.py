"""What could be read of a text, and what no text may hold.

In: texts, and what a front end made of one. Out: `Reading`, and the diagnostics of a text that is too long or holds
characters that would change how it is shown. Refuses nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from unicodedata import category, normalize

from flowc.diagnostics import Diagnostic
from flowc.source import Span
from flowc.syntax.tree import Spec

LENGTH = 64 * 1024
"""The longest spec that is taken, in characters."""

_WORD = re.compile(r"[^\W\d]\w*")
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


def unreadable(text: str, part: Span, shorter: str) -> Iterator[Diagnostic]:
    """Why `part` of `text` is not read at all; `shorter` says what to do where it is too long."""
    length = part.end - part.start
    if length > LENGTH:
        message = f"the text is {length} characters long; the limit is {LENGTH}"
        yield Diagnostic("F103", message, shorter, Span(part.start, part.start))
        return
    for offset in range(part.start, part.end):
        character = text[offset]
        if (character == "\r" and text.startswith("\n", offset + 1)) or (character == "\ufeff" and offset == 0):
            continue
        if is_forbidden(character):
            message = f"the character U+{ord(character):04X} can't stand in a spec"
            advice = "remove it; lines end with a newline, and words are separated by spaces"
            yield Diagnostic("F102", message, advice, Span(offset, offset + 1))


def is_forbidden(character: str) -> bool:
    """Whether no spec may hold `character`: it moves the cursor, turns the text around, or is no character."""
    if character in "\n\t" or (character.isascii() and character.isprintable()):
        return False
    return category(character) in ("Cc", "Cs") or character in _BIDIRECTIONAL or character == "\ufeff"


def words(text: str) -> set[str]:
    """What could be names in `text`."""
    return {normalize("NFKC", word) for word in _WORD.findall(text)}
