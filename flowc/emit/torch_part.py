"""Parts of a pass that Triton kernels do not hold, as functions of torch operators.

In: a `TorchPart`, the op's `Interface`. Out: a function's text, how it is called, and the support functions it needs.
Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowc.chunk.values import Value
from flowc.emit.interface import Interface, mentions
from flowc.emit.names import Names
from flowc.emit.torch_printer import TorchPrinter
from flowc.schedule.plan import Kernel, Pass, Role
from flowc.schedule.tile_plan import TorchPart


@dataclass(frozen=True, slots=True)
class PartView:
    """A function: its text, its name, and the support functions that it calls."""

    text: str
    name: str
    helpers: tuple[str, ...]


def part_function(part: TorchPart, name: str, title: str, interface: Interface) -> PartView:
    """The function that makes a part: of inputs, the state, cotangents where it is adjoint, and what it fetches."""
    names = Names(interface.taken)
    arguments = {f"{role} {n}": code for n, code in interface.inputs.items() for role in ("input", "param")}
    results = interface.recurrence.results if part.adjoint else ()
    bars = {r.name: names.fresh(f"{r.name}_bar") for r in results}
    fetched = {n: names.fresh(n) for n in part.fetched}
    arguments |= {f"cotangent {n}": bar for n, bar in bars.items()} | {
        f"carry {c.name}": "start" for c in part.program.carries
    }
    arguments |= {f"kernel {n}": own for n, own in fetched.items()}
    wanted = tuple(v for _, v in part.made)
    intra = Kernel(Role.INTRA, part.program.nodes, wanted)
    passed = Pass(part.program, Kernel(Role.ONCE, (), ()), (intra,), frozenset())
    printer = TorchPrinter(passed, interface.sizes, arguments, names, (intra,), frozenset(wanted))
    printer.kernel(intra)
    body = [s.text for s in printer.statements]
    made = [_tensor(printer, v) for v in wanted]
    text = "\n".join((*body, *made, *printer.layout.lines))
    counts = {"chunks": "-(-length // tokens)", "programs": "batch * heads"}
    parameters = (*interface.inputs.values(), "start", *bars.values(), *fetched.values())
    lines = [
        f"def {name}({', '.join(f'{p}: Tensor' for p in parameters)}, tokens: int) -> tuple[Tensor, ...]:",
        f'    """{title}"""',
        *(f"    {line}" for line in interface.prologue(text, lead=3)),
        "    dtype = torch.float32",
        *["    narrow = dtype"] * mentions(text, "narrow"),
        *(f"    {line}" for line in interface.casts(text)),
        *(f"    {own} = {own}.to(dtype)" for own in (*bars.values(), *fetched.values())),
        *(f"    {name} = {count}" for name, count in counts.items() if mentions(text, name)),
        *(f"    {line}" for line in (*printer.layout.lines, *body)),
        f"    return ({', '.join(made)},)",
    ]
    return PartView("\n".join(lines), name, tuple(printer.helpers | printer.layout.helpers))


def call(part: TorchPart, view: PartView, memory: Mapping[str, str]) -> str:
    """The call of a part's function; `memory` names what it fetches."""
    bars = ["*cotangents"] if part.adjoint else []
    fetched = [memory[n] for n in part.fetched]
    return f"{view.name}({', '.join(('*inputs', 'start', *bars, *fetched, 'call.tokens'))})"


def _tensor(printer: TorchPrinter, value: Value) -> str:
    """A value as a tensor, even where it is a number."""
    code = printer.code[value]
    return f"torch.full((), {code.text}, dtype=dtype, device=start.device)" if code.number else code.text
