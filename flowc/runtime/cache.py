"""Where emitted modules lie, for tracebacks, debuggers and who wants to read them. Nothing is ever run from there.

In: FLOWC_CACHE_DIR, else XDG_CACHE_HOME, else ~/.cache. Out: files `flowc_emitted_HASH.py`, and what there is of them.
Refuses nothing: a folder that cannot be written is done without.
"""

from __future__ import annotations

import ast
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from flowc.files import write_whole

PREFIX = "flowc_emitted_"


@dataclass(frozen=True, slots=True)
class Entry:
    """One module: its file, what its docstring begins with, its bytes, and when it was written (seconds since 1970)."""

    path: str
    title: str
    size: int
    written: float

    def record(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


def cache_folder() -> Path:
    """Where emitted modules are kept: FLOWC_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("FLOWC_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flowc"


def stored(name: str, text: str) -> Path:
    """A module's file; one that differs is replaced. Where none can be written, a name that no file has."""
    for folder in (cache_folder, lambda: Path(tempfile.mkdtemp(prefix="flowc-"))):
        try:
            path = folder() / name
            if not path.is_file() or path.read_bytes() != text.encode():
                write_whole(path, text)
        except (OSError, RuntimeError):  # a full disk, a folder of somebody else; a user without a home
            continue
        return path
    return Path(f"<{name}>")


def entries() -> list[Entry]:
    """What is kept, the newest first; files that vanish meanwhile are left out."""
    found = []
    for path in _files():
        try:
            status = path.stat()
            title = _title(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        found.append(Entry(str(path), title, status.st_size, status.st_mtime))
    return sorted(found, key=lambda e: e.written, reverse=True)


def clear() -> list[Path]:
    """Delete the modules, and nothing else in that folder; returns what was deleted. OSError where one cannot be."""
    gone = _files()
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def _files() -> list[Path]:
    """Modules, and what writers that were killed left behind."""
    folder = cache_folder()
    return sorted({*folder.glob(f"{PREFIX}*.py"), *folder.glob(f".{PREFIX}*")})


def _title(text: str) -> str:
    try:
        return (ast.get_docstring(ast.parse(text)) or "?").splitlines()[0]
    except (SyntaxError, ValueError):
        return "?"
