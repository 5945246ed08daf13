"""Text and positions.

In: a spec's text and the name to show for it, or its path; of a decorated function, its file's text and its place
there. Out: `Source`, and `Span`s into it: offsets that know their line and column. Refuses what is neither a path nor a
text (TypeError, ValueError), and files that cannot be read.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

_NO_PATH = ("[", "(", "=", ";")
"""What specs hold and paths hardly."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name shown in diagnostics (a path, or `<text>`).

    `function` is where the `def` of a spec written as a Python function stands; None for a text in the language itself.
    """

    name: str
    text: str
    function: int | None = None
    starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the starts of lines, once."""
        starts = [0, *(i + 1 for i, c in enumerate(self.text) if c == "\n")]
        object.__setattr__(self, "starts", tuple(starts))

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of `offset`, both from 1."""
        line = bisect_right(self.starts, offset)
        return line, offset - self.starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of line `number`, from 1, without its end."""
        start = self.starts[number - 1]
        end = self.starts[number] - 1 if number < len(self.starts) else len(self.text)
        return self.text[start:end].rstrip("\r")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of offsets into a Source's text."""

    start: int
    end: int


def opened(spec: str | PathLike[str]) -> Source:
    """A spec as a user hands it over: a path, which is a str of one line or a Path, or the spec's text.

    Raises:
        TypeError: neither of them.
        ValueError: an empty text, a text of one line without its end, or a file that is not UTF-8.
        OSError: the file cannot be read.
    """
    if not isinstance(spec, str | PathLike):
        hint = "; `flowc.jit` compiles a function" if callable(spec) and hasattr(spec, "__code__") else ""
        raise TypeError(f"a spec is a path or a text, not {type(spec).__name__}{hint}")
    if isinstance(spec, str) and "\n" in spec:
        return Source("<text>", spec)
    if isinstance(spec, str) and not spec.strip():
        raise ValueError("the spec is empty: expected a path, or the text of a spec")
    try:
        data = Path(spec).read_bytes()
    except OSError as error:
        if isinstance(spec, str) and any(mark in spec for mark in _NO_PATH):
            shown = spec if len(spec) <= 60 else f"{spec[:60]}..."
            raise ValueError(
                f"a str of one line is taken as a path, and there is no file {shown!r};"
                " if it is the text of a spec, end it with a line break"
            ) from error
        raise
    try:
        return Source(str(spec), data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{spec}: not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None
