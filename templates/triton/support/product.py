@_jit
def _tl_product(left, right, PRECISION: tl.constexpr):
    """A product whose left operand is computed, in blocks of 16 rows.

    A product of 64 rows would be a warp group's, and ptxas can corrupt one whose left operand comes from registers.
    """
    M: tl.constexpr = left.shape[0]
    if M < 64:
        return tl.dot(left, right, input_precision=PRECISION, out_dtype=tl.float32)
    else:
        N: tl.constexpr = right.shape[1]
        K: tl.constexpr = right.shape[0]
        rows = tl.reshape(left, (M // 16, 16, K))
        made = tl.dot(rows, tl.broadcast_to(right[None], (M // 16, K, N)), input_precision=PRECISION, out_dtype=tl.float32)
        return tl.reshape(made, (M, N))
