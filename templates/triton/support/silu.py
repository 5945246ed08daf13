@_jit
def _silu(x):
    """x * sigmoid(x)."""
    return x / (1.0 + tl.exp(-x))
