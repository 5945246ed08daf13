"""The op as its callers see it: arguments, sizes, shapes and their checks.

In: a `Recurrence`. Out: emitted names of inputs and sizes, and the code of the public functions. Refuses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from flowc.algebra.recurrence import Recurrence
from flowc.emit.dispatch import dispatched
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.semantics.model import Input, Interval, Kind, Shape
from flowc.semantics.size import Size

OPTIONS = (
    "chunk_size: int | None = None",
    "aggregation: str | None = None",
    "schedule: str | None = None",
    "backend: str | None = None",
    "check: bool = False",
)


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
        self.raw = {i.name: f"raw[{n}]" for n, i in enumerate(self.model.inputs)}
        self.value = self.inputs[recurrence.value_input]
        self.renamed = {name: own for name, own in self.inputs.items() if name != own}
        self.order = [*self.inputs, "initial_state"]

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return _quoted(self.model.doc.split("\n")[0]) or f"{self.model.name}: a recurrence"

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The spec's names of the differentiable arguments, in order."""
        return (*self.inputs, "initial_state")

    @property
    def state_sizes(self) -> str:
        """The state's sizes, to follow its leading ones."""
        return ", ".join(self.size(s) for s in self.model.states[0].shape.sizes)

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

    def prologue(self, text: str, lead: int) -> list[str]:
        """The lines that `text` needs first: leading sizes, symbolic sizes, and inputs cast to the computing type."""
        v = self.value
        lines = [f"raw = ({', '.join(self.inputs.values())},)"] if _mentions(text, "raw") else []
        lines.append(f"batch, length, heads = {v}.shape[:3]" if lead == 3 else f"batch, heads = {v}.shape[:2]")
        lines += [f"device = {v}.device"] if _mentions(text, "device") else []
        for d in self.model.dimensions:
            found = self.bound_by(d.name)
            if d.value is None and found is not None and _mentions(text, self.sizes[d.name]):
                i, axis = found
                lines.append(
                    f"{self.sizes[d.name]} = {self.inputs[i.name]}.shape[{axis + (1 if i.is_param else lead)}]"
                )
        for i in self.model.inputs if lead == 3 else ():
            name = self.inputs[i.name]
            if _mentions(text, name):
                source = name if i.is_param else f"_per_value_head({name}, heads)"
                lines.append(f"{name} = {source}.to(dtype)")
        return lines

    # -- public functions ---------------------------------------------------------------------------------------------

    def public(self, solves: bool, rows: str, missing: str | None) -> str:
        """The checks, the op, its step, its reference; `missing`: why it has no Triton kernels, or None."""
        parts = [self.outputs_type(), self.checked(), self.op(solves, rows, missing), self.step(), self.reference()]
        return "\n\n\n".join(p for p in parts if p)

    def outputs_type(self) -> str:
        """The named tuple of several outputs, and the names that Python cannot spell."""
        lines: list[str] = []
        if len(self.recurrence.results) > 1:
            names = Names()
            lines += ["class Outputs(NamedTuple):", '    """The outputs of one call, in the order of the spec."""', ""]
            lines += [f"    {names.fresh(r.name)}: Tensor" for r in self.recurrence.results]
        if self.renamed:
            lines += ["", "", *_BY_NAME.format(renamed=self.renamed).split("\n")]
        return "\n".join(lines).strip("\n")

    def checked(self) -> str:
        """The function that checks every argument."""
        value = next(i for i in self.model.inputs if i.name == self.recurrence.value_input)
        others = [i for i in self.model.inputs if i is not value]
        bound: set[str] = {d.name for d in self.model.dimensions if d.value is not None}
        lines = [
            f"def _checked({', '.join(f'{n}: Tensor' for n in self.inputs.values())}, initial_state: Tensor | None,"
            " timed: bool) -> tuple[Tensor, torch.dtype]:",
            '    """Check every argument; the state to start from, and the type to compute in."""',
            "    lead = 3 if timed else 2",
            *self.check(value, "(None,) * lead", "None", bound),
            f"    batch, heads, time = {self.value}.shape[0], {self.value}.shape[lead - 1], {self.value}.shape[1 : lead - 1]",
        ]
        for i in others:
            shared = not i.is_param and i.shape.kind is not Kind.SCALAR
            heads = f"_shared_heads({i.name!r}, {self.inputs[i.name]}, lead - 1, heads)" if shared else "heads"
            own = "(heads,)" if i.is_param else f"(batch, *time, {heads})"
            lines += self.check(i, own, self.value, bound)
        lines += self.late_checks()
        state = self.model.states[0]
        shape = f"[B, H, {', '.join(str(s) for s in state.shape.sizes)}]"
        wide = " or ".join(f"{n}.dtype == torch.float64" for n in self.inputs.values())
        lines += [
            f"    dtype = torch.float64 if {wide} else torch.float32",
            "    if initial_state is None:",
            f"        sizes = (batch, heads, {self.state_sizes})",
            f"        return torch.full(sizes, {_start(state.start)}, device={self.value}.device, dtype=dtype), dtype",
            f"    _tensor('initial_state' if timed else 'state', initial_state, {shape!r}, (batch, heads, {self.state_sizes}), {self.value})",
            "    return initial_state, dtype",
        ]
        return "\n".join(lines)

    def check(self, i: Input, lead: str, like: str, bound: set[str]) -> list[str]:
        """The check of one input, and the sizes that it binds."""
        name = self.inputs[i.name]
        sizes, binds = [], []
        offset = "1" if i.is_param else "lead"
        fresh: set[str] = set()
        for axis, size in enumerate(i.shape.sizes):
            if size.names <= bound:
                sizes.append(self.size(size))
                continue
            sizes.append("None")
            if size.symbol is not None and size.symbol not in fresh:
                at = offset if axis == 0 else f"{offset} + {axis}"
                binds.append(f"    {self.sizes[size.symbol]} = {name}.shape[{at}]")
                fresh.add(size.symbol)
        bound |= fresh
        whole = f"{lead} + ({', '.join(sizes)},)" if sizes else lead
        timed, untimed = self.shape_text(i, True), self.shape_text(i, False)
        text = repr(timed) if timed == untimed else f"{timed!r} if timed else {untimed!r}"
        return [f"    _tensor({i.name!r}, {name}, {text}, {whole}, {like})", *binds]

    def late_checks(self) -> list[str]:
        """Checks of sizes that are no single dimension, and of a dimension twice in one input, once all are bound."""
        lines = []
        seen: set[str] = {d.name for d in self.model.dimensions if d.value is not None}
        value = next(i for i in self.model.inputs if i.name == self.recurrence.value_input)
        for i in (value, *(i for i in self.model.inputs if i is not value)):
            before = set(seen)
            late = [
                s
                for n, s in enumerate(i.shape.sizes)
                if not s.names <= before and (s.symbol is None or s in i.shape.sizes[:n])
            ]
            seen |= {s.symbol for s in i.shape.sizes if s.symbol is not None}
            if late:
                name, shape = self.inputs[i.name], self.shape_text(i, True)
                sizes = ", ".join(self.size(s) for s in i.shape.sizes)
                lead = f"tuple({name}.shape[: {'1' if i.is_param else 'lead'}])"
                lines.append(f"    _tensor({i.name!r}, {name}, {shape!r}, {lead} + ({sizes},), None)")
        return lines

    def signature(self, extra: Iterable[str]) -> str:
        arguments = [f"{n}: Tensor" for n in self.inputs.values()]
        return ", ".join((*arguments, "*", *extra))

    def decorator(self) -> str:
        return "@_by_spec_name\n" if self.renamed else ""

    def op(self, solves: bool, rows: str, missing: str | None) -> str:
        """The public function."""
        passed = ", ".join(self.inputs.values())
        several = len(self.recurrence.results) > 1
        dims = [f"{self.sizes[d.name]} = {self.dimension(d.name)}" for d in self.model.dimensions if d.value is None]
        used = [line for line in dims if _mentions(rows, line.split(" ")[0])]
        lines = [
            f"{self.decorator()}def {self.function}({self.signature(('initial_state: Tensor | None = None', 'output_final_state: bool = False', *OPTIONS))}) -> Any:",
            *self.docstring(),
            f"    start, dtype = _checked({passed}, initial_state, True)",
            "    _option('aggregation', aggregation, ('auto', 'wy', 'tensorinv'))",
            "    _option('schedule', schedule, ('auto', 'split'))",
            "    _option('backend', backend, ('auto', 'torch', 'triton'))",
            *self.range_checks(),
        ]
        how = "_choose(_AGGREGATIONS, tokens * rows) if aggregation in (None, 'auto') else aggregation"
        chunked = [
            *used,
            "chunk_size = __options__['chunk_size'] if chunk_size is None else chunk_size",
            f"tokens = _tokens(chunk_size, {rows}, {self.value}.shape[1])",
        ]
        chunked += [f"rows = {rows}", f"how = {how}"] if solves else ["how = 'none'"]
        chunked += [
            f"tensors = ({passed}, start)",
            "keep = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)",
            "*outputs, final = _Chunked.apply(tokens, how, dtype, keep, *tensors)",
        ]
        lines += [
            *(f"    {line}" for line in dispatched(passed, chunked, missing)),
            "    result = Outputs(*outputs)" if several else "    (result,) = outputs",
            "    return (result, final) if output_final_state else result",
        ]
        return _TOKENS + "\n\n\n" + "\n".join(lines)

    def dimension(self, name: str) -> str:
        found = self.bound_by(name)
        assert found is not None
        i, axis = found
        return f"{self.inputs[i.name]}.shape[{axis + (1 if i.is_param else 3)}]"

    def range_checks(self) -> list[str]:
        declared = [i for i in self.model.inputs if i.range is not None]
        lines = ["    if check:"] if declared else []
        for i in declared:
            assert i.range is not None
            test, text = _range(self.inputs[i.name], i.range)
            lines.append(f"        _in_range({i.name!r}, {self.inputs[i.name]}, {test}, {text!r})")
        return lines

    def empty_outputs(self) -> str:
        """The function that makes the tensors for outputs."""
        shapes = [self.shape(r.shape, "batch, length, heads") for r in self.recurrence.results]
        made = ", ".join(f"{self.value}.new_empty({shape})" for shape in shapes)
        return "\n".join(
            [
                f"def _outputs({', '.join(f'{n}: Tensor' for n in self.inputs.values())}) -> list[Tensor]:",
                '    """Memory for the outputs of whole sequences, in the type of the value input."""',
                *(f"    {line}" for line in self.prologue(made, lead=3) if not _casts(line)),
                f"    return [{made}]",
            ]
        )

    def docstring(self) -> list[str]:
        state = self.model.states[0]
        sizes = ", ".join(str(s) for s in state.shape.sizes)
        lines = [f'    """{self.title}', "", "    Args:"]
        for i in self.model.inputs:
            kind = "param" if i.is_param else "input"
            declared = f", {_range('', i.range)[1]}" if i.range is not None else ""
            lines.append(f"        {self.inputs[i.name]}: {kind} {self.shape_text(i, True)}{declared}.")
        lines += [
            f"        initial_state: the state before the first token, [B, H, {sizes}]; None: {_start(state.start)}.",
            "        output_final_state: whether to return (outputs, final state).",
            "        chunk_size, aggregation, schedule, backend: options; None takes what the module was compiled with.",
            "        check: enforce the ranges that the spec declares.",
            "",
            "    Returns:",
        ]
        for r in self.recurrence.results:
            shape = ", ".join(("B", "T", "H", *(str(s) for s in r.shape.sizes)))
            lines.append(f"        {r.name} [{shape}] in the dtype of {self.value}.")
        lines += [
            "",
            "    Raises:",
            "        TypeError: an argument that is no floating tensor.",
            "        ValueError: a shape, device, option or (check) value that does not fit.",
            '    """',
        ]
        return lines

    def step(self) -> str:
        """The one-token form."""
        names = ", ".join(self.inputs.values())
        own = [
            f"{n}.to(dtype)" if i.is_param else f"_per_value_head({n}[:, None], heads)[:, 0].to(dtype)"
            for i, n in zip(self.model.inputs, self.inputs.values(), strict=True)
        ]
        result = (
            "Outputs(*(o.to({v}.dtype) for o in outputs))"
            if len(self.recurrence.results) > 1
            else "outputs[0].to({v}.dtype)"
        )
        return "\n".join(
            [
                f"{self.decorator()}def step({self.signature(('state: Tensor | None = None',))}) -> Any:",
                '    """One token, for generation: inputs [B, H, *], state [B, H, *] or None; returns (outputs, new state)."""',
                f"    start, dtype = _checked({names}, state, False)",
                f"    heads = {self.value}.shape[1]",
                f"    outputs, (final,) = _advance({', '.join(own)}, start.to(dtype), dtype)",
                f"    return {result.format(v=self.value)}, final",
            ]
        )

    def reference(self) -> str:
        """The step-by-step form of the whole op."""
        names = ", ".join(self.inputs.values())
        v = self.value
        casts = [
            f"    {n} = {n}.to(dtype)" if i.is_param else f"    {n} = _per_value_head({n}, heads).to(dtype)"
            for i, n in zip(self.model.inputs, self.inputs.values(), strict=True)
        ]
        now = [n if i.is_param else f"{n}[:, t]" for i, n in zip(self.model.inputs, self.inputs.values(), strict=True)]
        empty = ", ".join(f"start.new_zeros({self.shape(r.shape, 'batch, 0, heads')})" for r in self.recurrence.results)
        several = len(self.recurrence.results) > 1
        extra = ("initial_state: Tensor | None = None", "output_final_state: bool = False")
        dims = [
            f"    {self.sizes[d.name]} = {self.dimension(d.name)}"
            for d in self.model.dimensions
            if d.value is None and _mentions(empty, self.sizes[d.name])
        ]
        return "\n".join(
            [
                f"{self.decorator()}def reference({self.signature(extra)}) -> Any:",
                '    """The op step by step, as the spec has it; slow, differentiable by autograd."""',
                f"    start, dtype = _checked({names}, initial_state, True)",
                f"    batch, length, heads = {v}.shape[:3]",
                f"    out_dtype = {v}.dtype",
                *dims,
                *casts,
                "    state, steps = start.to(dtype), []",
                "    for t in range(length):",
                f"        outputs, (state,) = _advance({', '.join(now)}, state, dtype)",
                "        steps.append(outputs)",
                f"    columns = [torch.stack(c, 1) for c in zip(*steps)] if steps else [{empty}]",
                "    results = [c.to(out_dtype) for c in columns]",
                "    result = Outputs(*results)" if several else "    (result,) = results",
                "    return (result, state) if output_final_state else result",
            ]
        )


_TOKENS = '''def _tokens(chunk_size: int | None, rows: int, length: int) -> int:
    """The tokens of a chunk: as asked, else by the table; never more than the sequence needs."""
    if chunk_size is None:
        chunk_size = min(_choose(_CHUNK_SIZES, rows), max(256 // max(rows, 1), 1))
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(f"{_NAME}: chunk_size is {chunk_size!r}; expected an integer from 1")
    if chunk_size * rows > 256:
        raise ValueError(
            f"{_NAME}: chunk_size = {chunk_size} with R = {rows} rows per token makes {chunk_size * rows} rows a chunk,"
            f" at most 256; the largest legal chunk_size is {256 // rows}"
        )
    return min(chunk_size, 1 << (max(length, 1) - 1).bit_length())'''

_BY_NAME = '''_SPELLED = {renamed!r}  # names of the spec that Python code here cannot use


def _by_spec_name(function: Any) -> Any:
    """Accept arguments by the names that the spec gives them."""

    @wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{{_SPELLED.get(name, name): value for name, value in kwargs.items()}})

    return renamed'''


def _casts(line: str) -> bool:
    return line.endswith(".to(dtype)")


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.\"']){re.escape(name)}(?![\w\"'])", text) is not None


def _quoted(text: str) -> str:
    """A user's text inside a docstring: no quote or backslash that could end it."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _start(value: float) -> str:
    return {float("inf"): "math.inf", float("-inf"): "-math.inf"}.get(value, repr(value))


def _range(name: str, bounds: Interval) -> tuple[str, str]:
    """A range as a test of a tensor, and as the spec writes it."""
    tests = []
    if bounds.low is not None:
        tests.append(f"({name} {'>' if bounds.low_open else '>='} {float(bounds.low)!r})")
    if bounds.high is not None:
        tests.append(f"({name} {'<' if bounds.high_open else '<='} {float(bounds.high)!r})")
    low = "(-inf" if bounds.low is None else f"{'(' if bounds.low_open else '['}{float(bounds.low):g}"
    high = "inf)" if bounds.high is None else f"{float(bounds.high):g}{')' if bounds.high_open else ']'}"
    return " & ".join(tests) or "True", f"in {low}, {high}"
