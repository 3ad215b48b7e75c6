"""The legend that all methods of an experiment share."""

from collections.abc import Collection
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks import style
from benchmarks.results import Results
from benchmarks.tables import FEATURED, REFERENCE


def method_look(model: str, results: Results) -> dict[str, Any]:
    """How a method's line is drawn: dashed if it is not trained, the reference on top."""
    look = style.looks(results.labels)[model]
    return {
        "color": look.color,
        "marker": look.marker,
        "linestyle": "--" if model in results.closed_form else "-",
        "zorder": 4 if model == REFERENCE else 3,
    }


def prominent(rows: pd.DataFrame, best: int) -> list[str]:
    """The `best` methods of some rows by MAE ("step"), then the featured one and the reference."""
    ranked = rows.groupby("model")["step_mae"].mean().sort_values(kind="stable").index
    others = [model for model in ranked if model not in (FEATURED, REFERENCE)]
    return [*others[:best], *(model for model in (FEATURED, REFERENCE) if model in ranked)]


def legend_below(drawn: Figure, results: Results, models: Collection[str]) -> None:
    """Names `models` below all panels, in the order of the report's tables."""
    shown = [model for model in results.labels if model in models]
    handles = [Line2D([], [], **method_look(model, results)) for model in shown]
    names = [results.labels[model] for model in shown]
    columns = max(1, min(len(names), round(drawn.get_figwidth() / 1.8)))
    drawn.legend(handles, names, loc="outside lower center", ncols=columns)
