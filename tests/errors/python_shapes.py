@flowc.jit
def shapes(S: "state K x V", q: "K", k: "K", v: "V", g: "K <= 0"):
    S = exp(g) * S + k @ v
    S = S + 1
    y = v.T
    o = (
        S
        @ q
    )
    return S, y, o
