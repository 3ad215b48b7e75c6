"""Figures of a report, drawn from an experiment's folder alone.

A new figure is one function here, decorated with `figure`: it then appears in every report.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, MultipleLocator

from benchmarks import style
from benchmarks.atomic import write_atomically
from benchmarks.errors import InputError
from benchmarks.examples import STEPS
from benchmarks.rows import cell_folder
from benchmarks.tables import REFERENCE, SETTING, Results, settings_of

BEST = 3
"""Methods of an example figure, besides the reference: more lines cannot be told apart."""

SHOWN_SENSORS = 2


@dataclass(frozen=True)
class Drawing:
    """A figure, the end of its file's name, and what it is about."""

    suffix: str
    figure: Figure
    about: str


Maker = Callable[[Results], Iterator[Drawing]]


@dataclass(frozen=True)
class Registered:
    """A figure of every report: its heading and the function that draws it."""

    title: str
    maker: Maker


FIGURES: dict[str, Registered] = {}
"""By name, in the order of the report."""


def figure(name: str, title: str) -> Callable[[Maker], Maker]:
    """Registers a function that draws none, one or several figures from the results."""

    def register(maker: Maker) -> Maker:
        FIGURES[name] = Registered(title, maker)
        return maker

    return register


def draw(results: Results, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Draws figures into `figures/`, as PNG and SVG; the same results give the same bytes.

    Yields:
        Name of the registered figure, stem of the files, and what is to be seen.
    """
    for name in names:
        with style.context():
            for drawing in FIGURES[name].maker(results):
                stem = "_".join(part for part in (name, drawing.suffix) if part)
                for kind, facts in (("png", {"Software": None}), ("svg", {"Date": None})):
                    save = _saver(drawing.figure, kind, facts)
                    write_atomically(results.folder / "figures" / f"{stem}.{kind}", save)
                yield name, stem, drawing.about


def _saver(drawn: Figure, kind: str, facts: Mapping[str, Any]) -> Callable[[Any], None]:
    return lambda file: drawn.savefig(file, format=kind, dpi=200, metadata=dict(facts))


@figure("rate_curve", "Error against missing rate")
def rate_curve(results: Results) -> Iterator[Drawing]:
    """MAE of every method, a panel per dataset and pattern."""
    if results.done.empty:
        return
    by = [column for column in SETTING if column != "rate"]
    panels = list(results.done.groupby(by, dropna=False, sort=True))
    dots = all(panel["rate"].nunique() < 2 for _, panel in panels)
    height = 0.75 + 0.19 * len(results.labels) if dots else 2.7
    drawn, axes = style.grid(len(panels), max(height, 1.5))
    for ax, (_, panel) in zip(axes, panels, strict=True):
        curve = panel["rate"].nunique() > 1
        (_rate_lines if curve else _rate_dots)(ax, panel, results)
        what = settings_of(panel)[0] if not curve else panel["pattern"].iloc[0]
        _title(ax, results, panel, what)
    if not dots:
        _legend_below(drawn, results, results.labels)
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


@figure("examples", "A day of two sensors")
def examples(results: Results) -> Iterator[Drawing]:
    """The best methods and linear interpolation on the last test day, at the extreme rates."""
    for dataset, setting in _extreme_settings(results.done):
        rows = results.of(dataset)
        rows = rows[rows["setting"] == setting]
        chosen = _comparable_examples(rows, results)
        if not chosen:
            continue
        drawn = _example_figure(
            [read_example(path) for path in chosen.values()],
            [rows.loc[index].to_dict() for index in chosen],
            SHOWN_SENSORS,
        )
        _over_all(drawn, f"{results.captions[dataset]}; {setting} hidden")
        yield Drawing(
            dataset + "_" + re.sub(r"\W+", "_", setting).strip("_"),
            drawn,
            f"{results.captions[dataset]}; {setting} hidden. Hollow circles on shaded ground are "
            "readings that no method saw: a good method's marks lie in them. Grey dots are "
            "readings that all methods saw; elsewhere there was none. Shown are the best methods "
            f"by MAE, {BEST} at most, and linear interpolation, on the last test day, with one "
            "seed; sensors were chosen by their readings alone.",
        )


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
        _over_all(drawn, results.captions[dataset])
        _legend_below(drawn, results, set(rows["model"]))
        yield Drawing(
            dataset,
            drawn,
            f"{results.captions[dataset]}. Error on the validation windows after each epoch, one "
            "line per seed and mask seed; the hollow mark shows which weights were tested. "
            "A line that still falls at its end suggests that the budget was too small.",
        )


def example_figure(path: Path, row: Mapping[str, Any]) -> Figure:
    """One method's example: a day of each sensor in the file.

    Args:
        path: the cell's `example.npz`.
        row: the cell's result row.

    Raises:
        InputError: the file is damaged.
    """
    with style.context():
        arrays = read_example(path)
        drawn = _example_figure([arrays], [row], arrays["truth"].shape[1])
        _over_all(drawn, str(row["title"]))
        return drawn


def read_example(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an example.

    Raises:
        InputError: the file is damaged.
    """
    names = ("imputed", "truth", "held_out", "visible", "time", "sensors")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}); delete it or run the cell again") from error


def _extreme_settings(done: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Dataset and setting of the lowest and the highest rate of each pattern."""
    by = [column for column in SETTING if column != "rate"]
    for _, rows in done.sort_values("rate").groupby(by, dropna=False):
        settings = list(dict.fromkeys(rows["setting"]))
        for setting in dict.fromkeys([settings[0], settings[-1]]):
            yield rows["dataset"].iloc[0], setting


def _comparable_examples(rows: pd.DataFrame, results: Results) -> dict[Any, Path]:
    """Examples of the best methods and the reference, all under the same mask, by row index."""
    paths = {
        index: cell_folder(results.folder, key) / "example.npz"
        for index, key in rows["key"].items()
    }
    rows = rows.loc[[index for index, path in paths.items() if path.exists()]]
    first = rows.sort_values(["mask_seed", "model", "seed"])
    same = first[first["mask_hash"] == first["mask_hash"].head(1).squeeze()]
    ranked = same.drop_duplicates("model").sort_values("step_mae", kind="stable")
    best = ranked[ranked["model"] != REFERENCE].head(BEST)
    chosen = [*best.index, *ranked.index[ranked["model"] == REFERENCE]]
    return {index: paths[index] for index in chosen}


def _example_figure(
    arrays: Sequence[Mapping[str, np.ndarray]], rows: Sequence[Mapping[str, Any]], sensors: int
) -> Figure:
    """A panel per sensor, those with the most varied readings, with all methods in each."""
    known = arrays[0]["held_out"] | arrays[0]["visible"]
    truth = np.ma.masked_array(arrays[0]["truth"], ~known)
    spread = np.ma.filled(truth.max(axis=0) - truth.min(axis=0), -1)
    shown = sorted(np.argsort(-spread, kind="stable")[:sensors])
    drawn = Figure(figsize=(style.WIDTH, 0.7 + 2.2 * len(shown)), layout="constrained")
    axes = drawn.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    looks = style.looks([row["model"] for row in rows])
    for ax, sensor in zip(axes, shown, strict=True):
        day = {name: array[:, sensor] for name, array in arrays[0].items() if array.ndim == 2}
        hours = _hours(arrays[0]["time"])
        _draw_truth(ax, hours, day)
        for own, row in zip(arrays, rows, strict=True):
            look, mae = looks[row["model"]], row.get("step_mae")
            name = row["label"] if mae is None else f"{row['label']} (MAE {mae:.3g})"
            hidden = np.where(day["held_out"], own["imputed"][:, sensor], np.nan)
            ax.plot(
                hours, hidden, color=look.color, marker=look.marker, markersize=2.8, linewidth=0.9,
                markeredgewidth=0.6, label=name, zorder=4,
            )  # fmt: skip
        ax.set_ylabel(str(row["unit"]))
        ax.set_title(f"sensor {arrays[0]['sensors'][sensor]}", fontsize=8)
        ax.xaxis.set_major_locator(MultipleLocator(3))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda hour, _: f"{hour % 24:g}"))
        ax.set_xlim(hours[0], hours[0] + 24 * len(hours) / STEPS)
    date = pd.Timestamp(arrays[0]["time"][0]).strftime("%A, %Y-%m-%d")
    axes[-1].set_xlabel(f"hour of the day, from {date}")
    handles, names = axes[0].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=3)
    return drawn


def _hours(time: np.ndarray) -> np.ndarray:
    """Hours since the midnight before the first step."""
    midnight = time[0].astype("datetime64[D]")
    return np.asarray((time - midnight) / np.timedelta64(1, "h"), dtype=float)


def _draw_truth(ax: Axes, hours: np.ndarray, day: Mapping[str, np.ndarray]) -> None:
    known = day["held_out"] | day["visible"]
    ax.plot(hours, np.where(known, day["truth"], np.nan), color=style.FAINT, linewidth=1, zorder=1)
    seen, hidden = day["visible"], day["held_out"]
    ax.plot(
        hours[seen], day["truth"][seen], ".", color=style.MUTED, markersize=2.2, zorder=2,
        label="reading, seen",
    )  # fmt: skip
    ax.plot(
        hours[hidden], day["truth"][hidden], "o", color=style.INK, fillstyle="none", markersize=4.2,
        markeredgewidth=0.6, zorder=3, label="reading, hidden",
    )  # fmt: skip
    step = hours[1] - hours[0] if len(hours) > 1 else 1 / 12
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hidden, [False]]).astype(int)))
    spans = [
        (hours[first] - step / 2, (after - first) * step) for first, after in edges.reshape(-1, 2)
    ]
    ax.broken_barh(
        spans, (0, 1), transform=ax.get_xaxis_transform(), color="#f3f1ea", linewidth=0, zorder=0
    )


def _history(results: Results, row: pd.Series) -> pd.DataFrame:
    """Lines of a training with a validation error; empty where there is none."""
    path = cell_folder(results.folder, row["key"]) / "history.csv"
    if not path.exists():
        return pd.DataFrame()
    try:
        history = pd.read_csv(path)
        return history.astype({"epoch": int, "val_mae": float}).dropna(subset="val_mae")
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it or run the cell again") from error


def _learning_line(ax: Axes, history: pd.DataFrame, row: pd.Series, look: style.Look) -> None:
    steps = history["epoch"] * row["train_steps"] / row["epochs"]
    ax.plot(steps, history["val_mae"], color=look.color, linewidth=1)
    best = int(history["val_mae"].argmin())
    ax.plot(
        steps.iloc[best], history["val_mae"].iloc[best], look.marker, color=look.color,
        fillstyle="none", markersize=6,
    )  # fmt: skip


def _rate_lines(ax: Axes, panel: pd.DataFrame, results: Results) -> None:
    for model in results.labels:
        points = panel[panel["model"] == model].groupby("rate")["window_mae"].agg(["mean", "std"])
        ax.errorbar(
            100 * points.index.to_numpy(), points["mean"], points["std"].fillna(0),
            capsize=2, elinewidth=0.8, **_look(model, results),
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
        look = _look(model, results) | {"linestyle": "none"}
        ax.errorbar(mean, place, xerr=np.nan_to_num(sd), capsize=2, **look)
    ax.set_yticks(range(len(points)), [results.labels[model] for model in points.index])
    ax.set_ylim(len(points) - 0.4, -0.6)
    ax.set_xlabel(f"MAE ({panel['unit'].iloc[0]})")
    style.log_axis(ax, "x", panel["window_mae"])


def _look(model: str, results: Results) -> dict[str, Any]:
    look = style.looks(results.labels)[model]
    return {
        "color": look.color,
        "marker": look.marker,
        "linestyle": "--" if model in results.closed_form else "-",
        "zorder": 4 if model == REFERENCE else 3,
    }


def _title(ax: Axes, results: Results, panel: pd.DataFrame, what: str) -> None:
    caption = results.captions[panel["dataset"].iloc[0]]
    ax.set_title(style.wrap(f"{caption}; {what}", 44))


def _over_all(drawn: Figure, text: str) -> None:
    drawn.suptitle(
        style.wrap(text, round(13 * drawn.get_figwidth())), x=0.01, ha="left", fontsize=8.5
    )


def _legend_below(drawn: Figure, results: Results, models: Collection[str]) -> None:
    shown = [model for model in results.labels if model in models]
    handles = [Line2D([], [], **_look(model, results)) for model in shown]
    names = [results.labels[model] for model in shown]
    columns = max(1, min(len(names), round(drawn.get_figwidth() / 1.8)))
    drawn.legend(handles, names, loc="outside lower center", ncols=columns)
