"""Figures of a study's whole search space: a map of two parameters, and parallel coordinates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks import style
from benchmarks.tune.figures import BEST, Drawn, at_epoch, error_label, short, single
from benchmarks.tune.records import Records

COLORS = "viridis"
"""Dark is a small error; it is read by the colour-blind, and printed in grey."""

WIDTH, REACH = 0.12, 0.25
"""Of the smoothing, as shares of an axis: standard deviation, and how far a trial is a guide."""

MOST_VALUES = 6
"""As many values of a parameter are all marked on its axis."""

LEAST = 6
"""Trials below which a map says nothing."""


def contour(records: Records, shares: Mapping[str, float]) -> Drawn | None:
    """Validation error over two parameters."""
    names = _axes(records, shares)
    compared = records.comparable()
    if len(names) < 2 or len(compared) < LEAST:
        return None
    values = [records.values(trial) for trial, _ in compared]
    errors = np.array([error for _, error in compared])
    scales = [_Scale(records, name, [value[name] for value in values]) for name in names]
    places = np.stack([scale.places for scale in scales], axis=1)
    drawn, ax = single(3.6)
    norm = LogNorm(errors.min(), _worst(errors))
    line = np.linspace(-0.06, 1.06, 113)
    x, y = np.meshgrid(line, line)
    smooth = _smoothed(np.stack([x.ravel(), y.ravel()], axis=1), places, errors).reshape(x.shape)
    levels = np.geomspace(norm.vmin or 1, norm.vmax or 1, 12)
    ax.contourf(x, y, smooth, levels=levels, norm=norm, cmap=COLORS, alpha=0.75, extend="both")
    points = ax.scatter(
        places[:, 0], places[:, 1], c=errors, norm=norm, cmap=COLORS, edgecolors=style.INK,
        linewidths=0.6, s=28, zorder=3,
    )  # fmt: skip
    best = _place_of_best(records, [trial for trial, _ in compared])
    ax.plot(*places[best], "o", fillstyle="none", color=BEST, markersize=11, zorder=4)
    for which, scale, name in zip("xy", scales, names, strict=True):
        scale.label(ax, which)
        ax.set(**{f"{which}label": short(name), f"{which}lim": (-0.06, 1.06)})
    ax.grid(visible=False)
    _color_bar(ax, points, norm, records)
    about = (
        f"{len(compared)} trials{at_epoch(records)}; the ring is the study's best. The colour of "
        "the ground is a smooth mean of the trials nearby, whose other parameters differ; it is "
        "left white where there is none."
    )
    return Drawn("contour", f"{short(names[0])} and {short(names[1])}", drawn, about)


def parallel(records: Records) -> Drawn | None:
    """All parameters of all trials, a line for each."""
    compared = sorted(records.comparable(), key=lambda pair: -pair[1])  # the best on top
    if len(compared) < LEAST:
        return None
    keys = records.space.keys
    values = [records.values(trial) for trial, _ in compared]
    errors = np.array([error for _, error in compared])
    scales = [_Scale(records, key, [value[key] for value in values]) for key in keys]
    drawn, ax = single(3.4)
    drawn.set_figwidth(style.WIDTH)
    norm = LogNorm(errors.min(), _worst(errors))
    mapped = ScalarMappable(norm, COLORS)
    lines = np.stack([scale.places for scale in scales], axis=1)
    best = _place_of_best(records, [trial for trial, _ in compared])
    for place, (line, error) in enumerate(zip(lines, errors, strict=True)):
        is_best = place == best
        ax.plot(
            range(len(keys)), line, color=BEST if is_best else mapped.to_rgba(error),
            linewidth=2.2 if is_best else 0.9, zorder=4 if is_best else 3,
        )  # fmt: skip
    _upright_axes(ax, scales)
    ax.set_xticks(range(len(keys)), [short(key) for key in keys], rotation=12)
    ax.set(xlim=(-0.6, len(keys) - 0.8), ylim=(-0.05, 1.05))
    ax.yaxis.set_visible(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.grid(visible=False)
    _color_bar(ax, mapped, norm, records)
    about = (
        f"A line for each of {len(compared)} trials{at_epoch(records)}; the thick red one is the "
        "study's best. Where dark lines meet on an axis, good trials had that value in common."
    )
    return Drawn("parallel", "All parameters", drawn, about)


def _upright_axes(ax: Axes, scales: "Sequence[_Scale]") -> None:
    for place, scale in enumerate(scales):
        ax.axvline(place, color=style.MUTED, linewidth=0.8, zorder=1)
        for tick, text in scale.ticks:
            ax.annotate(
                text, (place, tick), xytext=(-3, 0), textcoords="offset points", ha="right",
                va="center", fontsize=6.5, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            )  # fmt: skip


class _Scale:
    """Values of a parameter as places from 0 to 1, and the ticks between."""

    def __init__(self, records: Records, key: str, values: Sequence[Any]):
        space = records.space
        self.is_number = key in space.numbers
        self._log = self.is_number and space.is_logarithmic(key)
        if self.is_number:
            numbers = np.array(values, dtype=float)
            known_values = np.array([*_ends(space.lines[key]), *numbers], dtype=float)
            known = self._forward(known_values)
            self.low, self.high = float(known.min()), float(known.max())
            self.places = self._place(numbers)
            marked = self._numbers(known_values)
            places = self._place(np.array(marked))
            self.ticks = [(float(at), f"{t:g}") for at, t in zip(places, marked, strict=True)]
        else:
            choices = [*map(str, space.lines[key]["choice"])]
            steps = max(1, len(choices) - 1)
            self.places = np.array([choices.index(str(value)) / steps for value in values])
            self.ticks = [(place / steps, text) for place, text in enumerate(choices)]

    def label(self, ax: Axes, which: str) -> None:
        """Puts the ticks on an axis."""
        axis = ax.xaxis if which == "x" else ax.yaxis
        axis.set_ticks([place for place, _ in self.ticks], [text for _, text in self.ticks])

    def _numbers(self, values: np.ndarray) -> list[float]:
        """Values to be marked: those that there are, if they are few, else round numbers."""
        distinct = sorted({float(value) for value in values})
        if len(distinct) <= MOST_VALUES:
            return distinct
        back = np.exp if self._log else np.asarray
        low, high = float(back(self.low)), float(back(self.high))
        if self._log:
            return style.log_ticks(low * 0.999, high * 1.001, 7)
        from matplotlib.ticker import MaxNLocator

        ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
        return [float(tick) for tick in ticks if low - 1e-9 <= tick <= high + 1e-9]

    def _forward(self, numbers: np.ndarray) -> np.ndarray:
        return np.log(numbers) if self._log else numbers

    def _place(self, numbers: np.ndarray) -> np.ndarray:
        return (self._forward(numbers) - self.low) / max(self.high - self.low, 1e-12)


def _place_of_best(records: Records, trials: Sequence[Mapping[str, Any]]) -> int:
    """Which of the trials is the study's best, or else the last."""
    places = [place for place, trial in enumerate(trials) if trial is records.best]
    return places[0] if places else len(trials) - 1


def _ends(line: Mapping[str, Any]) -> list[float]:
    """The ends of a number's distribution, as far as its own line knows them."""
    ends = (*line.get("int", ()), *line.get("float", ()), *line.get("choice", ()))
    return [float(end) for end in ends]


def _axes(records: Records, shares: Mapping[str, float]) -> list[str]:
    """The two numbers that the map is about: named by the space, else the most important."""
    named: list[str] = list(records.definition.get("contour") or ())
    numbers = [name for name in shares if name in records.space.numbers]
    return named or numbers[:2]


def _smoothed(
    at: Float[np.ndarray, "p 2"], places: Float[np.ndarray, "k 2"], errors: Float[np.ndarray, "k"]
) -> Float[np.ndarray, "p"]:
    """Kernel mean of the logarithm of errors; NaN further than `REACH` from every trial."""
    squared = ((at[:, None] - places) ** 2).sum(axis=2)  # [p k]
    weight = np.exp(-squared / (2 * WIDTH**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.exp((weight * np.log(errors)).sum(axis=1) / weight.sum(axis=1))
    return np.where(squared.min(axis=1) <= REACH**2, mean, np.nan)


def _worst(errors: np.ndarray) -> float:
    """Upper end of the colours: the worst trials are not told apart."""
    return float(max(np.quantile(errors, 0.9), errors.min() * 1.01))


def _color_bar(ax: Axes, mapped: Any, norm: Normalize, records: Records) -> None:
    assert ax.figure is not None
    bar = ax.figure.colorbar(mapped, ax=ax, extend="max", pad=0.02, aspect=30)
    low, high = float(norm.vmin or 1), float(norm.vmax or 1)
    bar.ax.yaxis.set_major_locator(FixedLocator(style.log_ticks(low, high, 6)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.set_label(error_label(records))
    bar.outline.set_visible(False)
