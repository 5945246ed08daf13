@_jit
def _tl_exprel_slope(x):
    """The derivative of (exp(x) - 1) / x, by its series near 0."""
    near = tl.abs(x) < 0.25
    safe = tl.where(near, 1.0, x)
    far = (tl.exp(safe) * (safe - 1.0) + 1.0) / (safe * safe)
    series = 0.5 + x * (1.0 / 3.0 + x * (0.125 + x * (1.0 / 30.0 + x * (1.0 / 144.0 + x * (1.0 / 840.0 + x / 5760.0)))))
    return tl.where(near, series, far)
