"""Names in emitted code.

In: the names a spec uses and the names the program would like. Out: distinct Python identifiers; a spec's own name is
kept unless it is a keyword or a name that the emitted code needs itself. Refuses nothing.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Sequence

OWN = frozenset(
    [
        "raw",
        "start",
        "starts",
        "finals",
        "made",
        "States",
        "end",
        "outs",
        "grads",
        "cotangents",
        "final",
        "result",
        "results",
        "rows",
        "how",
        "lead",
        "time",
        "timed",
        "sizes",
        "steps",
        "columns",
        "out_dtype",
        "Outputs",
        "torch",
        "Tensor",
        "F",
        "math",
        "lru_cache",
        "cached_property",
        "reduce",
        "wraps",
        "pairwise",
        "nullcontext",
        "inspect",
        "operator",
        "sys",
        "Any",
        "NamedTuple",
        "Sequence",
        "WeakTensorKeyDictionary",
        "is_in_torch_dispatch_mode",
        "triton",
        "tl",
        "Iterator",
        "annotations",
        "args",
        "kwargs",
        "self",
        "ctx",
        "cls",
        "batch",
        "length",
        "heads",
        "tokens",
        "chunks",
        "programs",
        "dtype",
        "narrow",
        "device",
        "keep",
        "need",
        "aggregation",
        "saved",
        "c",
        "tensors",
        "initial_state",
        "output_final_state",
        "cu_seqlens",
        "own",
        "chunk_size",
        "schedule",
        "backend",
        "check",
        "state",
        "state_indices",
        "slots",
        "passed",
        "before",
        "states",
        "outputs",
        "reference",
        "step",
        "gates",
        "head",
    ]
)


def field_names(outputs: Sequence[str]) -> list[str]:
    """The fields of a named tuple: an output's own name, `output_NAME` where Python allows no such field."""
    legal = {name for name in outputs if not name.startswith("_") and not keyword.iskeyword(name)}
    fields: list[str] = []
    for name in outputs:
        field = name if name in legal else f"output_{name.lstrip('_')}"
        while name not in legal and field in legal.union(fields):
            field += "_"
        fields.append(field)
    return fields


class Names:
    """Hands out identifiers, each once."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        """Start with `taken` in use beside what the emitted code itself needs."""
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """`wanted`, or the nearest free name to it."""
        base = wanted if wanted.isidentifier() else "x"
        base = f"x{base}" if base.startswith("_") else base  # the module's own functions and tables start so
        name, number = base, 1
        while self.clashes(name):
            number += 1
            name = f"{base}_" if number == 2 else f"{base}_{number - 1}"
        self._taken.add(name)
        return name

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names that code has in another way."""
        self._taken.update(names)

    def clashes(self, name: str) -> bool:
        """Whether `name` is not free."""
        return (
            name in self._taken
            or name in OWN
            or keyword.iskeyword(name)
            or keyword.issoftkeyword(name)
            or hasattr(builtins, name)
            or name.startswith("_")
        )
