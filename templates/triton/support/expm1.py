@_jit
def _tl_expm1(x):
    """exp(x) - 1, near 0 as well (Kahan): what exp(x) rounds to cancels."""
    u = tl.exp(x)
    near = (u - 1.0) * (x / tl.where((u == 1.0) | (u == 0.0), 1.0, tl.log(u)))
    return tl.where(u == 1.0, x, tl.where(tl.abs(x) < 1.0, near, u - 1.0))
