@_jit
def _tl_decay_apply(weights, vectors, mine, theirs, seen, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """sum_m' weights[m,m'] mine[m,k] vectors[m',k] theirs[m',k] over those that are seen."""
    seen = tl.where(seen, weights.to(DOT), 0.0).to(DOT)
    return mine * _tl_product(seen, (vectors * theirs).to(DOT), PRECISION)
