"""flowc: matrix-state recurrences, written as in a paper, compiled to chunked differentiable torch ops."""

__version__ = "0.1.0"
