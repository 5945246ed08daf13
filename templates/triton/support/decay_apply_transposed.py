@_jit
def _tl_decay_apply_transposed(weights, vectors, up, low, seen, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """sum_m weights[m,m'] vectors[m,k] up[m,k] low[m',k] over the rows that see m'."""
    seen = tl.trans(tl.where(seen, weights, 0.0).to(DOT))
    return low * _tl_product(seen, (vectors * up).to(DOT), PRECISION)
