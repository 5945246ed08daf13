"""What is made for all chunks of a sequence at once, before the segments that pass through the caches.

In: a `Program`, sizes, a `Machine`, and how many chunks of heads a segment has. Out: the values of chunks that a
segment would spend more time on launching than on computing: numbers per row, such as gate sums and their
exponentials, but no vectors and nothing of the state. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import replace

from flowc.chunk.cost import BYTES, Sizes, node_cost
from flowc.chunk.ir import Argument, Loop, MaskMatrix, Node, Scan, operands
from flowc.chunk.program import Program
from flowc.chunk.values import Level, Value
from flowc.schedule.machine import Machine


def made_once(program: Program, sizes: Sizes, machine: Machine, segment: int) -> frozenset[Value]:
    """The values of chunks to be made once; each depends on inputs through such values, or values of tokens, alone."""

    def launched(node: Node) -> bool:
        work = replace(node_cost(node, sizes, "wy"), launches=0)
        moved = max(machine.seconds(work, 1), BYTES * sizes.entries(node.value) / machine.bandwidth)
        return moved * segment < machine.launch

    cheap: set[Value] = set()
    for node in program.nodes:
        match node.op:
            case Argument(_, role):
                ready = role in ("input", "param")
            case Scan() | Loop():  # a segment begins with what the one before it leaves
                ready = False
            case MaskMatrix():  # the same for every chunk
                ready = False
            case _:
                ready = all(v in cheap for v in operands(node.op)) and launched(node)
        if ready:
            cheap.add(node.value)
    return frozenset(v for v in cheap if v.level is Level.CHUNK)
