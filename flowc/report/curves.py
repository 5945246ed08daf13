"""Curves as an SVG picture, both axes logarithmic.

In: `Panel`s, each with some named series of positive numbers. Out: the text of an SVG file, panels three in a row,
every series of one name in one colour. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 180, 60, 50, 40
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by colour-blind readers too
STYLE = "font-family: sans-serif; font-size: 11px"


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: series of points by name."""

    title: str
    across: str
    series: Mapping[str, Sequence[tuple[float, float]]]


def svg(panels: Sequence[Panel], title: str) -> str:
    """The picture."""
    columns = min(len(panels), 3)
    rows = ceil(len(panels) / columns)
    width = columns * (WIDTH + LEFT + GAP)
    height = TOP + rows * (HEIGHT + 2 * GAP)
    names = list(dict.fromkeys(n for p in panels for n in p.series))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" style="{STYLE}">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(LEFT, 20, title, weight="bold"),
    ]
    for at, name in enumerate(names):
        x = LEFT + 110 * at
        parts.append(f'<line x1="{x}" y1="34" x2="{x + 20}" y2="34" stroke="{COLOURS[at % 4]}" stroke-width="2"/>')
        parts.append(_text(x + 26, 38, name))
    for at, panel in enumerate(panels):
        left = at % columns * (WIDTH + LEFT + GAP) + LEFT
        parts += _panel(panel, left, TOP + at // columns * (HEIGHT + 2 * GAP) + GAP // 2, names)
    return "\n".join((*parts, "</svg>", ""))


def _panel(panel: Panel, left: float, top: float, names: Sequence[str]) -> list[str]:
    points = [p for series in panel.series.values() for p in series]
    low, high = floor(log10(min(y for _, y in points))), ceil(log10(max(y for _, y in points)))
    high = max(high, low + 1)
    first, last = (log10(f(x for x, _ in points)) for f in (min, max))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - first) / ((last - first) or 1)
        return left + WIDTH * across, top + HEIGHT * (high - log10(y)) / (high - low)

    parts = [
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>',
        _text(left, top - 6, panel.title),
        _text(left + WIDTH / 2, top + HEIGHT + 30, panel.across, anchor="middle"),
    ]
    for power in range(low, high + 1):
        _, y = place(10**first, 10.0**power)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(left - 5, y + 4, f"1e{power}", anchor="end"))
    for value in sorted({x for x, _ in points}):
        x, _ = place(value, 10.0**low)
        parts.append(_text(x, top + HEIGHT + 15, f"{value:g}", anchor="middle"))
    for name, series in panel.series.items():
        colour = COLOURS[names.index(name) % 4]
        places = [place(x, y) for x, y in series]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
