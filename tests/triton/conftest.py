"""Tests under Triton's interpreter run in a process of their own: see test_interpreter.py."""

import os

collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["interpreted"]
