@_jit
def _tl_power(x, count: tl.constexpr):
    """x ** count for a whole number from 1."""
    out = x
    for _ in tl.static_range(count - 1):
        out = out * x
    return out
