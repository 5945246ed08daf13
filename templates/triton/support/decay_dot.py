@_jit
def _tl_decay_dot(left, right, up, low, seen, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """sum_k left[m,k] up[m,k] right[m',k] low[m',k] where m' is seen."""
    return tl.where(seen, _tl_product((left * up).to(DOT), tl.trans((right * low).to(DOT)), PRECISION), 0.0)
