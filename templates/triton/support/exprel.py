@_jit
def _tl_exprel(x):
    """(exp(x) - 1) / x, and 1 at 0."""
    return tl.where(x == 0.0, 1.0, _tl_expm1(x) / tl.where(x == 0.0, 1.0, x))
