@flowc.jit
def statements(S: "state K x V", q: "K", k: "R of K", v: "V", flag: "scalar"):
    """Statements that a spec does not have."""
    import torch
    assert q.shape == k.shape
    if flag > 0:
        S = 2 * S
    while True:
        S = S / 2
    S += q @ v.T
    a, b = q, v
    c = d = q
    k[0] = q
    S[0] = q
    e: "K" = q
    print(S)
    with torch.no_grad():
        f = q
    def helper(x):
        return x
    del q
    pass
    S = S + q @ v.T
    return S, S.T @ q
