"""What is wrong with a spec, as data, and the one renderer of it.

In: codes of the table `CODES`, sentences and spans, from every stage. Out: `Diagnostic`, the exception `FlowError` that
carries them, and `render`, which prints them as text (rustc's form) or as JSON (ruff's shape). Refuses a code that is
not in the table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal
from unicodedata import category, east_asian_width

from flowc.source import Source, Span

Severity = Literal["error", "warning"]
Format = Literal["text", "json"]

CODES: dict[str, str] = {
    # what a spec's text may be
    "F101": "the text is not what the grammar expects here",
    "F102": "a character that no spec may hold",
    "F103": "the file is over the size limit",
    "F104": "an expression or a block is nested too deeply",
    "F105": "indentation that fits no block",
    "F106": "a bracket is never closed, or closed without being opened",
    "F107": "a number that is too long or too large",
    "F108": "an attribute other than `.T`",
    "F109": "an index that is neither a time nor a list's element",
    "F110": "a name that is no identifier",
    "F111": "more statements or declarations than a spec may have",
    "F112": "an expression of too many parts, with its lets written out",
    # names
    "F201": "a name is used that nothing declares",
    "F202": "a function is called that does not exist",
    "F203": "a name is declared twice",
    "F204": "a reserved word is used as a name",
    "F205": "a let is used before it is evaluated, or outside its repeat",
    "F206": "something other than a state or an output is assigned",
    "F207": "an assignment's target is not written with `[t]`",
    "F208": "an output is read",
    # shapes
    "F301": "an operator's two shapes do not fit",
    "F302": "a scalar is added to a matrix",
    "F303": "a vector is multiplied with a matrix elementwise",
    "F304": "a matrix product's inner sizes differ, or an operand of it is a scalar",
    "F305": "a function's argument has a shape that it does not take",
    "F306": "a function gets the wrong number of arguments, or an unknown keyword",
    "F307": "a value is assigned whose shape is not the state's",
    "F308": "the size of `I` can't be told",
    "F309": "an output is a row",
    "F310": "a comparison stands outside the condition of `where`",
    "F311": "eps is not a positive number",
    # time, lists and the order of statements
    "F401": "`S[t]` is read before the state's first assignment",
    "F402": "a state is used without `[t]` or `[t-1]`",
    "F403": "a time index on something that has none",
    "F404": "a list is used whole",
    "F405": "an element is taken of something that is no list",
    "F406": "an element's index is out of the list, or no index at all",
    "F407": "a state is never written",
    "F408": "an output is assigned twice",
    "F409": "an output is assigned inside a repeat",
    "F410": "a spec without an output, a state or an input",
    "F411": "a declaration inside a repeat",
    # sizes, constants and ranges
    "F501": "a size names something that is no size",
    "F502": "a size is bound by no tensor",
    "F503": "a size that is zero or negative",
    "F504": "a range that is empty",
    "F505": "a shape that this declaration can't have",
    "F506": "a header constant that is not finite",
    # what has no compiled form
    "F601": "a recurrence that can't be compiled",
    # what a decorated Python function may be
    "F701": "an argument of a decorated function that declares nothing",
    "F702": "a statement that a spec does not have",
    "F703": "an expression that a spec does not have",
    "F704": "a loop that is no `for r in range(R)`",
    "F705": "a `return` that is not made of the states and the outputs",
    "F706": "a value from outside the decorated function",
    "F707": "a function that can't be a spec",
    # warnings
    "W101": "an input is never used",
    "W102": "a state is never read",
    "W201": "a gate may exceed 1",
    "W202": "a plain gate may come near 0",
    "W203": "keys are not normalised in front of a delta read",
    "W204": "a recurrence without a chunked form, taken token by token",
}
"""Every code with what it stands for: the one table, from which the documentation is made."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: `message` says what is wrong in a sentence, `help` what to write instead."""

    code: str
    message: str
    help: str
    span: Span
    severity: Severity = "error"

    def __post_init__(self) -> None:
        """Refuse a code that the table does not explain."""
        if self.code not in CODES:
            raise KeyError(f"diagnostic code {self.code} is not in the table")


class FlowError(Exception):
    """A spec that can't be compiled; its text is the rendered diagnostics."""

    def __init__(self, source: Source, diagnostics: tuple[Diagnostic, ...]) -> None:
        """Carry `diagnostics`, sorted by position, about `source`."""
        super().__init__(source, diagnostics)
        self.source = source
        self.diagnostics = ordered(diagnostics)

    def __str__(self) -> str:
        """The diagnostics as text."""
        return render(self.source, self.diagnostics)


LONGEST = 140
"""How many characters of a line are shown."""


def ordered(diagnostics: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """The diagnostics by position, each once."""
    return tuple(sorted(dict.fromkeys(diagnostics), key=lambda d: (d.span, d.code, d.message)))


def render(source: Source, diagnostics: tuple[Diagnostic, ...], format: Format = "text") -> str:
    """The diagnostics in `format`: text ends without a newline and is empty for none; JSON is a list, always."""
    if format == "json":
        return json.dumps([_record(source, d) for d in diagnostics], indent=2, ensure_ascii=False)
    return "\n\n".join(_paragraph(source, d) for d in diagnostics)


def _record(source: Source, diagnostic: Diagnostic) -> dict[str, object]:
    row, column = source.position(diagnostic.span.start)
    end_row, end_column = source.position(diagnostic.span.end)
    return {
        "cell": None,
        "code": diagnostic.code,
        "end_location": {"column": end_column, "row": end_row},
        "filename": source.name,
        "fix": None,
        "help": diagnostic.help,
        "location": {"column": column, "row": row},
        "message": diagnostic.message,
        "noqa_row": row,
        "severity": diagnostic.severity,
        "url": None,
    }


def _paragraph(source: Source, diagnostic: Diagnostic) -> str:
    row, column = source.position(diagnostic.span.start)
    line = source.line(row)
    end = max(column, min(column - 1 + diagnostic.span.end - diagnostic.span.start, len(line)))
    line, first, end = _window(line, column - 1, end)
    start = _width(line[:first])
    underline = " " * start + "^" * max(1, _width(line[:end]) - start)
    margin = " " * len(str(row))
    return "\n".join(
        (
            f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}",
            f"{margin}--> {source.name}:{row}:{column}",
            f"{margin} |",
            f"{row} | {_shown(line)}".rstrip(),
            f"{margin} | {underline}",
            f"{margin} = help: {diagnostic.help}",
        )
    )


def _window(line: str, start: int, end: int) -> tuple[str, int, int]:
    """The part of a long line that has the range in it, and the range there."""
    if len(line) <= LONGEST:
        return line, start, end
    cut = max(0, start - LONGEST // 3)
    before, after = "..." if cut else "", "..." if cut + LONGEST < len(line) else ""
    shown = before + line[cut : cut + LONGEST] + after
    return shown, start - cut + len(before), min(end - cut + len(before), len(shown))


def _shown(line: str) -> str:
    """The line with every character that would move the cursor replaced by one that keeps its place."""
    return "".join(" " if c == "\t" else "\N{REPLACEMENT CHARACTER}" if _hidden(c) else c for c in line)


def _hidden(character: str) -> bool:
    return category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _width(text: str) -> int:
    """Columns that `text` takes in a terminal."""
    return sum(0 if category(c) in ("Mn", "Me") else 2 if east_asian_width(c) in "WF" else 1 for c in text)
