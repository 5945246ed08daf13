@_cached
def _identity(rows: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The identity matrix."""
    return torch.eye(rows, device=device, dtype=dtype)


def _inverse_wy(matrix: Tensor) -> Tensor:
    """(I - matrix)^{-1} of strictly lower triangular matrices by forward substitution, the UT transform of the WY form."""
    eye = _identity(matrix.shape[-1], matrix.device, matrix.dtype)
    return torch.linalg.solve_triangular(eye - matrix, eye.expand_as(matrix), upper=False, unitriangular=True)


def _inverse_tensorinv(matrix: Tensor) -> Tensor:
    """(I - matrix)^{-1} by recursive block inversion: [[A, 0], [B, D]]^{-1} = [[A', 0], [-D' B A', D']]."""
    rows = matrix.shape[-1]
    size = 1 << max(rows - 1, 0).bit_length()
    least = _LEAST[matrix.dtype]
    matrix = F.hardshrink(F.pad(matrix, (0, size - rows, 0, size - rows)), least)
    out = torch.eye(size, dtype=matrix.dtype, device=matrix.device).repeat(*matrix.shape[:-2], 1, 1)
    half = 1
    while half < size:
        tiles = [x.unflatten(-1, (-1, 2 * half)).unflatten(-3, (-1, 2 * half)) for x in (matrix, out)]
        below, done = (x.diagonal(0, -4, -2).movedim(-1, -3) for x in tiles)
        first, last = done[..., :half, :half], done[..., half:, half:]
        done[..., half:, :half] = F.hardshrink(last @ below[..., half:, :half] @ first, least)
        half *= 2
    return out[..., :rows, :rows]


def _inverse_signature(matrix: Tensor) -> Tensor:
    """The inverses of I - matrix's diagonal blocks of 16 rows, by forward substitution; beside them, matrix as it is."""
    rows = matrix.shape[-1]
    missing = -rows % 16
    out = F.pad(matrix, (0, missing, 0, missing))
    blocks = out.unflatten(-1, (-1, 16)).unflatten(-3, (-1, 16)).diagonal(0, -4, -2).movedim(-1, -3)
    eye = torch.eye(16, dtype=matrix.dtype, device=matrix.device)
    blocks.copy_(torch.linalg.solve_triangular(eye - blocks, eye.expand_as(blocks), upper=False, unitriangular=True))
    return out[..., :rows, :rows]


_INVERSES = {"wy": _inverse_wy, "tensorinv": _inverse_tensorinv, "signature": _inverse_signature}
