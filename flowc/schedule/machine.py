"""What a machine can do, as far as choices depend on it.

In: nothing. Out: `Machine`, and the time that a `Cost` takes on it. The CPU's figures are of one core as measured in
benchmarks/results (design/facts.md): products of chunk programs in float32, memory, and what a call of an operator
costs. Refuses nothing.
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
    launch: float
    substitution: float  # flops per second of a batched triangular solve

    def seconds(self, cost: Cost, programs: int) -> float:
        """The time of one chunk of one head where `programs` of them share a launch."""
        work = max(cost.products / self.products + cost.elementwise / self.elementwise, cost.bytes / self.bandwidth)
        return work + cost.launches * self.launch / programs


CPU = Machine(products=1.1e11, elementwise=4e9, bandwidth=1.2e10, launch=8e-6, substitution=3.3e10)
