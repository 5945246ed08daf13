@flowc.jit
def cautions(S: "state K x V", m: "state K", q: "K", k: "K", v: "V", g: "scalar", h: "param V", z: "V"):
    """A spec that is legal, and probably not what is meant."""
    m = m + k
    S = exp(g) * S @ diag(h)
    S = S + k @ (v - S.T @ k).T
    return S, m, S.T @ q
