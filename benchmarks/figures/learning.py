"""Validation error in the course of training."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from benchmarks import style
from benchmarks.figures.legend import legend_below
from benchmarks.figures.registry import Drawing, figure, reading
from benchmarks.results import Results
from benchmarks.rows import cell_folder
from benchmarks.tables import settings_of


@figure("learning_curves", "Learning curves")
def learning_curves(results: Results) -> Iterator[Drawing]:
    """Validation MAE of the gradient methods, a panel per setting, a figure per dataset."""
    looks = style.looks(results.labels)
    for dataset in results.captions:
        rows = results.of(dataset)
        histories = {index: _history(results, row) for index, row in rows.iterrows()}
        rows = rows.loc[[index for index, found in histories.items() if len(found)]]
        if rows.empty:
            continue
        settings = settings_of(rows)
        drawn, axes = style.grid(len(settings), 2.3)
        for ax, setting in zip(axes, settings, strict=True):
            panel = rows[rows["setting"] == setting]
            for index, row in panel.iterrows():
                _learning_line(ax, histories[index], row, looks[row["model"]])
            ax.set_xlabel("training step")
            ax.set_ylabel(f"validation MAE ({row['unit']})")
            shown = pd.concat([histories[index] for index in panel.index])
            style.log_axis(ax, "y", shown["val_mae"])
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.set_title(setting)
        style.over_all(drawn, results.captions[dataset])
        legend_below(drawn, results, set(rows["model"]))
        yield Drawing(
            dataset,
            drawn,
            f"{results.captions[dataset]}. Error on the validation windows after each epoch, one "
            "line per seed and mask seed; the hollow mark shows which weights were tested. "
            "A line that still falls at its end suggests that the budget was too small.",
        )


def _history(results: Results, row: pd.Series) -> pd.DataFrame:
    """Lines of a training with a validation error; empty where there is none."""
    path = cell_folder(results.folder, row["key"]) / "history.csv"
    if not path.exists():
        return pd.DataFrame()
    with reading(path):
        history = pd.read_csv(path)
        return history.astype({"epoch": int, "val_mae": float}).dropna(subset="val_mae")


def _learning_line(ax: Axes, history: pd.DataFrame, row: pd.Series, look: style.Look) -> None:
    steps = history["epoch"] * row["train_steps"] / row["epochs"]
    ax.plot(steps, history["val_mae"], color=look.color, linewidth=1)
    best = int(history["val_mae"].argmin())
    ax.plot(
        steps.iloc[best], history["val_mae"].iloc[best], look.marker, color=look.color,
        fillstyle="none", markersize=6,
    )  # fmt: skip
