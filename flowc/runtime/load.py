"""Artifact -> module: loading emitted text.

In: an `Artifact`. Out: the imported module, from a file in the cache so that tracebacks and Triton find its source.
The file is written whole or not at all; one that was edited is replaced. Refuses nothing; where the cache cannot be
written, a temporary folder is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from flowc.emit.artifact import Artifact


def cache_folder() -> Path:
    """Where emitted modules are kept: FLOWC_CACHE, else the user's cache folder."""
    chosen = os.environ.get("FLOWC_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flowc"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that no one sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(artifact: Artifact) -> ModuleType:
    """The module of an artifact; the same module for the same text."""
    digest = hashlib.sha256(artifact.source.encode()).hexdigest()[:20]
    name = f"flowc_emitted_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    path = _stored(f"{name}.py", artifact.source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _stored(name: str, text: str) -> Path:
    path = cache_folder() / name
    try:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text)
    except OSError:  # a read-only home: the module still needs a file
        path = Path(tempfile.mkdtemp(prefix="flowc-")) / name
        write_whole(path, text)
    return path
