@flowc.jit
def previous(S: "state K x V", q: "K", k: "R of K", v: "V", u: "param V"):
    a = 2 * v
    b = prev(a) + prev(v + v) + prev(u)
    c = prev(q, 2) + q[t - 1] + k[S] + k[-1] + (q + q)[0]
    d = S[t - 1] + S[0]
    S = S + q @ v.T
    e = prev(k)
    return S, S.T @ q
