"""flash-linear-attention's ops on whole sequences, called so that they mean what the examples say.

In: an example's inputs by name. Out: the arguments of the peer's op, made before anything is timed, and its output. Ops
are imported when they are called. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Peer:
    """An op as `module:function` below fla.ops; `given` makes its arguments of an example's inputs."""

    op: str
    given: Callable[[Tensors], dict[str, Any]]

    def called(self, inputs: Tensors) -> Callable[[], Tensor]:
        """A call with arguments that are ready; it gives the output alone."""
        module, name = self.op.split(":")
        function, arguments = getattr(import_module(f"fla.ops.{module}"), name), self.given(inputs)

        def call() -> Tensor:
            made: Tensor = function(**arguments)[0]
            return made

        return call


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


PEERS = {
    "gated_deltanet": Peer("gated_delta_rule:chunk_gated_delta_rule", as_named("q", "k", "v", "g", "beta")),
    "deltanet": Peer("delta_rule:chunk_delta_rule", as_named("q", "k", "v", "beta")),
    "kda": Peer("kda:chunk_kda", as_named("q", "k", "v", "g", "beta", safe_gate=True)),
    "gla": Peer("gla:chunk_gla", as_named("q", "k", "v", "g")),
    "simple_gla": Peer("simple_gla:chunk_simple_gla", as_named("q", "k", "v", "g")),
    "rwkv7": Peer(
        "rwkv7:chunk_rwkv7",
        lambda x: {"r": x["q"], "w": x["g"].to(x["q"].dtype), "scale": 1.0, **{n: x[n] for n in "kvab"}},
    ),
    "gated_delta_product": Peer("gated_delta_product:chunk_gated_delta_product", product),
    "rwkv6": Peer(
        "rwkv6:chunk_rwkv6",
        lambda x: {"w": -x["w"].float().exp(), "scale": 1.0, **{n: x[n] for n in ("r", "k", "v", "u")}},
    ),
    "retnet": Peer("retention:chunk_retention", as_named("q", "k", "v")),
    "linear_attention": Peer("linear_attn:chunk_linear_attn", as_named("q", "k", "v", normalize=False)),
    "comba": Peer("comba:chunk_comba", as_named("q", "k", "v", "p", "g", "beta")),
}
"""By the names of examples."""


def is_there() -> bool:
    """Whether the peer is installed."""
    return find_spec("fla") is not None


@contextmanager
def triton_path() -> Iterator[None]:
    """The peer's own Triton kernels, whatever other backends it has found."""
    registry = import_module("fla.backends").BackendRegistry
    with patch.object(registry, "_get_sorted_backends", lambda _: []):
        yield


def peer_versions() -> dict[str, str]:
    """Of the peer, as it says itself."""
    return {"fla": str(getattr(import_module("fla"), "__version__", "unknown"))} if is_there() else {}
