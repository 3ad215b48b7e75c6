"""Error against missing rate, or methods in order where there is one rate."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from benchmarks import style
from benchmarks.figures.legend import legend_below, method_look
from benchmarks.figures.registry import Drawing, figure
from benchmarks.results import SETTING, Results
from benchmarks.tables import REFERENCE, settings_of


@figure("rate_curve", "Error against missing rate")
def rate_curve(results: Results) -> Iterator[Drawing]:
    """MAE of every method, a panel per dataset and pattern."""
    if results.done.empty:
        return
    by = [column for column in SETTING if column != "rate"]
    panels = list(results.done.groupby(by, dropna=False, sort=True))
    curves = [panel["rate"].nunique() > 1 for _, panel in panels]
    rows_of_dots = 0.75 + 0.19 * len(results.labels)
    height = max(2.7 if any(curves) else 1.5, 0 if all(curves) else rows_of_dots)
    drawn, axes = style.grid(len(panels), height)
    for ax, (_, panel), curve in zip(axes, panels, curves, strict=True):
        (_rate_lines if curve else _rate_dots)(ax, panel, results)
        what = settings_of(panel)[0] if not curve else panel["pattern"].iloc[0]
        _title(ax, results, panel, what, 44 if all(curves) else 32)
    if any(curves):
        legend_below(drawn, results, results.labels)
    simulated = results.runs["simulated"].eq("True")
    note = " All readings are simulated." if simulated.all() else ""
    yield Drawing(
        "",
        drawn,
        "Lower is better. Compare each method with linear interpolation (black): a learned "
        "method that lies above it does worse than no learning at all. "
        "Dashed: methods without training. MAE under the window convention, logarithmic axis; "
        "bars: standard deviation over seeds and mask seeds, where there are several." + note,
    )


def _rate_lines(ax: Axes, panel: pd.DataFrame, results: Results) -> None:
    for model in results.labels:
        points = panel[panel["model"] == model].groupby("rate")["window_mae"].agg(["mean", "std"])
        ax.errorbar(
            100 * points.index.to_numpy(), points["mean"], points["std"].fillna(0),
            capsize=2, elinewidth=0.8, **method_look(model, results),
        )  # fmt: skip
    ax.xaxis.set_major_locator(FixedLocator(sorted(100 * panel["rate"].unique())))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    ax.set_xlabel("readings hidden (%)")
    ax.set_ylabel(f"MAE ({panel['unit'].iloc[0]})")
    style.log_axis(ax, "y", panel["window_mae"])


def _rate_dots(ax: Axes, panel: pd.DataFrame, results: Results) -> None:
    points = panel.groupby("model")["window_mae"].agg(["mean", "std"]).sort_values("mean")
    if REFERENCE in points.index:
        ax.axvline(
            float(points["mean"][REFERENCE]), color=style.BLACK, linestyle="--", linewidth=0.8
        )
    for place, (model, mean, sd) in enumerate(points.itertuples()):
        look = method_look(model, results) | {"linestyle": "none"}
        ax.errorbar(mean, place, xerr=np.nan_to_num(sd), capsize=2, **look)
    ax.set_yticks(range(len(points)), [results.labels[model] for model in points.index])
    ax.set_ylim(len(points) - 0.4, -0.6)
    ax.set_xlabel(f"MAE ({panel['unit'].iloc[0]})")
    style.log_axis(ax, "x", panel["window_mae"])


def _title(ax: Axes, results: Results, panel: pd.DataFrame, what: str, width: int) -> None:
    caption = results.captions[panel["dataset"].iloc[0]]
    ax.set_title(style.wrap(f"{caption}; {what}", width))
