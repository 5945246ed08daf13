"""How far off the cost model is, as `flowc explain --shape` tells beside its predictions.

In: flowc/schedule/accuracy.json, which benchmarks/model.py writes. Out: `Accuracy`, as a sentence or a record. Refuses
nothing: the file is flowc's own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import flowc.schedule

PATH = Path(flowc.schedule.__file__).parent / "accuracy.json"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of predicted over measured times: the error exp(mean |log ratio|), the bias exp(mean log ratio).

    `of` says whose times these are: `measured`, of flowc's own calls, or `published`, of others'. Both numbers are
    None where nothing could be compared. `kernels` counts times of single kernels, which have their own two.
    """

    of: str
    count: int
    error: float | None
    bias: float | None
    devices: tuple[str, ...]
    kernels: int = 0
    kernel_error: float | None = None
    kernel_bias: float | None = None

    def __str__(self) -> str:
        """What to think of a prediction."""
        if self.error is None or self.bias is None:
            return "the model was compared with no time; none of flowc's own was measured"
        on = ", ".join(self.devices)
        whose = (
            f"{self.count} measured times of flowc's calls on {on}"
            if self.of == "measured"
            else f"{self.count} published figures of others' kernels on {on}, by launches, bytes and flops alone; none"
            " of flowc's own measured"
        )
        times = f"what it says is {self.bias:.2f} of what is {self.of}"
        found = f"the model is off by a factor of {self.error:.2f} in the geometric mean, {times} ({whose})"
        if self.kernel_error is None:
            return found
        alone = f"by {self.kernel_error:.2f}, {self.kernel_bias:.2f} of what is measured ({self.kernels} times)"
        return f"{found}; of single kernels {alone}"

    def text(self) -> str:
        """The file."""
        return json.dumps(asdict(self), indent=1) + "\n"


@cache
def accuracy() -> Accuracy:
    """What is known."""
    found = json.loads(PATH.read_text(encoding="utf-8"))
    return Accuracy(**{**found, "devices": tuple(found["devices"])})
