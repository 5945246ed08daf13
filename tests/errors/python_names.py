@flowc.jit
def names(S: "state K x V", m: "state M", q: "K", k: "R of K", v: "V", state: "K", *, tau=2.5, W):
    kn = l2norm(q)
    kn = 2 * kn
    q = l2norm(q)
    a = late + K(q) + exq(q) + Q
    b = k + k[tau] + k[kn] + ones(q) + ones(N)
    c = l2norm(q, eps=q)
    for r in range(tau):
        d = q
    late = q
    S = S + q @ q.T
    return S, m, S.T @ q


@flowc.jit
def nothing_declared(x: "param K"):
    a = x
    return a
