@_jit
def _tl_inverse(matrix, N: tl.constexpr, AGGREGATION: tl.constexpr, PRECISION: tl.constexpr):
    """What is formed of a strictly lower triangular matrix for `_tl_solve`, in float32."""
    if AGGREGATION == "wy":
        return _tl_inverse_wy(matrix, N, PRECISION)
    elif AGGREGATION == "tensorinv":
        return _tl_inverse_tensorinv(matrix, N, PRECISION)
    else:
        return _tl_inverse_signature(matrix, N)
