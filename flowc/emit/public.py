"""What a user of an emitted module calls: the op, its step and its reference, with what they need of their own.

In: an `Interface`, the rows per token of the system that is solved, and why there are no Triton kernels. Out: code.
Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowc.chunk.ir import Inverse, Op
from flowc.chunk.values import CHUNK_LENGTH, Value
from flowc.emit.checks import checked, range_checks, range_text
from flowc.emit.dispatch import dispatched
from flowc.emit.interface import Interface, mentions
from flowc.emit.names import field_names
from flowc.emit.pieces import piece
from flowc.emit.sizes import size_code
from flowc.options import choices
from flowc.semantics.size import ONE, Size

SEQUENCE = (
    "initial_state: Any = None",
    "output_final_state: bool = False",
    "cu_seqlens: Tensor | None = None",
)
OPTIONS = (
    "chunk_size: int | None = None",
    "aggregation: str | None = None",
    "schedule: str | None = None",
    "backend: str | None = None",
    "save: str | None = None",
    "check: bool = False",
)


def public(
    interface: Interface, solved: Size | None, missing: str | None, keys: str, steps: bool, products: tuple[str, ...]
) -> str:
    """The checks, the op, its step and its reference.

    `solved` is the rows per token of the system, None where there is none; `missing` says why there are no Triton
    kernels, None where there are some; `keys` is how many entries of a state they hold whole; `steps`: a kernel makes
    one token; `products` are the inputs that products are made of.
    """
    parts = [
        *([_outputs_type(interface)] if interface.several else []),
        *([_states_type(interface)] if len(interface.states) > 1 else []),
        _spelled(interface),
        piece("named"),
        piece("packed"),
        piece("pools"),
        checked(interface),
        piece("tokens"),
        _choice(interface, solved, missing, keys, products),
        piece("operators"),
        _op(interface),
        _step(interface, keys if steps else ""),
        _reference(interface),
    ]
    return "\n\n\n".join(parts)


def empty_outputs(interface: Interface) -> str:
    """The function that makes the tensors for outputs."""
    shapes = [interface.shape(r.shape, "batch, length, heads") for r in interface.recurrence.results]
    made = ", ".join(f"{interface.value}.new_empty({shape})" for shape in shapes)
    lines = [
        f"def _outputs({interface.typed}) -> list[Tensor]:",
        '    """Memory for the outputs of whole sequences, in the type of the value input."""',
        *(f"    {line}" for line in interface.prologue(made, lead=3)),
        f"    return [{made}]",
    ]
    return "\n".join(lines)


def kept_sizes(interface: Interface, kept: Sequence[tuple[Value, Op]]) -> str:
    """The function that says how large is what the forward pass keeps, and of which type: inverses are float64."""
    assert not any(value.sums for value, _ in kept)  # those are made again
    names = interface.sizes | dict.fromkeys(CHUNK_LENGTH.names, "tokens")
    shapes = [", ".join(size_code(axis.size, names).text for axis in value.axes) for value, _ in kept]
    kinds = ["torch.float64" if isinstance(op, Inverse) else "dtype" for _, op in kept]
    sizes = f"[{', '.join(f'({kind}, [{shape}])' for kind, shape in zip(kinds, shapes, strict=True))}]"
    lines = [
        f"def _kept({interface.typed}, tokens: int, dtype: torch.dtype) -> list[tuple[torch.dtype, list[int]]]:",
        '    """The types and sizes of what is kept for the backward pass, for one chunk and head."""',
        *(f"    {line}" for line in interface.bindings(sizes, lead=3)),
        f"    return {sizes}",
    ]
    return "\n".join(lines)


def _outputs_type(interface: Interface) -> str:
    """The named tuple of several outputs."""
    fields = field_names([r.name for r in interface.recurrence.results])
    lines = ["class Outputs(NamedTuple):", '    """The outputs of one call, in the order of the spec."""', ""]
    return "\n".join((*lines, *(f"    {field}: Tensor" for field in fields)))


def start_names(interface: Interface) -> list[str]:
    """What the states that a call starts from are called."""
    return ["start"] if len(interface.states) == 1 else [f"start{n}" for n in range(len(interface.states))]


def _states_type(interface: Interface) -> str:
    """The named tuple of several states."""
    fields = field_names([s.name for s in interface.states])
    lines = ["class States(NamedTuple):", '    """The states, in the order of the spec."""', ""]
    return "\n".join((*lines, *(f"    {field}: Tensor" for field in fields)))


def _final(interface: Interface, states: str) -> str:
    """A list of states as the op gives them out."""
    return f"States(*{states})" if len(interface.states) > 1 else f"{states}[0]"


def _states_text(interface: Interface) -> str:
    """The states' shapes and what they are where none are given, for documentation."""
    shown = [f"{interface.state_text(s)}; None: {interface.start(s)}" for s in interface.states]
    if len(shown) == 1:
        return shown[0]
    return "; ".join(f"{s.name} {text}" for s, text in zip(interface.states, shown, strict=True))


def _spelled(interface: Interface) -> str:
    return f"_SPELLED = {interface.renamed!r}  # names of the spec that Python code here cannot use"


def _head(interface: Interface, name: str, *keywords: str) -> str:
    """The first line of a public function, whose arguments may go by the spec's names."""
    return f"@_named\ndef {name}({interface.typed}, *, {', '.join(keywords)}) -> Any:"


def _op(interface: Interface) -> str:
    """The op on whole sequences."""
    passed = ", ".join(interface.inputs.values())
    lines = [
        _head(interface, interface.function, *SEQUENCE, *OPTIONS),
        *_docstring(interface),
        f"    starts, _ = _checked({passed}, initial_state, cu_seqlens, True)",
        *(f"    _option({name!r}, {name}, {allowed!r})" for name, allowed in choices().items()),
        *range_checks(interface),
        f"    options = {', '.join(o.split(':')[0] for o in OPTIONS if not o.startswith('check'))}",
        f"    made = _called([{passed}, *starts], cu_seqlens, *options, output_final_state)",
        "    result = Outputs(*made[:_OUTPUTS])" if interface.several else "    result = made[0]",
        f"    return (result, {_final(interface, 'made[_OUTPUTS:]')}) if output_final_state else result",
    ]
    return "\n".join(lines)


def _choice(
    interface: Interface, solved: Size | None, missing: str | None, keys: str, products: tuple[str, ...]
) -> str:
    """The function that chooses what a call runs on, and in which chunks."""
    passed, rows = ", ".join(interface.inputs.values()), interface.size(solved or ONE)
    counted = "" if solved is None or solved.constant is not None else f", {f'{solved} = '!r}"
    options = [f"{n}: {t} | None" for n, t in (("cu_seqlens", "Tensor"), ("chunk_size", "int"), ("aggregation", "str"))]
    options += ["schedule: str | None", "backend: str | None", "save: str | None"]
    loops, made_of = not interface.recurrence.memories, ", ".join(interface.inputs[n] for n in products)
    narrow = f"_narrow(({made_of},), dtype)" if products else "dtype"
    chosen = dispatched(passed, ", ".join(start_names(interface)), rows, counted, missing, keys, loops, narrow)
    starts = ", ".join(f"{name}: Tensor" for name in start_names(interface))
    lines = [
        f"def _chosen({interface.typed}, {starts}, {', '.join(options)}, keep: bool) -> Any:",
        '    """What a call runs on, with the choices that it leaves open; `keep`: a backward pass may follow."""',
        *(f"    {line}" for line in interface.bindings("\n".join(chosen), lead=3)),
        f"    dtype = torch.float64 if {interface.wide} else torch.float32",
        "    if keep and (save or __options__['save']) == 'recompute':",
        "        return _Recomputed(dtype, cu_seqlens, chunk_size, aggregation, schedule, backend)",
        *(f"    {line}" for line in chosen),
    ]
    return "\n".join(lines)


def _docstring(interface: Interface) -> list[str]:
    """The op's documentation: arguments with their shapes and ranges, outputs, errors."""
    several = len(interface.states) > 1
    lines = [f'    """{interface.title}', "", "    Args:"]
    for i in interface.model.inputs:
        kind = "param" if i.is_param else "input"
        declared = f", {range_text(i.range)}" if i.range is not None else ""
        lines.append(f"        {interface.inputs[i.name]}: {kind} {interface.shape_text(i, True)}{declared}.")
    lines += [
        f"        initial_state: the state{'s' * several} before the first token, {_states_text(interface)}.",
        f"        output_final_state: whether to return (outputs, final state{'s' * several}).",
        "        cu_seqlens: offsets of N sequences packed along T, int32 or int64 [N + 1]; B is 1, states [N, H, *].",
        "            They are read once for a tensor, which waits for its device, and again after a change in place.",
        "        chunk_size, aggregation, schedule, backend, save: options; None takes what the op was compiled with.",
        "        check: enforce the ranges that the spec declares.",
        "",
        "    Returns:",
    ]
    for r in interface.recurrence.results:
        shape = ", ".join(("B", "T", "H", *(str(s) for s in r.shape.sizes)))
        lines.append(f"        {r.name} [{shape}] in the dtype of {interface.value}.")
    lines += [
        "",
        "    Raises:",
        "        TypeError: an argument that is no floating tensor.",
        "        ValueError: a shape, device, option or (check) value that does not fit.",
        '    """',
    ]
    return lines


def _step(interface: Interface, keys: str) -> str:
    """The one-token form; `keys` is how many entries of the state kernels hold whole, if there are any for it."""
    v = interface.value
    named = list(zip(interface.model.inputs, interface.inputs.values(), strict=True))
    own = [
        f"{n}.to(dtype)" if i.is_param else f"_per_value_head({n}[:, None], heads)[:, 0].to(dtype)" for i, n in named
    ]
    plural, passed = "s" * (len(interface.states) > 1), ", ".join((*interface.inputs.values(), "")).rstrip()
    outputs = f"Outputs({', '.join(r.name for r in interface.recurrence.results)})" if interface.several else "output"
    result = f"Outputs(*(o.to({v}.dtype) for o in outputs))" if interface.several else f"outputs[0].to({v}.dtype)"
    lines = [
        _head(interface, "step", "state: Any = None", "state_indices: Any = None", "backend: str | None = None"),
        '    """One token, for generation: the arguments of the op without T.',
        "",
        "    Args:",
        *(f"        {n}: {interface.shape_text(i, False)}." for i, n in named),
        f"        state: the state{plural} before the token, {_states_text(interface)}.",
        "        state_indices: the slot of each sequence, int64 or int32 [B], in pools [slots, H, *] that `state` is",
        "            then, of any floating type and layout: they are updated in place, without gradients, and",
        "            returned. A sequence whose slot is 0 or less is skipped: it changes no state, its output is that",
        "            of a state of 0. No two sequences have one slot, and none one beyond the pool: on a CPU both are",
        "            refused; on a GPU, which would have to wait, and by torch.compile they are not looked for.",
        "        backend: as the op has it.",
        "",
        "    Returns:",
        f"        ({outputs}, the next state{plural}): a pair.",
        '    """',
        f"    starts, dtype = _checked({', '.join(interface.inputs.values())}, state, None, False, state_indices)",
        "    slots = None if state_indices is None else state_indices.to(torch.int64).contiguous()",
        f"    _option('backend', backend, {choices()['backend']!r})",
        "    if slots is not None:  # a pool takes no gradients, and would pass them on to later steps",
        f"        {passed} = (x.detach() for x in ({passed}))",
        *(_on_kernels(interface, keys) if keys else ()),
        f"    heads = {v}.shape[1]",
        "    before = starts if slots is None else _gathered(starts, slots)",
        f"    with _uncast({v}.device):",
        f"        outputs, finals = _advance({', '.join(own)}, *(x.to(dtype) for x in before), dtype)",
        "    if slots is not None:",
        "        finals = _scattered(starts, slots, finals)",
        f"    return {result}, {_final(interface, 'finals')}",
    ]
    return "\n".join(lines)


def _on_kernels(interface: Interface, keys: str) -> list[str]:
    """A step on the kernels, where a call would run on them."""
    named = zip(interface.model.inputs, interface.inputs.values(), strict=True)
    inputs = ", ".join(n if i.is_param else f"{n}[:, None]" for i, n in named)
    outputs = "Outputs(*(o[:, 0] for o in outputs))" if interface.several else "outputs[0][:, 0]"
    passed = ", ".join((*interface.inputs.values(), ""))
    keys = f"_largest_tile({inputs})" if not interface.recurrence.memories else keys
    starts = start_names(interface)
    named_starts = any(mentions(keys, name) for name in starts)
    return [
        *([f"    {', '.join(starts)}{',' * (len(starts) == 1)} = starts"] if named_starts else []),
        f"    if _on_triton(backend or __options__['backend'], ({passed}*starts,), {keys}, dtype):",
        f"        outputs, finals = _one_token(({inputs},), starts, backend, slots)",
        f"        return {outputs}, {_final(interface, 'finals')}",
    ]


def _reference(interface: Interface) -> str:
    """The step-by-step form of the whole op."""
    v = interface.value
    named = list(zip(interface.model.inputs, interface.inputs.values(), strict=True))
    now = [n if i.is_param else f"{n}[:, t]" for i, n in named]
    shapes = [interface.shape(r.shape, "batch, 0, heads") for r in interface.recurrence.results]
    empty = ", ".join(f"{v}.new_zeros({shape}, dtype=dtype)" for shape in shapes)
    lines = [
        _head(interface, "reference", *SEQUENCE),
        '    """The op step by step, as the spec has it; slow, differentiable by autograd."""',
        f"    starts, dtype = _checked({', '.join(interface.inputs.values())}, initial_state, cu_seqlens, True)",
        f"    batch, length, heads = {v}.shape[:3]",
        f"    out_dtype = {v}.dtype",
        *(f"    {line}" for line in interface.bindings(empty, lead=3)),
        *(f"    {n} = {interface.computed(i)}" for i, n in named),
        "    states: list[tuple[Tensor, ...]] = []",
        "    steps: list[tuple[Tensor, ...]] = []",
        f"    with _uncast({v}.device):",
        f"        for own, tokens in _sequences({v}, cu_seqlens):",
        "            state = tuple(x[own].to(dtype) for x in starts)",
        "            for t in range(tokens.start, tokens.stop):",
        f"                outputs, state = _advance({', '.join(now)}, *state, dtype)",
        "                steps.append(outputs)",
        "            states.append(state)",
        f"    columns = [torch.stack(c, 1) for c in zip(*steps)] if steps else [{empty}]",
        "    results = [c.to(out_dtype) for c in columns]",
        "    result = Outputs(*results)" if interface.several else "    (result,) = results",
        "    states.append(tuple(x[:0].to(dtype) for x in starts))",
        "    finals = [torch.cat(parts) for parts in zip(*states, strict=True)]",
        f"    return (result, {_final(interface, 'finals')}) if output_final_state else result",
    ]
    return "\n".join(lines)
