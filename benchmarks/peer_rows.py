"""What flash-linear-attention computes of each recurrence, called so that it means what the spec says.

In: a spec's inputs by name, `[B, T, H, *]` (params `[H, *]`), and its first states, `[B, H, *]`. Out: the output and
the last states by name, differentiable. Peers are imported when they are called, so that both sides can import this
file. They multiply queries by K**-0.5 unless told otherwise; where they cannot be told, queries come divided by it.
Refuses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]
Call = Callable[[Callable[..., Any], Tensors, Tensors], tuple[Tensor, Tensors]]


@dataclass(frozen=True)
class Row:
    """One comparison. `peer` is `module:function` below fla.ops."""

    spec: str
    peer: str
    call: Call
    states: tuple[str, ...] = ("S",)  # which last states the peer gives
    starts: bool = True  # whether it takes first states
    gradients: bool = True  # whether it has a backward
    units: tuple[str, ...] = ()  # inputs that have length one beside those that are called keys
    sizes: dict[str, int] = field(default_factory=dict)  # other than the usual ones
    prepare: Callable[[Tensors], Tensors] = lambda x: x  # to draw what the peer can express
    unjudged: tuple[str, ...] = ()  # inputs that the peer has in another shape
    text: str = ""  # a spec other than the example: what the peer computes where that differs
    known: str = ""  # why the two differ, where they are known to

    def run(self, inputs: Tensors, start: Tensors) -> tuple[Tensor, Tensors]:
        """The peer's output and last states."""
        module, name = self.peer.split(":")
        return self.call(getattr(import_module(f"fla.ops.{module}"), name), inputs, start)


ROWS: dict[str, Row] = {}


def row(peer: str, label: str = "", spec: str = "", **more: Any) -> Callable[[Call], Call]:
    """Enter a call for the spec of its own name, or for another one; `label` tells comparisons of one spec apart."""

    def enter(call: Call) -> Call:
        name = spec or call.__name__
        ROWS[name + (f", {label}" if label else "")] = Row(name, peer, call, **more)
        return call

    return enter


def heads_first(*tensors: Tensor) -> tuple[Tensor, ...]:
    """`[B, T, H, ...]` to `[B, H, T, ...]` and back."""
    return tuple(x.transpose(1, 2) for x in tensors)


def unscaled(q: Tensor) -> Tensor:
    """Queries that come out right where the peer multiplies them by K**-0.5."""
    return q * q.shape[-1] ** 0.5


# -- the state is not read --------------------------------------------------------------------------------------------

SIMPLE_GLA = "simple_gla.naive:naive_recurrent_simple_gla"
GLA = "gla.naive:naive_recurrent_gla"


@row("linear_attn.naive:naive_recurrent_linear_attn")
def linear_attention(f, x, s):
    """As it is."""
    o, S = f(x["q"], x["k"], x["v"], scale=1.0, initial_state=s["S"], output_final_state=True)
    return o, {"S": S}


@row("linear_attn.naive:naive_recurrent_linear_attn", states=("S", "z"), starts=False)
def linear_attention_normalized(f, x, s):
    """Features outside; the peer adds 1e-10 to the denominator."""
    q, k = F.softplus(x["q"]), F.softplus(x["k"])
    o, (S, z) = f(q, k, x["v"], scale=1.0, output_final_state=True, normalize=True)
    return o, {"S": S, "z": z[:, 0]}


@row("retention.naive:naive_retention", states=(), starts=False)
def retnet(f, x, s):
    """In parallel form, without a state."""
    (o,) = heads_first(f(*heads_first(unscaled(x["q"]), x["k"], x["v"])))
    return o, {}


def _simple(f, q, k, v, g, s):
    o, S = f(q, k, v, g, scale=1.0, initial_state=s["S"], output_final_state=True)
    return o, {"S": S}


@row(SIMPLE_GLA)
def lightning(f, x, s):
    """lightning_attn is simple_gla with these gates; `layer` is 0.25 in the spec."""
    heads = x["q"].shape[2]
    g = -(8 / heads) * (1 - 0.25) * torch.arange(heads).to(x["q"])
    return _simple(f, x["q"], x["k"], x["v"], g.expand(x["q"].shape[:3]), s)


@row(SIMPLE_GLA)
def simple_gla(f, x, s):
    """As it is."""
    return _simple(f, x["q"], x["k"], x["v"], x["g"], s)


@row(SIMPLE_GLA)
def gated_retnet(f, x, s):
    """The gate's logarithm outside."""
    return _simple(f, x["q"], x["k"], x["v"], F.logsigmoid(x["x"]) / 16, s)


@row(SIMPLE_GLA)
def gated_rfa(f, x, s):
    """One minus the gate goes into the key."""
    return _simple(f, x["q"], x["k"] * torch.sigmoid(-x["x"])[..., None], x["v"], F.logsigmoid(x["x"]), s)


@row(SIMPLE_GLA)
def mamba2(f, x, s):
    """Step sizes and the skip connection outside."""
    dt = F.softplus(x["dt"])
    o, states = _simple(f, x["C"], x["B"], dt[..., None] * x["x"], -dt * x["A_log"].exp(), s)
    return o + x["D"][:, None] * x["x"], states


def _gla(f, q, k, v, g, s):
    o, S = f(unscaled(q), k, v, g, initial_state=s["S"], output_final_state=True)
    return o, {"S": S}


@row(GLA)
def gla(f, x, s):
    """As it is."""
    return _gla(f, x["q"], x["k"], x["v"], x["g"], s)


@row(GLA)
def hgrn2(f, x, s):
    """The gate outside."""
    a = x["lower"] + (1 - x["lower"]) * torch.sigmoid(x["f"])
    return _gla(f, x["q"], 1 - a, x["v"], a.log(), s)


@row("rwkv6.recurrent_naive:naive_recurrent_rwkv6")
def rwkv6(f, x, s):
    """Log gates come as such."""
    tokens = heads_first(x["r"], x["k"], x["v"], -x["w"].exp())
    o, S = f(*tokens, x["u"], scale=1.0, initial_state=s["S"], output_final_state=True)
    return o.transpose(1, 2), {"S": S}


@row(GLA)
def decaying_fast_weights(f, x, s):
    """Gates of columns outside: column by column the state divided by the product of its gates is a gla."""
    fallen = x["gb"].cumsum(1)
    o, states = _gla(f, x["q"], x["k"], x["v"] * (-fallen).exp(), x["ga"], s)
    return o * fallen.exp(), {"S": states["S"] * fallen[:, -1, :, None].exp()}


@row("based.naive:naive_parallel_based", states=(), starts=False)
def based(f, x, s):
    """In parallel form, without a state."""
    (o,) = heads_first(f(*heads_first(x["q"], x["k"], x["v"]), scale=1.0))
    return o, {}


@row("rebased.naive:naive_parallel_rebased", states=(), starts=False, sizes={"K": 1})
def rebased(f, x, s):
    """At K = 1: the peer squares q . k, whose features are the K^2 products; the spec's are the K squares."""
    q, k = (x["gamma"] * x[n] + x["b"] for n in ("q", "k"))
    (o,) = heads_first(f(*heads_first(q, k, x["v"]), scale=1.0))
    return o, {}


# -- the state is read ------------------------------------------------------------------------------------------------


@row("delta_rule.naive:delta_rule_recurrence")
def deltanet(f, x, s):
    """As it is."""
    o, S = f(*heads_first(unscaled(x["q"]), x["k"], x["v"], x["beta"]), initial_state=s["S"])
    return o.transpose(1, 2), {"S": S}


def _by_name(f, x, s, *names):
    o, S = f(**{n: x[n] for n in names}, scale=1.0, initial_state=s["S"], output_final_state=True)
    return o, {"S": S}


@row("gated_delta_rule.naive:naive_recurrent_gated_delta_rule")
def gated_deltanet(f, x, s):
    """As it is."""
    return _by_name(f, x, s, "q", "k", "v", "g", "beta")


@row("kda.naive:naive_recurrent_kda")
def kda(f, x, s):
    """As it is."""
    return _by_name(f, x, s, "q", "k", "v", "g", "beta")


@row("gdn2.naive:naive_recurrent_gdn2")
def gated_deltanet2(f, x, s):
    """As it is."""
    return _by_name(f, x, s, "q", "k", "v", "g", "b", "w")


READ_AFTER = """flow comba(K, V)
input q, k, p : K; input v : V; input g : scalar <= 0; input beta : scalar in (0, 1)
state S : K x V
S[t] = exp(g) * S[t-1]
S[t] = S[t] + beta * k @ (v - S[t].T @ p).T
o[t] = S[t].T @ q
"""
RECURRENT = "comba.naive:naive_recurrent_comba"
AFTER = "it reads the state after the gate; the peer's chunked form and its kernel read it before"


@row(RECURRENT, "recurrent, against a read after the gate", text=READ_AFTER)
@row(RECURRENT, "recurrent", known=AFTER)
@row("comba:fused_recurrent_comba", "kernel", gradients=False)
@row("comba.naive:naive_chunk_comba")
def comba(f, x, s):
    """As it is."""
    return _by_name(f, x, s, "q", "k", "v", "p", "g", "beta")


@row("generalized_delta_rule.dplr.naive:dplr_recurrence")
def rwkv7(f, x, s):
    """`alpha` is read at, `beta` written at."""
    tokens = heads_first(unscaled(x["q"]), x["k"], x["v"], x["a"], x["b"], x["g"])
    o, S = f(*tokens, initial_state=s["S"])
    return o.transpose(1, 2), {"S": S}


@row("generalized_delta_rule.iplr.naive:iplr_recurrence")
def iplr(f, x, s):
    """`alpha` is read at, `beta` written at."""
    o, S = f(*heads_first(unscaled(x["q"]), x["k"], x["v"], x["a"], x["b"]), initial_state=s["S"])
    return o.transpose(1, 2), {"S": S}


def _product(f, x, s, g):
    """The R rows of a token stand one after another along time."""
    k, v, beta = (x[n].transpose(2, 3).flatten(1, 2) for n in ("k", "v", "beta"))
    ranks = x["k"].shape[3]
    o, S = f(x["q"], k, v, g, beta, 1.0, initial_state=s["S"], output_final_state=True, num_householder=ranks)
    return o, {"S": S}


@row("gated_delta_product.naive:naive_recurrent_gated_delta_product")
def delta_product(f, x, s):
    """Without a gate."""
    return _product(f, x, s, None)


@row("gated_delta_product.naive:naive_recurrent_gated_delta_product")
def gated_delta_product(f, x, s):
    """As it is."""
    return _product(f, x, s, x["g"])


@row("kda.naive:naive_recurrent_kda", "transposed, token by token", spec="gated_oja", units=("v",))
def gated_oja_as_kda(f, x, s):
    """S^T is a kda of exchanged keys and values; the outputs of that are not S^T q, so its states are taken."""
    P, outputs = s["S"].mT, []
    for t in range(x["q"].shape[1]):
        q, k, v, g, beta = (x[n][:, t : t + 1] for n in ("q", "k", "v", "g", "beta"))
        _, P = f(torch.zeros_like(v), v, k, g, beta, scale=1.0, initial_state=P, output_final_state=True)
        outputs.append(torch.einsum("bhvk,bhk->bhv", P, q[:, 0]))
    return torch.stack(outputs, 1), {"S": P.mT}


@row("gated_oja_rule:fused_recurrent_gated_oja_rule", "kernel", gradients=False, units=("v",))
def gated_oja(f, x, s):
    """A Triton kernel, which has no backward."""
    S = s["S"].contiguous()
    o, S = f(x["q"], x["k"], x["v"], gv=x["g"], beta=x["beta"], scale=1.0, initial_state=S, output_final_state=True)
    return o, {"S": S}


BASE = 1.5
WRITE_KT = """flow preconditioned_gated_deltanet(K, V)
input q, k : K; input v : V; input g, ga : scalar <= 0; input beta, ba : scalar in (0, 1); param m, c : K
state p : K
state S : K x V
let kn = k / norm(k)
p[t] = exp(ga) * p[t-1] + ba * kn * kn
let r = log(p[t] + 1e-6) - m
let kt = kn * exp(-c * r / (1 + abs(r)))
S[t] = exp(g) * S[t-1]
S[t] = S[t] + beta * kt @ (v - S[t].T @ kn).T
o[t] = S[t].T @ (q / norm(q))
"""


def _one_center(x: Tensors) -> Tensors:
    """The peer has one centre per head and one base for all."""
    return {**x, "m": x["m"][:, :1].expand_as(x["m"]), "c": torch.full_like(x["c"], math.log(BASE))}


PRECONDITIONED = {
    "states": ("p", "S"),
    "starts": False,
    "units": ("q",),
    "prepare": _one_center,
    "unjudged": ("m", "c"),
}
PRECONDITIONER = "precond_gated_delta_rule.naive:naive_recurrent_precond_gated_delta_rule"


@row(PRECONDITIONER, "against an erasure along kt", text=WRITE_KT, **PRECONDITIONED)
@row(PRECONDITIONER, known="it erases along kt, the spec along k", **PRECONDITIONED)
def preconditioned_gated_deltanet(f, x, s):
    """It makes queries and keys unit vectors."""
    o, S, p = f(
        x["q"], x["k"], x["v"], x["ga"], x["g"], x["ba"], x["beta"], scale=1.0, output_final_state=True, x=BASE,
        log_atk_scale=x["m"][:, 0],
    )  # fmt: skip
    return o, {"S": S, "p": p}


# -- several states, scans --------------------------------------------------------------------------------------------


@row("gsa.naive:naive_recurrent_gsa", states=("P", "U"))
def gsa(f, x, s):
    """One minus the gate goes into the slots."""
    write = torch.sigmoid(-x["f"]) * x["s"]
    first = {"initial_state": (s["P"], s["U"]), "output_final_state": True}
    o, (P, U) = f(x["q"], x["k"], x["v"], write, g=F.logsigmoid(x["f"]), scale=1.0, **first)
    return o, {"P": P, "U": U}


@row("abc.naive:naive_recurrent_abc", states=("P", "U"), starts=False)
def abc(f, x, s):
    """It makes the running logsumexp itself."""
    o, (P, U) = f(*heads_first(x["q"], x["k"], x["v"], x["s"]), scale=1.0, output_final_state=True)
    return o.transpose(1, 2), {"P": P, "U": U}


@row("rwkv4:fused_recurrent_rwkv4", states=("m", "a", "b"), starts=False,
     prepare=lambda x: {**x, "w": 0.1 + x["w"].abs()})  # fmt: skip
def rwkv4(f, x, s):
    """A Triton kernel; heads are channels, and the decay comes as its logarithm."""
    k, v = (x[n].flatten(2) for n in ("k", "v"))
    zero = torch.zeros_like(k[:, 0])
    first = torch.stack((zero, zero, torch.full_like(zero, -1e38)), 1)[:, :, None]
    o, last = f(x["w"].log().flatten(), x["u"].flatten(), k.contiguous(), v.contiguous(), first)
    return o.view_as(x["v"]), {n: last[:, i, 0].view_as(x["v"][:, 0]) for i, n in enumerate(("a", "b", "m"))}


@row("hgrn.naive:naive_recurrent_hgrn", states=("h",))
def hgrn(f, x, s):
    """Heads are channels; the gate outside."""
    written = (torch.sigmoid(-x["f"]) * x["x"]).flatten(2)
    log_gate = F.logsigmoid(x["f"]).flatten(2)
    o, h = f(written, log_gate, initial_state=s["h"].flatten(1), output_final_state=True)
    return o.view_as(x["x"]), {"h": h.view_as(s["h"])}


@row("momentum_delta_rule.naive:recurrent_momentum_delta_rule_ref", states=("M", "S"))
def momentum_delta(f, x, s):
    """Its momentum has the other sign."""
    one = torch.ones_like(x["beta"])
    first = {"initial_S": s["S"], "initial_M": -s["M"], "output_final_state": True}
    log_mu = x["mu"].log().expand_as(x["g"])
    o, (S, M) = f(x["q"], x["k"], x["v"], x["g"], log_mu, x["k"], beta=one, eta=x["beta"], scale=1.0, **first)
    return o, {"S": S, "M": -M}
