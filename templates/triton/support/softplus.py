@_jit
def _tl_softplus(x):
    """log(1 + exp(x)), without overflow."""
    return _tl_maximum(x, 0.0) + _tl_log1p(tl.exp(-tl.abs(x)))
