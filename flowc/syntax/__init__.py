"""Text -> syntax tree, and back to the one canonical spelling. Lark lives only here."""

from flowc.syntax.parse import parse

__all__ = ["parse"]
