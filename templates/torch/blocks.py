class _Blocks:
    """A chunk of C tokens halved again and again, for gates that differ along the state's rows.

    At each level the later half of a block reads what the earlier half writes. Gates enter as two factors, each at most 1,
    through the sum at the first token of the later half; all levels are gathered and multiplied together. What is left,
    blocks of a few tokens, is summed directly.
    """

    def __init__(
        self, upper: Tensor, lower: Tensor, sums: Tensor, tokens: int, dtype: torch.dtype, narrow: torch.dtype
    ) -> None:
        """Gate sums of rows [N, B H, C J, K] and columns [N, B H, C L, K], and all sums [N, B H, C G + 1, K]."""
        self.tokens, self.size, self.dtype, self.narrow = tokens, 1 << (tokens - 1).bit_length(), dtype, narrow
        gates = (sums.shape[2] - 1) // tokens
        self.rows, self.columns = upper.shape[2] // tokens, lower.shape[2] // tokens
        end = sums[:, :, -1:]
        self.upper, self.lower = self.fill(upper, self.rows, end), self.fill(lower, self.columns, end)
        self.starts = self.fill(sums[:, :, : tokens * gates : gates], 1, end)
        self.direct = min(self.size, max(1, 4 // max(self.rows, self.columns)))
        self.levels = (self.size // self.direct).bit_length() - 1
        self.index = _halving(self.size, self.direct, self.rows, self.columns, upper.device)
        self.masked: dict[Any, Tensor] = {}

    def fill(self, values: Tensor, rows: int, end: Tensor | None = None) -> Tensor:
        """Filled up to a power of two of tokens: with zeros, gate sums with the chunk's last so that no factor exceeds 1."""
        missing = (self.size - self.tokens) * rows
        if missing == 0:
            return values
        tail = values.new_zeros(1) if end is None else end
        return torch.cat((values, tail.expand(*values.shape[:2], missing, values.shape[3])), 2)

    def log(self, upper: Tensor, lower: Tensor) -> Tensor:
        """upper - lower in the type to compute in, without a wider copy."""
        return torch.sub(upper, lower, out=upper.new_empty(0, dtype=self.dtype))

    @cached_property
    def later(self) -> Tensor:
        """Factors of later rows to their anchors, level after level: [N, B H, levels * C / 2 * J, K]."""
        anchor = self.starts.index_select(2, self.index["late_anchor"])
        return _decays(self.log(self.upper.index_select(2, self.index["later"]), anchor))

    @cached_property
    def earlier(self) -> Tensor:
        """Factors of anchors to earlier columns, likewise."""
        anchor = self.starts.index_select(2, self.index["early_anchor"])
        return _decays(self.log(anchor, self.lower.index_select(2, self.index["earlier"])))

    def near(self, seen: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor:
        """exp(upper - lower) within blocks of `direct` tokens, masked: [N, B H, blocks, rows, columns, K]."""
        if seen not in self.masked:
            highest = _highest(*seen, self.direct, self.upper.device, self.dtype)[:, :, None]
            blocks = self.size // self.direct
            upper = self.upper.unflatten(2, (blocks, self.direct * self.rows))
            lower = self.lower.unflatten(2, (blocks, self.direct * self.columns))
            log = self.log(upper[:, :, :, :, None], lower[:, :, :, None])
            self.masked[seen] = _decays(torch.minimum(log, highest, out=log))
        return self.masked[seen]

    def diagonal(self, matrix: Tensor) -> Tensor:
        """The blocks of `direct` tokens on the diagonal of [N, B H, rows, columns]: [N, B H, blocks, rows, columns]."""
        blocks = self.size // self.direct
        tiles = matrix.unflatten(3, (blocks, self.direct * self.columns)).unflatten(2, (blocks, self.direct * self.rows))
        return tiles.diagonal(0, 2, 4).movedim(-1, 2)
