"""Devices that kernels run on, as far as choices depend on them.

In: nothing. Out: `Device`, by name and by the family of configurations that it takes. Rates of the H200 are measured
ones (design/performance.md: 790 TFLOP/s in bfloat16, 4.3 TB/s); of the others what their makers publish for dense
products and memory, times the same part of it that the H200 reaches (0.8 and 0.9). How fast a cache answers, how long
memory and a dependent product take, and what a launch costs are assumed: no GPU was at hand. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

REGISTERS = 65_536
"""Of a processor, 32 bits each; a thread has 255 at most."""


@dataclass(frozen=True, slots=True)
class Device:
    """Rates in operations and bytes per second, times in seconds.

    `products` are of 16-bit operands, `wide` of float32 ones as they are multiplied there, `entries` float32 operations
    on numbers one by one. `cache` is what goes through
    L2. `wait` passes from asking memory to its answer, `turn` from a product to one that needs it.
    """

    name: str
    family: str
    processors: int
    products: float
    wide: float
    entries: float
    bandwidth: float
    cache: float
    launch: float = 4e-6
    wait: float = 0.8e-6
    turn: float = 0.25e-6

    def rate(self, width: int) -> float:
        """Of products whose operands take `width` bytes a number."""
        return self.wide if width == 4 else self.products


DEVICES = {
    d.name: d
    for d in (
        Device("h200", "any", 132, 790e12, 130e12, 26e12, 4.3e12, 7e12),
        Device("h100", "any", 132, 790e12, 130e12, 26e12, 3.0e12, 7e12),
        Device("a100", "ampere", 108, 250e12, 41e12, 7.8e12, 1.8e12, 4.5e12),
        Device("b200", "blackwell", 148, 1_800e12, 300e12, 32e12, 7.2e12, 12e12),
        Device("mi300x", "amd", 304, 1_040e12, 130e12, 65e12, 4.7e12, 14e12),
    )
}
"""By name."""

OF_FAMILY = {d.family: d for d in reversed(DEVICES.values())}
"""What configurations of a family of devices are chosen for: the first of each."""
