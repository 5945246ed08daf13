@flowc.jit
def characters(S: "state K x V", q: "K", v: "V"):
    "A bell: \a"
    S = S + 1e999 * q @ v.T + 1e-301 * q @ v.T + 0.12345678901234567890123456789012345678901 * q @ v.T
    ℘ = q
    return S, S.T @ q
