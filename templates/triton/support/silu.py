@_jit
def _tl_silu(x):
    """x * sigmoid(x)."""
    return x / (1.0 + tl.exp(-x))
