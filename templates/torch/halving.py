@_cached
def _halving(size: int, direct: int, rows: int, columns: int, device: torch.device) -> dict[str, Tensor]:
    """Where rows and columns stand when `size` tokens are halved down to blocks of `direct`, as index tensors.

    At every level, tokens of a later half (`later`, by rows) read those of the half before it (`earlier`, by columns);
    both go through the gate sum at the later half's first token (`late_anchor`, `early_anchor`). `pairs` are the entries of
    a [rows, columns] matrix that each level's product holds, `far` the entry of the products that each pair of rows has.
    """
    halves = [direct << n for n in reversed(range((size // direct).bit_length() - 1))]
    late = [[t for t in range(size) if t // half % 2] for half in halves]
    early = [[t for t in range(size) if not t // half % 2] for half in halves]
    width = size * columns
    pairs, seen, far, within = [], [], [0] * (size * rows * width), [0.0] * (size * rows * width)
    for half, later, earlier in zip(halves, late, early, strict=True):
        for t in later:
            for j in range(rows):
                for s in earlier:
                    same = t // (2 * half) == s // (2 * half)
                    for i in range(columns):
                        entry = (t * rows + j) * width + s * columns + i
                        if same:
                            far[entry], within[entry] = len(pairs), 1.0
                        pairs.append(entry if same else 0)
                        seen.append(float(same))
    index = {
        "later": [t * rows + j for level in late for t in level for j in range(rows)],
        "earlier": [s * columns + i for level in early for s in level for i in range(columns)],
        "late_anchor": [t // h * h for h, level in zip(halves, late, strict=True) for t in level for _ in range(rows)],
        "early_anchor": [
            (s // h + 1) * h for h, level in zip(halves, early, strict=True) for s in level for _ in range(columns)
        ],
        "pairs": pairs,
        "far": far,
    }
    found = {name: torch.tensor(entries, device=device, dtype=torch.long) for name, entries in index.items()}
    return found | {"seen": torch.tensor(seen, device=device), "within": torch.tensor(within, device=device)}
