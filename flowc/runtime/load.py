"""Artifact -> module: loading emitted text.

In: an `Artifact`. Out: its module. What runs is the text in memory, whatever lies in the cache: its file is for
tracebacks, and Triton, which asks for the source of its functions, gets that text too. Refuses nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import sys
from importlib.abc import ExecutionLoader
from types import ModuleType

from flowc.emit.artifact import Artifact
from flowc.runtime.cache import PREFIX, stored


class _Text(ExecutionLoader):
    """A module of a text that says it is a file's."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text

    def get_filename(self, fullname: str) -> str:
        """What tracebacks name."""
        return self.path

    def get_source(self, fullname: str) -> str:
        """The text."""
        return self.text

    def is_package(self, fullname: str) -> bool:
        """Never."""
        return False


def load(artifact: Artifact) -> ModuleType:
    """The module of an artifact; the same module for the same text."""
    text = artifact.source
    name = PREFIX + hashlib.sha256(text.encode()).hexdigest()[:20]
    if name in sys.modules:
        return sys.modules[name]
    path = str(stored(f"{name}.py", text))
    spec = importlib.util.spec_from_file_location(name, path, loader=(loader := _Text(path, text)))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Without a time: `inspect` and tracebacks take these lines and never look at the file.
    linecache.cache[path] = (len(text), None, text.splitlines(True), path)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
