@flowc.jit
async def coroutine(S: "state K"):
    return S, S


op = flowc.jit(lambda S, q: S + q)


@flowc.jit
def annotated(S: "state K x V", q: "K", v: "V") -> "V":
    S = S + q @ v.T
    return S, S.T @ q
