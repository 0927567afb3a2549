"""Bars, as SVG."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

LEFT, WIDTH, RIGHT = 470, 420, 110
BAR, GAP, TOP = 16, 8, 46
OURS_COLOUR, FLOOR_COLOUR, PEER_COLOUR = "#1f6f54", "#9a9a9a", "#c0823b"


class Bar(NamedTuple):
    """One measured value, with its quartiles, in milliseconds."""

    label: str
    value: float
    low: float
    high: float
    colour: str = PEER_COLOUR


def plot(title: str, bars: list[Bar]) -> str:
    """Return a plot of horizontal bars, the shortest first; quartiles are thin lines."""
    bars = sorted(bars, key=lambda bar: bar.value)
    scale = WIDTH / max(bar.high for bar in bars)
    width, height = LEFT + WIDTH + RIGHT, TOP + len(bars) * (BAR + GAP) + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        "<style>text { font: 13px sans-serif }</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="26" style="font: bold 16px sans-serif">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        top = TOP + number * (BAR + GAP)
        base, middle = top + BAR - 4, top + BAR / 2
        end = LEFT + max(1.0, bar.value * scale)
        low, high = LEFT + bar.low * scale, LEFT + bar.high * scale
        lines += [
            f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">{escape(bar.label)}</text>',
            _rectangle(top, end - LEFT, bar.colour),
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="#000"/>',
            f'<text x="{max(end, high) + 6:.1f}" y="{base}">{milliseconds(bar.value)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _rectangle(top: float, width: float, colour: str) -> str:
    return f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'


def milliseconds(value: float) -> str:
    """Return a time as people read it: three digits, or all before the point."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} ms"
