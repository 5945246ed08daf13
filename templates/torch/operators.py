_UNCOMPILED: dict[Any, Any] = {}  # passes, as torch.compile leaves them alone: it would unroll the loop over chunks


def _run(function: Any, call: Any, tensors: Sequence[Tensor], *arguments: Any) -> Any:
    """One pass of a call: no compiler within, where a transform has kept it from the operators, and no autocast."""
    if "torch._dynamo" in sys.modules:
        if function not in _UNCOMPILED:
            _UNCOMPILED[function] = torch.compiler.disable(function)
        function = _UNCOMPILED[function]
    if not torch._C._is_any_autocast_enabled():
        return function(call, tensors, *arguments)
    with _uncast(tensors[0].device):
        return function(call, tensors, *arguments)


def _run_forward(call: Any, tensors: Sequence[Tensor], places: Sequence[Tensor] | None = None, last: bool = True) -> Any:
    """The outputs, the final states, which may be None unless asked for (`last`), and what a backward pass uses again."""
    return _run(type(call).forward, call, tensors, places, last)


def _run_backward(
    call: Any, tensors: Sequence[Tensor], saved: Sequence[Tensor], cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of `tensors`, None where none is wanted."""
    return _run(type(call).backward, call, tensors, saved, cotangents, wanted)


class _Recomputed:
    """A call that keeps nothing: its backward pass begins with a forward pass, which keeps what it uses."""

    def __init__(self, dtype: torch.dtype, *options: Any) -> None:
        """The type of final states; sequences and options but `save`."""
        self.dtype, self.options = dtype, options

    def forward(self, tensors: Sequence[Tensor], places: Sequence[Tensor] | None = None, last: bool = True) -> Any:
        """Outputs and final states, as of a call without a backward pass, and nothing that is kept."""
        outputs, finals, _ = _chosen(*tensors, *self.options, None, False).forward(tensors, None, last)
        return outputs, finals, []

    def backward(
        self, tensors: Sequence[Tensor], saved: Sequence[Tensor], cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """The gradients that are wanted."""
        call = _chosen(*tensors, *self.options, "states", True)
        *_, kept = call.forward(tensors, None, False)
        grads: list[Tensor | None] = call.backward(tensors, kept, cotangents, wanted)
        return grads

    def memory(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """None."""
        return []

    def places(self, tensors: Sequence[Tensor], memory: Sequence[Tensor]) -> list[Tensor]:
        """None."""
        return []


# -- autograd -------------------------------------------------------------------------------------------------------------


def _twice(*_: Any) -> Any:
    raise RuntimeError(f"{_NAME}: the backward pass cannot be differentiated again (double backward)")


def _forward_mode(*_: Any) -> Any:
    raise RuntimeError(f"{_NAME}: forward-mode differentiation (jvp) is not supported; backward passes are")


def _mapped(*_: Any) -> Any:
    raise RuntimeError(f"{_NAME}: torch.vmap does not map over an op; give what it maps over as a part of B")


class _Op(torch.autograd.Function):
    """A call: forward and backward passes are what `call` has, not autograd through them."""

    @staticmethod
    def forward(ctx: Any, call: Any, keep: bool, last: bool, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        """The outputs, then the final states if asked for (`last`); nothing is kept for a backward pass unless `keep`."""
        outputs, finals, saved = _run_forward(call, tensors, None, last)
        if keep:
            ctx.save_for_backward(*tensors, *saved)
            ctx.call = call
            ctx.set_materialize_grads(False)
        return *outputs, *finals

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of the tensors that need one."""
        return None, None, None, *_Gradient.apply(ctx.call, ctx.needs_input_grad[3:], *ctx.saved_tensors, *cotangents)

    jvp = staticmethod(_forward_mode)


class _Gradient(torch.autograd.Function):
    """The backward pass; it has none of its own."""

    @staticmethod
    def forward(ctx: Any, call: Any, wanted: Sequence[bool], *tensors: Any) -> Any:
        """The gradients that are wanted, from tensors, what was kept, and cotangents."""
        own, saved, cotangents = tensors[: len(wanted)], tensors[len(wanted) : -_RESULTS], tensors[-_RESULTS:]
        return tuple(_run_backward(call, own, saved, cotangents, wanted))

    backward = staticmethod(_twice)
    jvp = staticmethod(_forward_mode)


class _TransformedOp(torch.autograd.Function):
    """The same under torch.func, whose transforms want the context set up apart: what is kept is an output more."""

    @staticmethod
    def forward(call: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs, the final states, and what the backward pass uses again."""
        outputs, finals, saved = _run_forward(call, tensors)
        return *outputs, *finals, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the backward pass uses."""
        ctx.call, *tensors = inputs
        saved = output[_RESULTS:]
        ctx.mark_non_differentiable(*saved)
        ctx.save_for_backward(*tensors, *saved)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of the tensors that need one."""
        cotangents = cotangents[:_RESULTS]
        return None, *_TransformedGradient.apply(ctx.call, ctx.needs_input_grad[1:], *ctx.saved_tensors, *cotangents)

    jvp = staticmethod(_forward_mode)
    vmap = staticmethod(_mapped)


class _TransformedGradient(torch.autograd.Function):
    """The backward pass under torch.func."""

    @staticmethod
    def forward(call: Any, wanted: Sequence[bool], *tensors: Any) -> Any:
        """The gradients that are wanted."""
        return _Gradient.forward(None, call, wanted, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    backward = staticmethod(_twice)
    jvp = staticmethod(_forward_mode)
    vmap = staticmethod(_mapped)


# -- operators: what torch.compile and torch.export see of a call -----------------------------------------------------------


def _operator(
    tensors: list[Tensor], cu_seqlens: Tensor | None, chunk_size: int | None, aggregation: str | None,
    schedule: str | None, backend: str | None, save: str | None, keep: bool,
) -> list[Tensor]:
    """The outputs, the final states and, with `keep`, the memory that holds what the backward pass uses again."""
    call = _chosen(*tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, keep)
    memory = call.memory(tensors) if keep else []
    outputs, finals, _ = _run_forward(call, tensors, call.places(tensors, memory) if keep else None)
    return [*outputs, *finals, *memory]


def _operator_backward(
    tensors: list[Tensor], memory: list[Tensor], cotangents: list[Tensor | None], wanted: list[bool],
    cu_seqlens: Tensor | None, chunk_size: int | None, aggregation: str | None,
    schedule: str | None, backend: str | None, save: str | None,
) -> list[Tensor]:
    """The gradients that are wanted."""
    call = _chosen(*tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, True)
    grads = _run_backward(call, tensors, call.places(tensors, memory), cotangents, wanted)
    return [x.contiguous() for x in grads if x is not None]


def _operator_fake(
    tensors: list[Tensor], cu_seqlens: Tensor | None, chunk_size: int | None, aggregation: str | None,
    schedule: str | None, backend: str | None, save: str | None, keep: bool,
) -> list[Tensor]:
    """What `_operator` returns, without values."""
    call = _chosen(*tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, keep)
    inputs, starts = tensors[:-_STATES], tensors[-_STATES:]
    finals = [x.new_empty(x.shape, dtype=call.dtype) for x in starts]
    return [*_outputs(*inputs), *finals, *(call.memory(tensors) if keep else [])]


def _operator_backward_fake(
    tensors: list[Tensor], memory: list[Tensor], cotangents: list[Tensor | None], wanted: list[bool], *_: Any
) -> list[Tensor]:
    """What `_operator_backward` returns, without values."""
    return [x.new_empty(x.shape) for x, needed in zip(tensors, wanted, strict=True) if needed]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    """Keep what the operator's backward pass uses."""
    tensors, cu_seqlens, *ctx.options, _ = inputs
    ctx.save_for_backward(*tensors, cu_seqlens, *output[_RESULTS:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """The gradients of the operator's arguments."""
    wanted, count = ctx.needs_input_grad[0], len(_TENSORS)
    tensors, cu_seqlens, memory = ctx.saved_tensors[:count], ctx.saved_tensors[count], ctx.saved_tensors[count + 1 :]
    bars = cotangents[:_RESULTS]
    found = iter(_BACKWARD(list(tensors), list(memory), list(bars), list(wanted), cu_seqlens, *ctx.options))
    return [next(found) if needed else None for needed in wanted], *[None] * 7


def _operators() -> tuple[Any, Any]:
    """The operators, registered. Names are the process's: another import of this text finds those of the first."""
    options = "Tensor? cu_seqlens, int? chunk_size, str? aggregation, str? schedule, str? backend, str? save"
    passes = "", "_backward"
    if not hasattr(torch.ops.flowc, f"{_OPERATOR}_backward"):
        schemas = (
            f"(Tensor[] tensors, {options}, bool keep) -> Tensor[]",
            f"(Tensor[] tensors, Tensor[] memory, Tensor?[] cotangents, bool[] wanted, {options}) -> Tensor[]",
        )
        functions = (_operator, _operator_fake), (_operator_backward, _operator_backward_fake)
        rules = (_gradients, _keep), (_twice, lambda ctx, inputs, output: None)
        for name, schema, (run, fake), (backward, keep) in zip(passes, schemas, functions, rules, strict=True):
            made = torch.library.custom_op(f"flowc::{_OPERATOR}{name}", run, mutates_args=(), schema=schema)
            made.register_fake(fake)
            made.register_autograd(backward, setup_context=keep)
    first, second = (getattr(torch.ops.flowc, f"{_OPERATOR}{name}").default for name in passes)
    return first, second


_FORWARD, _BACKWARD = _operators()


def _called(
    tensors: list[Tensor], cu_seqlens: Tensor | None, chunk_size: int | None, aggregation: str | None,
    schedule: str | None, backend: str | None, save: str | None, last: bool = True,
) -> Sequence[Tensor]:
    """The outputs and the final states of a call, which may be None unless asked for (`last`).

    torch.compile and torch.export get an operator, torch.func what its transforms know, all others plain autograd.
    """
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    transformed = isinstance(torch._C._functorch.peek_interpreter_stack(), torch._C._functorch.CInterpreter)
    if torch.compiler.is_compiling():
        if torch.autograd.forward_ad._current_level >= 0:  # where an operator's tangents would be 0
            _forward_mode()
        if not transformed:
            return _FORWARD(tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, keep)[:_RESULTS]
        torch._dynamo.graph_break()  # a transform within what is compiled: it runs uncompiled
    call = _chosen(*tensors, cu_seqlens, chunk_size, aggregation, schedule, backend, save, keep or transformed)
    if transformed:
        return _TransformedOp.apply(call, *tensors)[:_RESULTS]
    if keep or torch.autograd.forward_ad._current_level >= 0:
        return _Op.apply(call, keep, last, *tensors)
    outputs, finals, _ = _run_forward(call, tensors, None, last)  # nothing for autograd to see
    return [*outputs, *finals]
