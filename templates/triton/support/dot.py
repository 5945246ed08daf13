@_jit
def _tl_dot(left, right, acc, PRECISION: tl.constexpr):
    """A product whose left operand is as memory holds it, added to `acc`; what is changed on the way is computed.

    That is another type than products are made in, and float32, which is multiplied in parts.
    """
    if left.dtype == right.dtype and left.dtype != tl.float32:
        return tl.dot(left, right, acc=acc, input_precision=PRECISION, out_dtype=tl.float32)
    elif acc is None:
        return _tl_product(left.to(right.dtype), right, PRECISION)
    else:
        return acc + _tl_product(left.to(right.dtype), right, PRECISION)
