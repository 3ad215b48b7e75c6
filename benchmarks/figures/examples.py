"""A day of a few sensors: what was hidden, and what the methods made of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from benchmarks import style
from benchmarks.examples import STEPS
from benchmarks.figures.legend import prominent
from benchmarks.figures.registry import Drawing, figure, file_suffix, reading
from benchmarks.results import SETTING, Results
from benchmarks.rows import cell_folder

BEST = 3
"""Methods of an example figure, besides the reference and PSAN: more cannot be told apart."""

SHOWN_SENSORS = 2


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
        style.over_all(drawn, f"{results.captions[dataset]}; {setting} hidden")
        yield Drawing(
            file_suffix(dataset, setting),
            drawn,
            f"{results.captions[dataset]}; {setting} hidden. Hollow circles on shaded ground are "
            "readings that no method saw: a good method's marks lie in them. Grey dots are "
            "readings that all methods saw; elsewhere there was none. Shown are the best methods "
            f"by MAE, {BEST} at most, PSAN and linear interpolation where they were run, on the "
            "last test day, with one seed; sensors were chosen by their readings alone.",
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
        style.over_all(drawn, str(row["title"]))
        return drawn


def read_example(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an example.

    Raises:
        InputError: the file is damaged.
    """
    names = ("imputed", "truth", "held_out", "visible", "time", "sensors")
    with reading(path), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in names}


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
    each = same.drop_duplicates("model").reset_index().set_index("model")["index"]
    return {each[model]: paths[each[model]] for model in prominent(same, BEST)}


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
