"""What the parser says about a token that the grammar does not expect.

In: the token, the terminals that could stand there, the brackets open. Out: one `Diagnostic` per error, with what to
write instead where the mistake is a common one. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Set

from lark import Token

from flowc.diagnostics import Diagnostic
from flowc.source import Span

_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "_NEWLINE": "the end of the line",
    "$END": "the end of the file",
    "_INDENT": "an indented block",
    "_DEDENT": "the end of the block",
    "ATTRIBUTE": "`.T`",
    "COMPARE": "a comparison",
    "FLOW": "`flow`",
    "_INPUT": "`input`",
    "_PARAM": "`param`",
    "_STATE": "`state`",
    "_LET": "`let`",
    "_REPEAT": "`repeat`",
    "_SCALAR": "`scalar`",
    "_X": "`x`",
    "_OF": "`of`",
    "_IN": "`in`",
    "INF": "`inf`",
    "POWER": "`**`",
    "STAR": "`*`",
    "SLASH": "`/`",
    "AT": "`@`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "SEMICOLON": "`;`",
    "EQUAL": "`=`",
}
_OPERATORS = frozenset({"POWER", "STAR", "SLASH", "AT", "PLUS", "MINUS", "ATTRIBUTE", "COMPARE"})
_STATEMENT = frozenset({"_INPUT", "_PARAM", "_STATE", "_LET", "NAME", "_REPEAT"})
_OPERAND = frozenset({"NAME", "NUMBER", "MINUS", "LPAR"})

_HELP = {
    "^": "write `**` for a power and `.T` for a transpose",
    "'": "write `.T` for a transpose",
    "==": "write `=` to assign; conditions are `<`, `<=`, `>` and `>=`",
    "!": "conditions are `<`, `<=`, `>` and `>=`, inside `where`",
    "{": "write `(` and `)`, or indent the block under a `repeat`",
    ":=": "write `let name = value`",
    "//": "write `/`; a comment starts with `#`",
    "%": "there is no remainder; a comment starts with `#`",
    "\\": "no mark is needed: a line goes on while a bracket is open",
    '"': "a spec has no strings; a comment starts with `#`",
    "·": "write `a.T @ b` for a dot product and `a * b` elementwise",
    "\N{MULTIPLICATION SIGN}": "write `x` between two sizes and `*` or `@` between two values",
    "⊙": "write `a * b` elementwise",
    "⊗": "write `outer(a, b)` or `kron(a, b)`",
    "\N{MINUS SIGN}": "write the minus sign of the keyboard, `-`",
    "ᵀ": "write `.T` for a transpose",
    "**=": "write the whole assignment: `S[t] = S[t] + ...`",
}


def unexpected(token: Token, accepts: Set[str], text: str) -> Diagnostic:
    """The diagnostic of `token` where only `accepts` could stand."""
    start = token.start_pos or 0
    if token.type in ("_NEWLINE", "$END", "_INDENT", "_DEDENT"):
        return _ended(token.type, accepts, Span(start, start + 1 if token.type == "_NEWLINE" else start))
    if "_INDENT" in accepts:
        return _bodiless(_span(token))
    found = f"expected {expectation(accepts)}, found `{_shown(str(token))}`"
    if token.type in ("RPAR", "RSQB") and not accepts & {"RPAR", "RSQB"}:
        message = f"this `{token}` closes no bracket"
        return Diagnostic("F106", message, "remove it, or open a bracket in front of it", _span(token))
    return Diagnostic("F101", found, _advice(start, accepts, text, str(token)), _span(token))


def stray(offset: int, accepts: Set[str], text: str) -> Diagnostic:
    """The diagnostic of a character that starts no token."""
    found = f"expected {expectation(accepts)}, found `{_shown(text[offset])}`"
    return Diagnostic("F101", found, _advice(offset, accepts, text, text[offset]), Span(offset, offset + 1))


def unclosed(bracket: Token) -> Diagnostic:
    """The diagnostic of a bracket that the text leaves open."""
    partner = "`)`" if bracket.type == "LPAR" else "`]`"
    return Diagnostic("F106", f"this `{bracket}` is never closed", f"close it with {partner}", _span(bracket))


def headless(span: Span) -> Diagnostic:
    """The diagnostic of a text that does not start with a header."""
    return Diagnostic("F101", "a spec starts with its header", "write `flow name(K, V)` first", span)


def expectation(accepts: Set[str]) -> str:
    """`accepts` in words, the most telling first."""
    if accepts >= {"_LET", "_INPUT"}:
        return "a declaration, an assignment, `let` or `repeat`"
    if "_SCALAR" in accepts:
        return "a shape" if "_X" not in accepts else "a shape or an operator"
    words = []
    rest = set(accepts)
    if rest >= _OPERAND:
        words.append("a value")
        rest -= _OPERAND
    if {"STAR", "PLUS"} <= rest:
        words.append("an operator")
        rest -= _OPERATORS | {"LPAR", "LSQB"}
    rest -= {"SEMICOLON"} if "_NEWLINE" in rest else set()
    words += sorted((_WORDS[kind] for kind in rest if kind in _WORDS), key=lambda word: (word[0] == "`", word))
    return " or ".join(", ".join(words).rsplit(", ", 1)) if words else "nothing more"


def _ended(kind: str, accepts: Set[str], span: Span) -> Diagnostic:
    if kind == "_INDENT":
        message, advice = "this line is indented under no `repeat`", "indent only the block under a `repeat r in R:`"
        return Diagnostic("F105", message, advice, span)
    if "_INDENT" in accepts:
        return _bodiless(span)
    what = "the line ends" if kind == "_NEWLINE" else "the file ends"
    message = f"expected {expectation(accepts)}, but {what} here"
    return Diagnostic("F101", message, "complete the statement; inside brackets it may go on in the next line", span)


def _bodiless(span: Span) -> Diagnostic:
    return Diagnostic("F105", "expected an indented block under the `repeat` above", "indent what is repeated", span)


def _advice(offset: int, accepts: Set[str], text: str, found: str) -> str:
    for mark in sorted(_HELP, key=len, reverse=True):
        if text.startswith(mark, offset) or (mark in ("==", "//", "**=") and text.startswith(mark, offset - 1)):
            return _HELP[mark]
    if text[offset : offset + 2] in ("+=", "-=", "*=", "/=", "@="):
        return "write the whole assignment: `S[t] = S[t] + ...`"
    line = text[text.rfind("\n", 0, offset) + 1 : offset].split()
    if line == ["for"]:
        return "a loop over a list or a size is `repeat r in R:`"
    if found == ":" and line[:1] == ["flow"]:
        return "remove the `:`; nothing is indented under a header"
    if found == "(" and "AT" in accepts:
        return "write the operator between the two values: `@` for a product of matrices, `*` elementwise"
    if found == "=" and "_NEWLINE" in accepts:
        return "one statement assigns once: put the next one on a line of its own"
    if found == "=":
        return "assign `o[t] = ...` for a state or an output, `let a = ...` for a name"
    if "COLON" in accepts and "COMMA" in accepts:
        return "declare as `input q, k : K`"
    if "_SCALAR" in accepts:
        return "write `scalar`, `K`, `K x V` or `R of K`"
    if {"STAR", "_NEWLINE"} <= accepts and found.isidentifier():
        return "write the operator between the two values, or `;` between two statements"
    if accepts >= {"_LET", "_INPUT"}:
        return "start a line with `input`, `param`, `state`, `let`, `repeat`, or a name to assign such as `o[t]`"
    return f"write {expectation(accepts)} here"


def _shown(text: str) -> str:
    return text if len(text) <= 20 else text[:19] + "..."


def _span(token: Token) -> Span:
    return Span(token.start_pos or 0, token.end_pos or 0)
