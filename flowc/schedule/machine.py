"""What a machine can do, as far as choices depend on it.

In: nothing. Out: `Machine`, and the time that a `Cost` takes on it. The CPU's figures are of one core (an Intel Xeon,
where a 2048 GEMM runs at 195 to 220 GFLOP/s): fitted to forward and backward passes of all examples in chunks of 16
to 128, in float32. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.chunk.cost import Cost


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates in operations and bytes per second, the cost of a launch in seconds."""

    products: float
    elementwise: float
    bandwidth: float
    cache: float  # bytes per second of what is used again at once
    launch: float
    substitution: float  # flops per second of a batched triangular solve

    def seconds(self, cost: Cost, programs: int, cached: bool = False) -> float:
        """The time of one chunk of one head where `programs` of them share a launch."""
        rate = self.cache if cached else self.bandwidth
        work = max(cost.products / self.products + cost.elementwise / self.elementwise, cost.bytes / rate)
        return work + cost.launches * self.launch / programs


CPU = Machine(products=1.5e11, elementwise=8e9, bandwidth=1.2e10, cache=1e11, launch=3e-6, substitution=3.3e10)
