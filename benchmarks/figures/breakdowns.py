"""Error by the circumstances of an entry."""

import re
from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.axes import Axes

from benchmarks import style
from benchmarks.figures.legend import legend_below, method_look, prominent
from benchmarks.figures.registry import Drawing, figure, file_suffix, reading
from benchmarks.results import Results
from benchmarks.rows import cell_folder
from benchmarks.tables import settings_of

PANELS: Mapping[str, str] = {
    "gap_length": "steps in a row without a reading",
    "distance": "steps to the sensor's nearest visible reading",
    "hour": "hour of the day",
    "congestion": "traffic",
}
"""Groupings of `scores.csv` that are drawn, and what stands on their axis."""

BEST = 6
"""Methods that are drawn, besides the reference and the suite's own."""

COLUMNS = ["by", "group", "entries", "step_mae"]


@figure("breakdowns", "Where the errors are")
def breakdowns(results: Results) -> Iterator[Drawing]:
    """MAE by gap length, distance, hour and congestion: a figure per dataset and setting."""
    for dataset in results.captions:
        rows = results.of(dataset)
        for setting in settings_of(rows):
            chosen = rows[rows["setting"] == setting]
            models = prominent(chosen, BEST)
            scores = _scores(results, chosen[chosen["model"].isin(models)])
            by = [name for name in PANELS if not scores.empty and (scores["by"] == name).any()]
            if not by:
                continue
            drawn, axes = style.grid(len(by), 2.2)
            for ax, name in zip(axes, by, strict=True):
                _panel(ax, scores[scores["by"] == name], results)
                ax.set_xlabel(PANELS[name])
                ax.set_ylabel(f"MAE ({chosen['unit'].iloc[0]})")
            style.over_all(drawn, f"{results.captions[dataset]}; {setting}")
            legend_below(drawn, results, models)
            yield Drawing(
                file_suffix(dataset, setting),
                drawn,
                f"{results.captions[dataset]}; {setting}. MAE under the step convention of the "
                f"{BEST} best methods, and of PSAN and linear interpolation where they were run; "
                "a gap is hidden or natively missing, and the bars in the background show how many "
                "entries are in a group.",
            )


def _panel(ax: Axes, scores: pd.DataFrame, results: Results) -> None:
    groups = sorted(dict.fromkeys(scores["group"]), key=_place)
    for model in results.labels:
        own = scores[scores["model"] == model].groupby("group")["step_mae"].mean()
        if len(own):
            own = own.reindex(groups)
            ax.plot(range(len(groups)), own, **method_look(model, results))
    entries = scores.groupby("group")["entries"].mean().reindex(groups)
    behind = ax.twinx()
    behind.bar(range(len(groups)), entries / entries.max(), color=style.FAINT, width=0.8)
    behind.set_ylim(0, 3)
    behind.axis("off")
    ax.set_zorder(behind.get_zorder() + 1)
    ax.patch.set_visible(False)
    every = max(1, len(groups) // 8)
    shown = range(0, len(groups), every)
    ax.set_xticks(shown, [style.wrap(groups[i], 9) for i in shown], fontsize=7)
    ax.set_ylim(bottom=0)


def _place(group: str) -> tuple[bool, int]:
    """Groups of numbers by their lower end, others after them as they come."""
    number = re.match(r"\d+", group)
    return (False, int(number[0])) if number else (True, 0)


def _scores(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    """`scores.csv` of the cells that have one, with the method."""
    found = []
    for model, key in zip(rows["model"], rows["key"], strict=True):
        path = cell_folder(results.folder, key) / "scores.csv"
        if not path.exists():
            continue
        with reading(path):
            table = pd.read_csv(path, dtype={"group": str})[COLUMNS]
            found.append(table.astype({"step_mae": float, "entries": int}).assign(model=model))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)
