"""What the names of a spec stand for, and the errors collected about them.

In: declarations, one after another. Out: `Names`, which finds a name's meaning and the nearest known one. Refuses
reserved words and names declared twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction

from flowc.diagnostics import Diagnostic
from flowc.semantics.model import Input, Shape, State
from flowc.semantics.size import Size
from flowc.semantics.words import Words, words
from flowc.source import Source, Span
from flowc.syntax import tree as syntax

RESERVED = frozenset(
    {"initial_state", "output_final_state", "state", "cu_seqlens", "chunk_size", "backend", "schedule", "aggregation"}
    | {"save", "check", "state_indices", "t", "head", "heads"}
)
"""Words that name arguments of the compiled op, or have a meaning of their own in a spec."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A header constant."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbolic:
    """A size of the header, bound at the call."""

    name: str


@dataclass(frozen=True, slots=True)
class Value:
    """A `let`."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Index:
    """The index of an enclosing repeat."""

    count: Size


@dataclass(frozen=True, slots=True)
class Result:
    """An output."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name whose declaration is wrong: nothing more is said about it."""


Meaning = Constant | Symbolic | Input | State | Value | Index | Result | Unknown


def kind(meaning: Meaning, words: Words) -> str:
    """What `meaning` is, in `words`."""
    match meaning:
        case Constant():
            return words.constant
        case Symbolic():
            return "a size"
        case Input():
            return "a param" if meaning.is_param else "an input"
        case State():
            return "a state"
        case Value():
            return words.let
        case Index():
            return words.index
        case Result():
            return "an output"
        case Unknown():
            return "a name"


@dataclass(slots=True)
class Report:
    """The errors found so far."""

    source: Source
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def words(self) -> Words:
        """How sentences name the parts of the language."""
        return words(self.source)

    def error(self, code: str, message: str, advice: str, span: Span) -> None:
        """Add an error."""
        self.diagnostics.append(Diagnostic(code, message, advice, span))

    def text(self, span: Span, instead: str) -> str:
        """What stands at `span`, or `instead` where that is too long for a sentence."""
        text = self.source.text[span.start : span.end]
        return text if len(text) <= 32 and "\n" not in text and "`" not in text else instead


@dataclass(slots=True)
class Names:
    """The names in sight: those of the spec, and those local to the open repeats.

    `broken` are names in lines that did not parse: using one of them is no error. `later` are the lets of the whole
    spec, for the message about one used too early or outside its repeat.
    """

    report: Report
    broken: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    scopes: list[dict[str, Meaning]] = field(default_factory=lambda: [{}])

    def find(self, name: str) -> Meaning | None:
        """What `name` stands for here, None if nothing."""
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return Unknown() if name in self.broken else None

    def declare(self, name: syntax.Name, meaning: Meaning) -> None:
        """Let `name` stand for `meaning` from here on, unless that is refused."""
        known = next((scope[name.text] for scope in reversed(self.scopes) if name.text in scope), None)
        if name.text in RESERVED:
            message = f"`{name.text}` is a reserved word and can't be a name"
            self.report.error("F204", message, f"choose another name, such as `{name.text}_`", name.span)
            self.scopes[-1][name.text] = Unknown()
        elif known is not None and not isinstance(known, Unknown):
            message = f"`{name.text}` is already {kind(known, self.report.words)}"
            self.report.error(
                "F203", message, "choose another name: a name is given once and keeps its value", name.span
            )
        else:
            self.scopes[-1][name.text] = meaning

    def missing(self, name: syntax.Name) -> None:
        """Report that `name` stands for nothing here."""
        if name.text in self.later:
            message = f"`{name.text}` has no value here"
            self.report.error("F205", message, self.report.words.move_let, name.span)
            return
        known = {word for scope in self.scopes for word in scope} | {"head", "heads", "I"}
        near = nearest(name.text, known)
        advice = f"did you mean `{near}`?" if near else self.report.words.declare_name
        self.report.error("F201", f"nothing is named `{name.text}`", advice, name.span)


def nearest(name: str, known: set[str]) -> str | None:
    """The known name that is most like `name`, if any is."""
    if len(known) > 300:
        return None  # comparing with each of so many takes seconds, and says little
    folded = sorted(word for word in known if word.casefold() == name.casefold())
    close = folded or get_close_matches(name, sorted(known), n=1, cutoff=0.65)
    return close[0] if close else None
