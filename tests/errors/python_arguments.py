@flowc.jit
def arguments(S: "state K x V", q, k: K, v: "", w: "V" "V", x: "\x4b", y: "K"=0, *rest, R: "K"=4, tau="2", **more):
    S = S + k @ v.T
    return S, S.T @ q
