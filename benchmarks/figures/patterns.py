"""What each mask hides: a map of time and sensors."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from benchmarks import style
from benchmarks.figures.registry import Drawing, figure, reading
from benchmarks.masks.saved import SavedMask, mask_path, read_mask
from benchmarks.results import Results
from benchmarks.tables import settings_of
from benchmarks.windows import split_windows

DAYS = 2
"""Days at the end of the test that a map shows."""

MASK = ["dataset_fingerprint", "mask_hash"]

STATES = {"seen": "#e8eef4", "hidden and scored": style.VERMILION, "never read": style.PALE}


@figure("patterns", "What is hidden")
def patterns(results: Results) -> Iterator[Drawing]:
    """A map per setting, under its first mask seed, and a figure per dataset."""
    for dataset in results.captions:
        rows = results.of(dataset).sort_values("mask_seed")
        firsts = [(s, rows[rows["setting"] == s].iloc[0]) for s in settings_of(rows)]
        paths = [
            (setting, row, mask_path(results.folder, dataset, *row[MASK]))
            for setting, row in firsts
        ]
        found = [(setting, row, path) for setting, row, path in paths if path.exists()]
        if not found:
            continue
        drawn, axes = style.grid(len(found), 2.2)
        for ax, (setting, row, path) in zip(axes, found, strict=True):
            with reading(path):
                mask = read_mask(path)
            _map(ax, mask, int(row["window"]))
            ax.set_title(f"{setting}: {100 * row['rate_hidden']:.1f} % of all entries hidden")
        style.over_all(drawn, results.captions[dataset])
        handles = [Patch(color=color, label=state) for state, color in STATES.items()]
        drawn.legend(handles=handles, loc="outside lower center", ncols=3)
        yield Drawing(
            dataset,
            drawn,
            f"{results.captions[dataset]}. The end of the test, {DAYS} days at most, a line of "
            "each map for each sensor; sensors with the very same gaps are drawn side by side. "
            "Only what is coloured red is scored.",
        )


def _map(ax: Axes, mask: SavedMask, window: int) -> None:
    in_test = len(mask.time) - split_windows(len(mask.time), window).test[0]
    steps = min(int(np.timedelta64(DAYS, "D") / (mask.time[1] - mask.time[0])), in_test)
    drawn, observed = mask.drawn[-steps:], mask.observed[-steps:]
    state = np.where(~observed, 2, np.where(drawn, 1, 0))
    _, first, group = np.unique(drawn.T, axis=0, return_index=True, return_inverse=True)
    together = np.argsort(first[group.ravel()], kind="stable")
    days = (mask.time[-len(state) :] - mask.time[-len(state)]) / np.timedelta64(1, "h")
    step = float(days[1])
    ax.imshow(
        state.T[together],
        aspect="auto", interpolation="nearest", cmap=ListedColormap([*STATES.values()]),
        vmin=0, vmax=2, extent=(0, float(days[-1]) + step, state.shape[1], 0),
    )  # fmt: skip
    ax.grid(False)
    ax.xaxis.set_major_locator(MultipleLocator(12 if float(days[-1]) > 24 else 3))
    start = pd.Timestamp(mask.time[-len(state)])
    ax.set_xlabel(f"hours from {start:%Y-%m-%d %H:%M}")
    ax.set_ylabel("sensor")
