"""What an emitted module records of how it was made, read without running it.

In: a module's bytes. Out: its spec, options and configurations. Refuses nothing: None where
there is none that is legal.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowc.options import Options
from flowc.source import Source

if TYPE_CHECKING:
    from flowc.schedule.tuned import Tuned


def recorded_spec(text: bytes, module: Path) -> Source | None:
    """The spec that a module quotes in its docstring, None where there is none."""
    try:
        quoted = ast.get_docstring(ast.parse(text), clean=False) or ""
    except (SyntaxError, ValueError):
        return None
    _, start, rest = quoted.partition("The recurrence:\n\n")
    spec, end, _ = rest.partition("\n\nIn normal form, per token:")
    lines = [line.removeprefix("    ") for line in spec.split("\n")]
    return Source(str(module), "\n".join(lines) + "\n") if start and end else None


def recorded_options(module: bytes) -> Options | None:
    """The Options that an emitted module records, read without running it; None if it holds none that are legal."""
    try:
        return Options(**_assigned(module, "__options__"))
    except (LookupError, SyntaxError, ValueError, TypeError):
        return None


def recorded_tuned(module: bytes) -> tuple[Tuned, ...] | None:
    """The configurations that an emitted module has of `flowc tune`, often none; None if one of them is not legal."""
    from flowc.schedule.tuned import of_printed

    try:
        return of_printed(_assigned(module, "_TUNED"))
    except LookupError:
        return ()
    except (SyntaxError, ValueError, TypeError):
        return None


def _assigned(module: bytes, name: str) -> Any:
    """The literal that a module gives a name, SyntaxError or ValueError if it is none, LookupError without it."""
    for statement in ast.parse(module).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return ast.literal_eval(value)
    raise LookupError(name)
