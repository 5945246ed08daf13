@flowc.jit
def annotations(
    S: "state K V",
    q: "K, V",
    k: "vector of",
    v: "input V",
    w: "K × V",
    x: "scalar in (0, 1",
    y: "state",
    z: "K in (1, 0)",
    a: "2.5",
    b: "R of K x V",
    c: "state R of K",
):
    S = S + q
    return S, S.T @ q
