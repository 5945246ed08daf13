"""Recurrences written by hand as loops over time, to judge the oracle and the compiler by.

Each entry of `LOOPS` draws inputs by the names that its spec declares (`[B, T, H, *shape]`, a param `[H, *shape]`) and
runs one token: `step(x, states)` gives the output and the new states, x holding that token's slices. Written with
einsum on b, h, then the axes of the mathematics (k keys, v values, r ranks, m slots); nothing of flowc is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, einsum

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    B: int = 2
    T: int = 9
    H: int = 2
    K: int = 5
    V: int = 4
    R: int = 3
    M: int = 3


class Draw:
    """Seeded float64 tensors of the ranges that the specs declare."""

    def __init__(self, sizes: Sizes, seed: int) -> None:
        self.lead = (sizes.B, sizes.T, sizes.H)
        self.heads = sizes.H
        self.rng = torch.Generator().manual_seed(seed)

    def real(self, *shape: int) -> Tensor:
        return torch.randn(*self.lead, *shape, generator=self.rng, dtype=torch.float64)

    def param(self, *shape: int) -> Tensor:
        return torch.randn(self.heads, *shape, generator=self.rng, dtype=torch.float64)

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*self.lead, *shape, generator=self.rng, dtype=torch.float64)

    def key(self, *shape: int) -> Tensor:
        """Unit vectors along the last axis; every fifth token repeats the one before it."""
        x = self.real(*shape)
        x[:, 4::5] = x[:, 3::5][:, : x[:, 4::5].shape[1]]
        return x / x.norm(dim=-1, keepdim=True)

    def decay(self, *shape: int) -> Tensor:
        """Log decays: most are mild, one in seven tokens all but forgets."""
        g = -self.between(0.0, 0.5, *shape)
        g[:, 6::7] = -20.0
        return g


@dataclass(frozen=True)
class Loop:
    draw: Callable[[Draw, Sizes], Tensors]
    states: Callable[[Sizes], tuple[tuple[int, ...], ...]]
    step: Callable[[Tensors, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]
    params: tuple[str, ...]
    starts: tuple[float, ...] | None


LOOPS: dict[str, Loop] = {}


def loop(draw, states=lambda n: ((n.K, n.V),), params=(), starts=None):
    def register(step):
        LOOPS[step.__name__] = Loop(draw, states, step, tuple(params), starts)
        return step

    return register


def start(name: str, sizes: Sizes, like: Tensor | None = None) -> tuple[Tensor, ...]:
    """The states before the first token, `[B, H, *shape]`."""
    entry = LOOPS[name]
    shapes = entry.states(sizes)
    fills = entry.starts or (0.0,) * len(shapes)
    dtype = torch.float64 if like is None else like.dtype
    return tuple(torch.full((sizes.B, sizes.H, *s), f, dtype=dtype) for s, f in zip(shapes, fills, strict=True))


def run(name: str, x: Tensors, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs `[B, T, H, ...]` and final states."""
    entry = LOOPS[name]
    length = next(v.shape[1] for n, v in x.items() if n not in entry.params)
    out = []
    for t in range(length):
        o, states = entry.step({n: v if n in entry.params else v.select(1, t) for n, v in x.items()}, states)
        out.append(o)
    return torch.stack(out, 1), states


def qkv(more=lambda d, n: {}, key=lambda d, n: d.key(n.K)):
    return lambda d, n: {"q": d.real(n.K), "k": key(d, n), "v": d.real(n.V), **more(d, n)}


def look(S: Tensor, y: Tensor) -> Tensor:
    return einsum("bhkv,bhk->bhv", S, y)


def put(a: Tensor, b: Tensor) -> Tensor:
    return einsum("bhk,bhv->bhkv", a, b)


def per_head(a: Tensor, S: Tensor) -> Tensor:
    return einsum("bh,bhkv->bhkv", a, S)


def per_key(a: Tensor, S: Tensor) -> Tensor:
    return einsum("bhk,bhkv->bhkv", a, S)


def correct(S: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """The delta step: move what S holds for k towards v."""
    return S + per_head(beta, put(k, v - look(S, k)))


def scalar_gate(d, n):
    return {"g": d.decay()}


def gate_and_beta(d, n):
    return {"g": d.decay(), "beta": d.between(0, 1)}


# -- the state is not read ---------------------------------------------------------------------------------------------


@loop(qkv())
def linear_attention(x, s):
    S = s[0] + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


@loop(qkv())
def retnet(x, s):
    decays = torch.tensor([1 - 0.5 ** (5 + head) for head in range(x["q"].shape[1])], dtype=x["q"].dtype)
    S = einsum("h,bhkv->bhkv", decays, s[0]) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


@loop(qkv())
def lightning(x, s):
    heads = x["q"].shape[1]
    slopes = torch.tensor([8 * head / heads for head in range(heads)], dtype=x["q"].dtype)
    S = einsum("h,bhkv->bhkv", torch.exp(-0.75 * slopes), s[0]) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


@loop(qkv(scalar_gate))
def simple_gla(x, s):
    S = per_head(torch.exp(x["g"]), s[0]) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"x": 2 * d.real()}))
def gated_retnet(x, s):
    S = per_head(torch.exp(-soft(-x["x"]) / 16), s[0]) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"x": 2 * d.real()}))
def gated_rfa(x, s):
    alpha = 1 / (1 + torch.exp(-x["x"]))
    S = per_head(alpha, s[0]) + per_head(1 - alpha, put(x["k"], x["v"]))
    return look(S, x["q"]), (S,)


def soft(x: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(x))


def draw_mamba2(d, n):
    return {
        "x": d.real(n.V), "B": d.real(n.K), "C": d.real(n.K), "dt": d.real(), "A_log": 0.3 * d.param(), "D": d.param(),
    }  # fmt: skip


@loop(draw_mamba2, params=("A_log", "D"))
def mamba2(x, s):
    dt = soft(x["dt"])
    S = per_head(torch.exp(-dt * torch.exp(x["A_log"])[None]), s[0]) + put(x["B"], einsum("bh,bhv->bhv", dt, x["x"]))
    return look(S, x["C"]) + einsum("h,bhv->bhv", x["D"], x["x"]), (S,)


@loop(qkv(lambda d, n: {"g": d.decay(n.K)}))
def gla(x, s):
    S = per_key(torch.exp(x["g"]), s[0]) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


def draw_hgrn2(d, n):
    return {"q": d.real(n.K), "v": d.real(n.V), "f": d.real(n.K), "lower": torch.sigmoid(d.param(n.K))}


@loop(draw_hgrn2, params=("lower",))
def hgrn2(x, s):
    low = x["lower"][None]
    a = low + (1 - low) / (1 + torch.exp(-x["f"]))
    S = per_key(a, s[0]) + put(1 - a, x["v"])
    return look(S, x["q"]), (S,)


def draw_rwkv6(d, n):
    return {"r": d.real(n.K), "k": d.key(n.K), "v": d.real(n.V), "w": d.real(n.K), "u": d.param(n.K)}


@loop(draw_rwkv6, params=("u",))
def rwkv6(x, s):
    o = look(s[0], x["r"]) + einsum("bhk,hk,bhk,bhv->bhv", x["r"], x["u"], x["k"], x["v"])
    return o, (per_key(torch.exp(-torch.exp(x["w"])), s[0]) + put(x["k"], x["v"]),)


@loop(qkv(lambda d, n: {"ga": d.decay(n.K), "gb": d.decay(n.V)}))
def decaying_fast_weights(x, s):
    S = einsum("bhk,bhkv,bhv->bhkv", torch.exp(x["ga"]), s[0], torch.exp(x["gb"])) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


@loop(qkv(), states=lambda n: ((n.K, n.V), (n.K,)))
def linear_attention_normalized(x, s):
    q, k = soft(x["q"]), soft(x["k"])
    S, z = s[0] + put(k, x["v"]), s[1] + k
    return look(S, q) / einsum("bhk,bhk->bh", z, q)[..., None], (S, z)


# -- the state is read -------------------------------------------------------------------------------------------------


@loop(qkv(lambda d, n: {"beta": d.between(0, 1)}))
def deltanet(x, s):
    S = correct(s[0], x["k"], x["v"], x["beta"])
    return look(S, x["q"]), (S,)


@loop(qkv(gate_and_beta))
def gated_deltanet(x, s):
    S = correct(per_head(torch.exp(x["g"]), s[0]), x["k"], x["v"], x["beta"])
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"g": d.decay(n.K), "beta": d.between(0, 1)}))
def kda(x, s):
    S = correct(per_key(torch.exp(x["g"]), s[0]), x["k"], x["v"], x["beta"])
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"g": d.decay(n.K), "b": d.between(0, 1, n.K), "w": d.between(0, 1, n.V)}))
def gated_deltanet2(x, s):
    S = per_key(torch.exp(x["g"]), s[0])
    S = S + put(x["k"], x["w"] * x["v"]) - put(x["k"], look(S, x["b"] * x["k"]))
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"p": d.key(n.K), **gate_and_beta(d, n)}))
def comba(x, s):
    S = per_head(torch.exp(x["g"]), s[0]) + per_head(x["beta"], put(x["k"], x["v"] - look(s[0], x["p"])))
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"a": d.key(n.K), "b": -0.6 * d.key(n.K), "g": d.decay(n.K)}))
def rwkv7(x, s):
    S = per_key(torch.exp(x["g"]), s[0]) + put(x["b"], look(s[0], x["a"])) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"a": d.key(n.K), "b": -0.6 * d.key(n.K)}))
def iplr(x, s):
    S = s[0] + put(x["b"], look(s[0], x["a"])) + put(x["k"], x["v"])
    return look(S, x["q"]), (S,)


def draw_product(d, n):
    return {"q": d.real(n.K), "k": d.key(n.R, n.K), "v": d.real(n.R, n.V), "beta": d.between(0, 2, n.R)}


def in_turn(S, x):
    for k, v, beta in zip(x["k"].unbind(2), x["v"].unbind(2), x["beta"].unbind(2), strict=True):
        S = correct(S, k, v, beta)
    return S


@loop(draw_product)
def delta_product(x, s):
    S = in_turn(s[0], x)
    return look(S, x["q"]), (S,)


@loop(lambda d, n: {**draw_product(d, n), "g": d.decay()})
def gated_delta_product(x, s):
    S = in_turn(per_head(torch.exp(x["g"]), s[0]), x)
    return look(S, x["q"]), (S,)


def draw_lowrank(d, n):
    A = d.key(n.R, n.K).mT
    return {"q": d.real(n.K), "A": A, "B": -0.7 * A + 0.1 * d.real(n.K, n.R), "W": d.real(n.V, n.R)}


def simultaneous(S, x):
    """(I + B A^T) S + B W^T."""
    return S + einsum("bhkr,bhjr,bhjv->bhkv", x["B"], x["A"], S) + einsum("bhkr,bhvr->bhkv", x["B"], x["W"])


@loop(draw_lowrank)
def lowrank_delta(x, s):
    S = simultaneous(s[0], x)
    return look(S, x["q"]), (S,)


@loop(lambda d, n: {**draw_lowrank(d, n), "g": d.decay()})
def gated_lowrank_delta(x, s):
    S = simultaneous(per_head(torch.exp(x["g"]), s[0]), x)
    return look(S, x["q"]), (S,)


@loop(lambda d, n: {**draw_lowrank(d, n), "g": d.decay(n.K)})
def kda_lowrank(x, s):
    S = simultaneous(per_key(torch.exp(x["g"]), s[0]), x)
    return look(S, x["q"]), (S,)


@loop(qkv(lambda d, n: {"beta": d.between(0.1, 3)}, key=lambda d, n: 0.6 * d.real(n.K) * (d.between(0, 1, 1) > 0.2)))
def delta_exact(x, s):
    rate = x["beta"] * einsum("bhk,bhk->bh", x["k"], x["k"])
    other = torch.where(rate == 0, 1, rate)  # the quotient's first two terms are 1 - rate / 2
    shrunk = torch.where(rate == 0, 1 - rate / 2, (1 - torch.exp(-other)) / other)
    S = correct(s[0], x["k"], x["v"], x["beta"] * shrunk)
    return look(S, x["q"]), (S,)


@loop(lambda d, n: {"q": d.real(n.K), "k": d.real(n.K), "v": d.key(n.V), "g": d.decay(n.V), "beta": d.between(0, 1)})
def gated_oja(x, s):
    S = einsum("bhkv,bhv->bhkv", s[0], torch.exp(x["g"]))
    error = x["k"] - einsum("bhkv,bhv->bhk", S, x["v"])
    S = S + per_head(x["beta"], put(error, x["v"]))
    return look(S, x["q"]), (S,)


# -- several states, or no matrix state --------------------------------------------------------------------------------


def draw_gsa(d, n):
    return {"q": d.real(n.K), "k": d.key(n.K), "v": d.real(n.V), "s": d.real(n.M), "f": d.real(n.M)}


@loop(draw_gsa, states=lambda n: ((n.K, n.M), (n.M, n.V)))
def gsa(x, s):
    a = 1 / (1 + torch.exp(-x["f"]))
    write = (1 - a) * x["s"]
    P = einsum("bhkm,bhm->bhkm", s[0], a) + put(x["k"], write)
    score = torch.exp(look(P, x["q"]))
    U = per_key(a, s[1]) + put(write, x["v"])
    return look(U, score / score.sum(-1, keepdim=True)), (P, U)


@loop(qkv(lambda d, n: {"i": d.real(), "f": d.real() + 2}), lambda n: ((), (n.K, n.V), (n.K,)), (), (-torch.inf, 0, 0))
def mlstm(x, s):
    m0, C, z = s
    forget = m0 - soft(-x["f"])
    m = torch.maximum(forget, x["i"])
    keep, write = torch.exp(forget - m), torch.exp(x["i"] - m)
    C = per_head(keep, C) + per_head(write, put(x["k"], x["v"]))
    z = einsum("bh,bhk->bhk", keep, z) + einsum("bh,bhk->bhk", write, x["k"])
    floor = torch.maximum(einsum("bhk,bhk->bh", z, x["q"]).abs(), torch.exp(-m))
    return look(C, x["q"]) / floor[..., None], (m, C, z)


def draw_mamba(d, n):
    tokens = {"x": d.real(n.V), "dt": d.real(n.V), "B": d.real(n.K), "C": d.real(n.K)}
    return {**tokens, "A": -torch.exp(d.param(n.K, n.V)), "Dskip": d.param(n.V)}


@loop(draw_mamba, params=("A", "Dskip"))
def mamba(x, s):
    dt = soft(x["dt"])
    h = torch.exp(einsum("hkv,bhv->bhkv", x["A"], dt)) * s[0] + put(x["B"], dt * x["x"])
    return look(h, x["C"]) + einsum("hv,bhv->bhv", x["Dskip"], x["x"]), (h,)


@loop(lambda d, n: {"x": d.real(n.V), "f": d.real(n.V)}, states=lambda n: ((n.V,),))
def hgrn(x, s):
    f = 1 / (1 + torch.exp(-x["f"]))
    h = f * s[0] + (1 - f) * x["x"]
    return h, (h,)


def draw(name: str, sizes: Sizes = Sizes(), seed: int = 0) -> Tensors:
    """Inputs of `name` by the names of its spec."""
    return LOOPS[name].draw(Draw(sizes, seed), sizes)
