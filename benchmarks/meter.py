"""Counts what kernels do under Triton's interpreter: `with Meter() as counted:` around calls of an op.

Flops are 2 per multiply-add; of a sum over an axis of a tile of two or more, 2 per entry, as if products went into it.
Bytes are those of entries that are not masked; distinct ones count every address once for each launch that reads it,
and once for each that writes it. Counts are by kernel, of all its programs together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
from triton.runtime import interpreter


@dataclass
class Meter:
    """`launches` and the rest by kernel; `operations` are calls of the interpreter, whatever they do."""

    launches: Counter = field(default_factory=Counter)
    dots: Counter = field(default_factory=Counter)
    dot_flops: Counter = field(default_factory=Counter)
    sum_flops: Counter = field(default_factory=Counter)
    read: Counter = field(default_factory=Counter)
    written: Counter = field(default_factory=Counter)
    seen: dict[tuple[str, int, str], list[np.ndarray]] = field(default_factory=dict)
    operations: Counter = field(default_factory=Counter)
    kernel: str = ""
    patches: list = field(default_factory=list)

    def distinct(self, backward: bool | None = None) -> int:
        """The distinct bytes of one pass, or of both; addresses of a launch are let go once they are counted."""
        found = 0
        for (kernel, _, _), parts in self.seen.items():
            if backward is None or kernel.endswith("_backward") == backward:
                found += len(np.unique(np.concatenate(parts)))
        return found

    def distinct_of(self, kernel: str) -> int:
        """The distinct bytes of one kernel's launches."""
        return sum(len(np.unique(np.concatenate(p))) for (name, _, _), p in self.seen.items() if name == kernel)

    def of(self, counter: Counter, backward: bool) -> int:
        """A count of the kernels of one pass."""
        return sum(n for kernel, n in counter.items() if kernel.endswith("_backward") == backward)

    def __enter__(self) -> Meter:
        """Wrap the interpreter."""
        builder, sums, grid = interpreter.InterpreterBuilder, interpreter.ReduceOps, interpreter.GridExecutor
        for name in [n for n in vars(builder) if n.startswith("create_")]:
            self._wrap(builder, name, self._created)
        self._wrap(sums, "sum", self._summed)
        self._wrap(grid, "__call__", self._launched)
        return self

    def __exit__(self, *raised) -> None:
        """As it was."""
        while self.patches:
            self.patches.pop().stop()

    def _wrap(self, owner, name, note) -> None:
        original = getattr(owner, name)

        def wrapped(this, *arguments, **keywords):
            note(name, this, arguments)
            return original(this, *arguments, **keywords)

        self.patches.append(patch.object(owner, name, wrapped))
        self.patches[-1].start()

    def _launched(self, name, this, arguments) -> None:
        self.kernel = this.fn.__name__
        self.launches[self.kernel] += 1

    def _summed(self, name, this, arguments) -> None:
        data = arguments[0].handle.data
        self.sum_flops[self.kernel] += 2 * data.size * (data.ndim > 1)

    def _created(self, name, this, arguments) -> None:
        self.operations[self.kernel] += 1
        match name:
            case "create_dot":
                left, right = (arguments[i].data.shape for i in (0, 1))
                self.dots[self.kernel] += 1
                self.dot_flops[self.kernel] += 2 * int(np.prod(left)) * right[-1]
            case "create_masked_load":
                self.read[self.kernel] += self._bytes(arguments[0], arguments[1], "read")
            case "create_masked_store":
                self.written[self.kernel] += self._bytes(arguments[0], arguments[2], "written")

    def _bytes(self, pointers, mask, way) -> int:
        size = pointers.get_element_ty().primitive_bitwidth // 8
        addresses = np.unique(pointers.data[mask.data.astype(bool)])
        parts = self.seen.setdefault((self.kernel, self.launches[self.kernel], way), [])
        parts.extend(addresses + at for at in range(size))
        if len(parts) > 256:
            parts[:] = [np.unique(np.concatenate(parts))]
        return int(np.count_nonzero(mask.data)) * size
