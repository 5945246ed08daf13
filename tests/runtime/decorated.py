"""Four examples and a recurrence of three states by hand, as a user writes them."""
# ruff: noqa: F821, F722

import flowc


@flowc.jit
def gated_deltanet(S: "state K x V", q: "K", k: "K", v: "V", g: "scalar <= 0", beta: "scalar in (0, 1)"):
    """gated_deltanet.flow -- Gated DeltaNet (Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464)"""
    S = exp(g) * S
    S = S + beta * k @ (v - S.T @ k).T
    return S, S.T @ q


@flowc.jit
def gated_delta_product(
    S: "state K x V",
    q: "K",
    k: "R of K",
    v: "R of V",
    beta: "R of scalar in (0, 2)",
    g: "scalar <= 0",  # log decay
):
    """gated_delta_product.flow -- Gated DeltaProduct: one gate, then R Householder delta steps (arXiv 2502.10297)"""
    S = exp(g) * S
    for r in range(R):
        S = S + beta[r] * k[r] @ (v[r] - S.T @ k[r]).T
    return S, S.T @ q


@flowc.jit()
def rwkv6(S: "state K x V", r: "K", k: "K", v: "V", w: "K", u: "param K"):
    """rwkv6.flow -- RWKV-6: the output sees the old state plus a bonus for this token (Peng et al. 2024, arXiv 2404.05892)"""  # noqa: E501
    o = (S + diag(u) @ k @ v.T).T @ r
    S = diag(exp(-exp(w))) @ S + k @ v.T
    return S, o


@flowc.jit(chunk_size=16)
def retnet(S: "state K x V", q: "K", k: "K", v: "V"):
    """retnet.flow -- RetNet: a fixed decay per head (Sun et al. 2023, arXiv 2307.08621)"""
    gamma = 1 - 2 ** (-5 - head)  # slower with every head
    S = gamma * S + k @ v.T
    return S, S.T @ q


@flowc.jit
def comba(S: "state K x V", q: "K", k: "K", p: "K", v: "V", g: "scalar <= 0", beta: "scalar in (0, 1)"):
    """comba.flow -- Comba: the delta step reads the state before the gate, at a key of its own"""
    S = exp(g) * S
    S = S + beta * k @ (v - prev(S).T @ p).T
    return S, S.T @ q


def mlstm(
    m: "state scalar = -inf",
    C: "state K x V",
    n: "state K",
    q: "K",
    k: "K",
    v: "V",
    i: "scalar",
    f: "scalar",
):
    """mlstm.flow -- mLSTM: matrix memory, normaliser, max-stabilised exponential gates"""
    m = max(logsigmoid(f) + m, i)
    decay = exp(logsigmoid(f) + prev(m) - m)
    write = exp(i - m)
    C = decay * C + write * k @ v.T
    n = decay * n + write * k
    return m, C, n, (C.T @ q) / max(abs(n.T @ q), exp(-m))


def squashed_in_rounds(S: "state K x V", q: "K", a: "R of K", b: "R of V"):
    """squashed_in_rounds.flow -- no chunked form, and as many rounds as the call says"""
    for r in range(R):
        S = tanh(S + a[r] @ b[r].T)
    return S, S.T @ q
