@_jit
def _tl_maximum(x, y):
    """The larger one; NaN where one is."""
    return tl.where((x > y) | (x != x), x, y)
