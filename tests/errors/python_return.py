@flowc.jit
def nothing(S: "state K x V", q: "K", v: "V"):
    S = S + q @ v.T


@flowc.jit
def early(S: "state K x V", q: "K", v: "V"):
    return S, S.T @ q
    S = S + q @ v.T
    return


@flowc.jit
def argument(S: "state K x V", q: "K", v: "V"):
    S = S + q @ v.T
    return S, S, q, v + 1, v + 2


@flowc.jit
def taken(S: "state K x V", m: "state K", q: "K", o: "V"):
    S = S + q @ o.T
    m = m + q
    return m, S.T @ q


@flowc.jit
def order(S: "state K x V", q: "K", v: "V"):
    a = S.T @ q
    S = S + q @ v.T
    b = S.T @ q
    return S, b, a


@flowc.jit
def read(S: "state K x V", q: "K", v: "V"):
    S = S + q @ v.T
    a = S.T @ q
    b = 2 * a
    return S, a, b


@flowc.jit
def alone(S: "state K x V", q: "K", v: "V"):
    S = S + q @ v.T
    return S
