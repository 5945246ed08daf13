@_jit
def _tl_gelu(x):
    """x times the normal distribution's cumulative function."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
