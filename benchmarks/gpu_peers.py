"""flash-linear-attention's ops, on whole sequences and on one token, called so that they mean what the examples say.

In: an example's inputs by name. Out: the arguments of the peer's op, made before anything is timed, its output, and
what it has gradients for; of one token the next state as well. Ops are imported when they are called. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from ledger import is_lost
from torch import Tensor

from flowc.fuzz.find import last

Found = TypeVar("Found")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Ready:
    """A call whose arguments are made, which gives the output alone, and those that have gradients."""

    call: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]

    def both(self) -> None:
        """Forward and backward."""
        made = self.call()
        torch.autograd.grad(made, self.leaves, torch.ones_like(made), allow_unused=True)


@dataclass(frozen=True)
class Peer:
    """An op as `module:function` below fla.ops; `given` makes its arguments of an example's inputs."""

    op: str
    given: Callable[[Tensors], dict[str, Any]]

    def ready(self, inputs: Tensors, trained: bool = False) -> Ready:
        """Its call; arguments have gradients of their own if `trained`."""
        arguments = self.given(inputs)
        if trained:
            arguments = {n: x.detach().requires_grad_() if isinstance(x, Tensor) else x for n, x in arguments.items()}
        return Ready(lambda: self._made(arguments), tuple(x for x in arguments.values() if isinstance(x, Tensor)))

    def called(self, inputs: Tensors) -> Tensor:
        """Its output, differentiable in the inputs."""
        return self._made(self.given(inputs))

    def decoded(self, inputs: Tensors, state: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        """The call of one token after a state, for its output and the next state; arguments are made before it."""
        arguments = {**self.given(inputs), "initial_state": state, "output_final_state": True}
        function = self._function()

        def call() -> tuple[Tensor, Tensor]:
            output, final = function(**arguments)
            return output, final

        return call

    def _function(self) -> Callable[..., Any]:
        module, name = self.op.split(":")
        found: Callable[..., Any] = getattr(import_module(f"fla.ops.{module}"), name)
        return found

    def _made(self, arguments: Mapping[str, Any]) -> Tensor:
        made: Tensor = self._function()(**arguments)[0]
        return made


def as_named(*names: str, **more: Any) -> Callable[[Tensors], dict[str, Any]]:
    """Arguments of the same names as inputs, and options; queries are not scaled."""
    return lambda x: {**{n: x[n] for n in names}, "scale": 1.0, **more}


def along_time(x: Tensor) -> Tensor:
    """`[B, T, H, R, *]` as `[B, T R, H, *]`: the rows of a token one after another."""
    return x.transpose(2, 3).flatten(1, 2).contiguous()


def product(x: Tensors) -> dict[str, Any]:
    """The R rows of a token stand along time, but for queries and gates."""
    rows = {n: along_time(x[n]) for n in ("k", "v", "beta")}
    return {"q": x["q"], "g": x["g"], "num_householder": x["k"].shape[3], "scale": 1.0, **rows}


def sixth(x: Tensors) -> dict[str, Any]:
    """RWKV-6's gate is the logarithm of its decay there."""
    return {"w": -x["w"].float().exp(), "scale": 1.0, **{n: x[n] for n in ("r", "k", "v", "u")}}


def seventh(x: Tensors) -> dict[str, Any]:
    """RWKV-7's names there."""
    return {"r": x["q"], "w": x["g"], "scale": 1.0, **{n: x[n] for n in "kvab"}}


PEERS = {
    "gated_deltanet": Peer("gated_delta_rule:chunk_gated_delta_rule", as_named("q", "k", "v", "g", "beta")),
    "deltanet": Peer("delta_rule:chunk_delta_rule", as_named("q", "k", "v", "beta")),
    "kda": Peer("kda:chunk_kda", as_named("q", "k", "v", "g", "beta", safe_gate=True)),
    "gla": Peer("gla:chunk_gla", as_named("q", "k", "v", "g")),
    "simple_gla": Peer("simple_gla:chunk_simple_gla", as_named("q", "k", "v", "g")),
    "rwkv7": Peer("rwkv7:chunk_rwkv7", lambda x: seventh(x) | {"w": x["g"].to(x["q"].dtype)}),
    "gated_delta_product": Peer("gated_delta_product:chunk_gated_delta_product", product),
    "rwkv6": Peer("rwkv6:chunk_rwkv6", sixth),
    "retnet": Peer("retention:chunk_retention", as_named("q", "k", "v")),
    "linear_attention": Peer("linear_attn:chunk_linear_attn", as_named("q", "k", "v", normalize=False)),
    "comba": Peer("comba:chunk_comba", as_named("q", "k", "v", "p", "g", "beta")),
}
"""By the names of examples."""

RECURRENT = {
    "gated_deltanet": Peer("gated_delta_rule:fused_recurrent_gated_delta_rule", as_named("q", "k", "v", "g", "beta")),
    "deltanet": Peer("delta_rule:fused_recurrent_delta_rule", as_named("q", "k", "v", "beta")),
    "kda": Peer("kda:fused_recurrent_kda", as_named("q", "k", "v", "g", "beta")),
    "gla": Peer(
        "gla:fused_recurrent_gla", lambda x: {"gk": x["g"], "scale": 1.0, **{n: x[n] for n in ("q", "k", "v")}}
    ),
    "simple_gla": Peer("simple_gla:fused_recurrent_simple_gla", as_named("q", "k", "v", "g")),
    "rwkv7": Peer("rwkv7:fused_recurrent_rwkv7", seventh),
    "rwkv6": Peer("rwkv6:fused_recurrent_rwkv6", sixth),
    "retnet": Peer("retention:fused_recurrent_retention", as_named("q", "k", "v")),
    "linear_attention": Peer("linear_attn:fused_recurrent_linear_attn", as_named("q", "k", "v", normalize=False)),
    "comba": Peer("comba:fused_recurrent_comba", as_named("q", "k", "p", "v", "g", "beta")),
}
"""The same for one token after a state; it has none for several rows a token."""


def is_there() -> bool:
    """Whether the peer can be called."""
    return absent() is None


def absent() -> str | None:
    """Why the peer cannot be called, if it cannot."""
    spec = find_spec("fla")
    return "flash-linear-attention is not installed" if spec is None else _broken(str(getattr(spec, "origin", None)))


@cache
def _broken(_: str) -> str | None:
    """Why the package at a place cannot be imported, if it cannot."""
    try:
        import_module("fla.ops")
    except Exception as error:  # whatever it raises without what it needs
        return f"flash-linear-attention is installed, and cannot be imported: {type(error).__name__}: {error}"
    return None


def tried(call: Callable[[], Found]) -> tuple[Found | None, str | None]:
    """What a call of the peer's gives, or what it says where it does not run: that is no fault of ours.

    Raises:
        RuntimeError: the device has failed.
    """
    try:
        return call(), None
    except Exception as error:  # it refuses devices and versions in many ways
        if is_lost(error):
            raise
        return None, last(error)


@contextmanager
def triton_path() -> Iterator[None]:
    """The peer's own Triton kernels, whatever other backends it has found."""
    registry = import_module("fla.backends").BackendRegistry
    with patch.object(registry, "_get_sorted_backends", lambda _: []):
        yield
