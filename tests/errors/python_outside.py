import math
from constants import EPS

TAU = 16


def make(scale):
    @flowc.jit
    def inner(S: "state K x V", q: "K", v: "V"):
        S = S + (q / TAU) @ v.T + math.pi
        return S, S.T @ (scale * q) + unknown

    return inner


@flowc.jit
def outer(S: "state K x V", q: "K", v: "V"):
    S = S + l2norm(q, eps=EPS) @ v.T
    return S, S.T @ q * scale
