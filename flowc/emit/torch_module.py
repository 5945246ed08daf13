"""Plan -> Artifact: the emitted module.

In: a `Plan`. Out: an `Artifact`, the same bytes on every run. The module imports torch and triton only; what the user
wrote reaches it through the typed printers, quoted text through `repr`-safe comments. Refuses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowc import __version__
from flowc.emit.artifact import Artifact
from flowc.emit.banner import banner
from flowc.emit.format import formatted
from flowc.emit.interface import Interface
from flowc.emit.names import Names
from flowc.emit.origins import commented
from flowc.emit.pieces import piece, support
from flowc.emit.public import empty_outputs, public
from flowc.emit.step_printer import StepPrinter
from flowc.emit.torch_printer import Statement, TorchPrinter
from flowc.emit.triton_section import kernels as triton_kernels
from flowc.resources import templates
from flowc.schedule.plan import Plan, Threshold
from flowc.schedule.schedule import saved_name, system_rows


@dataclass(frozen=True, slots=True)
class ModuleView:
    """What the template gets: printed strings."""

    title: str
    banner: str
    imports: str
    version: str
    hash: str
    options: str
    tables: str
    support: str
    advance: str
    forward: str
    backward: str
    checks: str
    public: str
    segment: str
    value: str
    kernels: str


def emit(plan: Plan) -> Artifact:
    """The module of a plan."""
    writer = _Writer(plan)
    view = writer.view()
    environment = Environment(
        loader=FileSystemLoader(templates()), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    text = environment.get_template("torch_module.py.j2").render(module=view)
    return Artifact(plan.recurrence.model.name, formatted(text), view.hash, writer.interface.function)


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.model = plan.recurrence.model
        self.interface = Interface(plan.recurrence)
        self.helpers: dict[str, None] = {}

    def view(self) -> ModuleView:
        advance, forward, backward = self.advance(), self.forward(), self.backward()
        kernels = triton_kernels(self.plan, self.interface)
        callables = public(self.interface, system_rows(self.plan.forward.program), kernels.missing)
        checks = piece("checks")
        digest = hashlib.sha256(self.model.canonical.encode()).hexdigest()
        forward = f"{forward}\n\n\n{empty_outputs(self.interface)}"
        code = "\n".join((advance, forward, backward, callables, checks))
        supported = support(("uncast", "group_heads", "put", *self.helpers, *kernels.helpers))
        return ModuleView(
            title=self.interface.title,
            banner=banner(self.plan, digest),
            imports=_imports(code + supported),
            version=__version__,
            hash=digest,
            options=repr(self.plan.options.record()),
            tables=self.tables(),
            support=supported,
            advance=advance,
            forward=forward,
            backward=backward,
            checks=checks,
            public=callables,
            segment=str(self.plan.segment),
            value=f"inputs[{[i.name for i in self.model.inputs].index(self.plan.recurrence.value_input)}]",
            kernels=kernels.text,
        )

    def tables(self) -> str:
        lines = [
            f"_NAME = {self.model.name!r}",
            f"_VALUE = {self.plan.recurrence.value_input!r}",
            f"_TENSORS = {self.interface.tensor_names!r}",
            f"_OUTPUTS = {len(self.plan.recurrence.results)}",
            f"_TIMED = {tuple(not i.is_param for i in self.model.inputs)!r}",
            f"_CHUNK_SIZES = {_table(self.plan.chunk_sizes)}  # (rows per token up to, tokens)",
        ]
        aggregations = self.plan.aggregations or (Threshold(None, "none"),)
        lines.append(f"_AGGREGATIONS = {_table(aggregations)}  # (rows per chunk up to, how)")
        return "\n".join(lines)

    # -- functions ----------------------------------------------------------------------------------------------------

    def advance(self) -> str:
        interface = self.interface
        names = Names(interface.taken)
        printer = StepPrinter(self.model, interface.sizes, interface.inputs, names)
        printer.run()
        self.helpers |= printer.helpers
        states = [printer.states[s.name] for s in self.model.states]
        body = "\n".join(printer.lines)
        expanded = [
            f"{printer.outputs[r.name]}.expand({interface.shape(r.shape, 'batch, heads')})"
            for r in self.plan.recurrence.results
        ]
        prologue = interface.prologue("\n".join((body, *expanded)), lead=2)
        lines = [
            f"def _advance({_typed((*interface.inputs.values(), *states))}, dtype: torch.dtype)"
            " -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:",
            '    """One token: outputs and new states, from inputs [B, H, *] and states [B, H, *] of type `dtype`."""',
            *_indented((*prologue, *printer.lines)),
            f"    return ({', '.join(expanded)},), ({', '.join(states)},)",
        ]
        return "\n".join(lines)

    def forward(self) -> str:
        plan, interface = self.plan, self.interface
        names = Names(interface.taken)
        state = names.fresh(self.model.states[0].name)
        arguments = {f"{role} {n}": code for n, code in interface.inputs.items() for role in ("input", "param")}
        kept = frozenset(f for f, _ in plan.saved)
        printer = TorchPrinter(plan.forward, interface.sizes, arguments | {"carry": "start"}, names, kept)
        printer.run()
        self.take(printer)
        results = [self.result(printer, r.name, at) for at, r in enumerate(plan.recurrence.results)]
        saved = ", ".join(f"{printer.code[f].text}" for f, _ in plan.saved)
        final = f"{printer.carry}[-1].reshape(batch, heads, {interface.state_sizes})"
        body = [s.text for s in commented(printer.statements, plan.recurrence)]
        ending = "\n".join((*results, final))
        lines = [
            f"def _forward({_typed((*interface.inputs.values(), state))}, tokens: int, aggregation: str,"
            " dtype: torch.dtype, keep: bool, outs: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:",
            '    """Write outputs to `outs`; the final state, and with `keep`, what the backward pass uses again."""',
            *_indented(
                self.opening(
                    printer, (*body, ending), f"start = {state}.reshape(programs, {interface.state_sizes}).to(dtype)"
                )
            ),
            *_indented(body),
            *_indented(results),
            f"    return {final}, ({saved}{',' if saved else ''}) if keep else ()",
        ]
        return "\n".join(lines)

    def result(self, printer: TorchPrinter, name: str, at: int) -> str:
        """The statement that writes an output of a segment, [B, T, H, *], in the type of the value input."""
        value = dict(self.plan.forward.program.results)[name]
        code = printer.code[value]
        if value in printer.rows_of:
            return f"_put_rows(outs[{at}], {printer.rows_of[value]}, heads, tokens)"
        return f"outs[{at}].fill_({code.text})" if code.number else f"outs[{at}].copy_({code.text})"

    def opening(self, printer: TorchPrinter, body: Iterable[str], start: str) -> list[str]:
        """Sizes, casts and the step's layout."""
        interface = self.interface
        text = "\n".join((*body, *printer.layout.lines, start))
        return [
            *interface.prologue(text, lead=3),
            *interface.casts(text),
            "chunks, programs = -(-length // tokens), batch * heads",
            start,
            *printer.layout.lines,
        ]

    def take(self, printer: TorchPrinter) -> None:
        """Note the support functions a printer used."""
        self.helpers |= printer.helpers | printer.layout.helpers

    def backward(self) -> str:
        plan, interface = self.plan, self.interface
        names = Names(interface.taken)
        state = names.fresh(self.model.states[0].name)
        arguments = {f"{role} {n}": code for n, code in interface.inputs.items() for role in ("input", "param")}
        saved = {b: names.fresh(b.name or "t") for _, b in plan.saved}
        arguments |= {f"saved {saved_name(b)}": name for b, name in saved.items()}
        bars = {r.name: names.fresh(f"{r.name}_bar") for r in plan.recurrence.results}
        arguments |= {f"cotangent {n}": bar for n, bar in bars.items()} | {"carry": "end"}
        printer = TorchPrinter(plan.backward, interface.sizes, arguments, names)
        printer.run()
        self.take(printer)
        body = _guarded(commented(printer.statements, plan.recurrence), interface.tensor_names)
        final = names.fresh("state_bar")
        cotangents, gradients = self.cotangents(bars, final), self.gradients(printer)
        text = (*body, *cotangents, *gradients)
        zero = f"end = torch.zeros(programs, {interface.state_sizes}, device=device, dtype=dtype)"
        lines = [
            f"def _backward({_typed((*interface.inputs.values(), state))}, saved: tuple[Tensor, ...],"
            " cotangents: tuple[Tensor | None, ...], tokens: int, aggregation: str, dtype: torch.dtype,"
            " need: frozenset[str], grads: list[Tensor | None]) -> Tensor:",
            '    """Write the gradients named in `need` to `grads`, adding up those of params; '
            'the gradient of the state."""',
            *_indented(self.opening(printer, text, zero)),
            *_indented(cotangents),
            *([f"    {', '.join(saved.values())}, = saved"] if saved else []),
            *_indented(body),
            *_indented(gradients),
        ]
        return "\n".join(lines)

    def cotangents(self, bars: dict[str, str], final: str) -> list[str]:
        """Missing cotangents are zero."""
        lines = [f"{', '.join((*bars.values(), final))} = cotangents"]
        for r in self.plan.recurrence.results:
            shape = self.interface.shape(r.shape, "batch, length, heads")
            bar = bars[r.name]
            lines.append(f"{bar} = end.new_zeros({shape}) if {bar} is None else {bar}.to(dtype)")
        lines.append(
            f"end = end if {final} is None else {final}.reshape(programs, {self.interface.state_sizes}).to(dtype)"
        )
        return lines

    def gradients(self, printer: TorchPrinter) -> list[str]:
        """The statements that write the gradients of a segment, and the state's."""
        values = dict(self.plan.backward.program.results)
        lines = []
        for at, i in enumerate(self.model.inputs):
            out = f"grads[{at}]"
            lines.append(f"if {i.name!r} in need:")
            if i.name not in values:
                lines.append(f"    {out}.zero_()")
            elif values[i.name] in printer.rows_of:
                lines.append(f"    _put_rows({out}, {printer.rows_of[values[i.name]]}, heads, tokens)")
            else:
                code = printer.code[values[i.name]].text
                lines.append(f"    {out}.add_({code})" if i.is_param else f"    _put({out}, {code})")
        return [*lines, f"return {printer.carry}[0].reshape(batch, heads, {self.interface.state_sizes})"]


def _guarded(statements: list[Statement], order: Iterable[str]) -> list[str]:
    """Statements, neighbours needed by the same gradients under one `if`."""
    lines: list[str] = []
    current: frozenset[str] | None = None
    for s in statements:
        if s.needed_by != current and s.needed_by is not None:
            names = ", ".join(repr(n) for n in order if n in s.needed_by)
            lines.append(f"if need & {{{names}}}:")
        current = s.needed_by
        lines.append(s.text if current is None else "    " + s.text)
    return lines


def _typed(names: Iterable[str]) -> str:
    return ", ".join(f"{name}: Tensor" for name in names)


def _indented(lines: Iterable[str]) -> list[str]:
    return ["    " + line for line in lines]


def _table(thresholds: tuple[Threshold, ...]) -> str:
    return "(" + "".join(f"({t.limit!r}, {t.choice!r}), " for t in thresholds).strip() + ")"


def _imports(code: str) -> str:
    used = [n for n in ("cached_property", "lru_cache") if n in code] + ["reduce", "wraps"]
    lines = ["import inspect", *(["import math"] if "math." in code else []), "import operator"]
    lines += ["from collections.abc import Sequence", "from contextlib import nullcontext"]
    lines += [f"from functools import {', '.join(used)}"] if used else []
    lines += ["from itertools import pairwise"]
    lines += ["from typing import Any, NamedTuple"]
    lines += ["", "import torch"]
    lines += ["import torch.nn.functional as F"] if "F." in code else []
    lines += ["from torch import Tensor"]
    mode = "is_in_torch_dispatch_mode"
    lines += [f"from torch.utils._python_dispatch import {mode}"] if mode in code else []
    lines += ["from torch.utils.weak import WeakTensorKeyDictionary"]
    return "\n".join(lines)
