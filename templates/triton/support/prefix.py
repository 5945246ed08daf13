@_jit
def _tl_prefix(gates, DOT: tl.constexpr):
    """The sums of log gates over a chunk's tokens up to each, in base 2, as whole numbers and what is left of them.

    In float32, whose halves are summed by products, the gates as they are.
    """
    if DOT == tl.float32:
        return gates, gates
    else:
        whole, rest = _tl_split(gates)
        return tl.cumsum(whole, 0), tl.cumsum(rest, 0)
