"""Formatting emitted modules.

In: Python text. Out: the same as `ruff format` leaves it, so that a user's formatter changes nothing. Refuses text
that is no Python, with RuntimeError: that is a fault of an emitter.
"""

from __future__ import annotations

import subprocess

from ruff.__main__ import find_ruff_bin


def formatted(text: str) -> str:
    """The text as ruff's own defaults format it."""
    command = [find_ruff_bin(), "format", "--isolated", "--no-cache", "--stdin-filename", "module.py", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode != 0:
        raise RuntimeError(f"the emitted module is no Python: {done.stderr.strip()}")
    return done.stdout
