@_jit
def _tl_log1p(x):
    """log(1 + x), near 0 as well (Kahan): what 1 + x rounds to cancels."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))
