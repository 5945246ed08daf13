class _Blocks:
    """A chunk of C tokens halved again and again, for gates that differ along the state's rows.

    At each level the later half of a block reads what the earlier half writes. Gates enter as two factors, each at most 1,
    through the sum at the first token of the later half; what is left, blocks of a few tokens, is summed directly.
    """

    def __init__(
        self,
        upper: Tensor,
        lower: Tensor,
        sums: Tensor,
        tokens: int,
        dtype: torch.dtype,
    ) -> None:
        """Gate sums of rows [N, B H, C J, K] and columns [N, B H, C L, K], and all sums [N, B H, C G + 1, K]."""
        self.masked: dict[Any, Tensor] = {}
        self.tokens, self.size, self.dtype = tokens, 1 << (tokens - 1).bit_length(), dtype
        gates = (sums.shape[2] - 1) // tokens
        self.rows, self.columns = upper.shape[2] // tokens, lower.shape[2] // tokens
        end = sums[:, :, -1:]
        self.upper, self.lower = self.fill(upper, self.rows, end), self.fill(lower, self.columns, end)
        self.starts = self.fill(sums[:, :, : tokens * gates : gates], 1, end)
        self.direct = min(self.size, max(1, 4 // max(self.rows, self.columns)))

    def fill(self, values: Tensor, rows: int, end: Tensor | None = None) -> Tensor:
        """Filled up to a power of two of tokens: with zeros, gate sums with the chunk's last so that no factor exceeds 1."""
        missing = (self.size - self.tokens) * rows
        if missing == 0:
            return values
        tail = values.new_zeros(1) if end is None else end
        return torch.cat((values, tail.expand(*values.shape[:2], missing, values.shape[3])), 2)

    def cut(self, values: Tensor, rows: int, half: int) -> Tensor:
        """[N, B H, rows, K] as [N, B H, blocks, 2, rows of a half, K]."""
        return values.unflatten(2, (self.size // (2 * half), 2, half * rows))

    def decay(self, upper: Tensor, lower: Tensor) -> Tensor:
        """upper - lower in the type to compute in, without a wider copy."""
        return torch.sub(upper, lower, out=upper.new_empty(0, dtype=self.dtype))

    @cached_property
    def levels(self) -> list[tuple[int, Tensor, Tensor]]:
        """Per level the half's length and both factors: of later rows to the anchor, of the anchor to earlier columns."""
        found, half = [], self.size // 2
        while half >= self.direct:
            anchor = self.cut(self.starts, 1, half)[:, :, :, 1, :1]
            later = self.decay(self.cut(self.upper, self.rows, half)[:, :, :, 1], anchor).exp_()
            earlier = self.decay(anchor, self.cut(self.lower, self.columns, half)[:, :, :, 0]).exp_()
            found.append((half, later, earlier))
            half //= 2
        return found

    def near(self, seen: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor:
        """exp(upper - lower) within blocks of `direct` tokens, masked: [N, B H, blocks, rows, columns, K]."""
        if seen not in self.masked:
            self.masked[seen] = self.decays(_mask_matrix(*seen, self.direct, self.upper.device, self.dtype))
        return self.masked[seen]

    def decays(self, mask: Tensor) -> Tensor:
        """What `near` gives, for a mask of 0 and 1."""
        blocks = self.size // self.direct
        upper = self.upper.unflatten(2, (blocks, self.direct * self.rows))
        lower = self.lower.unflatten(2, (blocks, self.direct * self.columns))
        mask = mask[:, :, None]
        return self.decay(upper[:, :, :, :, None], lower[:, :, :, None]).mul_(mask).exp_().mul_(mask)

    def diagonal(self, matrix: Tensor, length: int) -> Tensor:
        """The blocks of `length` tokens on the diagonal of [N, B H, rows, columns]: [N, B H, blocks, rows, columns]."""
        blocks = self.size // length
        tiles = matrix.unflatten(3, (blocks, length * self.columns)).unflatten(2, (blocks, length * self.rows))
        return tiles.diagonal(0, 2, 4).movedim(-1, 2)

    def weights(self, matrix: Tensor) -> Tensor:
        """A matrix of rows by columns, filled up."""
        missing = self.size - self.tokens
        return F.pad(matrix, (0, missing * self.columns, 0, missing * self.rows)) if missing else matrix
