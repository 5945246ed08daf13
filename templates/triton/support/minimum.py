@_jit
def _tl_minimum(x, y):
    """The smaller one; NaN where one is."""
    return tl.where((x < y) | (x != x), x, y)
