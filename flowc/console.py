"""What every command does with files and diagnostics: specs are read, findings shown, products written.

In: file names, Sources, Diagnostics and texts. Out: Sources, files, and text on standard error. Refuses text that is
not UTF-8, and places where nothing can be written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flowc.diagnostics import Diagnostic, Format, render
from flowc.files import write_whole
from flowc.source import Source

FINDINGS = 1
"""The exit code of a command that found something."""


def read(name: str) -> Source:
    """The Source of a file, or of standard input for `-`; exits with 1 if it is not UTF-8."""
    shown = "<stdin>" if name == "-" else name
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return Source(shown, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        click.echo(f"{shown}: not UTF-8: byte {error.start} is 0x{data[error.start]:02x}", err=True)
        sys.exit(FINDINGS)


def write(path: Path, text: str, option: str) -> None:
    """Write a file whole, creating its directory; what the system refuses is wrong usage of `option`."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise click.UsageError(f"{option}: {path} cannot be written: {error.strerror}") from error


def show(source: Source, diagnostics: Sequence[Diagnostic], style: Format = "text") -> None:
    """Diagnostics on standard error, coloured on a terminal unless NO_COLOR is set."""
    if not diagnostics:
        return
    text = render(source, tuple(diagnostics), style)
    if style == "json" or not sys.stderr.isatty():
        click.echo(text, err=True)
        return
    from rich.console import Console
    from rich.text import Text

    coloured = Text(text)
    coloured.highlight_regex(r"(?m)^error\[\w+\]", "bold red")
    coloured.highlight_regex(r"(?m)^warning\[\w+\]", "bold yellow")
    coloured.highlight_regex(r"(?m)(?<=\| ) *\^+$", "bold red")
    Console(stderr=True).print(coloured, soft_wrap=True)
