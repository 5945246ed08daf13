"""The Artifact: an emitted module.

In: what the emitters print. Out: its name, its text and its hash. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Artifact:
    """A self-contained Python module: `name` is the op's, `source` its text, `spec_hash` that of the canonical spec.

    `function` is the name of the op in the module: the spec's, unless Python or the module needs that name itself.
    """

    name: str
    source: str
    spec_hash: str
    function: str
