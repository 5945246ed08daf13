@flowc.jit
def expressions(S: "state K x V", q: "K", k: "R of K", v: "V", g: "scalar"):
    a = q if g > 0 else v
    b = where(g > 0 and g < 1, q, q)
    c = where(0 < g < 1, q, q)
    d = where(g == 0, q, q)
    e = [k[r] for r in range(3)]
    f = sum(k[r] for r in range(3))
    h = torch.exp(g) + exp(g).sum()
    i = q.T.mT @ q + S.shape
    j = g // 2 + g % 2 + (g ^ 2)
    l = "q" + 1j + True + (lambda x: x)(q)
    m = exp(*q) + exp(**q)
    n = (q, v)
    o = not g
    p = (y := g)
    S = S + q @ v.T
    return S, S.T @ q
