@_jit
def _tl_decay_apply(weights, vectors, up, low, seen, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """sum_m' weights[m,m'] up[m,k] vectors[m',k] low[m',k] over those that are seen."""
    return up * _tl_product(tl.where(seen, weights, 0.0).to(DOT), (vectors * low).to(DOT), PRECISION)
