"""Specs as Python functions: each gives the very module that the `.flow` file of its name gives, but for the title."""

import flowc


@flowc.jit
def linear_attention(S: "state K x V", q: "K", k: "K", v: "V"):
    """Linear attention without a feature map (Katharopoulos et al. 2020, arXiv 2006.16236)."""
    S = S + k @ v.T
    return S, S.T @ q


@flowc.jit
def rwkv6(S: "state K x V", r: "K", k: "K", v: "V", w: "K", u: "param K"):
    """RWKV-6: the output sees the old state plus a bonus for this token (Peng et al. 2024, arXiv 2404.05892)."""
    o = (S + diag(u) @ k @ v.T).T @ r
    S = diag(exp(-exp(w))) @ S + k @ v.T  # the gate is in (0, 1) for every real w
    return S, o


@flowc.jit
def gated_delta_product(
    S: "state K x V", q: "K", k: "R of K", v: "R of V", beta: "R of scalar in (0, 2)", g: "scalar <= 0"
):
    """Gated DeltaProduct: one gate, then R Householder delta steps (arXiv 2502.10297)."""
    S = exp(g) * S
    for r in range(R):
        S = S + beta[r] * k[r] @ (v[r] - S.T @ k[r]).T
    return S, S.T @ q
