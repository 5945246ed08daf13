@_jit
def _minimum(x, y):
    """The smaller one; NaN where one is."""
    return tl.where((x < y) | (x != x), x, y)
