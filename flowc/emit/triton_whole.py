"""What runs between the kernels of several states, as functions of torch operators, and the passes that call both.

In: the `Whole` of a plan, its stages' sections, the op's `Interface`. Out: functions as text, and the lines of the two
passes. Stages run in order, each on what a function makes of inputs, scans and earlier reads; the backward pass
makes the same again, and runs them from the last, each on the cotangents of its reads. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowc.chunk import ir
from flowc.chunk.differentiate import cotangent
from flowc.chunk.ir import Argument, Node
from flowc.chunk.program import Program
from flowc.chunk.values import Value
from flowc.emit.interface import Interface, mentions
from flowc.emit.names import Names
from flowc.emit.torch_printer import TorchPrinter
from flowc.emit.triton_stage import TAKEN, StageSection
from flowc.schedule.plan import Kernel, Pass, Role
from flowc.schedule.staged import Whole, is_scan, needed


@dataclass(frozen=True, slots=True)
class Passes:
    """The lines of both passes, of the memory for what they keep, and the functions that they call."""

    forward: tuple[str, ...]
    backward: tuple[str, ...]
    saved: tuple[str, ...]
    functions: tuple[str, ...]
    helpers: tuple[str, ...]


def passes(whole: Whole, sections: Sequence[StageSection], interface: Interface) -> Passes:
    """The two passes of an op of several states."""
    return _Whole(whole, sections, interface).passes()


class _Whole:
    def __init__(self, whole: Whole, sections: Sequence[StageSection], interface: Interface) -> None:
        self.whole, self.sections, self.op = whole, sections, interface
        self.interface = Interface(whole.stages.whole)
        self.names = Names(frozenset((*self.interface.taken, *TAKEN, "calls", "part", "bars", "ends", "begins")))
        self.states = [s.name for s in interface.states]
        self.starts = {n: self.names.fresh(f"{n}_start") for n in self.states}
        self.ends = {n: self.names.fresh(f"{n}_end") for n in self.states}
        self.inputs = {i.name: self.interface.inputs[i.name] for i in self.interface.model.inputs}
        self.outputs = [r.name for r in interface.recurrence.results]
        self.bars = {n: self.names.fresh(f"{n}_bar") for n in self.outputs}
        self.made: dict[str, str] = {}  # what the whole makes for stages, by their names for it
        for section in sections:
            for name, label in section.given:
                own = section.model_input(name)
                if not own.is_param:
                    self.bars[label] = self.names.fresh(f"{name}_bar")
                if name in section.made_names and name not in self.made:
                    self.made[name] = self.names.fresh(name)
        given = [pair for s in sections for pair in s.given]
        self.param_bars = {label: self.names.fresh(f"{n}_bar") for n, label in given if label not in self.bars}
        self.kept = {n: self.names.fresh(f"{n}_memory") for s in sections for n in s.reads if n in whole.kept}
        self.functions: dict[str, str] = {}
        self.there: set[str] = set()  # what the pass has made: scans by state, what stages take by its name here
        scans = (n.value.name for n in whole.forward.nodes if is_scan(n.op))
        self.scanned = {n: self.names.fresh(f"{n}_all") for n in scans}  # values of all tokens, by state
        self.helpers: dict[str, None] = {}

    def passes(self) -> Passes:
        forward, backward = self.forward(), self.backward()
        saved = tuple(line for at, s in enumerate(self.sections) for line in self.saved(at, s))
        return Passes(tuple(forward), tuple(backward), saved, tuple(self.functions.values()), tuple(self.helpers))

    # -- passes -------------------------------------------------------------------------------------------------------

    def forward(self) -> list[str]:
        self.there = set()
        lines = [f"{', '.join(self.starts.values())}, = starts", "saved = []"]
        at = 0
        for number, section in enumerate(self.sections):
            state, made = section.state.state.name, len(section.cuts.saved)
            outputs = "".join(f"{self.inputs[n]}, " for n in section.reads).strip()
            lines += self.arguments(section)
            lines += [
                f"part = None if places is None else places[{at} : {at + made}]",
                *self.made_reads(number, section, at + made),
                f"finals[{self.states.index(state)}], made = _forward_kernels{section.suffix}("
                f"calls[{number}], ({self.given(number, section)}), {self.starts[state]}, ({outputs}), part)",
                f"saved += [{', '.join(('*made', *(self.kept[n] for n in section.reads if n in self.kept)))}]",
            ]
            at += self.count(section)
        results = dict(self.whole.forward.results)
        finals = {c.name: c.after for c in self.whole.forward.carries}
        wanted = [*((results[n], "timed") for n in self.outputs), *((v, "state") for v in finals.values())]
        lines += self.scans(self.whole.forward, [v for v, _ in wanted])
        call = self.function("_between", "The outputs, and the last of scanned states.", self.whole.forward, wanted)
        lines += [f"made = {call}", "for out, x in zip(outputs, made):", "    out.copy_(x)"]
        for place, name in enumerate(finals):
            lines.append(f"finals[{self.states.index(name)}] = made[{len(self.outputs) + place}]")
        return lines

    def backward(self) -> list[str]:
        program, self.there = self.whole.adjoint, set()
        results = dict(program.results)
        outer = [self.bars[n] for n in self.outputs]
        lines = [f"{', '.join(self.starts.values())}, = starts", f"{', '.join(self.ends.values())}, = finals"]
        lines.append(f"{', '.join(outer)}, = cotangents")
        at, starts = 0, dict[str, int]()
        for number, section in enumerate(self.sections):
            lines += self.arguments(section)
            for place, name in enumerate((n for n in section.reads if n in self.kept), at + len(section.cuts.saved)):
                lines.append(f"{self.inputs[name]} = {self.viewed(number, name, f'saved[{place}]')}")
            starts[section.suffix] = at
            at += self.count(section)
        for number, section in reversed(list(enumerate(self.sections))):
            wanted = [(results[n], "timed") for n in section.reads]
            title = f"The cotangents of what is read of {section.state.state.name}."
            lines += self.scans(program, [v for v, _ in wanted])
            call = self.function(f"_read_bars{section.suffix}", title, program, wanted) if wanted else "()"
            state = section.state.state.name
            first = starts[section.suffix]
            lines += [
                f"bars = {call}",
                f"part = saved[{first} : {first + len(section.cuts.saved)}]",
                f"grads, begins[{self.states.index(state)}] = _backward_kernels{section.suffix}(calls[{number}],"
                f" ({self.given(number, section)}), {self.starts[state]}, part, bars, {self.ends[state]})",
            ]
            targets = [self.bars.get(label) or self.param_bars[label] for _, label in section.given]
            lines += [f"{', '.join(targets)}, = grads"] if targets else []
        return lines + self.gradients(program, results)

    def gradients(self, program: Program, results: Mapping[str, Value]) -> list[str]:
        """The gradients of the op's inputs, those of a param added up, and of the starts of scans."""
        own = [i for i in self.op.model.inputs if i.name in results]
        wanted = [(results[i.name], "param" if i.is_param else "timed") for i in own]
        wanted += [(c.after, "state") for c in program.carries]
        lines = []
        if wanted:
            lines += self.scans(program, [v for v, _ in wanted])
            call = self.function("_gradients_between", "The gradients of inputs and scans.", program, wanted)
            lines.append(f"made = {call}")
        for place, c in enumerate(program.carries):
            lines.append(f"begins[{self.states.index(c.name)}] = made[{len(own) + place}]")
        shown = []
        for i in self.op.model.inputs:
            name = self.op.inputs[i.name]
            at = next((at for at, o in enumerate(own) if o.name == i.name), None)
            parts = [] if at is None else [f"made[{at}]"]
            if i.is_param:
                labels = (dict(s.given).get(i.name) for s in self.sections)
                parts += [self.param_bars[label] for label in labels if label is not None]
            total = " + ".join(parts)
            if not parts:
                shown.append(f"torch.zeros_like({name})")
            elif i.is_param or i.name == self.op.recurrence.value_input:
                shown.append(f"({total}).to({name}.dtype)")
            else:
                shown.append(f"_shared({total}, {name})")
        return [*lines, f"grads = [{', '.join(shown)}]"]

    # -- parts --------------------------------------------------------------------------------------------------------

    def given(self, number: int, section: StageSection) -> str:
        """The inputs of a stage: the op's, then what is made, product operands in the type of products."""
        factors = set(section.dots())
        made = [f"{self.made[n]}.to(calls[{number}].dot)" if n in factors else self.made[n] for n in section.made_names]
        return ", ".join(("*inputs", *made)) + ","

    def arguments(self, section: StageSection) -> list[str]:
        """The lines that make what a stage takes and no earlier one did."""
        own = dict(section.given)
        made = [n for n in section.made_names if self.made[n] not in self.there]
        if not made:
            return []
        results = dict(self.whole.forward.results)
        wanted = [results[own[n]] for n in made]
        title = f"What the kernels for {section.state.state.name} take beside inputs."
        lines = self.scans(self.whole.forward, wanted)
        call = self.function(f"_given{section.suffix}", title, self.whole.forward, [(v, "timed") for v in wanted])
        self.there.update(self.made[n] for n in made)
        return [*lines, f"{', '.join(self.made[n] for n in made)}, = {call}"]

    def made_reads(self, number: int, section: StageSection, place: int) -> list[str]:
        """Memory for what is read, that of the caller where the backward pass reads it again."""
        lines = []
        for name in section.reads:
            memory = self.read_memory(number, name)
            if name in self.kept:
                lines.append(f"{self.kept[name]} = {memory} if places is None else places[{place}]")
                memory, place = self.kept[name], place + 1
            lines.append(f"{self.inputs[name]} = {self.viewed(number, name, memory)}")
        return lines

    def viewed(self, number: int, name: str, memory: str) -> str:
        """Memory as a read per token."""
        return f"calls[{number}].per_token({', '.join((memory, *self.sizes(name)))})"

    def saved(self, number: int, section: StageSection) -> list[str]:
        """Memory for what a stage keeps, and of its reads."""
        reads = (self.read_memory(number, n) for n in section.reads if n in self.kept)
        return [f"*_saved_memory{section.suffix}(calls[{number}], inputs)", *reads]

    def read_memory(self, number: int, name: str) -> str:
        """Memory for a read, of which chunks hold every token."""
        own = f"calls[{number}]"
        return f"{own}.memory({', '.join((f'{own}.tokens', *self.sizes(name)))}, wide=True)"

    def count(self, section: StageSection) -> int:
        """How many tensors are kept of a stage."""
        return len(section.cuts.saved) + sum(n in self.kept for n in section.reads)

    def sizes(self, read: str) -> list[str]:
        """The sizes of what is read, per token."""
        declared = next(i for i in self.interface.model.inputs if i.name == read)
        return [self.sections[0].size(s).text for s in declared.shape.sizes]

    def scans(self, program: Program, wanted: Sequence[Value]) -> list[str]:
        """The lines that scan what values need and is not there yet, each once in a pass."""
        lines = []
        wanting = {v.name for v in needed(program, wanted) if is_scan(program.defined[v])}
        forward = self.whole.forward
        for node in (n for n in forward.nodes if is_scan(n.op) and n.value.name in wanting - self.there):
            name, number = node.value.name, list(self.scanned).index(node.value.name)
            lines += self.scans(forward, ir.operands(node.op))
            self.there.add(name)
            call = self.function(f"_scan_{number}", f"{name} of every token.", forward, [(node.value, "timed")])
            lines.append(f"{self.scanned[name]}, = {call}")
        return lines

    def function(self, name: str, title: str, program: Program, wanted: Sequence[tuple[Value, str]]) -> str:
        """A function of what is mentioned in it, defined once; its call. What `scans` made is there."""
        values = tuple(v for v, _ in wanted)
        nodes = needed(program, values, frozenset(self.there))
        arguments = self.argument_names(program)
        names = Names(frozenset((*self.interface.taken, *arguments.values())))
        found = (Node(v, program.defined[v]) for v in nodes)
        scanned = {n.value for n in found if is_scan(n.op) and n.value.name in self.there and n.value not in values}
        part = Program(
            tuple(Node(v, Argument(v.name, "scan") if v in scanned else program.defined[v]) for v in nodes),
            (),
            program.carries,
        )
        intra = Kernel(Role.INTRA, part.nodes, values)
        passed = Pass(part, Kernel(Role.ONCE, (), ()), (intra,), frozenset())
        printer = TorchPrinter(passed, self.interface.sizes, arguments, names, (intra,), frozenset(values))
        printer.scan = "_scanned"
        printer.kernel(intra)
        made = [self.tensor(printer, v, kind) for v, kind in wanted]
        body = [s.text for s in printer.statements]
        text = "\n".join((*body, *made))
        opening = self.interface.prologue(text, lead=3)
        mine = [n for n in self.inputs.values() if mentions("\n".join((text, *opening)), n)]
        others = (*self.starts.values(), *self.ends.values(), *self.bars.values(), *self.scanned.values())
        mine += [n for n in dict.fromkeys(others) if mentions(text, n)]
        if name not in self.functions:
            self.functions[name] = "\n".join(
                (
                    f"def {name}({', '.join(f'{p}: Tensor' for p in mine)}, tokens: int) -> tuple[Tensor, ...]:",
                    f'    """{title}"""',
                    *(f"    {line}" for line in opening),
                    "    dtype = torch.float32",
                    *(f"    {line}" for line in self.interface.casts(text)),
                    *(f"    {n} = {n}.to(dtype)" for n in mine if n in others),
                    *(f"    {line}" for line in body),
                    f"    return ({', '.join(made)},)",
                )
            )
            self.helpers |= printer.helpers | printer.layout.helpers
        return f"{name}({', '.join((*mine, 'tokens'))})"

    def argument_names(self, program: Program) -> dict[str, str]:
        """What a program's arguments are called."""
        found = {f"{role} {n}": own for n, own in self.inputs.items() for role in ("input", "param")}
        found |= {f"carry {n}": own for n, own in self.starts.items()}
        found |= {f"carry {cotangent(n)}": own for n, own in self.ends.items()}
        found |= {f"cotangent {n}": own for n, own in self.bars.items()} if program.adjoint else {}
        found |= {f"scan {n}": own for n, own in self.scanned.items()}
        return found | {"like": self.interface.value}

    def tensor(self, printer: TorchPrinter, value: Value, kind: str) -> str:
        """A value as a tensor of its own shape, even where it is a number or the same for every token."""
        sizes = printer.shape(value)
        lead = {"timed": "batch, length, heads", "param": "heads", "state": "batch, heads"}[kind]
        shape = ", ".join((lead, sizes) if sizes else (lead,))
        code = printer.code[value]
        if code.number:
            return f"torch.full(({shape},), {code.text}, dtype=dtype, device={self.interface.value}.device)"
        return f"{code.at(6)}.expand({shape}).contiguous()"
