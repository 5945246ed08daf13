@lru_cache
def _multiplies_bfloat16() -> bool:
    """Whether the CPU has products in bfloat16 (AVX-512 BF16 or AMX), which take a fraction of float32's time."""
    tests = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test() for test in tests if test is not None)


def _narrow(operands: Sequence[Tensor], dtype: torch.dtype) -> torch.dtype:
    """What operands of products are rounded to, by the inputs that they are made of: bfloat16 if all are, and the CPU has it."""
    if dtype != torch.float32 or any(x.dtype != torch.bfloat16 or x.device.type != "cpu" for x in operands):
        return dtype
    return torch.bfloat16 if _multiplies_bfloat16() else dtype
