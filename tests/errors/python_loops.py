@flowc.jit
def loops(S: "state K x V", q: "K", k: "R of K", v: "R of V"):
    for r in range(R):
        S = S + k[r] @ v[r].T
    for r in range(1, R):
        S = S + k[r] @ v[r].T
    for key in k:
        S = S + key @ v[0].T
    for r, key in enumerate(k):
        S = S + key @ v[r].T
    for r in range(R):
        S = S / 2
    else:
        S = 2 * S
    for r in range(W):
        a = r
    b = a
    for r in range(R):
        o = S.T @ k[r]
    for r in range(4):
        S = S + k[r] @ v[r].T
    return S, o
