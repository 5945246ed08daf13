@_jit
def _tl_tanh(x):
    """tanh, near 0 as well."""
    e = _tl_expm1(-2.0 * tl.abs(x))
    return tl.where(x < 0.0, e, -e) / (2.0 + e)
