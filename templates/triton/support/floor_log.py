@_jit
def _tl_floor_log(x):
    """A log gate, at least -104: exp of it is 0 in float32, and its multiples are finite. NaN stays."""
    return tl.where(x < -104.0, -104.0, x)
