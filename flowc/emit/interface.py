"""The op as its callers see it: the names, sizes and shapes of its arguments.

In: a `Recurrence`. Out: emitted names of inputs and sizes, shapes as text, and the lines that bind what code mentions.
Refuses nothing.
"""

from __future__ import annotations

import re

from flowc.algebra.recurrence import Recurrence
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.semantics.model import Input, Kind, Shape, State
from flowc.semantics.size import Size


class Interface:
    """Names and shapes of an op's arguments."""

    def __init__(self, recurrence: Recurrence) -> None:
        """Name the sizes and inputs of a recurrence."""
        self.recurrence, self.model = recurrence, recurrence.model
        names = Names()
        self.function = names.fresh(self.model.name)
        self.inputs = {i.name: names.fresh(i.name) for i in self.model.inputs}
        self.sizes = {d.name: names.fresh(d.name) if d.value is None else str(d.value) for d in self.model.dimensions}
        self.taken = frozenset((*self.inputs.values(), *self.sizes.values(), self.function))
        self.value = self.inputs[recurrence.value_input]
        self.renamed = {name: own for name, own in self.inputs.items() if name != own}

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return _quoted(self.model.doc.split("\n")[0]) or f"{self.model.name}: a recurrence"

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The spec's names of the differentiable arguments, in order."""
        several = len(self.states) > 1
        return (*self.inputs, *(f"initial_state.{s.name}" if several else "initial_state" for s in self.states))

    @property
    def states(self) -> tuple[State, ...]:
        """The states, in the order in which they go in and out."""
        return self.model.states

    def sizes_of(self, state: State) -> str:
        """A state's sizes, to follow its leading ones; a vector that is walked has one column."""
        sizes = [self.size(s) for s in state.shape.sizes]
        return ", ".join((*sizes, "1") if state.shape.kind is Kind.COLUMN else sizes)

    def state_text(self, state: State, lead: str = "[B, H") -> str:
        """A state's shape as documentation has it: `[B, H, K, V]`."""
        return ", ".join((lead, *(str(s) for s in state.shape.sizes))) + "]"

    @property
    def several(self) -> bool:
        """Whether the op has several outputs."""
        return len(self.recurrence.results) > 1

    @property
    def typed(self) -> str:
        """The inputs as parameters of a function."""
        return ", ".join(f"{name}: Tensor" for name in self.inputs.values())

    def start(self, state: State) -> str:
        """The number that fills a state which is not given."""
        return {float("inf"): "math.inf", float("-inf"): "-math.inf"}.get(state.start, repr(state.start))

    @property
    def wide(self) -> str:
        """Whether a call computes in float64, as an expression: one such input is enough."""
        return " or ".join(f"{name}.dtype == torch.float64" for name in self.inputs.values())

    def size(self, size: Size) -> str:
        """A size as an expression."""
        return size_code(size, self.sizes).text

    def shape(self, shape: Shape, lead: str) -> str:
        """A tensor's shape as an expression."""
        return ", ".join((lead, *(self.size(s) for s in shape.sizes)))

    def shape_text(self, i: Input, timed: bool) -> str:
        """A shape as documentation has it: `[B, T, H, K]`."""
        lead = ["H"] if i.is_param else ["B", "T", "H"] if timed else ["B", "H"]
        return "[" + ", ".join((*lead, *(str(s) for s in i.shape.sizes))) + "]"

    def bound_by(self, dimension: str) -> tuple[Input, int] | None:
        """The first input that has a dimension as an axis, and which."""
        for i in self.model.inputs:
            for axis, size in enumerate(i.shape.sizes):
                if size.symbol == dimension:
                    return i, axis
        return None

    def bindings(self, text: str, lead: int) -> list[str]:
        """The lines that bind the open sizes that `text` mentions, `lead` axes coming before an input's own."""
        lines = []
        for d in self.model.dimensions:
            if d.value is None and mentions(text, self.sizes[d.name]):
                found = self.bound_by(d.name)
                assert found is not None
                i, axis = found
                first = 1 if i.is_param else lead
                lines.append(f"{self.sizes[d.name]} = {self.inputs[i.name]}.shape[{first + axis}]")
        return lines

    def casts(self, text: str) -> list[str]:
        """The lines that bring the inputs that `text` mentions to all value heads and to the computing type."""
        lines = []
        for i in self.model.inputs:
            name = self.inputs[i.name]
            if mentions(text, name):
                lines.append(f"{name} = {self.computed(i)}")
        return lines

    def computed(self, i: Input) -> str:
        """An input [B, T, H', *] or a param for all value heads, in the computing type."""
        name = self.inputs[i.name]
        return f"{name}.to(dtype)" if i.is_param else f"_per_value_head({name}, heads).to(dtype)"

    def prologue(self, text: str, lead: int) -> list[str]:
        """The lines that `text` needs first: leading sizes, the device, open sizes."""
        v = self.value
        lines = [f"batch, length, heads = {v}.shape[:3]" if lead == 3 else f"batch, heads = {v}.shape[:2]"]
        lines += [f"device = {v}.device"] if mentions(text, "device") else []
        return [*lines, *self.bindings(text, lead)]


def mentions(text: str, name: str) -> bool:
    """Whether a text of code uses a name."""
    return re.search(rf"(?<![\w.\"']){re.escape(name)}(?![\w\"'])", text) is not None


def _quoted(text: str) -> str:
    """A user's text inside a docstring: no quote or backslash that could end it."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
