"""The look of the figures: light background, colours that colour-blind readers can tell apart, text of 12 px and more."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workflow.operators import OPERATORS

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY, BLACK = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
    "#8c8c8c",
    "#222222",
)
"""Okabe and Ito's palette, grey and near-black."""
CYCLE = (GREEN, PURPLE, SKY, ORANGE, RED, GREY, BLUE, BLACK, YELLOW, "#a6761d", "#8c564b", "#5b6fb5")
"""Colours for as many things as a run has names for, in their order."""
OPERATOR_COLOURS = (
    "#0072b2", "#56b4e9", "#009e73", "#c98a00", "#d55e00", "#b0588c", "#5b6fb5", "#7d9a2e", "#777777", "#8c564b", "#17a2b8", "#a6761d",
)  # fmt: skip
"""In the order of the catalogue of operators, and again from the start where it has more."""

PX_PER_INCH = 96
HALF, FULL = 545, 1110
"""Widths in pixels of a figure in one of two columns, and across the page."""
RC = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def figure(
    width_px: int, height_px: int, *, ncols: int = 1, nrows: int = 1, sharex: bool = False, sharey: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of that size on the page with its axes row by row; closed afterwards."""
    with plt.rc_context(RC):  # pyright: ignore[reportArgumentType]
        size = (width_px / PX_PER_INCH, height_px / PX_PER_INCH)
        drawn, axes = plt.subplots(nrows, ncols, figsize=size, layout="constrained", squeeze=False, sharex=sharex, sharey=sharey)
        try:
            yield drawn, list(axes.flat)
        finally:
            plt.close(drawn)


def svg(drawn: Figure, label: str) -> str:
    """The figure as inline SVG with an accessible label; its ids cannot clash with those of another figure."""
    out = io.StringIO()
    with plt.rc_context(RC | {"svg.hashsalt": label}):  # pyright: ignore[reportArgumentType]
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    prefix = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{prefix}-\1"', text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def smooth(values: list[float], window: int) -> list[float]:
    """Centred moving mean; shorter at both ends."""
    half = window // 2
    spans = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(span) / len(span) for span in spans]


def operator_colour(name: str) -> str:
    """The outline of an operator's nodes; one that this process does not know has a colour by its name."""
    known = list(OPERATORS)
    if name in known:
        return OPERATOR_COLOURS[known.index(name) % len(OPERATOR_COLOURS)]
    others = OPERATOR_COLOURS[len(known) :] or OPERATOR_COLOURS
    return others[crc32(name.encode()) % len(others)]


def tint(colour: str, strength: float = 0.2) -> str:
    """A light shade of the colour, on which dark text is legible."""
    channels = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - strength * (255 - channel)):02x}" for channel in channels)
