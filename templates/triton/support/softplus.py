@_jit
def _softplus(x):
    """log(1 + exp(x)), without overflow."""
    return _maximum(x, 0.0) + _log1p(tl.exp(-tl.abs(x)))
