"""One look for all figures: a method has the same colour and marker wherever it is drawn."""

import hashlib
import math
import textwrap
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

WIDTH = 7.2
"""Width of a figure in inches: a page's text, or a column of GitHub's at 200 dots per inch."""

INK, MUTED, FAINT = "#222222", "#6b6b6b", "#d9d9d9"

RC: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that all machines draw the same
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "svg.hashsalt": "psan",  # the same ids, hence the same bytes, at each drawing
}


@dataclass(frozen=True)
class Look:
    """Colour and marker of a method."""

    color: str
    marker: str


# Okabe and Ito (2008), "Color universal design", and Tol (2021), "Colour schemes": told apart by
# readers with any of the usual kinds of colour blindness. Yellow is left out: too pale on white.
VERMILION, BLUE, GREEN, PURPLE = "#D55E00", "#0072B2", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
WINE, INDIGO, OLIVE, BROWN = "#882255", "#332288", "#999933", "#8c564b"
GREY, PALE = "#6f6f6f", "#a3a3a3"

KNOWN = {
    "psan": Look(VERMILION, "o"),
    "brits": Look(BLUE, "s"),
    "grin": Look(GREEN, "^"),
    "spin": Look(PURPLE, "D"),
    "spin_h": Look(INDIGO, "v"),
    "saits": Look(SKY, "P"),
    "transformer": Look(ORANGE, "X"),
    "imputeformer": Look(WINE, "p"),
    "rgain": Look(OLIVE, ">"),
    "mpgru": Look(BROWN, "<"),
    "linear": Look(BLACK, "d"),
    "last": Look(GREY, "h"),
    "mean": Look(PALE, "x"),
    "bimpgru": Look(BROWN, "8"),
    "week_mean": Look(PALE, "+"),
    "spline": Look(BLACK, "1"),
    "knn": Look(SKY, "x"),
    "knn_scaled": Look(SKY, "1"),
    "mf": Look(ORANGE, "+"),
    "mice": Look(WINE, "2"),
    "var": Look(OLIVE, "3"),
    "kalman": Look(INDIGO, "*"),
    "latc": Look(GREEN, "4"),
}
"""Methods of the suite; any other gets a look of `SPARE`, so that none has to be added here."""

SPARE = [
    Look(color, marker)
    for marker in ("*", "H", "8", "2")
    for color in (BLUE, ORANGE, GREEN, WINE, SKY, BROWN, PURPLE, OLIVE)
]


def context() -> AbstractContextManager[None]:
    """Draws in the suite's look, whatever the user's own settings of matplotlib are."""
    return mpl.rc_context({**mpl.rcParamsDefault, **RC})


def looks(models: Iterable[str]) -> dict[str, Look]:
    """A look for each method; that of an unknown one follows from its name."""
    found = {model: KNOWN[model] for model in models if model in KNOWN}
    for model in sorted(set(models) - set(KNOWN)):
        first = int(hashlib.sha256(model.encode()).hexdigest(), 16) % len(SPARE)
        turned = SPARE[first:] + SPARE[:first]
        found[model] = next((look for look in turned if look not in found.values()), turned[0])
    return found


def wrap(text: str, width: int) -> str:
    """Lines of at most `width` letters; a number stays with its per cent sign."""
    kept = text.replace(" %", "\N{NO-BREAK SPACE}%")
    return textwrap.fill(kept, width, break_long_words=False)


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high` for a logarithmic axis: the finest set of at most `most`.

    Args:
        low: above 0.
        high: above `low`.
        most: how many ticks there is room for.
    """
    even: list[list[float]] = [[i / n for i in range(n, 10 * n)] for n in (100, 50, 20, 10, 5, 2)]
    coarse: list[list[float]] = [[1, 1.5, 2, 3, 4, 6, 8], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for chosen in [*even, *coarse]:
        ticks = [round(m * 10.0**d, 9 - d) for d in decades for m in chosen]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= most:
            return inside
    return inside


def log_axis(ax: Axes, which: str, values: Iterable[float]) -> None:
    """Makes the "x" or "y" axis logarithmic, with room for `values` and round numbers on it."""
    positive = [value for value in values if 0 < value < math.inf] or [1.0]
    margin = max(0.06 * math.log10(max(positive) / min(positive)), 0.02)
    low, high = min(positive) / 10**margin, max(positive) * 10**margin
    axis = ax.yaxis if which == "y" else ax.xaxis
    ax.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def grid(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of two columns, or of one for a single panel; its axes that are in use."""
    columns = min(panels, 2)
    down = math.ceil(panels / columns)
    width = WIDTH if columns > 1 else 0.7 * WIDTH
    drawn = Figure(figsize=(width, height * down + 0.6), layout="constrained")
    axes = list(drawn.subplots(down, columns, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.remove()
    return drawn, axes[:panels]


def over_all(drawn: Figure, text: str) -> None:
    """Writes a title above all panels, wrapped to the figure's width."""
    drawn.suptitle(wrap(text, round(13 * drawn.get_figwidth())), x=0.01, ha="left", fontsize=8.5)
