"""Numbers and names as they are written -> exact values and identifiers.

In: their text and place. Out: a `Fraction` or a `syntax.Name`, or the `Diagnostic` that refuses it: numbers that are
too long or too large, names that are no identifiers.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from unicodedata import normalize

from flowc.diagnostics import Diagnostic
from flowc.source import Span
from flowc.syntax import tree as syntax

DIGITS = 40
"""How many characters a number may have; its power of ten is bound by EXPONENT."""

EXPONENT = 300

_DECIMAL = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAME = re.compile(r"[^\W\d]\w*")


def number(text: str, span: Span) -> Fraction | Diagnostic:
    """The value of the decimal `text`, exactly."""
    try:
        value = Decimal(text) if len(text) <= DIGITS else None
    except InvalidOperation:  # a power of ten of so many digits that Decimal has none of it
        value = None
    if value is None or (not value.is_zero() and abs(value.adjusted()) > EXPONENT):
        message = f"`{text}` is too large or too small a number" if len(text) <= DIGITS else "this number is too long"
        advice = f"write at most {DIGITS} characters and a power of ten between -{EXPONENT} and {EXPONENT}"
        return Diagnostic("F107", message, advice, span)
    return Fraction(value)


def python_number(text: str, value: int | float, span: Span) -> Fraction | Diagnostic:
    """The value of a number as Python writes it: what stands there, not the float that Python makes of it."""
    plain = text.replace("_", "")
    return number(plain if _DECIMAL.fullmatch(plain) or len(plain) > DIGITS else str(value), span)


def name(text: str, span: Span) -> syntax.Name | Diagnostic:
    """The name `text`, normalised."""
    normal = normalize("NFKC", text)
    if not normal.isidentifier() or _NAME.fullmatch(normal) is None:
        message = f"`{text}` is no identifier"
        return Diagnostic("F110", message, "start with a letter, go on with letters, digits and `_`", span)
    return syntax.Name(normal, span)
