def _product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left @ right of every head into `out`, made in the operands' type."""
    return torch.bmm(left, right, out=out) if left.dtype == out.dtype else out.copy_(torch.bmm(left, right))


def _sum_product(total: Tensor, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """total + left @ right of every head."""
    if left.dtype == total.dtype:
        return torch.baddbmm(total, left, right, out=out)
    return torch.add(total, torch.bmm(left, right), out=out)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """total + left @ right of every head, or chunk and head, in the memory of `total`, which nothing else holds."""
    if total.dim() == 4:
        _add_product(total.view(-1, *total.shape[2:]), left.flatten(0, 1), right.flatten(0, 1))
    elif left.dtype == total.dtype:
        total.baddbmm_(left, right)
    else:
        total.add_(torch.bmm(left, right))
    return total
